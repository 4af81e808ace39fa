"""The OTLP codec: spans to bytes and back. The spool stores these bytes, and an OTLP receiver gets them unchanged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, TracesData
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from ...._bounded import BoundedDict
from ...operations.content import replace_surrogates
from ...otel.compat import find_span_encoder
from ...otel.frozen_span import FrozenSpan
from ..types import EncodedSpan
from .encoder import encode_field, encode_span

MAX_SPAN_BYTES: Final = 16 * 1024 * 1024  # the most bytes of one span; the longest texts are cut until it fits
_MIN_TEXT_LENGTH: Final = 64
_MIN_CUT_BYTES: Final = 4096  # bytes: the smallest size to which a span is cut for a receiver that finds it too large
_INT64_RANGE: Final = range(-(2**63), 2**63)
_PARENT_REMOTE_FLAG: Final = 0x200  # in Span.flags: the parent is in another process

# By the ids of resource and scope. The two objects stand last in the value, which keeps their ids unique.
_encoded_contexts: Final[BoundedDict[tuple[int, int], tuple[bytes, bytes, Any, Any]]] = BoundedDict(256)
_sdk_encode_span: Any = find_span_encoder()


class UnencodableSpan(Exception):  # noqa: N818  # a result, not an error in the program
    """A span that cannot be encoded, and the reason."""


def encode_each_span(spans: Sequence[ReadableSpan], most: int = MAX_SPAN_BYTES) -> list[EncodedSpan | UnencodableSpan]:
    """Return each span as OTLP, in order; an UnencodableSpan stands for one that cannot be encoded."""
    return [_encode_one_span(span, most) for span in spans]


def _encode_one_span(span: ReadableSpan, most: int) -> EncodedSpan | UnencodableSpan:
    """Encode a span; if that fails, encode it with its odd values as text; if that fails too, return the reason."""
    try:
        try:
            return _encode_within_size(span, most)
        except UnencodableSpan as unfit:
            return unfit
        except Exception:  # noqa: BLE001  # a span of another library may hold anything
            return _encode_within_size(_make_encodable(span), most)._replace(changed=True)
    except Exception as error:  # noqa: BLE001
        return (
            error
            if isinstance(error, UnencodableSpan)
            else UnencodableSpan(f"a span cannot be encoded ({type(error).__name__})")
        )


def _encode_within_size(span: ReadableSpan, most: int) -> EncodedSpan:
    """Encode a span with our own encoder, else with the SDK's, and cut it to at most *most* bytes."""
    try:
        data = encode_span(span)
    except Exception:  # noqa: BLE001  # the SDK's encoder handles unusual spans
        message = _encode_with_sdk(span)
        if len(message.attributes) != len(span.attributes or ()):
            raise ValueError("the encoder has left out an attribute") from None
        return EncodedSpan(*encode_resource_and_scope(span), *_cut_to_size(message, most))
    if len(data) > most:
        return EncodedSpan(*encode_resource_and_scope(span), *_cut_to_size(SpanMessage.FromString(data), most))
    return EncodedSpan(*encode_resource_and_scope(span), data)


def _encode_with_sdk(span: ReadableSpan) -> Any:
    """Encode with the SDK's function for one span.

    The public one encodes resource and scope each time, which costs more.
    """
    return (
        _sdk_encode_span(span) if _sdk_encode_span else encode_spans([span]).resource_spans[0].scope_spans[0].spans[0]
    )


def encode_resource_and_scope(span: ReadableSpan) -> tuple[bytes, bytes]:
    """Return resource and scope as OTLP. Spans share them, so each pair is encoded once."""
    resource, scope = span.resource, span.instrumentation_scope
    found = _encoded_contexts.get((id(resource), id(scope)))
    if found is None:
        bare = ReadableSpan("", span.get_span_context(), resource=resource, instrumentation_scope=scope)
        (of_resource,) = encode_spans([bare]).resource_spans
        (of_scope,) = of_resource.scope_spans
        del of_resource.scope_spans[:], of_scope.spans[:]
        found = (of_resource.SerializeToString(), of_scope.SerializeToString(), resource, scope)
        _encoded_contexts[id(resource), id(scope)] = found
    return found[0], found[1]


