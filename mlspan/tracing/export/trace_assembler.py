"""The trace assembler: it groups spans into traces and decides when a trace is complete and may be sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import count
from time import monotonic
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan

from ..operations import semconv as sc
from ..operations.call_context import TraceOrigin
from ..otel.frozen_span import read_attributes
from .types import TraceSegment

_SpanKey = tuple[int, int]  # trace id, span id

_FORGET_AFTER: Final = 3600.0  # seconds without any event after which a root that never ends is given up
_MAX_SPANS: Final = 20_000  # ended spans of one trace, above which it is sent in parts


@dataclass(slots=True)
class OpenTrace:
    """The spans below one local root that have started and are not sent yet."""

    number: int  # number of the segment that will hold its spans; a new one after each part
    root: _SpanKey
    origin: TraceOrigin
    awaited_parent: _SpanKey | None = None  # a parent in this process whose start was not seen; its end is waited for
    open_spans: set[_SpanKey] = field(default_factory=set)
    span_keys: list[_SpanKey] = field(default_factory=list)
    ended_spans: list[ReadableSpan] = field(default_factory=list)
    has_genai: bool = False
    segments_sent: int = 0
    is_sampled: bool | None = None  # sampling decision; None while it is open
    root_ended: float | None = None
    last_event: float = 0.0


class TraceAssembler:
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
        self._units: dict[_SpanKey, OpenTrace] = {}  # by the key of each of their spans
        self._waiting: dict[_SpanKey, OpenTrace] = {}  # by the key of the root: traces that are not complete

    def note_start(self, span: ReadableSpan, origin: TraceOrigin) -> None:
        """Add a started span to the trace of its parent, or open a new trace."""
        key = _span_key(span)
        parent = span.parent
        above = None if parent is None or parent.is_remote else self._units.get((parent.trace_id, parent.span_id))
        if sc.ASSESSMENT in read_attributes(span):  # feedback about a trace that is still open belongs to its segment
            above = next((unit for unit in self._waiting.values() if unit.root[0] == key[0]), None)
        if above is None:
            unseen = (parent.trace_id, parent.span_id) if parent is not None and not parent.is_remote else None
            above = self._waiting[key] = OpenTrace(next(self._numbers), key, origin, awaited_parent=unseen)
        else:
            above.origin = _merge_origins(above.origin, origin)
        above.open_spans.add(key)
        above.span_keys.append(key)
        above.last_event = monotonic()
        self._units[key] = above

    def note_end(self, span: ReadableSpan) -> tuple[int, OpenTrace, TraceSegment | None]:
        """Add an ended span.

        Return its segment's number, its open trace, and the segment if this span completes one.
        """
        key = _span_key(span)
        unit = self._units.get(key) or self._adopt_children(span, key)
        unit.open_spans.discard(key)
        unit.ended_spans.append(span)
        unit.has_genai = unit.has_genai or is_genai(span)
        unit.last_event = monotonic()
        if key == unit.root:
            unit.root_ended = unit.last_event
        number = unit.number
        if unit.root_ended is not None and not unit.open_spans and unit.awaited_parent is None:
            return number, unit, self._complete_trace(unit)
        return number, unit, self._split_segment(unit) if len(unit.ended_spans) >= _MAX_SPANS else None

    def _adopt_children(self, span: ReadableSpan, key: _SpanKey) -> OpenTrace:
        """Open a trace for a span whose start was not seen, or make it the root of a trace that has waited for it."""
        unit = next((unit for unit in self._waiting.values() if unit.awaited_parent == key), None)
        if unit is None:
            return OpenTrace(next(self._numbers), key, TraceOrigin(), segments_sent=1)
        del self._waiting[unit.root]
        parent = span.parent
        unit.awaited_parent = (parent.trace_id, parent.span_id) if parent is not None and not parent.is_remote else None
        unit.root = key
        unit.span_keys.append(key)
        self._units[key] = self._waiting[key] = unit
        return unit

    def iterate_partly_ended(self) -> Iterator[OpenTrace]:
        """Yield the open traces in which some spans have ended."""
        return (unit for unit in self._waiting.values() if unit.ended_spans)

    def complete_settled(self) -> Iterator[TraceSegment]:
        """Complete the traces that only wait for a parent whose start was not seen, and yield their segments."""
        for unit in list(self._waiting.values()):
            if unit.awaited_parent is not None and unit.root_ended is not None and not unit.open_spans:
                unit.segments_sent += 1
                if (parcel := self._complete_trace(unit)) is not None:
                    yield parcel

    def split_overdue(self) -> Iterator[TraceSegment]:
        """Yield segments of the traces whose root ended long ago, and complete those without any event for an hour."""
        now = monotonic()
        for unit in list(self._waiting.values()):
            given_up = now - unit.last_event > _FORGET_AFTER
            if given_up or (unit.root_ended is not None and now - unit.root_ended > self._orphan_after):
                parcel = self._complete_trace(unit) if given_up else self._split_segment(unit)
                if parcel is not None:
                    yield parcel

    def complete_all(self) -> Iterator[TraceSegment]:
        """Complete all traces and yield their segments."""
        for unit in list(self._waiting.values()):
            if (parcel := self._complete_trace(unit)) is not None:
                yield parcel

    def _split_segment(self, unit: OpenTrace) -> TraceSegment | None:
        """Take the ended spans out of an open trace as a segment, or return None if it holds no GenAI span."""
        if not unit.ended_spans or not unit.has_genai:
            return None
        unit.segments_sent += 1
        spans, unit.ended_spans = unit.ended_spans, []
        parcel = self._make_segment(unit, spans, whole=False)
        unit.number = next(self._numbers)
        return parcel

    def _complete_trace(self, unit: OpenTrace) -> TraceSegment | None:
        """Remove a trace and return its last segment; None if it holds no GenAI span or is not sampled."""
        for key in unit.span_keys:
            self._units.pop(key, None)
        self._waiting.pop(unit.root, None)
        whole = unit.root_ended is not None and not unit.open_spans and not unit.segments_sent
        if unit.ended_spans and unit.has_genai:
            return self._make_segment(unit, unit.ended_spans, whole=whole)
        self._is_trace_sampled(unit, unit.ended_spans)
        self.dropped.append(unit.number)
        return None

    def _make_segment(self, unit: OpenTrace, spans: list[ReadableSpan], *, whole: bool) -> TraceSegment | None:
        if not self._is_trace_sampled(unit, spans):
            self.dropped.append(unit.number)
            return None
        return TraceSegment(unit.origin, tuple(spans), unit.root[1], whole, unit.number)

    def _is_trace_sampled(self, unit: OpenTrace, spans: Sequence[ReadableSpan]) -> bool:
        """Decide if a trace is sampled. The first decision also holds for its later segments."""
        if unit.is_sampled is None:
            unit.is_sampled = self._keep is None or bool(spans and self._keep(unit.root[0], spans))
        self.sampled[unit.number] = unit.is_sampled
        return unit.is_sampled


def _span_key(span: ReadableSpan) -> _SpanKey:
    context = span.get_span_context()
    assert context is not None  # noqa: S101  # the SDK gives every span a context
    return context.trace_id, context.span_id


def is_genai(span: ReadableSpan) -> bool:
    """Return True if *span* has an attribute of the GenAI conventions or of mlspan."""
    return any(name.startswith(("gen_ai.", "mlspan.")) for name in read_attributes(span))


def _merge_origins(origin: TraceOrigin, more: TraceOrigin) -> TraceOrigin:
    """Return *origin* with its gaps filled from *more*: a run or session may begin below the root."""
    if origin is more or origin == more:
        return origin
    filled = {f.name: getattr(origin, f.name) or getattr(more, f.name) for f in fields(TraceOrigin)}
    filled["tags"] = {**more.tags, **origin.tags}
    return TraceOrigin(**filled)
