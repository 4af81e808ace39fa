"""Translated spans as OTLP, with attributes in the form that a tracking server stores right.

A server stores the JSON of each value that it gets: of a text, the text in quotation marks. MLflow 3.7 and later take
these off again if the text is the JSON of a text or an object (*parses_text*). Everything else has to be sent as a
value of OTLP, as MLflow's own client does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ...operations.content import replace_surrogates
from ..otlp.codec import UnencodableSpan, build_export_request, encode_each_span, encode_resource_and_scope
from ..otlp.encoder import extend_encoded_span
from ..types import EncodedSpan
from .names import SPAN_TYPE
from .spans import JSON_ATTRIBUTES, MISSING_PARENT, TranslatedSpan

_MAX_DEPTH: Final = 25  # of a value in OTLP: an object takes three levels of messages, and protobuf reads a hundred
_OF_STORED: Final = {MISSING_PARENT, "mlflow.traceRequestId"}  # what a stored span has and one to store has not
_UNLIMITED: Final = 2**40  # bytes: spans were cut to size before they were stored


def encode_spans_for_server(spans: Iterable[TranslatedSpan], *, parses_text: bool) -> bytes:
    """Return an ExportTraceServiceRequest of *spans*."""
    return build_export_request(encode_translated_span(span, parses_text=parses_text) for span in spans)


def encode_translated_span(span: TranslatedSpan, *, parses_text: bool) -> EncodedSpan:
    """Encode a translated span. Raise UnencodableSpan, although such spans were set aside before they were stored."""
    if span.stored is not None:
        attributes, events = span.added
        added = {name: _to_server_value(name, value, parses_text=parses_text) for name, value in attributes.items()}
        return EncodedSpan(*encode_resource_and_scope(span), extend_encoded_span(span.stored, added, events))
    attributes = {
        name: _to_server_value(name, value, parses_text=parses_text) if name in JSON_ATTRIBUTES else value
        for name, value in (span.attributes or {}).items()
    }
    (encoded,) = encode_each_span([TranslatedSpan.copy_span(span, attributes=attributes)], _UNLIMITED)
    if isinstance(encoded, UnencodableSpan):
        raise encoded
    return encoded


def encode_attached_spans(spans: Iterable[Any], parents: Mapping[int, int]) -> bytes:
    """Return an ExportTraceServiceRequest of *spans* from a server's answer, each below its parent.

    *spans* have protobuf's JSON form. *parents* holds the id of the parent by the id of the span.
    """
    encoded = []
    for span in spans:
        message = ParseDict(span, Span(), ignore_unknown_fields=True)
        message.parent_span_id = parents[int.from_bytes(message.span_id, "big")].to_bytes(8, "big")
        kept = [attribute for attribute in message.attributes if attribute.key not in _OF_STORED]
        del message.attributes[:]
        message.attributes.extend(kept)
        encoded.append(EncodedSpan(b"", b"", message.SerializeToString()))
    return build_export_request(encoded)


def _to_server_value(name: str, text: Any, *, parses_text: bool) -> Any:
    """Return the value of an attribute whose JSON is *text*, or *text* if that is stored right or is no JSON.

    A span's type also has a column, by which MLflow searches and from which no server takes quotation marks.
    """
    if not isinstance(text, str) or (parses_text and text.startswith(('"', "{")) and name != SPAN_TYPE):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # the application's own text, or nested too deeply
        return text
    return value if _fits_otlp(value, _MAX_DEPTH) else text


def _fits_otlp(value: Any, depth: int) -> bool:
    """Return True if OTLP can hold *value*, nested in at most *depth* levels."""
    if isinstance(value, dict):
        return depth > 0 and all(_fits_otlp(key, 0) and _fits_otlp(item, depth - 1) for key, item in value.items())
    if isinstance(value, list):
        return depth > 0 and all(_fits_otlp(item, depth - 1) for item in value)
    if isinstance(value, str):
        return replace_surrogates(value) == value
    return not isinstance(value, int) or -(2**63) <= value < 2**63
