"""The trace assembler: it groups spans into traces and decides when a trace is complete and may be sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import count
from time import monotonic
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan

from ..operations import semconv as sc
from ..operations.call_context import Origin
from ..otel.frozen_span import said
from .types import Parcel

_Key = tuple[int, int]  # trace id, span id

_FORGET_AFTER: Final = 3600.0  # seconds without any event after which a root that never ends is given up
_MOST_SPANS: Final = 20_000  # ended spans of one trace, above which it is sent in parts


@dataclass(slots=True)
class Unit:
    """The spans below one local root that have started and are not sent yet."""

    number: int  # number of the segment that will hold its spans; a new one after each part
    root: _Key
    origin: Origin
    above: _Key | None = None  # a parent in this process whose start was not seen; its end is waited for
    open: set[_Key] = field(default_factory=set)
    seen: list[_Key] = field(default_factory=list)
    ended: list[ReadableSpan] = field(default_factory=list)
    genai: bool = False
    parts: int = 0
    kept: bool | None = None  # sampling decision; None while it is open
    root_ended: float | None = None
    touched: float = 0.0


class Assembly:
    """Groups spans by local root: a span without a parent, or with a parent in another process. Not thread-safe.

    A trace without any GenAI span is dropped as a whole. ``keep(trace id, spans)`` decides which traces are sampled. A
    root that has ended waits *orphan_after* seconds for children that are still open, such as unread streams.
    """

    def __init__(
        self, keep: Callable[[int, Sequence[ReadableSpan]], bool] | None = None, orphan_after: float = 30.0
    ) -> None:
        self._keep, self._orphan_after = keep, orphan_after
        self._numbers = count(1)
        self.sampled: dict[int, bool] = {}  # sampling decisions by segment number; emptied by the export worker
        self.dropped: list[int] = []  # numbers of segments that are not sent; emptied by the export worker
        self._units: dict[_Key, Unit] = {}  # by the key of each of their spans
        self._waiting: dict[_Key, Unit] = {}  # by the key of the root: traces that are not complete

    def started(self, span: ReadableSpan, origin: Origin) -> None:
        """Add a started span to the trace of its parent, or open a new trace."""
        key = _key(span)
        parent = span.parent
        above = None if parent is None or parent.is_remote else self._units.get((parent.trace_id, parent.span_id))
        if sc.ASSESSMENT in said(span):  # feedback about a trace that is still open belongs to its segment
            above = next((unit for unit in self._waiting.values() if unit.root[0] == key[0]), None)
        if above is None:
            unseen = (parent.trace_id, parent.span_id) if parent is not None and not parent.is_remote else None
            above = self._waiting[key] = Unit(next(self._numbers), key, origin, above=unseen)
        else:
            above.origin = _filled(above.origin, origin)
        above.open.add(key)
        above.seen.append(key)
        above.touched = monotonic()
        self._units[key] = above

    def ended(self, span: ReadableSpan) -> tuple[int, Unit, Parcel | None]:
        """Add an ended span.

        Return its segment's number, its open trace, and the segment if this span completes one.
        """
        key = _key(span)
        unit = self._units.get(key) or self._below(span, key)
        unit.open.discard(key)
        unit.ended.append(span)
        unit.genai = unit.genai or is_genai(span)
        unit.touched = monotonic()
        if key == unit.root:
            unit.root_ended = unit.touched
        number = unit.number
        if unit.root_ended is not None and not unit.open and unit.above is None:
            return number, unit, self._leave(unit)
        return number, unit, self._part(unit) if len(unit.ended) >= _MOST_SPANS else None

    def _below(self, span: ReadableSpan, key: _Key) -> Unit:
        """Open a trace for a span whose start was not seen, or make it the root of a trace that has waited for it."""
        unit = next((unit for unit in self._waiting.values() if unit.above == key), None)
        if unit is None:
            return Unit(next(self._numbers), key, Origin(), parts=1)
        del self._waiting[unit.root]
        parent = span.parent
        unit.above = (parent.trace_id, parent.span_id) if parent is not None and not parent.is_remote else None
        unit.root = key
        unit.seen.append(key)
        self._units[key] = self._waiting[key] = unit
        return unit

    def growing(self) -> Iterator[Unit]:
        """Yield the open traces in which some spans have ended."""
        return (unit for unit in self._waiting.values() if unit.ended)

    def settled(self) -> Iterator[Parcel]:
        """Complete the traces that only wait for a parent whose start was not seen, and yield their segments."""
        for unit in list(self._waiting.values()):
            if unit.above is not None and unit.root_ended is not None and not unit.open:
                unit.parts += 1
                if (parcel := self._leave(unit)) is not None:
                    yield parcel

    def overdue(self) -> Iterator[Parcel]:
        """Yield segments of the traces whose root ended long ago, and complete those without any event for an hour."""
        now = monotonic()
        for unit in list(self._waiting.values()):
            given_up = now - unit.touched > _FORGET_AFTER
            if given_up or (unit.root_ended is not None and now - unit.root_ended > self._orphan_after):
                parcel = self._leave(unit) if given_up else self._part(unit)
                if parcel is not None:
                    yield parcel

    def rest(self) -> Iterator[Parcel]:
        """Complete all traces and yield their segments."""
        for unit in list(self._waiting.values()):
            if (parcel := self._leave(unit)) is not None:
                yield parcel

    def _part(self, unit: Unit) -> Parcel | None:
        """Take the ended spans out of an open trace as a segment, or return None if it holds no GenAI span."""
        if not unit.ended or not unit.genai:
            return None
        unit.parts += 1
        spans, unit.ended = unit.ended, []
        parcel = self._parcel(unit, spans, whole=False)
        unit.number = next(self._numbers)
        return parcel

    def _leave(self, unit: Unit) -> Parcel | None:
        """Remove a trace and return its last segment; None if it holds no GenAI span or is not sampled."""
        for key in unit.seen:
            self._units.pop(key, None)
        self._waiting.pop(unit.root, None)
        whole = unit.root_ended is not None and not unit.open and not unit.parts
        if unit.ended and unit.genai:
            return self._parcel(unit, unit.ended, whole=whole)
        self._is_kept(unit, unit.ended)
        self.dropped.append(unit.number)
        return None

    def _parcel(self, unit: Unit, spans: list[ReadableSpan], *, whole: bool) -> Parcel | None:
        if not self._is_kept(unit, spans):
            self.dropped.append(unit.number)
            return None
        return Parcel(unit.origin, tuple(spans), unit.root[1], whole, unit.number)

    def _is_kept(self, unit: Unit, spans: Sequence[ReadableSpan]) -> bool:
        """Decide if a trace is sampled. The first decision also holds for its later segments."""
        if unit.kept is None:
            unit.kept = self._keep is None or bool(spans and self._keep(unit.root[0], spans))
        self.sampled[unit.number] = unit.kept
        return unit.kept


def _key(span: ReadableSpan) -> _Key:
    context = span.get_span_context()
    assert context is not None  # noqa: S101  # the SDK gives every span a context
    return context.trace_id, context.span_id


def is_genai(span: ReadableSpan) -> bool:
    """Return True if *span* has an attribute of the GenAI conventions or of mlspan."""
    return any(name.startswith(("gen_ai.", "mlspan.")) for name in said(span))


def _filled(origin: Origin, more: Origin) -> Origin:
    """Return *origin* with its gaps filled from *more*: a run or session may begin below the root."""
    if origin is more or origin == more:
        return origin
    filled = {f.name: getattr(origin, f.name) or getattr(more, f.name) for f in fields(Origin)}
    filled["tags"] = {**more.tags, **origin.tags}
    return Origin(**filled)
