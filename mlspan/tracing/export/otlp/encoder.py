"""An encoder of spans to OTLP bytes, more than twice as fast as the SDK's, which builds a message for every value.

Unusual spans are left to the SDK's encoder (see the codec module), and the tests compare the bytes of both. A tag is
eight times the field number in OTLP's trace.proto or common.proto, plus the wire type: 0 for a varint, 1 for eight
bytes, 2 for a length followed by that many bytes, 5 for four bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext

from ...._bounded import CACHED_TYPES, MAX_CACHED_TEXT, BoundedDict

_FIXED64: Final = struct.Struct("<Q").pack
_FIXED32: Final = struct.Struct("<I").pack
_DOUBLE: Final = struct.Struct("<d").pack
_INT64_LIMIT: Final = 2**63
# Encoded key and value tag by attribute name, of which there are few.
_encoded_keys: Final[BoundedDict[str, bytes]] = BoundedDict(4096)
_find_encoded_key: Final = _encoded_keys.get  # bound once: as quick as that of a plain dict

_PARENT_KNOWN, _PARENT_REMOTE = 0x100, 0x200  # bits of Span.flags


def encode_span(span: ReadableSpan) -> bytes:
    """Return *span* as a Span message. Raise if it cannot be encoded, or if only the SDK's encoder can tell."""
    context: Any = span.get_span_context()
    parent, state, status = span.parent, context.trace_state, span.status
    parts = [b"\x0a\x10", context.trace_id.to_bytes(16, "big"), b"\x12\x08", context.span_id.to_bytes(8, "big")]
    if state:
        parts.append(_encode_text(b"\x1a", ",".join([f"{key}={value}" for key, value in state.items()])))
    if parent:
        parts += (b"\x22\x08", parent.span_id.to_bytes(8, "big"))
    parts += (_encode_text(b"\x2a", span.name), b"\x30", _VARINTS[span.kind.value + 1])
    if start := span.start_time:
        parts += (b"\x39", _FIXED64(start))
    if end := span.end_time:
        parts += (b"\x41", _FIXED64(end))
    parts += _encode_attributes(b"\x4a", span.attributes)
    parts.append(_encode_count(b"\x50", span.dropped_attributes))
    parts += map(_encode_event, span.events)
    parts.append(_encode_count(b"\x60", span.dropped_events))
    parts += map(_encode_link, span.links)
    parts.append(_encode_count(b"\x70", span.dropped_links))
    if status is not None:
        message = _encode_text(b"\x12", status.description or "")
        code = status.status_code.value
        parts.append(encode_field(b"\x7a", message + b"\x18" + _VARINTS[code] if code else message))
    parts += (b"\x85\x01", _encode_flags(parent))
    return b"".join(parts)


def extend_encoded_span(span: bytes, attributes: Mapping[str, Any], events: Iterable[Event]) -> bytes:
    """Return the Span message *span* with more attributes and events.

    Protobuf allows the elements of a repeated field anywhere in a message, so they are appended.
    """
    return b"".join((span, *_encode_attributes(b"\x4a", attributes), *map(_encode_event, events)))


def encode_field(tag: bytes, data: bytes) -> bytes:
    """Return a field of wire type 2: the tag, the length and the data."""
    return tag + _encode_varint(len(data)) + data


def _encode_event(event: Event) -> bytes:
    at = b"\x09" + _FIXED64(event.timestamp) if event.timestamp else b""
    parts = [at, _encode_text(b"\x12", event.name), *_encode_attributes(b"\x1a", event.attributes)]
    parts.append(_encode_count(b"\x20", event.dropped_attributes))
    return encode_field(b"\x5a", b"".join(parts))


def _encode_link(link: Link) -> bytes:
    context = link.context
    parts = [b"\x0a\x10", context.trace_id.to_bytes(16, "big"), b"\x12\x08", context.span_id.to_bytes(8, "big")]
    parts += _encode_attributes(b"\x22", link.attributes)
    parts += (_encode_count(b"\x28", link.dropped_attributes), b"\x35", _encode_flags(context))
    return encode_field(b"\x6a", b"".join(parts))


