"""Tokens and cost of spans: what is stored with each, what a trace adds up to, and that each call counts once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan

from ...._shape import is_a
from ...operations import semconv as sc
from ..counted_calls import CountedSpan, describe_counted, find_repeats
from ..dialects.catalog import OWN_SCOPE
from ..dialects.dialect import parse_attribute
from .spans import COST, MISSING_PARENT, TOKEN_USAGE, Attributes, TranslatedSpan, remove_counts

TOTALS_ATTRIBUTES: Final = (  # what has to be read of a stored span
    *(TOKEN_USAGE, COST, MISSING_PARENT, sc.OPERATION, sc.PROVIDER, sc.REQUEST_MODEL, sc.RESPONSE_MODEL),
    *(sc.RESPONSE_ID, sc.USAGE_OUTPUT_TOKENS, sc.USAGE_INPUT_TOKENS, sc.INSTRUMENTATION),
)


class SpanTotals(NamedTuple):
    """Tokens and cost of one span, which count towards the totals of its trace.

    *is_orphan*: the span is stored as a root, as the store did not have the parent that *parent_id* names.
    """

    span_id: int
    parent_id: int | None
    usage: Mapping[str, float] | None
    cost: Mapping[str, float] | None
    is_orphan: bool = False
    counted: CountedSpan | None = None  # of a stored span with tokens

    @classmethod
    def from_attributes(
        cls, span_id: int, parent_id: int | None, attributes: Attributes, times: tuple[int, int] = (0, 0)
    ) -> SpanTotals:
        """Return the totals in a span's attributes, JSON text or not. A cost that is not a number is None.

        *times* are its start and end in nanoseconds.
        """
        usage, cost, missing = (attributes.get(name) for name in (TOKEN_USAGE, COST, MISSING_PARENT))
        cost = parse_attribute(cost)
        priced = isinstance(cost, dict) and all(isinstance(v, (int, float)) and v == v for v in cost.values())  # noqa: PLR0124
        cost = cost if priced else None  # a server may write NaN as text
        usage = parse_attribute(usage)
        counted = isinstance(usage, dict) and all(is_a(count, (int, float)) for count in usage.values())
        is_orphan = parent_id is None and _SPAN_ID.fullmatch(str(missing)) is not None
        parent_id = int(str(missing), 16) if is_orphan else parent_id
        usage = usage if counted else None
        described = None
        if usage is not None:
            scope = str(attributes.get(sc.INSTRUMENTATION) or OWN_SCOPE)
            described = replace(CountedSpan.from_attributes(span_id, scope, times, attributes.get), is_stored=True)
        return cls(span_id, parent_id, usage, cost, is_orphan, described)


_SPAN_ID: Final = re.compile("[0-9a-f]{16}")


def count_calls_once(
    spans: Sequence[TranslatedSpan], stored: Mapping[int, SpanTotals] | None = None
) -> Sequence[TranslatedSpan]:
    """Return *spans* with the tokens and cost of each call on one of them; on none if a *stored* span has them."""
    if sum(span.counts is not None for span in spans) + (1 if stored else 0) < 2:
        return spans
    parents = {span_id: one.parent_id for span_id, one in (stored or {}).items()}
    counted = [one.counted for one in (stored or {}).values() if one.counted is not None]
    for span in spans:
        parents[_span_id(span)] = span.parent.span_id if span.parent is not None else None
        if span.counts is not None:
            counted.append(describe_counted(span, has_cost=span.counts[1] is not None))
    repeats = find_repeats(counted, parents)
    return [remove_counts(span, repeats[at]) if (at := _span_id(span)) in repeats else span for span in spans]


def _span_id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    return context.span_id if context else 0


def sum_totals(spans: Sequence[SpanTotals], of: Callable[[SpanTotals], Mapping[str, float] | None]) -> dict[str, float]:
    """Return the sum over a trace. A span's count includes everything below it, whose own counts are left out."""
    own = {span.span_id: counts for span in spans if (counts := of(span))}
    parents = {span.span_id: span.parent_id for span in spans}
    total: dict[str, float] = {}
    for span_id, counts in own.items():
        above = parents[span_id]
        while above is not None and above not in own:
            above = parents.get(above)
        if above is None:
            for key, count in counts.items():
                total[key] = total.get(key, 0) + count
    return total
