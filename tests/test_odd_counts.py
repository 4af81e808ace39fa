"""Counts that no server should send: they count nothing, break nothing, and no other count is wrong for them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import SpanContext, TraceFlags
from test_dialects import foreign

import mlspan
from mlspan import tracing
from mlspan.hooks.requests import read_chat_usage, read_provider_usage
from mlspan.tracing.export.cost import compute_span_cost
from mlspan.tracing.export.mlflow.traces import translate_segment
from mlspan.tracing.export.otlp.langfuse_names import rename_to_langfuse
from mlspan.tracing.export.types import TraceSegment
from mlspan.tracing.operations.agent_calls import AgentCalls, CallSums
from mlspan.tracing.operations.call_context import TraceOrigin
from mlspan.tracing.operations.metrics import Instruments, Measurement
from mlspan.tracing.operations.records import Chat
from mlspan.tracing.otel.provider import set_global_provider

MOST = 2**63 - 1
ODD: list[Any] = [-5, "12", "x", 12.5, float("nan"), float("inf"), -0.5, 2**63, 10**30, True, [], {}, b"1", (1,)]
READERS = {
    "chat": (read_chat_usage, "prompt_tokens", "completion_tokens"),
    "provider": (read_provider_usage, "input_tokens", "output_tokens"),
}


def list_counts(record: Chat) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name.endswith("_tokens")}


@pytest.mark.parametrize("kind", [dict, lambda counts: SimpleNamespace(**counts)], ids=["dict", "object"])
@pytest.mark.parametrize("value", [*ODD, None], ids=repr)
@pytest.mark.parametrize(("read", "given", "made"), READERS.values(), ids=READERS)
def test_what_counts_nothing_is_left_out(
    read: Callable[..., None], given: str, made: str, value: Any, kind: Callable[[Any], Any]
) -> None:
    """Be it the input, the output, a detail or the sum; what is well is read."""
    for odd, well, expected in ((given, made, {"output_tokens": 5}), (made, given, {"input_tokens": 5})):
        chat = Chat()
        read(chat, kind({odd: value, well: 5, "total_tokens": 17, "cost": value}))
        assert list_counts(chat) == expected
        assert chat.extra in ({}, {"mlspan.usage.cost": 12.5})  # which is no count, and may be a fraction
    chat = Chat()
    details = {"cached_tokens": value, "reasoning_tokens": value}
    cached = {"cache_read_input_tokens": value, "cache_creation_input_tokens": value, "prompt_tokens_details": details}
    read(chat, kind({given: 12, made: 5, "total_tokens": value, "completion_tokens_details": details, **cached}))
    assert list_counts(chat) == {"input_tokens": 12, "output_tokens": 5}


@pytest.mark.parametrize(("read", "given", "made"), READERS.values(), ids=READERS)
def test_whole_floats_count(read: Callable[..., None], given: str, made: str) -> None:
    chat = Chat()
    read(chat, {given: 12.0, made: 5.0})
    assert list_counts(chat) == {"input_tokens": 12, "output_tokens": 5}
    assert {type(count) for count in list_counts(chat).values()} == {int}


@pytest.mark.parametrize("scope", ["mlspan", "elsewhere"])
@pytest.mark.parametrize("value", [value for value in ODD if not isinstance(value, (list, dict))], ids=repr)
def test_a_span_keeps_what_it_says(value: Any, scope: str) -> None:
    """Its content, and the count that is well; tokens and cost add up."""
    said = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.provider.name": "openai",
        "gen_ai.usage.input_tokens": value,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": value,
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]),
        "mlspan.usage.cost": value if isinstance(value, float) and value != 12.5 else -1.0,
    }
    translated = translate_segment(TraceSegment(TraceOrigin(), [foreign("chat", said, scope=scope)], 1, True), None)
    attributes = dict(translated.spans[0].attributes or {})
    assert json.loads(str(attributes["mlflow.chat.tokenUsage"])) == {
        "input_tokens": 0,
        "output_tokens": 5,
        "total_tokens": 5,
    }
    assert json.loads(str(attributes["mlflow.llm.cost"]))["total_cost"] == pytest.approx(5e-05)
    assert json.loads(str(attributes["mlflow.spanInputs"]))["messages"] == [{"role": "user", "content": "hi"}]
    totals = translated.summary.with_totals(translated.read_span_totals().values()).metadata
    assert json.loads(totals["mlflow.trace.tokenUsage"])["total_tokens"] == 5
    usage = dict(rename_to_langfuse(said, is_root=True)).get("langfuse.observation.usage_details")
    assert json.loads(str(usage)) == {"input": 0, "output": 5, "total": 5}


def test_sums_fit_into_what_an_attribute_holds() -> None:
    calls = AgentCalls()
    for _ in range(3):
        calls.add_sums(CallSums.from_call("m", None, 2**62, -1))
    sums = calls.read_sums()
    assert sums is not None
    assert (sums.input_tokens, sums.output_tokens) == (MOST, None)
    said = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 2**62, "gen_ai.usage.output_tokens": 2**62}
    spans = [make_span(1, {}), make_span(2, said), make_span(3, said)]
    translated = translate_segment(TraceSegment(TraceOrigin(), spans, 1, True), None)
    totals = translated.summary.with_totals(translated.read_span_totals().values()).metadata
    assert json.loads(totals["mlflow.trace.tokenUsage"]) == dict.fromkeys(
        ("input_tokens", "output_tokens", "total_tokens"), MOST
    )


def make_span(number: int, attributes: dict[str, Any]) -> ReadableSpan:
    """Return span *number* of a trace, below the first."""
    contexts = [SpanContext(1, one, is_remote=False, trace_flags=TraceFlags(1)) for one in (number, 1)]
    return ReadableSpan(
        "chat", contexts[0], None if number == 1 else contexts[1], attributes=attributes, start_time=1, end_time=2
    )


@pytest.mark.usefixtures("no_global_provider")
def test_mlflow_and_a_receiver_take_them(mlflow_store: str, receiver: Any) -> None:
    """Spans of ours and of others with such counts are stored and sent, each with its trace."""
    mlflow = pytest.importorskip("mlflow")
    values = [-5, "12", "x", 12.5, float("nan"), float("inf"), -0.5, True]
    provider = TracerProvider()
    undo = set_global_provider(provider)
    try:
        tracing.configure(tracking_uri=mlflow_store, otlp_endpoint=receiver.url)
        for value in values:
            counts = {"gen_ai.usage.input_tokens": value, "gen_ai.usage.output_tokens": value, "llm.usage.cost": value}
            with provider.get_tracer("elsewhere").start_as_current_span(
                "chat", attributes={"gen_ai.operation.name": "chat", **counts}
            ):
                pass
            with tracing.span("ours", kind="chat", attributes=counts):
                pass
        assert tracing.flush(60)
    finally:
        tracing.shutdown()
        undo()
    traces = mlflow.MlflowClient(mlflow_store).search_traces(["0"], max_results=100)
    assert len(traces) == 2 * len(values)
    assert {(trace.info.token_usage or {}).get("total_tokens", 0) for trace in traces} == {0}


def test_no_integration_reads_tokens_as_any_integer() -> None:
    """``get_integer`` takes negative ones, and no whole floats: what counts is read by ``get_count``."""
    files = (Path(mlspan.__file__).parent / "integrations").rglob("*.py")
    lines = [(file.name, line.strip()) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(lines) > 10_000
    assert [one for one in lines if "get_integer(" in one[1] and "token" in one[1].lower()] == []


def test_odd_counts_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The metric of tokens takes what is a count, and nothing else reaches the histogram."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    instruments = Instruments("1")
    for value in (-5, "12", "x", 12.5, float("nan"), True, None, 7, 3.0):
        chat = Chat(model="m")
        chat.input_tokens = value  # type: ignore[assignment]  # what an application may write
        instruments.record_call(Measurement(chat, 1.0, None))
    data = reader.get_metrics_data()
    assert data is not None
    found = {metric.name: metric for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    (point,) = found["gen_ai.client.token.usage"].data.data_points
    assert (point.count, point.sum) == (2, 10)  # type: ignore[union-attr]  # a histogram's
    provider.shutdown()


@pytest.mark.parametrize("name", ["cost", "input_cost", "estimated_cost"])
@pytest.mark.parametrize("value", [*ODD, None], ids=repr)
def test_odd_amounts_of_money(name: str, value: object) -> None:
    """Whoever tells a cost, it is a sum of money, or none."""
    known = {"mlspan.usage.cost": 20.0} if name == "input_cost" else {}
    cost = compute_span_cost({**known, f"mlspan.usage.{name}": value}) or {}
    is_sum = type(value) in {int, float} and 0 <= value < 2**63  # type: ignore[operator]  # a number, then
    assert cost.get("input_cost" if name == "input_cost" else "total_cost") == (value if is_sum else None)
    assert [one for one in cost.values() if not math.isfinite(one)] == []
