"""Our encoder of spans against the SDK's, byte for byte; and what MLflow is sent against the whole span encoded."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from enum import Enum
from types import MappingProxyType
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from opentelemetry.util.types import Attributes

from mlspan.tracing.export.mlflow.traces import translate_segment
from mlspan.tracing.export.otlp.codec import decode_span, encode_each_span
from mlspan.tracing.export.otlp.encoder import encode_span, extend_encoded_span
from mlspan.tracing.export.types import EncodedSpan, TraceSegment
from mlspan.tracing.operations.call_context import TraceOrigin

NOW = 1_700_000_000_123_456_789


def context(id: int, **more: Any) -> SpanContext:
    return SpanContext(2**127 + 5, id, **{"is_remote": False, "trace_flags": TraceFlags(1), **more})


def span(attributes: Attributes = None, **more: Any) -> ReadableSpan:
    said = {"context": context(7), "start_time": NOW, "end_time": NOW + 1, **more}
    return ReadableSpan("chat é", resource=Resource({}), attributes=attributes, **said)


def by_sdk(one: ReadableSpan) -> Any:
    return encode_spans([one]).resource_spans[0].scope_spans[0].spans[0]


class Color(str, Enum):
    RED = "red"


VALUES: list[Any] = [
    *("", "é", "\x00", "😀" * 450, "x" * 126, "x" * 127, "x" * 449, "x" * 450, "x" * 2047, "é" * 70_000, Color.RED),
    *(True, False, 0, 1, 127, 128, 300, 2**31, 2**63 - 1, -1, -(2**63)),
    *(0.0, -0.5, float("inf"), 1e300, b"", b"\xff" * 200, None),
    *((), ("a", "b"), [1, 2.5, True, None], [["x"], {"y": 1}], range(3), bytearray(b"ab")),
    *({}, {"k": {"n": ["deep", {"er": b"1"}]}}, {1: "a", "1": "b"}, MappingProxyType({"p": "v"})),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}-{str(value)[:8]!a}")
def test_values_of_every_type(value: Any) -> None:
    """An attribute, of a span, an event and a link alike, is the bytes that the SDK's encoder makes of it."""
    said = {"": value, "k": value, "é" * 200: value}
    events, links = [Event("e", said, NOW), Event("", None, NOW)], [Link(context(9, is_remote=True), said)]
    one = span(said, events=events, links=links)
    assert encode_span(one) == by_sdk(one).SerializeToString()


@pytest.mark.parametrize(
    "more",
    [
        *({"kind": kind} for kind in SpanKind),
        *({"status": Status(code)} for code in StatusCode),
        {"status": Status(StatusCode.ERROR, "broken é")},
        {"parent": context(8)},
        {"parent": context(8, is_remote=True)},
        {"context": context(7, trace_state=TraceState([("a", "1"), ("b", "2")]))},
        {"context": SpanContext(1, 1, is_remote=False)},
        {"start_time": None, "end_time": 0},
        {"links": [Link(context(9), None), Link(context(10, trace_state=TraceState([("a", "1")])), {})]},
    ],
    ids="-".join,
)
def test_everything_else_of_a_span(more: dict[str, Any]) -> None:
    """Kind, status, parent, flags, state, times and links are the bytes that the SDK's encoder makes of them."""
    one = span({"a": 1}, **more)
    assert encode_span(one) == by_sdk(one).SerializeToString()


def test_what_the_sdk_has_dropped_is_counted() -> None:
    """Attributes, events and links over the SDK's limits are counted in the bytes, as the SDK's encoder does."""
    limits = SpanLimits(max_attributes=1, max_events=1, max_links=1, max_event_attributes=1, max_link_attributes=1)
    tracer = TracerProvider(shutdown_on_exit=False, span_limits=limits).get_tracer("t")
    open_span: Any = tracer.start_span("s", attributes={"a": 1, "b": 2})
    for _ in range(200):
        open_span.add_event("e", {"a": 1, "b": 2})
        open_span.add_link(context(9), {"a": 1, "b": 2})
    open_span.end()
    one = open_span._readable_span()
    assert one.dropped_events == 199
    assert encode_span(one) == by_sdk(one).SerializeToString()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda one: one._attributes.update(k=2**63),
        lambda one: one._attributes.update(k="\ud800"),
        lambda one: one._attributes.update(k=object()),
        lambda one: one._attributes.update({0: "no text"}),
        lambda one: setattr(one, "_name", 0),
        lambda one: setattr(one, "_start_time", -1),
    ],
)
def test_what_cannot_be_said_is_left_to_the_sdk(spoil: Callable[[Any], None]) -> None:
    """Nothing odd becomes other bytes in silence: it raises, and packing goes the long way round."""
    one = span({"fine": 1})
    spoil(one)
    with pytest.raises((AttributeError, OverflowError, TypeError, ValueError, struct.error)):
        encode_span(one)


MESSAGES = '[{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]'
CHAT: dict[str, Any] = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": MESSAGES}


@pytest.mark.parametrize(
    ("attributes", "more", "is_extended"),
    [
        (CHAT, {}, True),
        (CHAT | {"gen_ai.usage.input_tokens": 1}, {"status": Status(StatusCode.ERROR, "no")}, True),
        (CHAT | {"gen_ai.conversation.id": "short"}, {}, True),
        (CHAT | {"gen_ai.conversation.id": "x" * 251}, {}, False),
        (CHAT | {"session.id": 5}, {}, False),
        (CHAT | {"mlflow.traceTag.x": "theirs"}, {}, False),
        (CHAT | {"mlflow.spanInputs": "theirs"}, {}, False),
    ],
    ids=["chat", "failed", "session", "long session", "odd session", "their tags", "their inputs"],
)
def test_what_mlflow_is_sent(attributes: dict[str, Any], more: dict[str, Any], is_extended: bool) -> None:
    """The bytes of the spool with MLflow's attributes after them say what the translated span says, encoded whole."""
    one = span(attributes, **more)
    (packed,) = encode_each_span([one])
    assert isinstance(packed, EncodedSpan)
    trace = translate_segment(TraceSegment(TraceOrigin(), (one,), 7, whole=True, stored=[packed.span]), None)
    (translated,) = trace.spans
    assert (translated.stored is not None) == is_extended
    if translated.stored is not None:
        came = decode_span(
            EncodedSpan(packed.resource, packed.scope, extend_encoded_span(translated.stored, *translated.added))
        )
        assert came.attributes == translated.attributes
        assert by_sdk(came) == by_sdk(translated)


def test_spans_are_encoded_quickly() -> None:
    """Ours takes no longer than the SDK's encoder, or there would be no reason for it."""
    one = span({f"gen_ai.attribute.{number}": "x" * 30 for number in range(12)})

    def least(encode: Callable[[ReadableSpan], Any]) -> float:
        taken = []
        for _ in range(50):
            began = time.perf_counter()
            for _ in range(20):
                encode(one)
            taken.append(time.perf_counter() - began)
        return min(taken)

    assert least(encode_span) < least(lambda one: by_sdk(one).SerializeToString())
