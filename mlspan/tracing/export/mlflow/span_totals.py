"""Tokens and cost of spans: what is stored with each, what a trace adds up to, and that each call counts once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from ...._shape import MOST_COUNTED, is_a
from ...operations import semconv as sc
from ..counted_calls import CountedSpan, describe_counted, find_repeats, list_above
from ..dialects.catalog import OWN_SCOPE, is_own_span
from ..dialects.dialect import parse_attribute
from ..recent_spans import get_span_id
from .names import COST, TOKEN_USAGE
from .spans import MISSING_PARENT, Attributes, TranslatedSpan, remove_counts

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
        """Return the totals in a stored span's attributes, JSON text or not. A cost that is not a number is None.

        *times* are its start and end in nanoseconds.
        """
        usage, cost, missing = (attributes.get(name) for name in (TOKEN_USAGE, COST, MISSING_PARENT))
        cost = parse_attribute(cost)
        priced = isinstance(cost, dict) and all(isinstance(v, (int, float)) and v == v for v in cost.values())  # noqa: PLR0124
        cost = cost if priced else None  # a server may write NaN as text
        usage = parse_attribute(usage)
        counted = isinstance(usage, dict) and all(is_a(count, (int, float)) for count in usage.values())
        parent_id, is_orphan = _find_missing_parent(parent_id, missing)
        usage = usage if counted else None
        described = None
        if usage is not None:
            scope = str(attributes.get(sc.INSTRUMENTATION) or OWN_SCOPE)
            described = replace(CountedSpan.from_attributes(span_id, scope, times, attributes.get), is_stored=True)
        return cls(span_id, parent_id, usage, cost, is_orphan, described)

    @classmethod
    def from_span(cls, span: TranslatedSpan) -> SpanTotals:
        """Return the totals of a span that is yet to be stored."""
        attributes, parent_id = span.attributes or {}, span.parent.span_id if span.parent is not None else None
        usage, cost = span.counts or (attributes.get(TOKEN_USAGE), attributes.get(COST))
        if span.counts is None and (usage is not None or cost is not None):  # not of our making
            return cls.from_attributes(get_span_id(span), parent_id, attributes)._replace(counted=None)
        if cost is not None and sum(cost.values()) != sum(cost.values()):  # the cost is NaN
            cost = None
        parent_id, is_orphan = _find_missing_parent(parent_id, attributes.get(MISSING_PARENT))
        return cls(get_span_id(span), parent_id, usage, cost, is_orphan)


def _find_missing_parent(parent_id: int | None, missing: object) -> tuple[int | None, bool]:
    """Return a span's parent id, taken from *missing* if the span has none, and whether it was."""
    if parent_id is None and missing is not None and _SPAN_ID.fullmatch(str(missing)) is not None:
        return int(str(missing), 16), True
    return parent_id, False


_SPAN_ID: Final = re.compile("[0-9a-f]{16}")


def count_calls_once(
    spans: Sequence[TranslatedSpan], stored: Mapping[int, SpanTotals] | None = None
) -> Sequence[TranslatedSpan]:
    """Return *spans* with the tokens and cost of each call on one of them; on none if a *stored* span has them."""
    if sum(span.counts is not None for span in spans) + (1 if stored else 0) < 2:
        return spans
    parents = {span_id: one.parent_id for span_id, one in (stored or {}).items()}
    parents |= {get_span_id(span): span.parent.span_id if span.parent is not None else None for span in spans}
    if not stored and _are_apart(spans, parents):
        return spans
    counted = [one.counted for one in (stored or {}).values() if one.counted is not None]
    counted += [
        describe_counted(span, has_cost=span.counts[1] is not None) for span in spans if span.counts is not None
    ]
    repeats = find_repeats(counted, parents)
    return [remove_counts(span, repeats[at]) if (at := get_span_id(span)) in repeats else span for span in spans]


def _are_apart(spans: Sequence[TranslatedSpan], parents: Mapping[int, int | None]) -> bool:
    """Return whether no two spans can tell of one call: all are mlspan's, and none with tokens lies in another.

    Most traces are so, and a description of each span takes longer than to see that.
    """
    if not all(map(is_own_span, spans)):
        return False
    counted = {get_span_id(span) for span in spans if span.counts is not None}
    if counted.isdisjoint(parents.values()):  # none has anything below it
        return True
    return all(counted.isdisjoint(list_above(span_id, parents)) for span_id in counted)


def sum_totals(spans: Sequence[SpanTotals], of: Callable[[SpanTotals], Mapping[str, float] | None]) -> dict[str, float]:
    """Return the sum over a trace. A span's count includes everything below it, whose own counts are left out."""
    own = {span.span_id: counts for span in spans if (counts := of(span))}
    if len(own) == 1:
        return dict(next(iter(own.values())))
    parents = {span.span_id: span.parent_id for span in spans}
    total: dict[str, float] = {}
    for span_id, counts in own.items():
        above = parents[span_id]
        while above is not None and above not in own:
            above = parents.get(above)
        if above is None:
            for key, count in counts.items():
                total[key] = min(total.get(key, 0) + count, MOST_COUNTED)
    return total