def _encode_flags(parent: SpanContext | None) -> bytes:
    return _FIXED32(_PARENT_KNOWN | _PARENT_REMOTE if parent and parent.is_remote else _PARENT_KNOWN)


def _encode_attributes(tag: bytes, attributes: Mapping[str, Any] | None) -> list[bytes]:
    return _encode_pairs(tag, attributes.items()) if attributes else []


def _encode_pairs(tag: bytes, pairs: Iterable[tuple[str, Any]]) -> list[bytes]:
    """Return KeyValue messages, in pieces to be joined."""
    parts: list[bytes] = []
    for key, value in pairs:
        if type(value) in CACHED_TYPES or (type(value) is str and len(value) < MAX_CACHED_TEXT):
            parts += (tag, _encode_short_pair(key, value))
            continue
        named = _find_encoded_key(key) or _encode_key(key)
        if type(value) is str and len(value) < _SHORT_TEXT:  # a third faster than the general case
            data = value.encode()
            length = _VARINTS[len(data)]
            size = 1 + len(length) + len(data)
            outer = _VARINTS[size]
            parts += (tag, _encode_varint(len(named) + len(outer) + size), named, outer, b"\x0a", length, data)
        else:
            encoded_value = _encode_value(value)
            outer = _encode_varint(len(encoded_value))
            parts += (tag, _encode_varint(len(named) + len(outer) + len(encoded_value)), named, outer, encoded_value)
    return parts


@lru_cache(maxsize=4096, typed=True)  # most attributes of a program's spans are the same words and numbers
def _encode_short_pair(key: str, value: str | int) -> bytes:
    """Return the length and the data of a KeyValue message."""
    return encode_field(b"", encode_field(_find_encoded_key(key) or _encode_key(key), _encode_value(value)))


def _encode_key(key: str) -> bytes:
    found = _encoded_keys[key] = _encode_text(b"\x0a", key) + b"\x12"
    return found


def _encode_value(value: Any) -> bytes:
    """Return an AnyValue message, by the rules of the SDK's encoder."""
    if value is None:
        return b""
    if isinstance(value, str):
        return encode_field(b"\x0a", value.encode())
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        if not -_INT64_LIMIT <= value < _INT64_LIMIT:
            raise OverflowError(value)
        return b"\x18" + _encode_varint(value if value >= 0 else value + 2 * _INT64_LIMIT)
    if isinstance(value, float):
        return b"\x21" + _DOUBLE(value)
    if isinstance(value, bytes):
        return encode_field(b"\x3a", value)
    if isinstance(value, Sequence):
        return encode_field(b"\x2a", b"".join([encode_field(b"\x0a", _encode_value(item)) for item in value]))
    if isinstance(value, Mapping):
        return encode_field(
            b"\x32", b"".join(_encode_pairs(b"\x0a", ((str(key), item) for key, item in value.items())))
        )
    raise TypeError(type(value).__name__)


def _encode_text(tag: bytes, text: str) -> bytes:
    """Return a text field, or nothing for an empty text."""
    data = text.encode()
    return encode_field(tag, data) if data else b""


def _encode_count(tag: bytes, number: int) -> bytes:
    """Return a uint32 field, or nothing for zero. Raise OverflowError."""
    if not 0 <= number < 2**32:
        raise OverflowError(number)
    return tag + _encode_varint(number) if number else b""


def _encode_varint(size: int) -> bytes:
    """Return *size* as a varint, from a table if it is small."""
    return _VARINTS[size] if size < _CACHED_VARINTS else _compute_varint(size)


def _compute_varint(number: int) -> bytes:
    varint = bytearray()
    while number > 127:
        varint.append(number & 127 | 128)
        number >>= 7
    varint.append(number)
    return bytes(varint)


_SHORT_TEXT: Final = 450  # characters; at most four bytes each in UTF-8
_CACHED_VARINTS: Final = 2048
_VARINTS: Final = [_compute_varint(size) for size in range(_CACHED_VARINTS)]
