"""The trace assembler: it groups spans into traces and decides when a trace is complete and may be sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import count
from time import monotonic
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan

from ..operations import semconv as sc
from ..operations.call_context import TraceOrigin, is_trace_shared, mark_trace_shared
from ..otel.frozen_span import read_attributes
from .recent_spans import RecentSpans, SpanKey, get_parent_key, get_span_key, traces_in_parts
from .types import TraceSegment

_FORGET_AFTER: Final = 3600.0  # seconds without any event after which a root that never ends is given up
_MAX_SPANS: Final = 20_000  # ended spans of one trace, above which it is sent in parts


@dataclass(slots=True)
class OpenTrace:
    """The spans below one local root that have started and are not sent yet."""

    number: int  # number of the segment that will hold its spans; a new one after each part
    root: SpanKey
    origin: TraceOrigin
    parent: SpanKey | None = None  # of the root, in this process or another
    awaited_parent: SpanKey | None = None  # a parent in this process whose start was not seen; its end is waited for
    open_spans: set[SpanKey] = field(default_factory=set)
    span_keys: list[SpanKey] = field(default_factory=list)
    ended_spans: list[ReadableSpan] = field(default_factory=list)
    has_genai: bool = False
    segments_sent: int = 0
    is_sampled: bool | None = None  # sampling decision; None while it is open
    root_ended: float | None = None
    last_event: float = 0.0


class TraceAssembler:
    """Groups spans by local root: a span without a parent, or with a parent in another process. Not thread-safe.

    A trace without any GenAI span is dropped as a whole, and brought back if a GenAI span starts below it later, as one
    of a background task does. A parent in this process that never comes is declared missing.

    ``keep(trace id, spans)`` decides which traces are sampled. A root that has ended waits *orphan_after* seconds for
    children that are still open, such as unread streams.
    """

    def __init__(
        self, keep: Callable[[int, Sequence[ReadableSpan]], bool] | None = None, orphan_after: float = 30.0
    ) -> None:
        self._keep, self._orphan_after = keep, orphan_after
        self._numbers = count(1)
        self.sampled: dict[int, bool] = {}  # sampling decisions by segment number; emptied by the export worker
        self.dropped: list[int] = []  # numbers of segments that are not sent; emptied by the export worker
        self.brought_back: list[tuple[OpenTrace, int, ReadableSpan]] = []  # with the segment's number; emptied likewise
        self._recent = RecentSpans()
        self._open_traces: dict[SpanKey, OpenTrace] = {}  # by the key of each of their spans
        self._waiting: dict[SpanKey, OpenTrace] = {}  # by the key of the root: traces that are not complete

    def note_start(self, span: ReadableSpan, origin: TraceOrigin) -> None:
        """Add a started span to the trace of its parent, or open a new trace."""
        key = get_span_key(span)
        above = self._find_parent_trace(span)
        if sc.ASSESSMENT in read_attributes(span):  # feedback about a trace that is still open belongs to its segment
            above = next((open_trace for open_trace in self._waiting.values() if open_trace.root[0] == key[0]), None)
        if above is None:
            above = self._waiting[key] = OpenTrace(next(self._numbers), key, origin)
            self._set_parent(above, span)
        else:
            above.origin = _merge_origins(above.origin, origin)
        above.open_spans.add(key)
        above.span_keys.append(key)
        above.last_event = monotonic()
        self._open_traces[key] = above

    def _find_parent_trace(self, span: ReadableSpan) -> OpenTrace | None:
        """Return the open trace of the span's parent; None if it has none, or one in another process."""
        parent = span.parent
        return None if parent is None or parent.is_remote else self._open_traces.get((parent.trace_id, parent.span_id))

    def _set_parent(self, open_trace: OpenTrace, root: ReadableSpan) -> None:
        """Note the parent of a trace's root, which is waited for if it is in this process and was never seen."""
        parent = open_trace.parent = get_parent_key(root)
        open_trace.awaited_parent = None
        if parent is not None and not (root.parent is not None and root.parent.is_remote):
            known = parent in self._recent or parent in self._open_traces
            open_trace.awaited_parent = None if known else parent

    def note_end(
        self, span: ReadableSpan, origin: TraceOrigin | None = None
    ) -> tuple[int, OpenTrace, TraceSegment | None]:
        """Add an ended span. If its start was not seen, *origin* is what its caller gave it.

        Return its segment's number, its open trace, and the segment if this span completes one.
        """
        key = get_span_key(span)
        open_trace = self._open_traces.get(key) or self._find_place(span, key, origin or TraceOrigin())
        open_trace.open_spans.discard(key)
        open_trace.ended_spans.append(span)
        open_trace.has_genai = open_trace.has_genai or is_genai(span)
        open_trace.last_event = monotonic()
        if key == open_trace.root:
            open_trace.root_ended = open_trace.last_event
        number = open_trace.number
        if open_trace.root_ended is not None and not open_trace.open_spans and open_trace.awaited_parent is None:
            return number, open_trace, self._complete_trace(open_trace)
        return (
            number,
            open_trace,
            self._split_segment(open_trace) if len(open_trace.ended_spans) >= _MAX_SPANS else None,
        )

    def _find_place(self, span: ReadableSpan, key: SpanKey, origin: TraceOrigin) -> OpenTrace:
        """Return the trace for a span whose start was not seen.

        It is the trace that has waited for the span, which then is its root; else the trace of its parent, if that is
        open; else a new one.
        """
        open_trace = next((one for one in self._waiting.values() if one.awaited_parent == key), None)
        if open_trace is not None:
            del self._waiting[open_trace.root]
            self._set_parent(open_trace, span)
            open_trace.root = key
            open_trace.origin = _merge_origins(origin, open_trace.origin)
            self._waiting[key] = open_trace
        elif (open_trace := self._find_parent_trace(span)) is not None:
            open_trace.origin = _merge_origins(open_trace.origin, origin)
        else:
            return OpenTrace(next(self._numbers), key, origin, get_parent_key(span), segments_sent=1)
        open_trace.span_keys.append(key)
        self._open_traces[key] = open_trace
        return open_trace

    def iterate_partly_ended(self) -> Iterator[OpenTrace]:
        """Yield the open traces in which some spans have ended."""
        return (open_trace for open_trace in self._waiting.values() if open_trace.ended_spans)

    def complete_settled(self) -> Iterator[TraceSegment]:
        """Complete the traces that only wait for a parent whose start was not seen, and yield their segments."""
        for open_trace in list(self._waiting.values()):
            if (
                open_trace.awaited_parent is not None
                and open_trace.root_ended is not None
                and not open_trace.open_spans
            ):
                open_trace.segments_sent += 1
                if (segment := self._complete_trace(open_trace)) is not None:
                    yield segment

    def split_overdue(self) -> Iterator[TraceSegment]:
        """Yield segments of the traces whose root ended long ago, and complete those without any event for an hour."""
        now = monotonic()
        for open_trace in list(self._waiting.values()):
            given_up = now - open_trace.last_event > _FORGET_AFTER
            if given_up or (open_trace.root_ended is not None and now - open_trace.root_ended > self._orphan_after):
                given_up = given_up or (open_trace.awaited_parent is not None and not open_trace.open_spans)
                segment = self._complete_trace(open_trace) if given_up else self._split_segment(open_trace)
                if segment is not None:
                    yield segment

    def complete_all(self) -> Iterator[TraceSegment]:
        """Complete all traces and yield their segments."""
        for open_trace in list(self._waiting.values()):
            if (segment := self._complete_trace(open_trace)) is not None:
                yield segment

    def _split_segment(self, open_trace: OpenTrace) -> TraceSegment | None:
        """Take the ended spans out of an open trace as a segment, or return None if it holds no GenAI span."""
        if not open_trace.ended_spans or not open_trace.has_genai:
            return None
        open_trace.segments_sent += 1
        traces_in_parts[open_trace.root[0]] = None
        spans, open_trace.ended_spans = open_trace.ended_spans, []
        segment = self._make_segment(open_trace, spans, whole=False)
        open_trace.number = next(self._numbers)
        return segment

    def _complete_trace(self, open_trace: OpenTrace) -> TraceSegment | None:
        """Remove a trace and return its last segment; None if it holds no GenAI span or is not sampled."""
        for key in open_trace.span_keys:
            self._open_traces.pop(key, None)
        self._waiting.pop(open_trace.root, None)
        traces_in_parts.pop(open_trace.root[0], None)
        complete = open_trace.root_ended is not None and not open_trace.open_spans and not open_trace.segments_sent
        whole = complete and not is_trace_shared(open_trace.root[0])  # noted here, as another process may send it
        if open_trace.ended_spans and open_trace.has_genai:
            missing = open_trace.awaited_parent is not None
            return self._make_segment(open_trace, open_trace.ended_spans, whole=whole, parent_missing=missing)
        self._is_trace_sampled(open_trace, open_trace.ended_spans)
        self.dropped.append(open_trace.number)
        if not open_trace.has_genai:
            self._recent.add_dropped(open_trace.root, open_trace.ended_spans)
        return None

    def _make_segment(
        self, open_trace: OpenTrace, spans: list[ReadableSpan], *, whole: bool, parent_missing: bool = False
    ) -> TraceSegment | None:
        """Return *spans* as a segment, with what was dropped above them; None if the trace is not sampled."""
        if not self._is_trace_sampled(open_trace, spans):
            self.dropped.append(open_trace.number)
            return None
        root = open_trace.root[1]
        if open_trace.parent is not None:
            if (
                around := self._open_traces.get(open_trace.parent)
            ) is not None:  # of a request that this process sends to itself
                around.has_genai = True
                mark_trace_shared(open_trace.root[0])
            if above := self._recent.take_above(open_trace.parent):
                self.brought_back += [(open_trace, open_trace.number, span) for span in above]
                spans, root, whole = [*above, *spans], get_span_key(above[0])[1], False
        self._recent.add_sent(map(get_span_key, spans))
        return TraceSegment(
            open_trace.origin, tuple(spans), root, whole, open_trace.number, parent_missing=parent_missing
        )

    def _is_trace_sampled(self, open_trace: OpenTrace, spans: Sequence[ReadableSpan]) -> bool:
        """Decide if a trace is sampled. The first decision also holds for its later segments."""
        if open_trace.is_sampled is None:
            open_trace.is_sampled = self._keep is None or bool(spans and self._keep(open_trace.root[0], spans))
        self.sampled[open_trace.number] = open_trace.is_sampled
        return open_trace.is_sampled


def is_genai(span: ReadableSpan) -> bool:
    """Return True if *span* has an attribute of the GenAI conventions or of mlspan, or speaks a known dialect."""
    if any(name.startswith(("gen_ai.", "mlspan.")) for name in read_attributes(span)):
        return True
    from .dialects.catalog import speaks_dialect  # the worker has imported it; the start of the program need not

    return speaks_dialect(span)


def _merge_origins(origin: TraceOrigin, more: TraceOrigin) -> TraceOrigin:
    """Return *origin* with its gaps filled from *more*: a run or session may begin below the root."""
    if origin is more or origin == more:
        return origin
    filled = {f.name: getattr(origin, f.name) or getattr(more, f.name) for f in fields(TraceOrigin)}
    filled["tags"] = {**more.tags, **origin.tags}
    return TraceOrigin(**filled)
