"""Handoffs: the turn of an agent is linked to the span of the tool call that handed over to that agent."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import SpanContext

from ...tracing.operations import semconv as sc

_KEPT: Final = 1000  # at most as many handoffs to agents that have not had their turn yet
_waiting: Final[OrderedDict[tuple[int, str], SpanContext]] = OrderedDict()  # (trace id, agent) -> the tool's span


def hand_over(agent: str) -> None:
    """Record that the current span, of a tool call, hands over to *agent*."""
    here = trace.get_current_span().get_span_context()
    _waiting[here.trace_id, agent] = here
    while len(_waiting) > _KEPT:
        try:
            _waiting.popitem(last=False)
        except KeyError:  # another thread has removed the last one
            return


def take_over(agent: str | None) -> None:
    """Link the current span, a turn of *agent*, to the tool call that last handed over to that agent."""
    if not _waiting or agent is None:
        return
    span = trace.get_current_span()
    if (cause := _waiting.pop((span.get_span_context().trace_id, agent), None)) is not None:
        span.add_link(cause, {sc.LINK: "handed_off_by"})
