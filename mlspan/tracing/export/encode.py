"""A span as OTLP's bytes. The SDK's encoder makes a message of every value first, and takes more than twice as long.

What is odd is left to that one (see :mod:`.wire`), and the tests hold these bytes against its bytes. A tag is eight
times the number of the field in OTLP's trace.proto or common.proto, plus 0 where a varint follows, 1 eight bytes, 2 a
length and so many bytes, 5 four bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext

_EIGHT: Final = struct.Struct("<Q").pack
_FOUR: Final = struct.Struct("<I").pack
_DOUBLE: Final = struct.Struct("<d").pack
_INT64: Final = 2**63
_MOST_KEYS: Final = 4096
_keys: dict[str, bytes] = {}  # what stands before the value of an attribute, by its name: names are few

_PARENT_KNOWN, _PARENT_REMOTE = 0x100, 0x200  # flags


def encoded(span: ReadableSpan) -> bytes:
    """A Span. Raises where it cannot be said, or where only the SDK's encoder knows whether it can."""
    context: Any = span.get_span_context()
    parent, state, status = span.parent, context.trace_state, span.status
    parts = [b"\x0a\x10", context.trace_id.to_bytes(16, "big"), b"\x12\x08", context.span_id.to_bytes(8, "big")]
    if state:
        parts.append(_text(b"\x1a", ",".join([f"{key}={value}" for key, value in state.items()])))
    if parent:
        parts += (b"\x22\x08", parent.span_id.to_bytes(8, "big"))
    parts += (_text(b"\x2a", span.name), b"\x30", _LENGTHS[span.kind.value + 1])
    if start := span.start_time:
        parts += (b"\x39", _EIGHT(start))
    if end := span.end_time:
        parts += (b"\x41", _EIGHT(end))
    parts += _attributes(b"\x4a", span.attributes)
    parts.append(_count(b"\x50", span.dropped_attributes))
    parts += map(_event, span.events)
    parts.append(_count(b"\x60", span.dropped_events))
    parts += map(_link, span.links)
    parts.append(_count(b"\x70", span.dropped_links))
    if status is not None:
        said = _text(b"\x12", status.description or "")
        code = status.status_code.value
        parts.append(field(b"\x7a", said + b"\x18" + _LENGTHS[code] if code else said))
    parts += (b"\x85\x01", _flags(parent))
    return b"".join(parts)


def extended(span: bytes, attributes: Mapping[str, Any], events: Iterable[Event]) -> bytes:
    """*span* with more of both: what may be repeated in protobuf may stand anywhere in a message."""
    return b"".join((span, *_attributes(b"\x4a", attributes), *map(_event, events)))


def field(tag: bytes, data: bytes) -> bytes:
    """A field of wire type 2."""
    return tag + _length(len(data)) + data


def _event(event: Event) -> bytes:
    at = b"\x09" + _EIGHT(event.timestamp) if event.timestamp else b""
    parts = [at, _text(b"\x12", event.name), *_attributes(b"\x1a", event.attributes)]
    parts.append(_count(b"\x20", event.dropped_attributes))
    return field(b"\x5a", b"".join(parts))


def _link(link: Link) -> bytes:
    context = link.context
    parts = [b"\x0a\x10", context.trace_id.to_bytes(16, "big"), b"\x12\x08", context.span_id.to_bytes(8, "big")]
    parts += _attributes(b"\x22", link.attributes)
    parts += (_count(b"\x28", link.dropped_attributes), b"\x35", _flags(context))
    return field(b"\x6a", b"".join(parts))


def _flags(parent: SpanContext | None) -> bytes:
    return _FOUR(_PARENT_KNOWN | _PARENT_REMOTE if parent and parent.is_remote else _PARENT_KNOWN)


def _attributes(tag: bytes, attributes: Mapping[str, Any] | None) -> list[bytes]:
    return _pairs(tag, attributes.items()) if attributes else []


def _pairs(tag: bytes, pairs: Iterable[tuple[str, Any]]) -> list[bytes]:
    """KeyValues, in pieces."""
    parts: list[bytes] = []
    for key, value in pairs:
        named = _keys.get(key) or _named(key)
        if type(value) is str and len(value) < _SHORT:  # most are, and this takes a third less than what follows
            data = value.encode()
            length = _LENGTHS[len(data)]
            size = 1 + len(length) + len(data)
            outer = _LENGTHS[size]
            parts += (tag, _length(len(named) + len(outer) + size), named, outer, b"\x0a", length, data)
        else:
            said = _value(value)
            outer = _length(len(said))
            parts += (tag, _length(len(named) + len(outer) + len(said)), named, outer, said)
    return parts


def _named(key: str) -> bytes:
    if len(_keys) > _MOST_KEYS:
        _keys.clear()
    found = _keys[key] = _text(b"\x0a", key) + b"\x12"
    return found


def _value(value: Any) -> bytes:
    """An AnyValue, by the rules of the SDK's encoder."""
    if value is None:
        return b""
    if isinstance(value, str):
        return field(b"\x0a", value.encode())
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        if not -_INT64 <= value < _INT64:
            raise OverflowError(value)
        return b"\x18" + _length(value if value >= 0 else value + 2 * _INT64)
    if isinstance(value, float):
        return b"\x21" + _DOUBLE(value)
    if isinstance(value, bytes):
        return field(b"\x3a", value)
    if isinstance(value, Sequence):
        return field(b"\x2a", b"".join([field(b"\x0a", _value(item)) for item in value]))
    if isinstance(value, Mapping):
        return field(b"\x32", b"".join(_pairs(b"\x0a", ((str(key), item) for key, item in value.items()))))
    raise TypeError(type(value).__name__)


def _text(tag: bytes, text: str) -> bytes:
    """A field that is absent where it is empty."""
    data = text.encode()
    return field(tag, data) if data else b""


def _count(tag: bytes, number: int) -> bytes:
    if not 0 <= number < 2**32:
        raise OverflowError(number)
    return tag + _length(number) if number else b""


def _length(size: int) -> bytes:
    return _LENGTHS[size] if size < _MOST_LENGTHS else _varint(size)


def _varint(number: int) -> bytes:
    said = bytearray()
    while number > 127:
        said.append(number & 127 | 128)
        number >>= 7
    said.append(number)
    return bytes(said)


_SHORT: Final = 450  # characters, which UTF-8 makes four bytes of at most
_MOST_LENGTHS: Final = 2048
_LENGTHS: Final = [_varint(size) for size in range(_MOST_LENGTHS)]
