"""Spans of OpenTelemetry's SDK, as this process has recorded them, in the form in which the commands show traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from ..tracing.export.dialects.dialect import parse_attribute
from ..tracing.export.mlflow.names import INPUTS, OUTPUTS, SPAN_TYPE
from ..tracing.export.mlflow.spans import translate_span
from ..tracing.operations import semconv as sc
from . import model


def convert_recorded_span(span: Any) -> Any:
    """Return a span of OpenTelemetry's SDK as an object with the fields of a span that is read from MLflow."""
    stored = translate_span(span, span.attributes or {})
    attributes = {key: parse_attribute(value) for key, value in (stored.attributes or {}).items()}
    return SimpleNamespace(
        span_id=f"{span.context.span_id:016x}",
        parent_id=f"{span.parent.span_id:016x}" if span.parent else None,
        name=span.name,
        span_type=attributes.get(SPAN_TYPE),
        start_time_ns=span.start_time,
        end_time_ns=span.end_time,
        status=SimpleNamespace(status_code=span.status.status_code.name, description=span.status.description),
        inputs=attributes.get(INPUTS),
        outputs=attributes.get(OUTPUTS),
        attributes=attributes,
        events=list(span.events),
    )


def build_recorded_trace(spans: Sequence[Any]) -> model.StoredTrace:
    """Return the trace that *spans* of one trace form, with the sums of their tokens and cost."""
    trace = model.build_trace(f"tr-{spans[0].context.trace_id:032x}", list(map(convert_recorded_span, spans)))
    counts = [span.tokens for span in trace.spans if span.tokens is not None]
    costs = [span.cost for span in trace.spans if span.cost is not None]
    labels = {
        name: span.attributes[name] for span in spans for name in (sc.SESSION_ID, sc.USER_ID) if name in span.attributes
    }
    return replace(
        trace,
        session=labels.get(sc.SESSION_ID),
        user=labels.get(sc.USER_ID),
        tokens=model.TokenCounts(*(sum(getattr(one, name) for one in counts) for name in ("input", "output", "total")))
        if counts
        else None,
        cost=sum(costs) if costs else None,
    )
