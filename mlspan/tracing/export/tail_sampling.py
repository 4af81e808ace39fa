"""Tail sampling: a ratio by trace id, and a rule that keeps ended traces worth keeping, such as failed or slow ones.

What is decided before: ``otel/fast_span.decide_sampling`` asks the sampler of the provider when a span starts, and
``trace_assembler`` leaves out traces that hold no GenAI span.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import StatusCode

from ..._bounded import BoundedDict
from ..operations import semconv as sc
from ..settings.keep_rule import Keep
from .cost import compute_span_cost
from .counted_calls import CountedSpan, describe_counted, find_repeats
from .dialects.catalog import translate_foreign_span
from .recent_spans import get_span_id

_MAX_REMEMBERED = 10_000  # trace ids


class TailSampler:
    """Decides if the ended spans of a trace are kept. Not thread-safe.

    Once a trace is kept, its later spans are kept too: other requests under the same remote parent, and spans that end
    late.
    """

    def __init__(self, ratio: float, keep: Keep | None) -> None:
        self._ratio, self._keep = ratio, keep
        self._kept: BoundedDict[int, None] = BoundedDict(_MAX_REMEMBERED)  # ids of the latest kept traces

    def __call__(self, trace_id: int, spans: Sequence[ReadableSpan]) -> bool:
        if not _is_in_ratio(trace_id, self._ratio):
            return False
        if self._keep is None or trace_id in self._kept:
            return True
        if not _is_worth_keeping(self._keep, trace_id, spans):
            return False
        self._kept[trace_id] = None
        return True


def _is_in_ratio(trace_id: int, ratio: float) -> bool:
    """Return True if a trace id is in the ratio, as TraceIdRatioBased decides in every process."""
    return ratio >= 1 or (trace_id & TraceIdRatioBased.TRACE_ID_LIMIT) < TraceIdRatioBased(ratio).bound


def _is_worth_keeping(keep: Keep, trace_id: int, spans: Sequence[ReadableSpan]) -> bool:
    """Return True if the rule keeps the trace: by its ratio, an error, feedback, its duration or its cost."""
    if _is_in_ratio(trace_id, keep.ratio):
        return True
    if keep.errors and any(span.status.status_code is StatusCode.ERROR for span in spans):
        return True
    if all(sc.ASSESSMENT in (span.attributes or {}) for span in spans):
        return True  # feedback on a trace that another process may have kept
    if keep.slower_than is not None:
        first, last = min(span.start_time or 0 for span in spans), max(span.end_time or 0 for span in spans)
        if last - first > keep.slower_than * 1e9:
            return True
    return keep.costlier_than is not None and _sum_cost(spans) > keep.costlier_than


def _sum_cost(spans: Sequence[ReadableSpan]) -> float:
    """Return the cost of all model calls in US dollars, of each call once."""
    priced: dict[int, float] = {}
    parents: dict[int, int | None] = {}
    counted: list[CountedSpan] = []
    for span in map(translate_foreign_span, spans):
        span_id = get_span_id(span)
        parents[span_id] = span.parent.span_id if span.parent else None
        if (found := compute_span_cost(span.attributes or {})) is not None:
            priced[span_id] = found["total_cost"]
            counted.append(describe_counted(span, has_cost=True))
    repeats = find_repeats(counted, parents)
    return sum(cost for span_id, cost in priced.items() if span_id not in repeats)
