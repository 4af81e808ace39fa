"""From ended spans to the spool, on a thread of its own: the caller's thread only puts them on a queue."""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Final

import opentelemetry.context as otel
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from ..._guard import guard, log, tell_once
from ..context import Origin
from .assembly import Assembly, Unit
from .courier import Courier
from .parcel import Kind, Packed, Parcel, Sink
from .shelf import IN_MEMORY, Keeping, Shelf
from .spool import BITS, Fresh
from .wire import Unfit, pack

_TELL: Final = 30.0  # seconds between two lines about spans that are lost
_GATHER: Final = 0.1  # seconds in which spans are left to gather, so that the caller's thread is not disturbed for each
_BATCH: Final = 500  # spans that are stored at once even before the interval is over


class Flush:
    """A flush that somebody waits for: *parts* of it have to be answered."""

    __slots__ = ("_done", "_left", "_lock", "_sent", "last", "send")

    def __init__(self, *, last: bool, send: bool) -> None:
        self._done, self._sent, self.last, self.send = threading.Event(), True, last, send
        self._left, self._lock = 1, threading.Lock()

    def wait(self, timeout: float) -> bool:
        """Whether all was stored, within *timeout* seconds."""
        return self._done.wait(max(timeout, 0)) and self._sent

    def expect(self, more: int) -> None:
        self._left += more

    def answer(self, sent: bool) -> None:
        with self._lock:
            self._sent = self._sent and sent
            self._left -= 1
            if self._left <= 0:
                self._done.set()


@dataclass(slots=True)
class _Ended:
    """A span that has ended and is not yet stored."""

    number: int  # of its parcel
    unit: Unit | None
    span: ReadableSpan
    packed: Packed | Unfit | None  # what the journal has made of it
    place: int | None  # in the journal


