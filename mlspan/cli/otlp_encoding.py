"""Encoder of stored traces as lines of OTLP's JSON, which ``mlspan import`` and collectors read.

MLflow keeps neither the kind of a span nor its resource; tags that it made of a resource are one again. The scope of
a span is what the span names as its instrumentation, or mlspan's: what is stored was translated, and need not be again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from .._shape import get_field, get_list
from ..tracing.export.dialects.catalog import OWN_SCOPE
from ..tracing.export.mlflow.spans import JSON_ATTRIBUTES
from ..tracing.operations import semconv as sc
from ..tracing.operations.content import replace_surrogates, to_json
from . import model
from .otlp_spans import make_attribute_value

_MAX_LINE_CHARACTERS: Final = 8 * 1024 * 1024  # of a line with several spans; a reader takes 64 MiB
_STATUS_CODES: Final = {"OK": 1, "ERROR": 2}
_LARGEST_INTEGER: Final = 2**63
_USAGE: Final = frozenset({sc.USAGE_INPUT_TOKENS, sc.USAGE_OUTPUT_TOKENS})


def strip_trace_id(trace_id: str) -> str | None:
    """Return the 32 hexadecimal digits of a trace's id; None if it is none that OTLP has a form for."""
    digits = trace_id.removeprefix("tr-").lower()
    return digits if re.fullmatch(r"[0-9a-f]{32}", digits) else None


def encode_trace(trace: model.StoredTrace) -> Iterator[str]:
    """Yield the requests of a trace as JSON, each for one line: one, or several if its spans are too large for one.

    Raises:
        ValueError: if the trace's id is none of OTLP's.
    """
    if (trace_id := strip_trace_id(trace.id)) is None:
        raise ValueError(f"{trace.id} is no trace id of OTLP")
    resource = _dump({"attributes": _encode_attributes(_list_other_tags(trace))})
    root_id = next((span.id for span, _ in trace.walk_tree()), None)
    held: dict[str, list[str]] = {}  # by the name of the scope
    size = 0
    for span in trace.spans:
        of_trace = _name_missing_labels(trace) if span.id == root_id else {}
        text = _dump(_encode_span(trace_id, span, of_trace))
        if held and size + len(text) > _MAX_LINE_CHARACTERS:
            yield _join_request(resource, held)
            held, size = {}, 0
        held.setdefault(str(span.attributes.get(sc.INSTRUMENTATION) or OWN_SCOPE), []).append(text)
        size += len(text)
    if held:
        yield _join_request(resource, held)


def _join_request(resource: str, spans_by_scope: Mapping[str, Sequence[str]]) -> str:
    """Return a request from the JSON of its parts."""
    scopes = (
        f'{{"scope":{_dump({"name": name})},"spans":[{",".join(spans)}]}}' for name, spans in spans_by_scope.items()
    )
    return f'{{"resourceSpans":[{{"resource":{resource},"scopeSpans":[{",".join(scopes)}]}}]}}'


def _list_other_tags(trace: model.StoredTrace) -> dict[str, str]:
    """Return the tags of a trace that no span of it names."""
    known = {name for span in trace.spans for name in span.attributes}
    return {key: value for key, value in trace.tags.items() if f"{sc.TAG_PREFIX}{key}" not in known}


def _name_missing_labels(trace: model.StoredTrace) -> dict[str, object]:
    """Return session and user of a trace, as far as no span of it has them."""
    known = {name for span in trace.spans for name in span.attributes}
    labels = {sc.SESSION_ID: trace.session, sc.USER_ID: trace.user}
    if sc.CONVERSATION_ID in known:
        del labels[sc.SESSION_ID]
    return {name: value for name, value in labels.items() if value is not None and name not in known}


def _encode_span(trace_id: str, span: model.StoredSpan, of_trace: Mapping[str, object]) -> dict[str, Any]:
    """Return a span in the form of OTLP. *of_trace* are attributes that only the trace has."""
    found: dict[str, Any] = {
        "traceId": trace_id,
        "spanId": span.id,
        "name": span.name,
        "startTimeUnixNano": str(span.start_ns),
        "attributes": _encode_attributes({**_name_in_conventions(span), **span.attributes, **of_trace}),
        "status": _encode_status(span),
    }
    if span.parent_id:
        found["parentSpanId"] = span.parent_id
    if span.end_ns is not None:
        found["endTimeUnixNano"] = str(span.end_ns)
    if events := [_encode_event(event) for event in get_list(span.source, "events")]:
        found["events"] = events
    if links := list(_encode_links(get_list(span.source, "links"))):
        found["links"] = links
    return found


def _name_in_conventions(span: model.StoredSpan) -> dict[str, object]:
    """Return type and tokens of a span that only MLflow's own names tell: MLflow's own tracing has recorded it."""
    named: dict[str, object] = {}
    if sc.OPERATION not in span.attributes and span.span_type != "UNKNOWN":
        named[sc.KIND] = span.span_type.lower()
    if span.tokens is not None and not _USAGE.intersection(span.attributes):
        named |= {sc.USAGE_INPUT_TOKENS: span.tokens.input, sc.USAGE_OUTPUT_TOKENS: span.tokens.output}
        if span.model is not None and sc.RESPONSE_MODEL not in span.attributes:
            named[sc.REQUEST_MODEL] = span.model
    return named


def _encode_status(span: model.StoredSpan) -> dict[str, Any]:
    status = get_field(span.source, "status")
    code, message = get_field(status, "status_code"), get_field(status, "description")
    number = _STATUS_CODES.get(str(getattr(code, "value", code)))
    return {} if number is None else {"code": number, **({"message": message} if message else {})}


def _encode_event(event: object) -> dict[str, Any]:
    at = get_field(event, "time_unix_nano") or get_field(event, "timestamp") or 0
    attributes = _encode_attributes(get_field(event, "attributes") or {})
    return {"name": str(get_field(event, "name")), "timeUnixNano": str(at), "attributes": attributes}


def _encode_links(links: Sequence[object]) -> Iterator[dict[str, Any]]:
    for link in links:
        trace_id = strip_trace_id(str(get_field(link, "trace_id")))
        if trace_id is not None:
            attributes = _encode_attributes(get_field(link, "attributes") or {})
            yield {"traceId": trace_id, "spanId": str(get_field(link, "span_id")), "attributes": attributes}


def _encode_attributes(attributes: Mapping[str, object]) -> list[dict[str, Any]]:
    """Return attributes in the form of OTLP; those that MLflow keeps as JSON text are that again."""
    return [
        {
            "key": name,
            "value": _encode_value(to_json(value) if name in JSON_ATTRIBUTES else make_attribute_value(value)),
        }
        for name, value in attributes.items()
        if value is not None
    ]


def _encode_value(value: object) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int) and -_LARGEST_INTEGER <= value < _LARGEST_INTEGER:
        return {"intValue": str(value)}
    if isinstance(value, float):
        words = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return {"doubleValue": value if math.isfinite(value) else words}
    if isinstance(value, tuple):
        return {"arrayValue": {"values": [_encode_value(one) for one in value]}}
    return {"stringValue": str(value)}


def _dump(value: object) -> str:
    return replace_surrogates(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
