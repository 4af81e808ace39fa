"""Find the spans of a trace that tell of the same call to a model, so that its tokens and its cost count once.

A framework, an instrumentation and a client may each make a span of one call. They are known as one by the tree (a call
inside of a call), by the id of the answer, or by the time: the same provider and model at the same moment, told by two
instrumentations. What an agent adds up of the calls below it is no call of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan

from ..._shape import read_count
from ..operations import semconv as sc
from .recent_spans import get_span_id

_CLASSES: Final = {  # of operations: two calls of one class may be the same
    sc.CHAT: "generation",
    sc.TEXT_COMPLETION: "generation",
    sc.GENERATE_CONTENT: "generation",
    sc.EMBEDDINGS: "embeddings",
}
MODEL_OPERATIONS: Final = frozenset(_CLASSES)  # the calls to a model
_SHARE: Final = 0.8  # of the shorter call, which has to lie within the other for both to be one
_SLACK: Final = 50_000_000  # nanoseconds of it that may lie outside, however short it is: callbacks run one by one
_MAX_COMPARISONS: Final = 200_000  # in one trace


@dataclass(frozen=True, slots=True)
class CountedSpan:
    """A span with tokens, as far as it has to be known. Times are in nanoseconds.

    *scope* is the instrumentation that tells of it. *is_stored* is True for a span that a store has already: what
    counts there goes on to count.
    """

    span_id: int
    scope: str
    start: int
    end: int
    operation: str | None
    provider: str | None
    model: str | None
    response_id: str | None
    output_tokens: int | None
    input_tokens: int | None = None
    is_stored: bool = False
    has_cost: bool = False
    has_content: bool = False

    @classmethod
    def from_attributes(cls, span_id: int, scope: str, times: tuple[int, int], get: Any) -> CountedSpan:
        """Return the span whose attributes *get* returns by their names in the conventions."""
        texts = [
            value if isinstance(value := get(name), str) else None for name in (sc.OPERATION, sc.PROVIDER, *_MODELS)
        ]
        response_id, output, given = get(sc.RESPONSE_ID), get(sc.USAGE_OUTPUT_TOKENS), get(sc.USAGE_INPUT_TOKENS)
        return cls(
            span_id,
            scope,
            *times,
            operation=texts[0],
            provider=texts[1],
            model=texts[2] or texts[3],
            response_id=response_id if isinstance(response_id, str) and response_id else None,
            output_tokens=read_count(output),
            input_tokens=read_count(given),
            has_content=get(sc.OUTPUT_MESSAGES) is not None,
        )

    @property
    def call_class(self) -> str | None:
        """Return what kind of call to a model this is; None if it is no call."""
        return _CLASSES.get(self.operation or "")

    @property
    def rank(self) -> tuple[bool, bool, bool, bool, int]:
        """Return what decides which of the spans of one call is counted: the greatest."""
        return self.is_stored, self.has_cost, self.has_content, self.scope == "mlspan", -self.start


_MODELS: Final = (sc.RESPONSE_MODEL, sc.REQUEST_MODEL)


def find_repeats(counted: Sequence[CountedSpan], parents: Mapping[int, int | None]) -> dict[int, int | str]:
    """Return the ids of the spans that are not to be counted, each with the id of the span that is counted instead.

    Of a span that adds up calls below it, that is CALLS_BELOW.

    Args:
        counted: the spans of a trace that have tokens.
        parents: the id of the parent of every span of the trace, by the span's id.
    """
    if len(counted) < 2:
        return {}
    by_id = {span.span_id: span for span in counted}
    calls = [span for span in counted if span.call_class is not None]
    groups = _CallGroups(calls)
    for call in calls:
        for above in list_above(call.span_id, parents):
            outer = by_id.get(above)
            if outer is not None and outer.call_class == call.call_class:
                groups.join(call, outer)
                break
    if len({call.scope for call in calls}) > 1:
        for one, other in sorted(_match_in_time(calls), key=lambda pair: _measure_distance(*pair)):
            groups.join_once(one, other)
    repeats: dict[int, int | str] = dict(groups.list_repeats())
    return repeats | _find_sums(counted, parents, repeats)


def describe_counted(span: ReadableSpan, *, has_cost: bool) -> CountedSpan:
    """Return what has to be known of an ended span with tokens."""
    scope, attributes = span.instrumentation_scope, span.attributes or {}
    times = span.start_time or 0, span.end_time or 0
    name = scope.name if scope is not None and scope.name else ""
    counted = CountedSpan.from_attributes(get_span_id(span), name, times, attributes.get)
    return replace(counted, has_cost=has_cost)


class _CallGroups:
    """The calls, in groups of those that are one."""

    def __init__(self, calls: Sequence[CountedSpan]) -> None:
        self._groups = {call.span_id: [call] for call in calls}

    def join(self, one: CountedSpan, other: CountedSpan) -> None:
        """Note that two spans tell of one call."""
        first, second = self._groups[one.span_id], self._groups[other.span_id]
        if first is not second:
            first += second
            self._groups.update((call.span_id, first) for call in second)

    def join_once(self, one: CountedSpan, other: CountedSpan) -> None:
        """Do the same unless somebody would tell of one call twice: an instrumentation tells of each call once."""
        first, second = self._groups[one.span_id], self._groups[other.span_id]
        if {call.scope for call in first}.isdisjoint(call.scope for call in second):
            self.join(one, other)

    def list_repeats(self) -> Iterator[tuple[int, int]]:
        """Yield each span that is not counted, with the one of its call that is."""
        for group in {id(group): group for group in self._groups.values()}.values():
            chosen = max(group, key=lambda call: call.rank)
            yield from ((call.span_id, chosen.span_id) for call in group if call is not chosen)


def list_above(span_id: int, parents: Mapping[int, int | None]) -> Iterator[int]:
    """Yield the ids of the spans above a span, the nearest first; of a circle each once."""
    seen = {span_id}
    above = parents.get(span_id)
    while above is not None and above not in seen:
        seen.add(above)
        yield above
        above = parents.get(above)


def _match_in_time(calls: Sequence[CountedSpan]) -> Iterator[tuple[CountedSpan, CountedSpan]]:
    """Yield the pairs of calls that overlap, are told by two instrumentations and may be one."""
    running: list[CountedSpan] = []
    compared = 0
    for call in sorted(calls, key=lambda call: call.start):
        running = [other for other in running if other.end >= call.start]
        for other in running:
            if call.scope == other.scope:
                continue
            if call.response_id is not None and other.response_id is not None:
                if call.response_id == other.response_id and _may_share_answer(call, other):
                    yield other, call
                continue
            compared += 1
            if compared > _MAX_COMPARISONS:
                return
            if _may_be_one(call, other):
                yield other, call
        running.append(call)


def _may_share_answer(call: CountedSpan, other: CountedSpan) -> bool:
    """Return whether two calls with the same id of an answer may be one: a server may give all answers the same id.

    Two instrumentations may count or name otherwise; those that do both tell of two calls.
    """
    is_counted_alike = None in (counts := (call.output_tokens, other.output_tokens)) or counts[0] == counts[1]
    return call.call_class == other.call_class and (is_counted_alike or _are_compatible(call.model, other.model))


def _may_be_one(call: CountedSpan, other: CountedSpan) -> bool:
    """Return whether two calls that overlap, one of them without the id of its answer, may be one.

    What was asked of whom decides, and how many tokens it took.
    """
    if call.call_class != other.call_class or call.is_stored or other.is_stored:
        return False
    if call.output_tokens != other.output_tokens or not (call.model and other.model):
        return False
    if call.output_tokens is None and call.input_tokens != other.input_tokens:  # embeddings
        return False
    overlap = min(call.end, other.end) - max(call.start, other.start)
    shorter = min(call.end - call.start, other.end - other.start)
    return (
        overlap >= min(_SHARE * shorter, max(shorter - _SLACK, 1))  # calls one after the other are two, however short
        and _are_compatible(call.provider, other.provider)
        and _are_compatible(call.model, other.model)
    )


def _are_compatible(one: str | None, other: str | None) -> bool:
    """Return whether two names may mean the same: ``gpt-4o`` and ``openai/gpt-4o-2024-08-06``."""
    if not one or not other:
        return True
    one, other = (name.lower().rpartition("/")[2] for name in (one, other))
    return one.startswith(other) or other.startswith(one)


def _measure_distance(one: CountedSpan, other: CountedSpan) -> tuple[bool, int]:
    """Return how far apart two spans are that may be one call; those with the id of one answer first."""
    has_id = one.response_id is not None and one.response_id == other.response_id
    return not has_id, abs(one.start - other.start) + abs(one.end - other.end)


def _find_sums(
    counted: Sequence[CountedSpan], parents: Mapping[int, int | None], repeats: Mapping[int, int | str]
) -> dict[int, int | str]:
    """Return the spans that add up others below them; a stored one counts, and the others do not."""
    found: dict[int, int | str] = {}
    sums = {span.span_id: span for span in counted if span.call_class is None}
    if not sums:
        return found
    for span in sorted(counted, key=lambda span: span.call_class is None):  # the calls first
        if span.span_id in repeats or span.span_id in found:
            continue
        above = [span_id for span_id in list_above(span.span_id, parents) if span_id in sums]
        stored = [span_id for span_id in above if sums[span_id].is_stored and not span.is_stored]
        if stored:
            found[span.span_id] = stored[-1]
        elif span.call_class is not None:
            found |= dict.fromkeys(above, sc.CALLS_BELOW)
        elif above:
            found[span.span_id] = above[-1]
    return found