def _make_encodable(span: ReadableSpan) -> ReadableSpan:
    """*span* with what OTLP cannot say as text."""
    status = span.status
    events = [
        Event(replace_surrogates(str(one.name)), _mended_values(one.attributes), one.timestamp) for one in span.events
    ]
    return ReadableSpan(
        name=replace_surrogates(str(span.name)),
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=_mended_values(span.attributes),
        events=events,
        links=[Link(one.context, _mended_values(one.attributes)) for one in span.links],
        kind=span.kind,
        status=Status(status.status_code, replace_surrogates(str(status.description)) if status.description else None),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _mended_values(attributes: Any) -> dict[str, Any]:
    return {replace_surrogates(str(key)): _make_value_encodable(value) for key, value in (attributes or {}).items()}


def _make_value_encodable(value: Any) -> Any:
    if isinstance(value, (bool, float)) or (isinstance(value, int) and int(value) in _INT64_RANGE):
        return value
    return replace_surrogates(value if isinstance(value, str) else str(value))


def cut_span(encoded: EncodedSpan, most: int) -> EncodedSpan:
    """Return *encoded* with its longest texts cut, so that its span has at most *most* bytes. Raise UnencodableSpan."""
    return EncodedSpan(encoded.resource, encoded.scope, *_cut_to_size(SpanMessage.FromString(encoded.span), most))


def iterate_cuts(encoded: EncodedSpan) -> Iterator[EncodedSpan]:
    """Yield *encoded* cut to half its size, to a quarter, and so on, for a receiver that finds it too large."""
    size = len(encoded.span) // 2
    while size >= _MIN_CUT_BYTES:
        try:
            yield cut_span(encoded, size)
        except UnencodableSpan:
            return
        size //= 2


def _cut_to_size(message: Any, most: int) -> tuple[bytes, bool]:
    """Return the bytes of a message, and True if something was cut.

    Raise UnencodableSpan if it cannot be made to fit.
    """
    data, longest = message.SerializeToString(), most
    while len(data) > most:
        longest //= 2
        if longest < _MIN_TEXT_LENGTH:
            raise UnencodableSpan(f"a span of {len(data)} bytes, of which {most} may be sent")
        for value in _iterate_values(message):
            _cut_value(value, longest)
        data = message.SerializeToString()
    return data, longest < most


def _iterate_values(message: Any) -> Iterator[Any]:
    """Yield every AnyValue of a span, including nested ones."""
    left = [pair.value for part in (message, *message.events, *message.links) for pair in part.attributes]
    while left:
        value = left.pop()
        yield value
        if value.HasField("array_value"):
            left += value.array_value.values
        elif value.HasField("kvlist_value"):
            left += [pair.value for pair in value.kvlist_value.values]


def _cut_value(value: Any, longest: int) -> None:
    if value.HasField("string_value") and len(value.string_value) > longest:
        text = value.string_value
        value.string_value = f"{text[: longest // 2]}… [cut: {len(text)} characters in all]"
    elif value.HasField("bytes_value") and len(value.bytes_value) > longest:
        value.string_value = f"[cut: {len(value.bytes_value)} bytes]"


def build_export_request(spans: Iterable[EncodedSpan]) -> bytes:
    """Return an ExportTraceServiceRequest (the same bytes as a TracesData) of *spans*, without encoding them again."""
    tree: dict[bytes, dict[bytes, list[bytes]]] = defaultdict(lambda: defaultdict(list))
    for encoded in spans:
        tree[encoded.resource][encoded.scope].append(encoded.span)

    def encode_scopes(below: dict[bytes, list[bytes]]) -> bytes:
        return b"".join(
            encode_field(b"\x12", scope + b"".join([encode_field(b"\x12", span) for span in spans]))
            for scope, spans in below.items()
        )

    return b"".join(encode_field(b"\x0a", resource + encode_scopes(below)) for resource, below in tree.items())


def split_export_request(data: bytes) -> Iterator[EncodedSpan]:
    """Yield the encoded spans of a request or TracesData. Raise DecodeError."""
    for of_resource in TracesData.FromString(data).resource_spans:
        scopes = list(of_resource.scope_spans)
        del of_resource.scope_spans[:]
        resource = of_resource.SerializeToString()
        for of_scope in scopes:
            messages = list(of_scope.spans)
            del of_scope.spans[:]
            scope = of_scope.SerializeToString()
            for message in messages:
                yield EncodedSpan(resource, scope, message.SerializeToString())


def decode_span(encoded: EncodedSpan) -> ReadableSpan:
    """Return the span that an encoded span holds."""
    message = SpanMessage.FromString(encoded.span)
    trace_id = int.from_bytes(message.trace_id, "big")
    parent_id, remote = int.from_bytes(message.parent_span_id, "big"), bool(message.flags & _PARENT_REMOTE_FLAG)
    sampled = TraceFlags(TraceFlags.SAMPLED)
    state = TraceState.from_header([message.trace_state]) if message.trace_state else None
    span_id = int.from_bytes(message.span_id, "big")
    own = SpanContext(trace_id, span_id, is_remote=False, trace_flags=sampled, trace_state=state)
    return FrozenSpan(
        name=message.name,
        context=own,
        parent=SpanContext(trace_id, parent_id, is_remote=remote, trace_flags=sampled) if parent_id else None,
        resource=_decode_resource(encoded.resource),
        attributes=_decode_attributes(message.attributes),
        events=tuple(Event(e.name, _decode_attributes(e.attributes), e.time_unix_nano) for e in message.events),
        links=tuple(map(_decode_link, message.links)),
        kind=SpanKind(max(message.kind - 1, 0)),
        status=Status(StatusCode(message.status.code), message.status.message or None),
        start_time=message.start_time_unix_nano,
        end_time=message.end_time_unix_nano,
        instrumentation_scope=_decode_scope(encoded.scope),
    )


def _decode_link(link: Any) -> Link:
    ids = int.from_bytes(link.trace_id, "big"), int.from_bytes(link.span_id, "big")
    return Link(
        SpanContext(*ids, is_remote=bool(link.flags & _PARENT_REMOTE_FLAG)), _decode_attributes(link.attributes)
    )


@lru_cache(maxsize=64)
def _decode_resource(data: bytes) -> Resource:
    message = ResourceSpans.FromString(data)
    return Resource(_decode_attributes(message.resource.attributes), message.schema_url or None)


@lru_cache(maxsize=256)
def _decode_scope(data: bytes) -> InstrumentationScope:
    message = ScopeSpans.FromString(data)
    scope = message.scope
    return InstrumentationScope(
        scope.name, scope.version or None, message.schema_url or None, _decode_attributes(scope.attributes)
    )


def _decode_attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _decode_value(pair.value) for pair in pairs}


def _decode_value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_decode_value(item) for item in value.array_value.values)
    if kind == "kvlist_value":
        return _decode_attributes(value.kvlist_value.values)
    return None if kind is None else getattr(value, kind)
