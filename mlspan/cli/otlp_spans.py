"""Conversion of OTLP spans to spans of OpenTelemetry's SDK, which the exporters accept."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from ..tracing.operations.content import to_json

_SPAN_KINDS: Final = dict(
    enumerate((SpanKind.INTERNAL, *SpanKind), start=0)
)  # OTLP's kinds start at 1; 0 is unspecified
_STATUS_CODES: Final = {1: StatusCode.OK, 2: StatusCode.ERROR}


def convert_otlp_spans(traces: Any) -> Iterator[ReadableSpan | None]:
    """Yield every span of a ``TracesData``, or None for a span without ids or without an end."""
    for of_resource in traces.resource_spans:
        resource = Resource(convert_otlp_attributes(of_resource.resource.attributes))
        for of_scope in of_resource.scope_spans:
            scope = InstrumentationScope(of_scope.scope.name or "unknown", of_scope.scope.version or None)
            for span in of_scope.spans:
                yield _convert_otlp_span(span, resource, scope)


def _convert_otlp_span(span: Any, resource: Resource, scope: InstrumentationScope) -> ReadableSpan | None:
    """Return one span as it was emitted; None if it has no ids or no end."""
    context = _make_span_context(span.trace_id, span.span_id)
    if context is None or not span.end_time_unix_nano:
        return None
    events = [
        Event(event.name, convert_otlp_attributes(event.attributes), event.time_unix_nano) for event in span.events
    ]
    links = [
        Link(linked, convert_otlp_attributes(link.attributes))
        for link in span.links
        if (linked := _make_span_context(link.trace_id, link.span_id)) is not None
    ]
    status = _STATUS_CODES.get(span.status.code, StatusCode.UNSET)
    message = span.status.message or None
    return ReadableSpan(
        name=span.name,
        context=context,
        parent=_make_span_context(span.trace_id, span.parent_span_id),
        resource=resource,
        attributes=convert_otlp_attributes(span.attributes),
        events=events,
        links=links,
        kind=_SPAN_KINDS.get(span.kind, SpanKind.INTERNAL),
        status=Status(status, message if status is StatusCode.ERROR else None),
        start_time=span.start_time_unix_nano or span.end_time_unix_nano,
        end_time=max(span.end_time_unix_nano, span.start_time_unix_nano),
        instrumentation_scope=scope,
    )


def _make_span_context(trace_id: bytes, span_id: bytes) -> SpanContext | None:
    """Return the context of a span; None if an id is missing."""
    context = SpanContext(int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big"), False, TraceFlags(1))
    return context if context.is_valid else None


def convert_otlp_attributes(pairs: Any) -> dict[str, Any]:
    """Return attributes that a span of the SDK can hold. Structured values become JSON text."""
    return {pair.key: make_attribute_value(convert_otlp_value(pair.value)) for pair in pairs}


def make_attribute_value(found: object) -> object:
    """Return a list of one scalar type as a tuple, other structures as JSON text, and a scalar as it is."""
    if isinstance(found, list):
        kinds = {type(item) for item in found}
        return tuple(found) if len(kinds) <= 1 and kinds <= {str, bool, int, float} else to_json(found)
    return to_json(found) if found is None or isinstance(found, dict) else found


def convert_otlp_value(any_value: Any) -> object:
    """Return an OTLP ``AnyValue`` as a Python value; bytes as base64 text."""
    kind = any_value.WhichOneof("value")
    if kind is None:
        return None
    found = getattr(any_value, kind)
    if kind == "array_value":
        return [convert_otlp_value(item) for item in found.values]
    if kind == "kvlist_value":
        return {pair.key: convert_otlp_value(pair.value) for pair in found.values}
    return base64.b64encode(found).decode() if kind == "bytes_value" else found
