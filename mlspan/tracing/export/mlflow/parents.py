"""Parents that the store does not have: of a process that was killed, or that sends nothing to MLflow.

A span below such a parent is stored as a root, which names that parent in an attribute; the trace names it in its
metadata. If the parent arrives after all, with a later segment, the span is attached to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from ...operations.call_context import is_trace_joined
from ..recent_spans import traces_in_parts
from .span_totals import SpanTotals, count_calls_once
from .spans import MISSING_PARENT, TranslatedSpan
from .traces import MISSING_PARENT_KEY, TranslatedTrace

if TYPE_CHECKING:
    from .store import TraceStore

_MOST_NAMED: Final = 14  # ids of missing parents in a trace's metadata, which takes 250 characters


def merge_with_stored(
    store: TraceStore, trace: TranslatedTrace, *, merges: bool
) -> tuple[TranslatedTrace, dict[int, int]]:
    """Return *trace* with its totals; if it *merges*, together with what the store has of it.

    Also return the spans in the store whose parent has come with *trace*: the id of each, and of its parent.
    """
    stored: dict[int, SpanTotals] = {}
    if merges:
        summary, own = trace.summary, trace.read_span_totals()
        if (before := store.read_trace_summary(summary.trace_id)) is not None:
            stored = store.read_span_totals(summary.trace_id)
            has_root, stored_has_root = (any(one.parent_id is None for one in all_.values()) for all_ in (own, stored))
            summary = summary.merge_stored(before, has_root=has_root, stored_has_root=stored_has_root)
            trace = trace._replace(summary=summary, spans=count_calls_once(trace.spans, stored))
        trace = detach_orphans(trace, stored)
    counted = {**stored, **trace.read_span_totals()}
    trace = trace._replace(summary=trace.summary.with_totals(counted.values()))
    return trace, find_attachable(trace, stored) if stored else {}


def detach_orphans(trace: TranslatedTrace, stored: Mapping[int, SpanTotals]) -> TranslatedTrace:
    """Return *trace* with every span a root whose parent is neither in it nor among the *stored* spans, by their id."""
    trace_id = int(trace.summary.trace_id.removeprefix("tr-"), 16)
    if trace_id in traces_in_parts or is_trace_joined(trace_id):
        return trace  # such a parent has yet to end, or to be stored by MLflow itself
    known = stored.keys() | trace.read_span_totals().keys()
    spans = [
        span if span.parent is None or span.parent.span_id in known else _detach_span(span, span.parent.span_id)
        for span in trace.spans
    ]
    missing = {span.parent.span_id for span in trace.spans if span.parent is not None} - known
    missing |= {span.parent_id for span in stored.values() if span.is_orphan and span.parent_id is not None} - known
    before = trace.summary.metadata.get(MISSING_PARENT_KEY)
    if not missing and not before:
        return trace
    named = ",".join(f"{span_id:016x}" for span_id in sorted(missing)[:_MOST_NAMED])
    summary = trace.summary._replace(metadata={**trace.summary.metadata, MISSING_PARENT_KEY: named})
    return trace._replace(spans=spans, summary=summary)


def find_attachable(trace: TranslatedTrace, stored: Mapping[int, SpanTotals]) -> dict[int, int]:
    """Return the ids of those *stored* orphans whose parent is in *trace*, each with the id of that parent."""
    own = trace.read_span_totals()
    orphans = ((span.span_id, span.parent_id) for span in stored.values() if span.is_orphan)
    return {span_id: parent_id for span_id, parent_id in orphans if parent_id in own and span_id not in own}


def _detach_span(span: TranslatedSpan, parent_id: int) -> TranslatedSpan:
    """Return *span* as a root that names its parent. Its stored form, which has the parent, is left out."""
    attributes = {**(span.attributes or {}), MISSING_PARENT: f"{parent_id:016x}"}
    made = TranslatedSpan.copy_span(span, attributes=attributes, without_parent=True)
    made.stored, made.counts = None, span.counts
    return made