class Pipeline(SpanProcessor):
    """A span processor that groups spans into traces, stores them, and has them sent.

    ``on_start`` and ``on_end`` may run inside a finalizer, in the middle of our own code on the same thread: they take
    no lock, and ``SimpleQueue.put`` may be re-entered. All bookkeeping is the thread's alone.

    Args:
        sinks: by kind, what makes one, and where it goes (no credentials).
        origin: reads the caller's surroundings; called on the caller's thread as each span starts.
        keeping: on disk or in memory, and how much.
        address: fills in what an origin leaves unsaid, so that another process can send the trace.
        assembly: what puts spans together, made anew in a forked child.
        queue_spans: the most spans that may wait to be looked at; what comes on top is dropped, counted and reported.
        interval: seconds after which what has ended is stored, and sent if its trace is whole.
    """

    def __init__(
        self,
        sinks: dict[Kind, tuple[Callable[[], Sink], dict[str, Any]]],
        origin: Callable[[], Origin],
        *,
        keeping: Keeping = IN_MEMORY,
        address: Callable[[Origin], Origin] = lambda origin: origin,
        assembly: Callable[[], Assembly] = Assembly,
        queue_spans: int = 50_000,
        interval: float = 1.0,
    ) -> None:
        self._sinks, self._origin, self._keeping = sinks, origin, keeping
        self._address, self._assemble = address, assembly
        self._queue_spans, self._interval = queue_spans, interval
        self.lost: Counter[str] = Counter()  # spans, by reason: overflow, refused, unfit, expired
        self.seen = 0  # spans that have ended
        self._reported = 0
        self._stopped = False
        self._start_lock = threading.Lock()
        self._reset()
        _pipelines.add(self)

    def _reset(self) -> None:
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._hurry = threading.Event()
        self._assembly = self._assemble()
        self._fresh: list[_Ended] = []
        self._ready: list[Parcel] = []
        self._stored_open: set[int] = set()  # numbers of parcels that are growing in the spool
        self._origins: dict[int, Origin] = {}  # of open spans, for the journal
        self._shelf: Shelf | None = None
        self._made = {kind: make() for kind, (make, _) in self._sinks.items()}
        self._couriers: list[Courier] = []
        self._oldest = self._told_lost = self._looked = 0.0
        self._thread: threading.Thread | None = None

    # On the caller's thread.

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002  # the SDK's signature
        if self._thread is None and not self._stopped:
            self._start()
        if "mlflow" not in self._sinks:
            return
        if self._queue.qsize() < self._queue_spans:
            origin = self._origin()
            if self._keeping.durability == "span" and len(self._origins) < 2 * self._queue_spans:
                self._origins[_span_id(span)] = origin
            self._queue.put((span, origin))
        else:
            self.lost["overflow"] += 1

    def on_end(self, span: ReadableSpan) -> None:
        if self._queue.qsize() >= 2 * self._queue_spans:  # twice: an end that belongs to a start we have is no news
            self.lost["overflow"] += 1
        elif self._keeping.durability == "span":
            self._queue.put(self._written(span))
        else:
            self._queue.put(span)

    def _written(self, span: ReadableSpan) -> Any:
        """*span* with what the journal has made of it; without, where it cannot be written."""
        origin, shelf = self._origins.pop(_span_id(span), None), self._shelf
        journal = shelf.journal if shelf is not None else None
        if journal is None:
            return span
        try:
            return (span, *journal.write(span, self._address(origin or Origin())))
        except Exception as error:  # noqa: BLE001  # a full disk, mostly; said on our own thread
            return (span, error, None)

    def _start(self) -> None:
        with self._start_lock:
            if self._thread is None:
                if self._keeping.durability == "span":
                    with guard("opening the spool"):
                        self._open()
                self._thread = threading.Thread(target=self._run, name="mlspan-export", daemon=True)
                self._thread.start()

    def _open(self) -> Shelf:
        if self._shelf is None:
            self._shelf = Shelf(self._keeping, {kind: where for kind, (_, where) in self._sinks.items()}, self.lost)
        return self._shelf

    def flush(self, timeout: float) -> bool:
        """Whether all that had ended when this was called is stored, within *timeout* seconds."""
        return self.ask(last=False).wait(timeout)

    def stop(self, timeout: float | None = None) -> bool:
        """Send what has ended, wait for it at most *timeout* seconds (None: as the sinks ask), and stop."""
        return self.ask(last=True).wait(self.grace(timeout))

    def grace(self, timeout: float | None) -> float:
        if timeout is not None:
            return timeout
        return max((sink.exit_grace for sink in self._made.values()), default=0)

    def ask(self, *, last: bool, send: bool = True) -> Flush:
        """Begin a flush, or the last of them, without waiting for it. Without *send* it only brings all to the disk."""
        asked = Flush(last=last, send=send)
        if self._thread is None or not self._thread.is_alive() or self._stopped:
            asked.answer(sent=self._thread is None or not self.waiting())
        else:
            self._queue.put(asked)
            self._hurry.set()
        self._stopped = self._stopped or last
        return asked

    def waiting(self) -> int:
        """How many spans are stored and not yet sent everywhere."""
        try:
            return sum(spool.spans() for spool in self._shelf.spools()) if self._shelf is not None else 0
        except Exception:  # noqa: BLE001  # closed, full, torn: nobody can count them now
            return 0

    def say_what_stays(self) -> None:
        """At the end, one line for what was not sent."""
        shelf, left = self._shelf, self.waiting()
        if left and shelf is not None:
            where = f"stay in {shelf.folder}, for the next process or `mlspan drain`" if shelf.on_disk else "are lost"
            log.warning("mlspan: %d spans could not be sent and %s", left, where)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        self.stop()

    # On our own thread.

    def _run(self) -> None:
        otel.attach(otel.set_value(otel._SUPPRESS_INSTRUMENTATION_KEY, True))  # nobody traces our sending
        with guard("opening the spool"):
            self._begin()
        asked: Flush | None = None
        while asked is None or not asked.last:
            asked = None
            with guard("putting traces together"):
                asked = self._gather()
            with guard("storing traces"):
                if asked is not None or self._is_due():
                    self._commit()
            self._report_lost(at_once=asked is not None and asked.last)
            if asked is not None:
                self._pass_on(asked)

    def _begin(self) -> None:
        shelf = self._open()
        for kind, sink in self._made.items():
            self._couriers.append(Courier(kind, sink, shelf.spools, shelf.letters, shelf.damaged, self.lost))
        shelf.look_around(now=True)
        self._hurry_couriers()

    def _gather(self) -> Flush | None:
        """Look at what has come; return a flush that somebody asks for as soon as it has come."""
        try:
            item = self._queue.get(timeout=self._patience())
        except Empty:
            item = None
        while item is not None and not isinstance(item, Flush):
            self._take(item)
            try:
                item = self._queue.get_nowait()
            except Empty:
                item = None
        if monotonic() - self._looked > 1:
            self._looked = monotonic()
            self._ready += self._assembly.overdue()
        if isinstance(item, Flush):
            self._ready += self._assembly.rest() if item.last else self._assembly.settled() if item.send else ()
            self._hurry.clear()
            return item
        if len(self._fresh) < _BATCH:
            self._hurry.wait(_GATHER if self._fresh else 0)
        return None

    def _patience(self) -> float:
        """Seconds until there is something to do even if nothing comes."""
        if not self._fresh and not self._ready:
            return 5.0
        return max(0.01, self._oldest + self._interval - monotonic())

    def _take(self, item: Any) -> None:
        if isinstance(item, tuple) and len(item) == 2:
            self._assembly.started(*item)
            return
        span, packed, place = item if isinstance(item, tuple) else (item, None, None)
        if isinstance(packed, Exception) and not isinstance(packed, Unfit):
            tell_once("mlspan: a span could not be written down before its caller went on: %s", packed)
            packed = None
        if not self._fresh and not self._ready:
            self._oldest = monotonic()
        self.seen += 1
        number, unit, parcel = self._assembly.ended(span) if "mlflow" in self._sinks else (0, None, None)
        self._fresh.append(_Ended(number, unit, span, packed, place))
        if parcel is not None:
            self._ready.append(parcel)

    def _is_due(self) -> bool:
        if len(self._fresh) >= _BATCH:
            return True
        return bool(self._fresh or self._ready) and monotonic() - self._oldest >= self._interval

    def _commit(self) -> None:
        """Store what has ended, and let the couriers know."""
        fresh, self._fresh = self._fresh, []
        ready, self._ready = self._ready, []
        dropped, self._assembly.dropped = self._assembly.dropped, []
        shelf = self._open()
        if fresh or ready:
            gone = set(dropped)
            rows = self._rows([one for one in fresh if "otlp" in self._sinks or one.number not in gone], gone)
            rows, ready = self._admitted(rows, ready, shelf.room())
            left = {parcel.number for parcel in ready} | gone
            growing = {one.number: one.unit for one in fresh if one.unit is not None and one.number not in left}
            opened = [(number, self._address(u.origin), u.root[1], u.genai) for number, u in growing.items()]
            ready = [Parcel(self._address(p.origin), p.spans, p.root_id, p.whole, p.number) for p in ready]
            shelf.add(rows, ready, opened, [number for number in dropped if number in self._stored_open])
            self._stored_open = (self._stored_open | growing.keys()) - left
            self._hurry_couriers()
        shelf.look_around()

    def _rows(self, fresh: list[_Ended], gone: set[int]) -> list[Fresh]:
        """What can be stored of *fresh*; what cannot is set aside."""
        made = iter(pack([one.span for one in fresh if one.packed is None]))
        otlp, mlflow = (BITS[kind] if kind in self._sinks else 0 for kind in ("otlp", "mlflow"))
        rows = []
        for one in fresh:
            packed = next(made) if one.packed is None else one.packed
            if isinstance(packed, Packed):
                trace = f"{one.unit.root[0]:032x}" if one.unit is not None else ""
                rows.append(Fresh(packed, otlp | (0 if one.number in gone else mlflow), one.number, trace, one.place))
            else:
                self._set_aside(one.span, packed)
        return rows

    def _set_aside(self, span: ReadableSpan, unfit: Unfit) -> None:
        self.lost["unfit"] += 1
        tell_once("mlspan: %s; it is left out, the rest of its trace is not", unfit)
        with guard("setting a span aside"):
            self._open().letters.put(next(iter(self._sinks)), str(unfit), span)

    def _admitted(self, rows: list[Fresh], ready: list[Parcel], room: int) -> tuple[list[Fresh], list[Parcel]]:
        """What there is room for; the rest is dropped, a parcel at a time."""
        sizes: Counter[int] = Counter()
        for row in rows:
            sizes[row.number] += len(row.packed.span)
        if sizes.total() <= room:
            return rows, ready
        out: set[int] = set()
        for number, size in sizes.items():
            if size > room:
                out.add(number)
            else:
                room -= size
        kept = [row for row in rows if row.number not in out]
        self.lost["overflow"] += len(rows) - len(kept)
        out -= self._stored_open
        return kept, [parcel for parcel in ready if parcel.number not in out]

    def _hurry_couriers(self) -> None:
        for courier in self._couriers:
            courier.hurry()

    def _pass_on(self, asked: Flush) -> None:
        couriers = self._couriers if asked.send else []
        asked.expect(len(couriers))
        for courier in couriers:
            courier.ask(asked.answer, last=asked.last)
        if asked.last:
            self._end()
        asked.answer(sent=True)

    def _end(self) -> None:
        for courier in self._couriers:
            courier.finished.wait()
        if self._shelf is not None:
            with guard("closing the spool"):
                self._shelf.close()

    def _report_lost(self, *, at_once: bool) -> None:
        lost = self.lost["overflow"]
        if lost > self._reported and (at_once or monotonic() - self._told_lost > _TELL):
            log.warning("mlspan: spans lost so far, as more came than could be kept: %d", lost)
            self._reported, self._told_lost = lost, monotonic()


def _span_id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    return context.span_id if context else 0


_pipelines: weakref.WeakSet[Pipeline] = weakref.WeakSet()
_parents: list[Any] = []  # in a forked child: what is the parent's is not even given back


def _after_fork() -> None:
    """What the parent has waiting is the parent's to send, and its threads have stayed there."""
    for pipeline in list(_pipelines):
        _parents.append((pipeline._shelf, pipeline._couriers))
        pipeline._start_lock = threading.Lock()
        pipeline._reset()
        pipeline.lost.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
