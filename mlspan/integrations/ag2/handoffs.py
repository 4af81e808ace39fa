"""Who has handed over to whom: a turn that a tool has led to is linked to that tool's span."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import SpanContext

from ...tracing import semconv as sc

_KEPT: Final = 1000  # hand-offs to agents that have had no turn yet
_waiting: Final[OrderedDict[tuple[int, str], SpanContext]] = OrderedDict()  # trace and agent -> the tool's span


def hand_over(agent: str) -> None:
    """The current span, a tool's, hands over to *agent*."""
    here = trace.get_current_span().get_span_context()
    _waiting[here.trace_id, agent] = here
    while len(_waiting) > _KEPT:
        try:
            _waiting.popitem(last=False)
        except KeyError:  # another thread was quicker
            return


def take_over(agent: str | None) -> None:
    """The current span, a turn of *agent*'s, is linked to what has handed over to it since its last turn."""
    if not _waiting or agent is None:
        return
    span = trace.get_current_span()
    if (cause := _waiting.pop((span.get_span_context().trace_id, agent), None)) is not None:
        span.add_link(cause, {sc.LINK: "handed_off_by"})
