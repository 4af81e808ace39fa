"""Which traces leave the process: a share by trace id, and what is worth keeping once it has ended."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import StatusCode

from .. import semconv as sc
from ..keep import Keep
from .cost import price

_REMEMBERED = 10_000  # traces


class Sampling:
    """Says of what has ended of a trace in this process whether it is kept. For one thread.

    What was kept once is kept on: another request under the same remote parent, spans that come late.
    """

    def __init__(self, ratio: float, keep: Keep | None) -> None:
        self._ratio, self._keep = ratio, keep
        self._kept: dict[int, None] = {}  # the latest, by trace id

    def __call__(self, trace_id: int, spans: Sequence[ReadableSpan]) -> bool:
        if not _chosen(trace_id, self._ratio):
            return False
        if self._keep is None or trace_id in self._kept:
            return True
        if not _worth(self._keep, trace_id, spans):
            return False
        self._kept[trace_id] = None
        if len(self._kept) > _REMEMBERED:
            del self._kept[next(iter(self._kept))]
        return True


def _chosen(trace_id: int, ratio: float) -> bool:
    """The same answer as TraceIdRatioBased gives, in every process."""
    return ratio >= 1 or (trace_id & TraceIdRatioBased.TRACE_ID_LIMIT) < TraceIdRatioBased(ratio).bound


def _worth(keep: Keep, trace_id: int, spans: Sequence[ReadableSpan]) -> bool:
    if _chosen(trace_id, keep.ratio):
        return True
    if keep.errors and any(span.status.status_code is StatusCode.ERROR for span in spans):
        return True
    if all(sc.ASSESSMENT in (span.attributes or {}) for span in spans):
        return True  # of a trace that another process may have kept
    if keep.slower_than is not None:
        first, last = min(span.start_time or 0 for span in spans), max(span.end_time or 0 for span in spans)
        if last - first > keep.slower_than * 1e9:
            return True
    return keep.costlier_than is not None and _cost(spans) > keep.costlier_than


def _cost(spans: Sequence[ReadableSpan]) -> float:
    """Of all model calls; one below another that has a price (a client's own span) is the same call."""
    priced, parents = {}, {}
    for span in spans:
        context = span.get_span_context()
        if context is not None:
            parents[context.span_id] = span.parent.span_id if span.parent else None
            if (found := price(span.attributes or {})) is not None:
                priced[context.span_id] = found["total_cost"]
    total = 0.0
    for span_id, own in priced.items():
        above = parents[span_id]
        while above is not None and above not in priced:
            above = parents.get(above)
        total += own if above is None else 0.0
    return total
