"""What was said is read by path and type: no shape of it costs a trace, or more of it than what cannot be read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from mlspan.tracing.export.mlflow import span_totals, traces
from mlspan.tracing.export.mlflow import spans as span_translation
from mlspan.tracing.export.mlflow.traces import TranslatedTrace, translate_segment
from mlspan.tracing.export.types import TraceSegment
from mlspan.tracing.operations.call_context import TraceOrigin

START = 1_700_000_000_000_000_000


def stored(*attributes: dict[str, Any], name: str = "root", origin: TraceOrigin | None = None) -> TranslatedTrace:
    """A trace whose root has the first *attributes*; the others are below it."""
    spans = []
    for number, own in enumerate(attributes, 1):
        parent = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(1)) if number > 1 else None
        context = SpanContext(1, number, is_remote=False, trace_flags=TraceFlags(1))
        span = ReadableSpan(
            name,
            context,
            parent,
            attributes=own,
            status=Status(StatusCode.OK),
            start_time=START,
            end_time=START + 10**6,
            instrumentation_scope=InstrumentationScope("mlspan"),
        )
        spans.append(span)
    return translate_segment(TraceSegment(origin or TraceOrigin(), spans, root_id=1, whole=True), None, offload=True)


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ({"messages": [["user", "hello"]]}, '[["user","hello"]]'),
        ({"messages": ["hello"]}, '["hello"]'),
        ({"messages": [None]}, "[null]"),
        ({"messages": []}, "[]"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": None}]}]}, "[text]"),
        ({"messages": [{"role": "user", "content": "hi", "tool_calls": 5}]}, "hi"),
        ({"messages": [{"role": "user", "tool_calls": [{"function": ["f"]}, None]}]}, None),
        ({"messages": [{"role": ["user"], "content": {"a": 1}}]}, '{"a":1}'),
        ("plain", "plain"),
        ([1, {"messages": 3}], '[1,{"messages":3}]'),
    ],
)
def test_an_unknown_question_is_shown_as_text(asked: Any, shown: str | None) -> None:
    """Whatever a traced function takes as ``messages``, the trace says what it was."""
    preview = stored({"mlspan.kind": "step", "mlspan.input": json.dumps(asked)}).summary.request_preview
    assert preview == shown or (shown is None and preview)


@pytest.mark.parametrize(
    ("answered", "shown"),
    [
        ({"choices": ["tea", "coffee"]}, '{"choices":["tea","coffee"]}'),
        ({"choices": [{"text": "a legacy completion"}]}, '{"choices":[{"text":"a legacy completion"}]}'),
        ({"choices": [{"delta": {"content": "a"}}]}, '{"choices":[{"delta":{"content":"a"}}]}'),
        ({"choices": [{"message": "hello"}]}, '{"choices":[{"message":"hello"}]}'),
        ({"choices": [{"message": {"content": "hello"}}]}, "hello"),
        ({"choices": []}, '{"choices":[]}'),
        ({"choices": {"a": 1}}, '{"choices":{"a":1}}'),
        ({"messages": [{"role": "a", "content": ["x", None]}]}, None),
    ],
)
def test_an_unknown_answer_is_shown_as_text(answered: Any, shown: str | None) -> None:
    """Whatever a traced function returns as ``choices``, the trace says what it was; no server is misled by it."""
    trace = stored({"mlspan.kind": "step", "mlspan.output": json.dumps(answered)})
    assert trace.summary.response_preview == shown or (shown is None and trace.summary.response_preview)
    trace.spans_with_summary()


PART = [
    *(
        None,
        5,
        "text",
        [],
        {},
        {"type": None},
        {"type": ["text"]},
        {"type": "text"},
        {"type": "text", "content": {"a": 1}},
    ),
    *({"type": "tool_call", "name": 5, "id": ["x"], "arguments": 3}, {"type": "tool_call_response", "response": None}),
    *({"type": "blob", "modality": ["image"], "content": 5}, {"type": "blob", "modality": "audio", "content": "aa"}),
    *({"type": "uri", "modality": "image", "uri": None}, {"type": "uri", "modality": "audio", "uri": ["x"]}),
    *(
        {"type": "blob", "modality": "image", "content": "aGk=", "mime_type": {"a": 1}},
        {"type": "reasoning", "content": 1},
    ),
]


@pytest.mark.parametrize("part", PART)
def test_a_part_of_any_shape_is_shown(part: Any) -> None:
    """Messages that somebody else wrote may hold anything: the span is a chat all the same."""
    for messages in ([{"role": "user", "parts": [part]}], [{"role": [1], "parts": part, "name": 5}], [part], part):
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.tool.definitions": json.dumps([part])}
        for name in ("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions"):
            attributes[name] = json.dumps(messages)
        trace = stored(attributes)
        assert (trace.spans[0].attributes or {})["mlflow.spanType"] == '"CHAT_MODEL"'
        trace.spans_with_summary()


@pytest.mark.parametrize("found", [[{"metadata": 5}], [{"metadata": None, "content": 1}], [{}], {"a": 1}, 5])
def test_documents_of_any_shape_are_kept(found: Any) -> None:
    """What a search has found need not look like documents."""
    attributes = {"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.documents": json.dumps(found)}
    assert "mlflow.spanOutputs" in (stored(attributes).spans[0].attributes or {})


@pytest.mark.parametrize("usage", [{"input_tokens": "many"}, {"input_tokens": None}, "none", [1]])
def test_counts_that_are_no_numbers_count_for_nothing(usage: Any) -> None:
    """What another process has written as a trace's tokens is added only where it is a number."""
    counted = span_totals.SpanTotals.from_attributes(1, None, {"mlflow.chat.tokenUsage": usage})
    assert "mlflow.trace.tokenUsage" not in stored({}).summary.with_totals([counted]).metadata


