"""Handoffs: the turn of an agent is linked to the span of the tool call that handed over to that agent."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import SpanContext

from ...tracing.operations import semconv as sc

_MAX_PENDING: Final = 1000  # at most as many handoffs to agents that have not had their turn yet
_pending_handoffs: Final[OrderedDict[tuple[int, str], SpanContext]] = (
    OrderedDict()
)  # (trace id, agent) -> the tool's span


def record_handoff(agent: str) -> None:
    """Record that the current span, of a tool call, hands over to *agent*."""
    here = trace.get_current_span().get_span_context()
    _pending_handoffs[here.trace_id, agent] = here
    while len(_pending_handoffs) > _MAX_PENDING:
        try:
            _pending_handoffs.popitem(last=False)
        except KeyError:  # another thread has removed the last one
            return


def link_handoff(agent: str | None) -> None:
    """Link the current span, a turn of *agent*, to the tool call that last handed over to that agent."""
    if not _pending_handoffs or agent is None:
        return
    span = trace.get_current_span()
    if (cause := _pending_handoffs.pop((span.get_span_context().trace_id, agent), None)) is not None:
        span.add_link(cause, {sc.LINK: "handed_off_by"})
