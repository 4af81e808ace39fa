"""The totals of collected spans, each call counted once, and the limits that a test sets for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from .._shape import get_count
from ..tracing.export.cost import compute_span_cost
from ..tracing.export.counted_calls import CountedSpan, describe_counted, find_repeats
from ..tracing.export.recent_spans import get_span_id
from ..tracing.operations import semconv as sc


@dataclass(frozen=True)
class CallTotals:
    """The totals of what a test has used.

    Attributes:
        calls: calls to models. A call that a framework and its client both record counts once.
        tool_calls: tools that ran.
        errors: spans that failed by themselves; those that only pass on the failure of a span below are left out.
        input_tokens: tokens sent, cached ones included.
        output_tokens: tokens received, reasoning included.
        cost: in US dollars, of the calls whose price is known.
        seconds: from the start of the first span to the end of the last.
        unmetered: names of the calls that ended well and report no tokens.
        unpriced: names of the calls with tokens whose price is not known.
    """

    calls: int = 0
    tool_calls: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0
    unmetered: tuple[str, ...] = ()
    unpriced: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """Return the tokens sent and received."""
        return self.input_tokens + self.output_tokens

    def find_exceeded(self, limits: Mapping[str, float]) -> list[str]:
        """Return a line for each limit that is exceeded, or that cannot be checked.

        Args:
            limits: the greatest value allowed, by the name of the total.

        Raises:
            TypeError: there is no total of that name.
        """
        lines = []
        for name, limit in limits.items():
            if name not in LIMITED:
                raise TypeError(f"there is no limit {name!r}; there are {', '.join(LIMITED)}")
            value = getattr(self, name)
            if value > limit:
                lines.append(f"{name}: {_format_total(name, value)}, and {_format_total(name, limit)} are allowed")
            elif name in _COUNTS and self.unmetered:
                lines.append(f"{name}: not known, as no tokens are reported by {', '.join(self.unmetered)}")
            elif name == "cost" and self.unpriced:
                lines.append(f"cost: not known, as there is no price for {', '.join(self.unpriced)}")
        return lines


LIMITED: Final = ("calls", "tool_calls", "errors", "tokens", "input_tokens", "output_tokens", "cost", "seconds")
_COUNTS: Final = frozenset({"tokens", "input_tokens", "output_tokens", "cost"})


def _format_total(name: str, value: float) -> str:
    if name == "cost":
        return f"${value:.6f}".rstrip("0").rstrip(".")
    return f"{value:.3f} s" if name == "seconds" else f"{value:,}"


def sum_calls(spans: Sequence[ReadableSpan]) -> CallTotals:
    """Return the totals of *spans*, whose attributes are in the conventions' names."""
    if not spans:
        return CallTotals()
    used = [_Usage(trace) for trace in _list_traces(spans)]
    first = min(span.start_time or 0 for span in spans)
    last = max(span.end_time or 0 for span in spans)
    return CallTotals(
        calls=sum(len(one.calls) for one in used),
        tool_calls=sum(_read_operation(span) == sc.EXECUTE_TOOL for span in spans),
        errors=_count_errors(spans),
        input_tokens=sum(one.input_tokens for one in used),
        output_tokens=sum(one.output_tokens for one in used),
        cost=sum(one.cost for one in used),
        seconds=(last - first) / 1e9,
        unmetered=tuple(name for one in used for name in one.unmetered),
        unpriced=tuple(name for one in used for name in one.unpriced),
    )


def list_calls(spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
    """Return a span for each call to a model, by start; of several spans of one call, one with content.

    Args:
        spans: with attributes in the conventions' names.
    """
    found: list[ReadableSpan] = []
    for trace in _list_traces(spans):
        described = [describe_counted(span, has_cost=False) for span in trace]
        calls = [one for one in described if one.call_class is not None]
        counted = {one.span_id for one in calls} - find_repeats(calls, _map_parents(trace)).keys()
        found += [span for span in trace if get_span_id(span) in counted]
    return sorted(found, key=lambda span: span.start_time or 0)


def _list_traces(spans: Sequence[ReadableSpan]) -> list[list[ReadableSpan]]:
    traces: dict[int, list[ReadableSpan]] = {}
    for span in spans:
        context = span.get_span_context()
        traces.setdefault(context.trace_id if context else 0, []).append(span)
    return [*traces.values()]


def _map_parents(spans: Sequence[ReadableSpan]) -> dict[int, int | None]:
    return {get_span_id(span): span.parent.span_id if span.parent else None for span in spans}


class _Usage:
    """The calls, tokens and cost of one trace."""

    def __init__(self, spans: Sequence[ReadableSpan]) -> None:
        self.input_tokens = self.output_tokens = 0
        self.cost = 0.0
        self.unmetered: list[str] = []
        self.unpriced: list[str] = []
        by_id = {get_span_id(span): span for span in spans}
        parents = _map_parents(spans)
        costs = {span_id: compute_span_cost(span.attributes or {}) for span_id, span in by_id.items()}
        described = [describe_counted(span, has_cost=costs[get_span_id(span)] is not None) for span in spans]
        metered = [
            one for one in described if _has_tokens(one) and sc.COUNTED_BY not in (by_id[one.span_id].attributes or {})
        ]
        repeats = find_repeats(metered, parents)
        for one in metered:
            if one.span_id not in repeats:
                self.input_tokens += one.input_tokens or 0
                self.output_tokens += one.output_tokens or 0
                self._add_cost(by_id[one.span_id], costs[one.span_id])
        # Asked again with the calls that have no tokens: above, they would take the tokens of an agent's span away.
        every_call = [one for one in described if one.call_class is not None]
        same = find_repeats(every_call, parents)
        self.calls = [one for one in every_call if one.span_id not in same]
        told = {same.get(one.span_id, one.span_id) for one in every_call if _has_tokens(one)}
        failed = {span_id for span_id, span in by_id.items() if span.status.status_code is StatusCode.ERROR}
        silent = [one for one in self.calls if one.span_id not in told and one.span_id not in failed]
        self.unmetered = [by_id[one.span_id].name for one in silent]

    def _add_cost(self, span: ReadableSpan, cost: Mapping[str, float] | None) -> None:
        if cost is None:
            self.unpriced.append(span.name)
        else:
            self.cost += cost["total_cost"]


def _has_tokens(span: CountedSpan) -> bool:
    return span.input_tokens is not None or span.output_tokens is not None


def _count_errors(spans: Sequence[ReadableSpan]) -> int:
    failed = [span for span in spans if span.status.status_code is StatusCode.ERROR]
    passed_on = {span.parent.span_id for span in failed if span.parent}
    return sum(get_span_id(span) not in passed_on for span in failed)


def _read_operation(span: ReadableSpan) -> object:
    return (span.attributes or {}).get(sc.OPERATION)


def read_tokens(span: ReadableSpan) -> tuple[int | None, int | None]:
    """Return the tokens that a span says were sent and received."""
    attributes = span.attributes or {}
    return get_count(attributes, sc.USAGE_INPUT_TOKENS), get_count(attributes, sc.USAGE_OUTPUT_TOKENS)
