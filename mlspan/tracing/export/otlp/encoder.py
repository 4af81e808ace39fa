"""An encoder of spans to OTLP bytes, more than twice as fast as the SDK's, which builds a message for every value.

Unusual spans are left to the SDK's encoder (see the codec module), and the tests compare the bytes of both. A tag is
eight times the field number in OTLP's trace.proto or common.proto, plus the wire type: 0 for a varint, 1 for eight
bytes, 2 for a length followed by that many bytes, 5 for four bytes.
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
_keys: dict[str, bytes] = {}  # encoded key and value tag by attribute name, of which there are few

_PARENT_KNOWN, _PARENT_REMOTE = 0x100, 0x200  # bits of Span.flags


def encoded(span: ReadableSpan) -> bytes:
    """Return *span* as a Span message. Raise if it cannot be encoded, or if only the SDK's encoder can tell."""
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
        message = _text(b"\x12", status.description or "")
        code = status.status_code.value
        parts.append(field(b"\x7a", message + b"\x18" + _LENGTHS[code] if code else message))
    parts += (b"\x85\x01", _flags(parent))
    return b"".join(parts)


def extended(span: bytes, attributes: Mapping[str, Any], events: Iterable[Event]) -> bytes:
    """Return the Span message *span* with more attributes and events.

    Protobuf allows the elements of a repeated field anywhere in a message, so they are appended.
    """
    return b"".join((span, *_attributes(b"\x4a", attributes), *map(_event, events)))


def field(tag: bytes, data: bytes) -> bytes:
    """Return a field of wire type 2: the tag, the length and the data."""
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
    """Return KeyValue messages, in pieces to be joined."""
    parts: list[bytes] = []
    for key, value in pairs:
        named = _keys.get(key) or _named(key)
        if type(value) is str and len(value) < _SHORT:  # the common case; a third faster than the general one
            data = value.encode()
            length = _LENGTHS[len(data)]
            size = 1 + len(length) + len(data)
            outer = _LENGTHS[size]
            parts += (tag, _length(len(named) + len(outer) + size), named, outer, b"\x0a", length, data)
        else:
            encoded_value = _value(value)
            outer = _length(len(encoded_value))
            parts += (tag, _length(len(named) + len(outer) + len(encoded_value)), named, outer, encoded_value)
    return parts


def _named(key: str) -> bytes:
    if len(_keys) > _MOST_KEYS:
        _keys.clear()
    found = _keys[key] = _text(b"\x0a", key) + b"\x12"
    return found


def _value(value: Any) -> bytes:
    """Return an AnyValue message, by the rules of the SDK's encoder."""
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
    """Return a text field, or nothing for an empty text."""
    data = text.encode()
    return field(tag, data) if data else b""


def _count(tag: bytes, number: int) -> bytes:
    """Return a uint32 field, or nothing for zero. Raise OverflowError."""
    if not 0 <= number < 2**32:
        raise OverflowError(number)
    return tag + _length(number) if number else b""


def _length(size: int) -> bytes:
    """Return *size* as a varint, from a table if it is small."""
    return _LENGTHS[size] if size < _MOST_LENGTHS else _varint(size)


def _varint(number: int) -> bytes:
    varint = bytearray()
    while number > 127:
        varint.append(number & 127 | 128)
        number >>= 7
    varint.append(number)
    return bytes(varint)


_SHORT: Final = 450  # characters; at most four bytes each in UTF-8
_MOST_LENGTHS: Final = 2048
_LENGTHS: Final = [_varint(size) for size in range(_MOST_LENGTHS)]
