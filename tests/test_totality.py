"""Whatever a program passes around and a server answers: every trace arrives, and the program sees what it saw.

``MLSPAN_FUZZ`` says how many examples there are for each destination: ``make fuzz`` takes more than the suite does.
"""

from __future__ import annotations

import json
import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from servers.postgres import postgres, require_postgres
from servers.receiver import Receiver
from servers.scripted import Scripted
from test_plain_values import HOSTILE

from mlspan import integrations, tracing
from mlspan.tracing import runtime

openai = pytest.importorskip("openai")
pytest.importorskip("mlflow")

EXAMPLES = int(os.environ.get("MLSPAN_FUZZ", "30"))
SEEDS = count(int.from_bytes(os.urandom(8), "big"))
TOKENS = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")

FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize="MLSPAN_FUZZ" not in os.environ,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)

WORDS = st.sampled_from(
    [
        *(
            "messages",
            "choices",
            "message",
            "content",
            "tool_calls",
            "usage",
            "role",
            "parts",
            "type",
            "text",
            "function",
        ),
        *(
            "arguments",
            "name",
            "id",
            "prompt_tokens",
            "completion_tokens",
            "total_tokens",
            "delta",
            "index",
            "metadata",
        ),
        *(
            "user",
            "assistant",
            "tool",
            "image_url",
            "url",
            "blob",
            "uri",
            "modality",
            "image",
            "finish_reason",
            "\0",
            "",
        ),
    ]
)
TEXT = st.text(st.characters(exclude_categories=()), max_size=12) | WORDS | st.just("nul \0 in it \ud800")
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT


def nested(leaves: st.SearchStrategy[Any], most: int = 14) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | TEXT, inner, max_size=5),
        max_leaves=most,
    )


JSON = nested(SCALARS)


