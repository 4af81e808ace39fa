"""Outlines: what totals need of a trace and of its spans, and no more, so that 100,000 of them are read in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from . import model

MODEL_TYPES: Final = frozenset({"CHAT_MODEL", "LLM", "EMBEDDING"})
AGENT_TYPES: Final = frozenset({"AGENT", "WORKFLOW"})
NEED_SPANS: Final = frozenset({"model", "agent", "tool", "workflow", "error"})  # groups of totals that spans belong to


class SpanOutline(NamedTuple):
    """A span without its content. The duration is in milliseconds (None: still open), the cost in US dollars."""

    id: str
    parent_id: str | None
    name: str
    span_type: str
    failed: bool
    duration_ms: float | None
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    error: str | None  # the type of the error; None if it did not fail


class TraceOutline(NamedTuple):
    """A trace as a whole, and its spans where they were asked for. *start_ms* is in milliseconds since 1970."""

    id: str
    failed: bool
    start_ms: int
    duration_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    experiment_id: str
    run_id: str | None
    session: str | None
    user: str | None
    tags: dict[str, str]
    spans: Sequence[SpanOutline]
    is_simple: bool | None = None  # what is_simple says of the spans; None if it was not asked


class AlikeTraces(NamedTuple):
    """Traces whose spans are the same but for how long they took, and which is_simple is true of."""

    traces: Sequence[TraceOutline]  # without spans
    spans: Sequence[SpanOutline]  # of each of the traces; without durations
    durations: Sequence[Sequence[float | None]]  # of each span, in milliseconds, in each of the traces


def outline_trace(trace: model.StoredTrace) -> TraceOutline:
    """Return the outline of a trace that was read with its spans."""
    return TraceOutline(
        trace.id,
        trace.failed,
        trace.start_ms,
        trace.stored_ms,
        *split_tokens(trace.tokens),
        trace.cost,
        trace.experiment_id,
        trace.run_id,
        trace.session,
        trace.user,
        trace.tags,
        [_outline_span(span) for span in trace.spans],
    )


def _outline_span(span: model.StoredSpan) -> SpanOutline:
    return SpanOutline(
        span.id,
        span.parent_id,
        span.name,
        span.span_type,
        span.failed,
        span.duration_ms,
        span.model,
        *split_tokens(span.tokens),
        span.cost,
        span.error_type,
    )


def split_tokens(tokens: model.TokenCounts | None) -> tuple[int | None, int | None]:
    """Return the tokens that went in and those that came out; None for both if they are not known."""
    return (None, None) if tokens is None else (tokens.input, tokens.output)


def is_simple(spans: Sequence[SpanOutline]) -> bool:
    """Return whether the totals of a trace are those of its one model, and of its one agent or workflow.

    It has one root, no other agent than that, and calls to one model, none within another. What each of its spans has
    used by itself need not be known then.
    """
    roots, models, inner = 0, set(), set()
    for span in spans:
        kind, is_root = span[3], span[1] is None
        roots += is_root
        if kind in MODEL_TYPES:
            models.add(span[6] or span[2])
            inner.add(span[1])
        elif kind in AGENT_TYPES and not is_root:
            return False
    if roots != 1 or len(models) > 1:
        return False
    return not any(span[0] in inner and span[3] in MODEL_TYPES for span in spans)
