"""The span processor: it takes ended spans from the caller's threads and hands them to the export worker's thread.

A caller's thread only puts spans on a queue.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import opentelemetry.context as otel
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from ..._guard import guard, log
from ..context import Origin
from .assembly import Assembly
from .gate import IMPORTS
from .keeping import IN_MEMORY, Keeping
from .parcel import Kind, Sink
from .tally import follow

if TYPE_CHECKING:
    from .intake import Intake

# Seconds that the end of the process waits for the disk alone. A busy machine can take that long.
KEEPING: Final = 20.0
# Spans gather for a moment, so that the worker does not interrupt the caller's thread for each one. It checks
# several times in between, and goes on early if many starts and ends wait.
_GATHER: Final = 0.1  # seconds
_LOOKS: Final = 5
_MANY: Final = 1000


class Flush:
    """A flush that a caller waits for. Every sender has to answer. ``kept`` is set once the spool holds all spans."""

    __slots__ = ("_done", "_left", "_lock", "_sent", "kept", "last", "send")

    def __init__(self, *, last: bool, send: bool) -> None:
        self._done, self._sent, self.last, self.send = threading.Event(), True, last, send
        self._left, self._lock, self.kept = 1, threading.Lock(), threading.Event()

    def wait(self, timeout: float) -> bool:
        """Wait at most *timeout* seconds; return True if the backends have taken everything."""
        return self._done.wait(max(timeout, 0)) and self._sent

    @property
    def done(self) -> bool:
        """Return True if all senders have answered, with success or not."""
        return self._done.is_set()

    def expect(self, more: int) -> None:
        """Wait for *more* additional answers."""
        self._left += more

    def answer(self, sent: bool) -> None:
        """Record one answer: True if everything was sent."""
        with self._lock:
            self._sent = self._sent and sent
            self._left -= 1
            if self._left <= 0:
                self._done.set()


class Pipeline(SpanProcessor):
    """A span processor that groups spans into traces, stores them and has them sent.

    ``on_start`` and ``on_end`` may run inside a finalizer, in the middle of our own code on the same thread. They
    therefore take no lock; ``SimpleQueue.put`` may be re-entered. All other state belongs to the worker's thread.

    Args:
        sinks: by kind, a function that makes the sink, and the description of its destination (no credentials).
        origin: reads the caller's context; called on the caller's thread as each span starts.
        keeping: durability, folder and limits of the spool.
        address: completes an origin, so that another process can send the trace to the same place.
        assembly: makes the trace assembler; called again in a forked child.
        held: True if OTLP spans also wait until their trace is complete, because it may be sampled out.
        redact: applied to all text before it is stored.
        queue_spans: the most spans that may wait in the queue; further ones are dropped, counted and reported.
        interval: seconds after which ended spans are stored; complete traces are then sent.
    """

    def __init__(
        self,
        sinks: dict[Kind, tuple[Callable[[], Sink], dict[str, Any]]],
        origin: Callable[[], Origin],
        *,
        keeping: Keeping = IN_MEMORY,
        address: Callable[[Origin], Origin] = lambda origin: origin,
        assembly: Callable[[], Assembly] = Assembly,
        held: bool = False,
        redact: Callable[[str], str] | None = None,
        queue_spans: int = 50_000,
        interval: float = 1.0,
    ) -> None:
        self._sinks, self._origin, self._keeping = sinks, origin, keeping
        self._address, self._assemble, self._held = address, assembly, held
        self._redact = redact
        self._queue_spans, self._interval = queue_spans, interval
        self.lost: Counter[str] = Counter()  # number of spans by reason: overflow, refused, unfit, expired
        self.ends = 0  # ended spans; approximate, as threads count without a lock
        self.sent: Counter[str] = Counter()  # number of spans by the kind of the sink
        self._stopped = False
        self._start_lock = threading.Lock()
        self._reset()
        follow(self.sent, self.lost, self.waiting)
        _pipelines.add(self)

    def _reset(self) -> None:
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._hurry = threading.Event()
        self._origins: dict[int, Origin] = {}  # by span id, for the write-ahead log
        self._made = {kind: (make(), where) for kind, (make, where) in self._sinks.items()}
        self._intake: Intake | None = None
        self._thread: threading.Thread | None = None

    # The following run on the caller's thread.

    def on_start(self, span: ReadableSpan, parent_context: Context | None = None) -> None:  # noqa: ARG002  # the SDK's signature
        """Queue a started span with its origin, unless all spans go to OTLP at once."""
        if self._thread is None and not self._stopped:
            self._start()
        if "mlflow" not in self._sinks and not self._held:
            return
        if self._queue.qsize() < self._queue_spans:
            origin = self._origin()
            if self._keeping.durability == "span" and len(self._origins) < 2 * self._queue_spans:
                self._origins[_span_id(span)] = origin
            self._queue.put((span, origin))
        else:
            self.lost["overflow"] += 1

    def on_end(self, span: ReadableSpan) -> None:
        """Queue an ended span. With ``durability="span"`` it is written to the write-ahead log first."""
        self.ends += 1
        if self._queue.qsize() >= 2 * self._queue_spans:  # twice: an end whose start is queued costs little
            self.lost["overflow"] += 1
        elif self._keeping.durability == "span":
            self._queue.put(self._written(span))
        else:
            self._queue.put(span)

    def _written(self, span: ReadableSpan) -> Any:
        """Write *span* to the write-ahead log and return the item for the queue."""
        origin, intake = self._origins.pop(_span_id(span), None), self._intake
        return span if intake is None else intake.written(span, origin or Origin())

    def _start(self) -> None:
        # MLflow imports this module on our thread. Python refuses that import while the interpreter is shutting down.
        """Start the worker's thread once."""
        import concurrent.futures.thread  # noqa: F401

        with self._start_lock:
            if self._thread is None:
                if self._keeping.durability == "span":
                    with guard("opening the spool"):
                        self._open()
                self._thread = threading.Thread(target=self._run, name="mlspan-export", daemon=True)
                self._thread.start()

    def _open(self) -> Intake:
        """Create the export worker once, with forks delayed during its imports."""
        if self._intake is None:
            with IMPORTS.closed():
                from .intake import Intake
                from .scrub import Scrub

            made, keeping = self._made, self._keeping
            self._intake = Intake(
                made,
                keeping,
                self._address,
                self._assemble(),
                self.sent,
                self.lost,
                self._interval,
                held=self._held,
                scrub=Scrub(self._redact),
            )
        return self._intake

    def flush(self, timeout: float) -> bool:
        """Store and send all spans that have ended; return True if that succeeded within *timeout* seconds."""
        return self.ask(last=False).wait(timeout)

    def stop(self, timeout: float | None = None) -> bool:
        """Send what has ended, wait at most *timeout* seconds (None: as long as the sinks ask for), and stop."""
        asked = self.ask(last=True)
        sent = asked.wait(self.grace(timeout))
        asked.kept.wait(KEEPING)
        return sent

    def grace(self, timeout: float | None) -> float:
        """Return *timeout*, or the longest ``exit_grace`` of the sinks if it is None. In seconds."""
        if timeout is not None:
            return timeout
        return max((sink.exit_grace for sink, _ in self._made.values()), default=0)

    def ask(self, *, last: bool, send: bool = True) -> Flush:
        """Begin a flush without waiting for it.

        With *last* the worker then stops; without *send* spans are only stored.
        """
        asked = Flush(last=last, send=send)
        if self._thread is None or not self._thread.is_alive() or self._stopped:
            asked.answer(sent=self._thread is None or not self.waiting())
            asked.kept.set()
        else:
            self._queue.put(asked)
            self._hurry.set()
        self._stopped = self._stopped or last
        return asked

    def waiting(self) -> int:
        """Return the number of stored spans that have not been sent to every backend."""
        return self._intake.waiting() if self._intake is not None else 0

    def say_what_stays(self) -> None:
        """Log one line about the spans that have not been sent when the process ends."""
        if self._intake is not None and (left := self._intake.waiting()):
            shelf = self._intake.shelf
            where = f"stay in {shelf.folder}, for the next process or `mlspan drain`" if shelf.on_disk else "are lost"
            log.warning("mlspan: %d spans could not be sent and %s", left, where)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        self.stop()

    # The following run on the worker's thread.

    def _run(self) -> None:
        """Process the queue until the last flush request."""
        otel.attach(otel.set_value(otel._SUPPRESS_INSTRUMENTATION_KEY, True))  # others must not trace our sending
        intake = self._open()
        with guard("looking for what others have left"):
            intake.begin()
        asked: Flush | None = None
        while asked is None or not asked.last:
            asked = None
            with guard("putting traces together"):
                asked = self._gather(intake)
            with guard("storing traces"):
                if asked is not None or intake.is_due():
                    intake.commit()
            intake.report_lost(at_once=asked is not None and asked.last)
            if asked is not None:
                asked.kept.set()
                self._pass_on(asked, intake)

    def _gather(self, intake: Intake) -> Flush | None:
        """Process the items in the queue, at most as many as are stored at once.

        Return a flush request if one is met.
        """
        item = self._next(intake.patience())
        while item is not None and not isinstance(item, Flush):
            intake.take(item)
            item = None if intake.is_full() else self._next(0)
        if not isinstance(item, Flush):
            intake.look()
            if intake.gathering():
                self._wait()
            return None
        assembly = intake.assembly
        intake.look(assembly.rest() if item.last else assembly.settled() if item.send else ())
        self._hurry.clear()
        return item

    def _wait(self) -> None:
        """Wait for more spans to arrive, unless many wait already."""
        for _ in range(_LOOKS):
            if self._hurry.wait(_GATHER / _LOOKS) or self._queue.qsize() > _MANY:
                return

    def _next(self, timeout: float) -> Any:
        try:
            return self._queue.get(timeout=timeout) if timeout else self._queue.get_nowait()
        except Empty:
            return None

    def _pass_on(self, asked: Flush, intake: Intake) -> None:
        """Pass a flush request to every sender. With the last one, close the spool."""
        couriers = intake.couriers if asked.send else []
        asked.expect(len(couriers))
        for courier in couriers:
            courier.ask(asked.answer, last=asked.last)
        if asked.last:
            with guard("closing the spool"):
                intake.close()
        asked.answer(sent=True)


def _span_id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    return context.span_id if context else 0


_pipelines: weakref.WeakSet[Pipeline] = weakref.WeakSet()
_parents: list[Any] = []  # in a forked child: the parent's objects are kept, so that none of them is closed


def _after_fork() -> None:
    """Give the child a new queue and no thread. The parent sends the spans that were waiting."""
    for pipeline in list(_pipelines):
        _parents.append((pipeline._intake, pipeline._made))
        pipeline._start_lock = threading.Lock()
        pipeline._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