def _foreign() -> list[Callable[[], Any]]:
    import numpy as np
    import pandas as pd
    import pydantic

    class Person(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(arbitrary_types_allowed=True, extra="allow")
        name: Any = None

    return [
        *(lambda: Person, lambda: Person(name=object()), lambda: Person(name=b"\xff", messages=[None])),
        *(
            lambda: np.arange(4),
            lambda: np.float32("nan"),
            lambda: np.array([object()]),
            lambda: np.int64(3),
        ),
        *(lambda: pd.DataFrame({"a": [1]}), lambda: pd.NaT, lambda: pd.Series(["\0"])),
    ]


class Later:
    """Stands for a value that Hypothesis itself could not handle, until it is made."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


class Knot:
    """Stands for a value that contains itself."""

    def __init__(self, value: Any) -> None:
        self.value = value


def made(value: Any) -> Any:
    """*value* with the very things in the place of what stands for them."""
    if isinstance(value, Later):
        return value.make()
    if isinstance(value, dict):
        return {key: made(item) for key, item in value.items()}
    if isinstance(value, list):
        return [made(item) for item in value]
    if isinstance(value, Knot):
        knotted = made(value.value)
        if type(knotted) is dict:
            knotted["self"] = [knotted, knotted]
        elif type(knotted) is list:
            knotted.append(knotted)
        return knotted
    return value


ODD = st.sampled_from([*HOSTILE, *_foreign()]).map(Later)
KINDS = st.sampled_from(["step", "tool", "agent", "workflow", "retrieval", "embeddings", "chat", "llm"])
VALUES = nested(SCALARS | ODD | st.binary(max_size=4)) | JSON.map(Knot) | JSON


class Odd(Exception):  # noqa: N818  # raised on purpose
    """What a traced function raises: with any text, or none."""

    def __str__(self) -> str:
        return self.args[0]  # type: ignore[no-any-return]  # which is what may be odd


class Mute(Odd):
    """One that says nothing in any way, and has no arguments to look at."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    __str__ = __repr__
    args = property(__repr__)  # type: ignore[assignment]  # on purpose


class Ended(SpanProcessor):
    """Every span that has ended, by its trace."""

    def __init__(self) -> None:
        self.traces: dict[str, list[ReadableSpan]] = defaultdict(list)

    def on_end(self, span: ReadableSpan) -> None:
        context: Any = span.get_span_context()
        self.traces[f"{context.trace_id:032x}"].append(span)


def described(span: ReadableSpan) -> tuple[Any, ...]:
    """What of a span has to arrive wherever it goes."""
    context: Any = span.get_span_context()
    tokens = tuple((span.attributes or {}).get(name) for name in TOKENS)
    parent = f"{span.parent.span_id:016x}" if span.parent else None
    return f"{context.span_id:016x}", parent, span.status.status_code.name, *tokens


@FUZZ
@given(
    values=st.tuples(VALUES, VALUES, VALUES),
    kind=KINDS,
    attributes=st.dictionaries(WORDS | TEXT, VALUES, max_size=3),
    fails=st.none() | st.sampled_from([Odd, Mute]),
    tokens=st.integers(0, 2**40),
)
def _calls(
    values: tuple[Any, Any, Any], kind: Any, attributes: dict[str, Any], fails: type[Odd] | None, tokens: int
) -> None:
    """A traced function, a span inside it and a model's call: return and exception are the function's own."""
    given_, got, name = map(made, values)
    random.seed(next(SEEDS))  # Hypothesis has given every example the same one, and so the same trace id
    error = (fails or Odd)(got)

    @tracing.trace(name=name, kind=made(kind))
    def work(value: Any, question: str) -> Any:
        assert value is given_
        with tracing.span(name, kind=made(kind), input=given_, attributes=made(attributes)) as inner:
            inner.output = got
        with tracing.span("m", kind="chat", input=given_) as chat:
            chat.output = got
            chat.record.provider, chat.record.input_tokens, chat.record.output_tokens = "openai", tokens, 1
        if fails:
            raise error
        return got

    with tracing.session(name), tracing.user(got), tracing.request_id(given_), tracing.tags(tag=got, **attributes):
        try:
            assert work(given_, "why?") is got
            assert not fails
        except Odd as caught:
            assert caught is error  # noqa: PT017  # either may be


CALL = {"id": "c", "type": "function", "index": 0, "function": {"name": "f", "arguments": "{}"}}
SAID = {"role": "assistant", "content": "hi", "tool_calls": [CALL], "refusal": None}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "prompt_tokens_details": {"cached_tokens": 1}}
MADE = {"id": "r", "created": 1, "created_at": 1, "model": "m", "usage": USAGE}
TEXT_PART = {"type": "output_text", "text": "hi", "annotations": []}
OUTPUT = [
    {"type": "message", "id": "o", "role": "assistant", "status": "completed", "content": [TEXT_PART]},
    {"type": "function_call", "id": "p", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"},
    {"type": "reasoning", "id": "q", "summary": [{"type": "summary_text", "text": "so"}]},
]
RESPONSE_USAGE = {
    "input_tokens": 1,
    "output_tokens": 2,
    "total_tokens": 3,
    "input_tokens_details": {"cached_tokens": 1},
}
RESPONSE = {**MADE, "object": "response", "status": "completed", "output": OUTPUT, "usage": RESPONSE_USAGE}
HI: Any = [{"role": "user", "content": "hi"}]
# What is asked, and a right answer, or the events of a stream.
ENDPOINTS: list[tuple[Callable[[Any], Any], Any]] = [
    (
        lambda client: client.chat.completions.create(model="m", messages=HI),
        {**MADE, "object": "chat.completion", "choices": [{"index": 0, "message": SAID, "finish_reason": "stop"}]},
    ),
    (
        lambda client: client.chat.completions.create(model="m", messages=HI, stream=True),
        [{**MADE, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": SAID, "finish_reason": "stop"}]}]
        * 2,
    ),
    (lambda client: client.responses.create(model="m", input="hi"), RESPONSE),
    (
        lambda client: client.responses.create(model="m", input="hi", stream=True),
        [
            {"type": "response.created", "response": RESPONSE, "sequence_number": 0},
            {
                "type": "response.output_text.delta",
                "delta": "hi",
                "item_id": "o",
                "output_index": 0,
                "content_index": 0,
            },
            {"type": "response.output_item.done", "item": OUTPUT[1], "output_index": 1},
            {"type": "response.completed", "response": RESPONSE, "sequence_number": 1},
        ],
    ),
    (
        lambda client: client.embeddings.create(model="m", input=["hi"]),
        {**MADE, "object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]},
    ),
    (
        lambda client: client.completions.create(model="m", prompt="hi"),
        {**MADE, "object": "text_completion", "choices": [{"index": 0, "text": "hi", "finish_reason": "stop"}]},
    ),
]


def _list_places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container below *value*, with each of its keys."""
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _list_places(value[key])


@st.composite
def answers(draw: st.DrawFn) -> tuple[Callable[[Any], Any], Any]:
    """A request, and an answer to it in which something is missing or anything at all."""
    ask, right = draw(st.sampled_from(ENDPOINTS))
    body = {"answer": json.loads(json.dumps(right))}
    for _ in range(draw(st.integers(1, 3))):
        held, key = draw(st.sampled_from(list(_list_places(body))))
        if isinstance(held, dict) and held is not body and draw(st.booleans()):
            del held[key]
        else:
            held[key] = draw(JSON)
    return ask, body["answer"]


def _seen(client: Any, ask: Callable[[Any], Any]) -> Any:
    """What a program sees of a call."""
    try:
        got = ask(client)
        return [repr(chunk) for chunk in got] if isinstance(got, openai.Stream) else repr(got)
    except Exception as error:  # the client's, for an answer that is none
        return type(error), str(error)


def _answered(server: Scripted, bare: Any, traced: Any) -> Callable[[], None]:
    @FUZZ
    @given(asked=answers())
    def answered(asked: tuple[Callable[[Any], Any], Any]) -> None:
        random.seed(next(SEEDS))
        ask, answer = asked
        server.clear()
        if isinstance(answer, list):
            server.stream(*[json.dumps(event) for event in answer], "[DONE]")
        else:
            server.reply(answer)
        assert _seen(traced, ask) == _seen(bare, ask)

    return answered


def _from_mlflow(uri: str) -> Callable[[str], list[tuple[Any, ...]]]:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)

    def found(trace_id: str) -> list[tuple[Any, ...]]:
        trace = client.get_trace(f"tr-{trace_id}")
        spans = []
        for span in trace.data.spans:
            tokens = tuple(span.get_attribute(name) for name in TOKENS)
            spans.append((span.span_id, span.parent_id, span.status.status_code.name, *tokens))
        return spans

    return found


def _from_otlp(receiver: Receiver) -> Callable[[str], list[tuple[Any, ...]]]:
    by_trace: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    codes = {0: "UNSET", 1: "OK", 2: "ERROR"}

    def found(trace_id: str) -> list[tuple[Any, ...]]:
        for body in receiver.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for span in (span for scope in resource.scope_spans for span in scope.spans):
                    tokens = {pair.key: pair.value.int_value for pair in span.attributes if pair.key in TOKENS}
                    parent = span.parent_span_id.hex() or None
                    counted = tuple(tokens.get(name) for name in TOKENS)
                    said = (span.span_id.hex(), parent, codes[span.status.code], *counted)
                    by_trace[span.trace_id.hex()].append(said)
        receiver.bodies.clear()
        return by_trace[trace_id]

    return found


@pytest.fixture(params=["sqlite", "postgresql", "server", "otlp"])
def arrived(
    request: pytest.FixtureRequest, tracing_off: None, tmp_path: Path
) -> Iterator[Callable[[str], list[tuple[Any, ...]]]]:
    """What of a trace has arrived where this test's traces go."""
    with ExitStack() as stack:
        if request.param == "otlp":
            receiver = Receiver()
            stack.callback(receiver.stop)
            tracing.configure(tracking_uri="none", otlp_endpoint=receiver.url)
            yield _from_otlp(receiver)
            return
        if request.param == "postgresql":
            require_postgres()
            uri = stack.enter_context(postgres())[0] + "/postgres"
        else:
            uri = request.getfixturevalue({"sqlite": "mlflow_store", "server": "mlflow_server"}[request.param])
        tracing.configure(tracking_uri=uri, spool_dir=tmp_path / "spool")
        yield _from_mlflow(uri)


@pytest.mark.timeout(60 + EXAMPLES * 5)
def test_every_trace_arrives(arrived: Callable[[str], list[tuple[Any, ...]]], scripted: Scripted) -> None:
    """Its spans, their tree, their status and their tokens, whatever values were in it."""
    ended = Ended()
    undo = runtime.add_listener(ended)
    try:
        with ExitStack() as stack:
            bare, traced = (openai.OpenAI(base_url=scripted.base_url, api_key="k", max_retries=0) for _ in range(2))
            stack.callback(bare.close)
            stack.callback(traced.close)
            bare.request = bare.request  # before it is traced
            integrations.openai.autolog()
            _calls()
            _answered(scripted, bare, traced)()
        assert len(ended.traces) >= EXAMPLES
        flushed = tracing.flush(60)
        assert flushed, str(flushed)
    finally:
        undo()
    for trace_id, spans in ended.traces.items():
        assert sorted(arrived(trace_id), key=str) == sorted(map(described, spans), key=str), spans
