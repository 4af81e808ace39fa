"""Links between spans: from a tool's span to the model call that requested it, and those that a record names itself."""

from __future__ import annotations

from collections import OrderedDict

from opentelemetry.trace import Span, SpanContext

from . import semconv as sc
from .records import Record, Tool

_KEPT = 10_000  # tool calls that no tool of this process has answered yet

_asked: OrderedDict[tuple[int, str], SpanContext] = OrderedDict()  # (trace or 0, call id) -> requester


def link(span: Span, record: Record) -> None:
    """Add the links of *record* to *span*, or remember the tool calls that it requested.

    A tool call id is looked up in the tool's own trace first, because servers that count from one repeat their ids.
    """
    for kind, context in record.causes().items():
        span.add_link(context, {sc.LINK: kind})
    if isinstance(record, Tool):
        if record.call_id is not None:
            requester = _asked.get((span.get_span_context().trace_id, record.call_id)) or _asked.get(
                (0, record.call_id)
            )
            if requester is not None:
                span.add_link(requester, {sc.LINK: "asked_by"})
        return
    if call_ids := record.call_ids():
        context = span.get_span_context()
        for id in call_ids:
            for trace in (context.trace_id, 0):
                _asked[trace, id] = context
                _asked.move_to_end((trace, id))
        while len(_asked) > _KEPT:
            try:
                _asked.popitem(last=False)
            except KeyError:  # another thread has removed it
                return
