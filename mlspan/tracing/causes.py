"""What led to what: a link from a tool's span to that of the model's answer that asked for it."""

from __future__ import annotations

from collections import OrderedDict

from opentelemetry.trace import Span, SpanContext

from . import semconv as sc
from .records import Record, Tool

_KEPT = 10_000  # calls that no tool of this process has answered yet

_asked: OrderedDict[tuple[int, str], SpanContext] = OrderedDict()  # trace (0: any) and tool call id -> who asked


def link(span: Span, record: Record) -> None:
    """Remember what *record* asked for, or point from its span to who asked for it.

    Ids are looked for in the tool's own trace first: servers that count their calls from one repeat them.
    """
    for why, context in record.causes().items():
        span.add_link(context, {sc.LINK: why})
    if isinstance(record, Tool):
        if record.call_id is not None:
            here = _asked.get((span.get_span_context().trace_id, record.call_id)) or _asked.get((0, record.call_id))
            if here is not None:
                span.add_link(here, {sc.LINK: "asked_by"})
        return
    if ids := record.call_ids():
        context = span.get_span_context()
        for id in ids:
            for trace in (context.trace_id, 0):
                _asked[trace, id] = context
                _asked.move_to_end((trace, id))
        while len(_asked) > _KEPT:
            try:
                _asked.popitem(last=False)
            except KeyError:  # another thread was quicker
                return
