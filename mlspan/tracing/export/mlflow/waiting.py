"""Traces that wait for a person: what they ask, and which trace goes on with which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan

from ...operations import semconv as sc
from ..dialects.dialect import parse_attribute
from ..recent_spans import get_span_id
from .messages import preview_answer
from .names import OUTPUTS

_RUNS: Final = frozenset({sc.INVOKE_AGENT, sc.INVOKE_WORKFLOW})  # what ends to wait; a step is run again instead
_RESUMES: Final = "resumes"


def find_waiting_span(spans: Sequence[ReadableSpan]) -> ReadableSpan | None:
    """Return the last span that has ended to wait for a person, and that nothing in *spans* goes on with.

    Of a graph and its nodes, which all wait, it is the graph's.
    """
    waiting = [span for span in spans if (span.attributes or {}).get(sc.INTERRUPTED) is True]
    if not waiting:
        return None
    inner = {get_span_id(span) for span in waiting}
    resumed = {link.context.span_id for span in spans for link in span.links if is_resumption(link)}
    topmost = [
        span
        for span in waiting
        if get_span_id(span) not in resumed
        and (span.parent is None or span.parent.span_id not in inner)
        and not _is_run_again(span, spans)
    ]
    return max(topmost, key=lambda span: span.end_time or 0, default=None)


def preview_question(span: ReadableSpan) -> str | None:
    """Return what a span that waits asks; None if that was not recorded."""
    return preview_answer(parse_attribute((span.attributes or {}).get(OUTPUTS)))


def find_resumed_trace(spans: Sequence[ReadableSpan]) -> str | None:
    """Return the id of the trace that these spans go on with: ``tr-`` and 32 digits; None if it is their own."""
    resumed = [link.context for span in spans for link in span.links if is_resumption(link)]
    if not resumed:  # as of nearly all traces
        return None
    known = {get_span_id(span) for span in spans}
    return next((f"tr-{context.trace_id:032x}" for context in resumed if context.span_id not in known), None)


def is_resumption(link: Any) -> bool:
    """Return whether a link leads from a run that goes on to the run that waited."""
    return (link.attributes or {}).get(sc.LINK) == _RESUMES


def _is_run_again(span: ReadableSpan, spans: Sequence[ReadableSpan]) -> bool:
    """Return whether a step that waited was run again, as LlamaIndex does once it has the answer."""
    if (span.attributes or {}).get(sc.OPERATION) in _RUNS:
        return False
    parent = span.parent and span.parent.span_id
    return any(
        other.name == span.name
        and (other.parent and other.parent.span_id) == parent
        and (other.start_time or 0) >= (span.end_time or 0)
        and other is not span
        for other in spans
    )
