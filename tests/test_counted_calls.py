"""One call to a model counts once, whoever tells of it: a framework, an instrumentation, a client, or several."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import mlflow
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags

from mlspan.tracing.export.counted_calls import CountedSpan, find_repeats
from mlspan.tracing.export.mlflow.sink import MlflowSink
from mlspan.tracing.export.types import TraceSegment
from mlspan.tracing.operations.call_context import TraceOrigin
from mlspan.tracing.operations.semconv import CALLS_BELOW

START = 1_700_000_000_000_000_000
HUNDREDTH = 10_000_000  # nanoseconds: the calls of the cases take a second if nothing else is said


def call(number: int, scope: str | None, start: int = 0, end: int = 100, **more: Any) -> CountedSpan:
    said = {"operation": "chat", "provider": "openai", "model": "gpt-4o", "response_id": None, "output_tokens": 5}
    times = start * HUNDREDTH, end * HUNDREDTH
    return CountedSpan(number, scope or "a store", *times, **{**said, **more}, is_stored=scope is None)


def total(number: int, scope: str | None = "framework", **more: Any) -> CountedSpan:
    return call(number, scope, operation="invoke_agent", **more)


CASES: dict[str, tuple[list[CountedSpan], dict[int, int], dict[int, int | str]]] = {
    "a call inside of a call": ([call(1, "framework"), call(2, "client", 10, 90)], {2: 1}, {2: 1}),
    "with a step between": ([call(1, "framework"), call(3, "client", 10, 90)], {2: 1, 3: 2}, {3: 1}),
    "of the same instrumentation": ([call(1, "adk"), call(2, "adk", 10, 90)], {2: 1}, {2: 1}),
    "a stored call of the same instrumentation": (
        [replace(call(1, None, response_id="r"), scope="a"), call(2, "a", response_id="r")],
        {},
        {},
    ),
    "embeddings of other texts": (
        [
            call(n, scope, operation="embeddings", output_tokens=None, input_tokens=n)
            for n, scope in ((1, "a"), (2, "b"))
        ],
        {},
        {},
    ),
    "a model that is not known": ([call(1, "a", model=None), call(2, "b")], {}, {}),
    "siblings with the id of one answer": (
        [call(1, "a", response_id="r"), call(2, "b", 10, 90, response_id="r", provider="x", model=None)],
        {},
        {2: 1},
    ),
    "siblings at the same moment": ([call(1, "a"), call(2, "b", 10, 90, model="openai/gpt-4o-2024-08-06")], {}, {2: 1}),
    "siblings so short that the callbacks between them count": ([call(1, "a", 0, 3), call(2, "b", 2, 5)], {}, {2: 1}),
    "short ones, one right after the other": ([call(1, "a", 0, 2), call(2, "b", 2, 4)], {}, {}),
    "ours and a foreign one": ([call(1, "them"), call(2, "mlspan", 10, 90)], {}, {1: 2}),
    "the one with a price": ([call(1, "mlspan"), call(2, "them", 10, 90, has_cost=True)], {}, {1: 2}),
    "three that tell of one": ([call(1, "a"), call(2, "b", 5, 95), call(3, "c", 10, 90)], {3: 2}, {2: 1, 3: 1}),
    "other answers": ([call(1, "a", response_id="r"), call(2, "b", 10, 90, response_id="s")], {}, {}),
    "other models": ([call(1, "a"), call(2, "b", 10, 90, model="o3")], {}, {}),
    "other providers": ([call(1, "a"), call(2, "b", 10, 90, provider="groq")], {}, {}),
    "other answers' lengths": ([call(1, "a"), call(2, "b", 10, 90, output_tokens=7)], {}, {}),
    "one after the other": ([call(1, "a", 0, 50), call(2, "b", 60, 100)], {}, {}),
    "one after the other, of one cached answer": (
        [call(1, "a", 0, 50, response_id="r"), call(2, "b", 60, 100, response_id="r")],
        {},
        {},
    ),
    "at once, of one instrumentation": ([call(1, "a"), call(2, "a", 10, 90)], {}, {}),
    "at once, of one instrumentation, from a server whose ids are all alike": (
        [call(1, "a", response_id="r"), call(2, "a", 10, 90, response_id="r")],
        {},
        {},
    ),
    "two clients at once, from servers whose ids are all alike": (
        [call(1, "a", response_id="r"), call(2, "b", 10, 90, response_id="r", model="llama", output_tokens=7)],
        {},
        {},
    ),
    "one call that two count otherwise": (
        [call(1, "a", response_id="r"), call(2, "b", 10, 90, response_id="r", output_tokens=7)],
        {},
        {2: 1},
    ),
    "one call whose model two name otherwise": (
        [call(1, "a", response_id="r"), call(2, "b", 10, 90, response_id="r", model="my-deployment")],
        {},
        {2: 1},
    ),
    "ours, and a foreign one that ends after it": (
        [call(1, "them", 0, 500, response_id="r"), call(2, "mlspan", 10, 90, response_id="r")],
        {},
        {1: 2},
    ),
    "a retry that has failed, and the next one": (
        [call(1, "a", 0, 40, output_tokens=None, input_tokens=12), call(2, "a", 50, 100, response_id="r")],
        {},
        {},
    ),
    "a retry below one call": (
        [call(1, "framework"), call(2, "client", 5, 40, output_tokens=3), call(3, "client", 50, 90)],
        {2: 1, 3: 1},
        {2: 1, 3: 1},
    ),
    "two at once, each told twice": (
        [call(1, "a", 0, 100), call(2, "a", 1, 200), call(3, "b", 5, 95), call(4, "b", 6, 190)],
        {},
        {3: 1, 4: 2},
    ),
    "a chat and embeddings": ([call(1, "a"), call(2, "b", operation="embeddings")], {2: 1}, {}),
    "an agent's sum": ([total(1), call(2, "a", 0, 50), call(3, "a", 60, 90)], {2: 1, 3: 1}, {1: CALLS_BELOW}),
    "sums of sums": ([total(1), total(2), call(3, "a")], {2: 1, 3: 2}, {1: CALLS_BELOW, 2: CALLS_BELOW}),
    "an agent whose calls say nothing": ([total(1), total(2)], {2: 1}, {2: 1}),
    "an agent alone": ([total(1)], {}, {}),
    "a stored agent, and its calls later": ([total(1, None), call(2, "a"), call(3, "a")], {2: 1, 3: 1}, {2: 1, 3: 1}),
    "a stored call, and its agent later": ([call(2, None), total(1)], {2: 1}, {1: CALLS_BELOW}),
    "a stored call, and the client's later": (
        [call(1, None, response_id="r"), call(2, "mlspan", response_id="r", has_cost=True)],
        {},
        {2: 1},
    ),
    "a circle of parents": ([call(1, "a"), call(2, "a", 200, 300)], {1: 3, 3: 1}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_counted(case: str) -> None:
    spans, parents, repeats = CASES[case]
    assert find_repeats(spans, {span.span_id: None for span in spans} | parents) == repeats
    assert find_repeats(spans[::-1], {span.span_id: None for span in spans} | parents) == repeats, "in any order"


def test_many_calls_at_once_take_bounded_time() -> None:
    """Two instrumentations and a thousand calls that overlap: what cannot be compared counts, and nothing hangs."""
    spans = [call(number, "ab"[number % 2], number, 10_000 - number) for number in range(2000)]
    assert len(find_repeats(spans, {span.span_id: None for span in spans})) <= 1000


CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.response.id": "r",
    "gen_ai.usage.input_tokens": 15,
    "gen_ai.usage.output_tokens": 5,
}


Told = tuple[int, int | None, str, dict[str, Any]]  # a span's number, its parent's, who tells of it, and what


def make_span(trace_id: int, number: int, parent: int | None, scope: str, attributes: dict[str, Any]) -> ReadableSpan:
    here, above = (
        None if at is None else SpanContext(trace_id, at, is_remote=False, trace_flags=TraceFlags(1))
        for at in (number, parent)
    )
    told_by = InstrumentationScope(scope)
    times = {"start_time": START + number, "end_time": START + 10**9 - number}
    return ReadableSpan(f"s{number}", here, above, attributes=attributes, instrumentation_scope=told_by, **times)


def store(uri: str, *parts: Sequence[Told]) -> Any:
    """Store the parts of one trace, one after the other, under an id of its own, and return the trace."""
    sink, number = MlflowSink(tracking_uri=uri), random.getrandbits(127) + 1
    try:
        for part in parts:
            spans = [make_span(number, *told) for told in part]
            assert sink.send([TraceSegment(TraceOrigin(), spans, part[0][0], whole=False)]) == []
    finally:
        sink.close()
    return mlflow.MlflowClient(uri).get_trace(f"tr-{number:032x}")


PARTS: dict[str, list[list[Told]]] = {
    "ours, then the client's": [
        [(1, None, "app", {})],
        [(2, 1, "mlspan", CHAT)],
        [(3, 1, "com.anthropic.sdk.python", CHAT)],
    ],
    "a call, then its agent": [
        [(2, 1, "mlspan", CHAT)],
        [(1, None, "strands", {**CHAT, "gen_ai.operation.name": "invoke_agent"})],
    ],
    "an agent, then its call": [
        [(1, None, "strands", {**CHAT, "gen_ai.operation.name": "invoke_agent"})],
        [(2, 1, "mlspan", CHAT)],
    ],
    "together": [[(1, None, "app", {}), (2, 1, "a", CHAT), (3, 1, "b", CHAT)]],
}


@pytest.mark.parametrize("where", ["database", "server"])
@pytest.mark.parametrize("case", PARTS)
def test_parts_of_a_trace_count_a_call_once(case: str, where: str, request: pytest.FixtureRequest) -> None:
    """What is stored keeps its tokens; what comes later and tells of the same says what it would have said."""
    uri = request.getfixturevalue("mlflow_server" if where == "server" else "mlflow_store")
    trace = store(uri, *PARTS[case])
    counted = [usage for one in trace.data.spans if (usage := one.get_attribute("mlflow.chat.tokenUsage"))]
    assert [usage["total_tokens"] for usage in counted] == [20]
    assert trace.info.token_usage["total_tokens"] == 20
    costs = [
        cost for one in trace.data.spans if (cost := one.get_attribute("mlflow.llm.cost")) and cost["total_cost"] > 0
    ]
    known = trace.info.trace_metadata.get("mlflow.trace.cost")
    assert (json.loads(known)["total_cost"] if known else 0) == pytest.approx(sum(cost["total_cost"] for cost in costs))
    left = [one for one in trace.data.spans if one.get_attribute("mlspan.counted_by")]
    assert [one.get_attribute("mlspan.uncounted_usage")["total_tokens"] for one in left] == [20]