def test_what_fails_costs_no_more_than_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preview, the content of a span and a whole span that cannot be read: the rest of the trace is there."""
    monkeypatch.setenv("MLSPAN_STRICT", "0")

    def failing(*_: Any, **__: Any) -> Any:
        raise RuntimeError("cannot be read")

    attributes = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": "[]", "gen_ai.usage.input_tokens": 3}
    with monkeypatch.context() as patch:
        patch.setattr(traces, "preview_request", failing)
        assert stored(attributes).summary.request_preview is None
    with monkeypatch.context() as patch:
        patch.setattr(span_translation, "make_chat_inputs", failing)
        (span,) = stored(attributes).spans
        assert "mlflow.chat.tokenUsage" in (span.attributes or {})
        assert (span.attributes or {})["mlspan.unreadable"]
    with monkeypatch.context() as patch:
        patch.setattr(traces, "translate_span", failing)
        assert len(stored(attributes, attributes).spans) == 2


def test_every_text_is_storable() -> None:
    """No NUL and no half of a character in what MLflow keeps in columns of their own."""
    bad = "a\0b"
    origin = TraceOrigin(session=bad, user=bad, tags={bad: bad})
    attributes = {
        "mlspan.kind": bad,
        "mlspan.input": json.dumps(bad),
        "gen_ai.request.model": bad,
        "session.id": bad,
        "mlspan.tag.x": bad,
        "list": (bad,),
        "mlspan.output": json.dumps({"choices": [{"message": {"content": bad + "\\u0000"}}]}),
    }
    trace = stored(attributes, name=bad, origin=origin)
    texts = [
        trace.summary.request_preview,
        trace.summary.response_preview,
        trace.spans[0].name,
        *trace.summary.tags.values(),
    ]
    texts += [*trace.summary.tags, *trace.summary.metadata.values()]
    for value in (trace.spans[0].attributes or {}).values():
        texts += [value] if isinstance(value, str) else list(value)
    assert not [text for text in texts if "\0" in text]
    assert trace.summary.metadata["mlflow.trace.session"] == "a␀b"
    outputs = json.loads((trace.spans[0].attributes or {})["mlflow.spanOutputs"])
    assert outputs["choices"][0]["message"]["content"] == "a␀b\\u0000"


@pytest.mark.parametrize(
    ("operation", "continued"),
    [(name, False) for name in ("chat", "generate_content", "text_completion", "embeddings")]
    + [(name, True) for name in ("execute_tool", "invoke_agent", "retrieval")],
)
def test_which_requests_another_process_may_continue(operation: str, continued: bool) -> None:
    """Not the HTTP request of a call to a model, whichever operation that is: no other process adds to such a trace."""
    own, other = InstrumentationScope("mlspan"), InstrumentationScope("opentelemetry.instrumentation.httpx")
    ids = [SpanContext(1, number, is_remote=False, trace_flags=TraceFlags(1)) for number in (1, 2)]
    times = {"start_time": START, "end_time": START + 10**6}
    call = ReadableSpan(
        "call", ids[0], attributes={"gen_ai.operation.name": operation}, instrumentation_scope=own, **times
    )
    request = ReadableSpan("POST", ids[1], ids[0], kind=SpanKind.CLIENT, instrumentation_scope=other, **times)
    segment = TraceSegment(TraceOrigin(), [request, call], root_id=1, whole=True)
    assert translate_segment(segment, None).merges_stored is continued
