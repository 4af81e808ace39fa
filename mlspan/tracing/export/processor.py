"""The span processor: it takes ended spans from the caller's threads and hands them to the export worker's thread.

A caller's thread only puts spans on a queue.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from ..._guard import guard, log
from ..operations.call_context import TraceOrigin
from ..otel.compat import suppress_instrumentation, suppress_on_this_thread
from .delivery_report import DeliveryReport
from .flush_request import FlushRequest
from .flush_result import DestinationResult, FlushResult
from .fork_safety import IMPORT_LOCK
from .memory import drop_content
from .queue_reader import measure_ended, read_queue
from .recent_spans import get_span_id
from .self_metrics import register_counters
from .span_queue import LateSpan, LoggedSpan, SpanQueue, SpanStarted
from .spool.limits import IN_MEMORY, SpoolSettings
from .threads import start, stay_behind
from .trace_assembler import TraceAssembler
from .types import Sink, SinkKind

if TYPE_CHECKING:
    from .spool.spill import SpilledSpan
    from .worker import ExportWorker

# Seconds that the end of the process waits for the disk alone. A busy machine can take that long.
STORE_TIMEOUT: Final = 20.0
# Bytes of content in the queue: above the first, that of further spans goes to a file; above the second, they are lost.
_SPILL_BYTES: Final = 32 * 1024 * 1024
_MOST_BYTES: Final = 64 * 1024 * 1024
_CHILD_HOLD: Final = 10.0  # seconds that a forked child lives before it writes to a database itself


class ExportProcessor(SpanProcessor):
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
        capture: False takes the content out of other instrumentations' spans.
        queue_spans: the most starts that may wait in the queue; ends have twice the room. Further spans are dropped,
            counted and reported.
        interval: seconds after which ended spans are stored; complete traces are then sent.
    """

    def __init__(
        self,
        sinks: dict[SinkKind, tuple[Callable[[], Sink], dict[str, Any]]],
        origin: Callable[[], TraceOrigin],
        *,
        keeping: SpoolSettings = IN_MEMORY,
        address: Callable[[TraceOrigin], TraceOrigin] = lambda origin: origin,
        assembly: Callable[[], TraceAssembler] = TraceAssembler,
        held: bool = False,
        redact: Callable[[str], str] | None = None,
        capture: bool = True,
        queue_spans: int = 50_000,
        interval: float = 1.0,
    ) -> None:
        self._sinks, self._origin, self._keeping = sinks, origin, keeping
        self._address, self._assemble, self._held = address, assembly, held
        self._redact, self._capture = redact, capture
        self._queue_spans, self._interval = queue_spans, interval
        self._needs_starts = "mlflow" in sinks or held
        self._writes_ahead = keeping.durability == "span"
        self.lost: Counter[str] = Counter()  # number of spans by reason: overflow, unfit, expired, failed
        self.ends = 0  # ended spans; approximate, as threads count without a lock
        self.sent: Counter[str] = Counter()  # number of spans by the kind of the sink
        self.refused: Counter[str] = Counter()  # likewise; most are set aside, see sending/refusals.py
        self._stopped = False
        self._forked_from: int | None = None  # id of the process that this one was forked from
        self._has_children = False
        self._start_lock = threading.Lock()
        self._reset_state()
        register_counters(self.sent, self.refused, self.lost, self.count_unsent)
        _processors.add(self)

    def _reset_state(self) -> None:
        self._queue = SpanQueue()
        self._origins: dict[int, TraceOrigin] = {}  # by span id, for the write-ahead log
        self._late_origins: dict[int, TraceOrigin] = {}  # likewise, of spans whose start found no room in the queue
        self._open_sinks = {kind: (make(), where) for kind, (make, where) in self._sinks.items()}
        self._worker: ExportWorker | None = None
        self._thread: threading.Thread | None = None
        self._sender_threads: dict[SinkKind, threading.Thread] = {}
        self._opened = threading.Event()
        self._busy_thread: int | None = None  # the main thread, while it does what ours would do, or starts ours
        self._postponed_signals: list[int] | None = None  # signals that wait until all is stored; None: they need not
        self._report = DeliveryReport({kind: where for kind, (_, where) in self._sinks.items()}, self.lost)

    def update_policies(
        self, origin: Callable[[], TraceOrigin], redact: Callable[[str], str] | None, *, capture: bool
    ) -> None:
        """Read the caller's context by *origin* and apply *redact* and *capture* from now on."""
        self._origin, self._redact, self._capture = origin, redact, capture
        if (worker := self._worker) is not None:
            from .redaction import SpanRedactor

            worker.set_redactor(SpanRedactor(redact, capture=capture))

    # The following run on the caller's thread.

    def on_start(self, span: ReadableSpan, parent_context: Context | None = None) -> None:  # noqa: ARG002  # the SDK's signature
        """Queue a started span with its origin, unless all spans go to OTLP at once."""
        if self._thread is None and not self._stopped:
            self._start_thread()
        if not self._needs_starts:
            return
        queue, origin = self._queue, self._origin()
        if self._writes_ahead and len(self._origins) < 2 * self._queue_spans:
            self._origins[get_span_id(span)] = origin
        if queue.qsize() < self._queue_spans:
            if queue.bytes_in - queue.bytes_out > _SPILL_BYTES // 2:  # a start in the queue would keep the content
                span = drop_content(span)
            queue.put(SpanStarted((span, origin)))
        elif len(self._late_origins) < 2 * self._queue_spans:  # the span is not lost yet: its end may find room
            self._late_origins[get_span_id(span)] = origin

    def on_end(self, span: ReadableSpan) -> None:
        """Queue an ended span. With ``durability="span"`` it is written to the write-ahead log first."""
        self.ends += 1
        queue = self._queue
        late_origin = self._late_origins.pop(get_span_id(span), None) if self._late_origins else None
        # Ends get twice the room, so that spans whose start is queued can still be completed.
        waiting = queue.bytes_in - queue.bytes_out
        if queue.qsize() >= 2 * self._queue_spans or waiting > _MOST_BYTES:
            self.lost["overflow"] += 1
            self._origins.pop(get_span_id(span), None)
            return
        logged = self._write_ahead(span) if self._writes_ahead else span
        worker = self._worker if waiting > _SPILL_BYTES else None
        ended: ReadableSpan | LoggedSpan | SpilledSpan = logged if worker is None else worker.spill(logged)
        queue.bytes_in += measure_ended(ended)
        queue.put(ended if late_origin is None else LateSpan(ended, late_origin))

    def _write_ahead(self, span: ReadableSpan) -> ReadableSpan | LoggedSpan:
        """Write *span* to the write-ahead log and return the item for the queue."""
        origin, worker = self._origins.pop(get_span_id(span), None), self._worker
        return span if worker is None else worker.write_ahead(span, origin or TraceOrigin())

    def _start_thread(self) -> None:
        with self._postponing_signals():
            if not self._start_lock.acquire(blocking=False):
                return  # another thread is about to
            try:
                if self._thread is None:
                    if self._writes_ahead:
                        with guard("opening the spool"):
                            self._open_worker()
                    # All of them now: once the interpreter is ending it may be too late for more.
                    for kind in () if self._opened.is_set() else self._open_sinks.keys() - self._sender_threads.keys():
                        if (thread := start(f"mlspan-{kind}", self._run_sender, kind)) is not None:
                            self._sender_threads[kind] = thread
                    self._thread = start("mlspan-export", self._run_thread)
            finally:
                self._start_lock.release()

    def _open_worker(self) -> ExportWorker:
        """Create the export worker once, with forks delayed during its imports."""
        if self._worker is None:
            with IMPORT_LOCK.delay_forks():
                from .redaction import SpanRedactor
                from .worker import ExportWorker

            made, keeping = self._open_sinks, self._keeping
            self._worker = ExportWorker(
                made,
                keeping,
                self._address,
                self._assemble(),
                self.sent,
                self.refused,
                self.lost,
                self._interval,
                self._report.tallies,
                held=self._held,
                redact=SpanRedactor(self._redact, capture=self._capture),
            )
        return self._worker

    def flush(self, timeout: float) -> FlushResult:
        """Store and send all spans that have ended, and wait for that at most *timeout* seconds."""
        asked = self.request_flush(last=False)
        asked.wait(timeout)
        return FlushResult.combine(self.list_results(asked), in_time=asked.is_done)

    def stop(self, timeout: float | None = None) -> FlushResult:
        """Send what has ended, wait at most *timeout* seconds (None: as long as the sinks ask for), and stop."""
        asked = self.request_flush(last=True)
        asked.wait(self.choose_exit_timeout(timeout))
        asked.kept.wait(STORE_TIMEOUT)
        return FlushResult.combine(self.list_results(asked), in_time=asked.is_done)

    def has_sink(self, kind: SinkKind) -> bool:
        """Return whether spans are sent to a sink of this *kind*."""
        return kind in self._sinks

    @property
    def has_losses(self) -> bool:
        """Return whether there are set aside or dropped spans that no flush has told of."""
        return self._report.has_losses

    def list_results(self, asked: FlushRequest) -> list[DestinationResult]:
        """Return what has become of the spans at each destination since the last call."""
        return self._report.list_results(asked, self._worker, self.ends)

    def choose_exit_timeout(self, timeout: float | None) -> float:
        """Return *timeout*, or the longest ``exit_grace`` of the sinks if it is None. In seconds."""
        if timeout is not None:
            return timeout
        return max((sink.exit_grace for sink, _ in self._open_sinks.values()), default=0)

    def request_flush(self, *, last: bool, send: bool = True) -> FlushRequest:
        """Begin a flush without waiting for it.

        With *last* the worker then stops; without *send* spans are only stored.
        """
        asked = FlushRequest(last=last, send=send)
        if self._busy_thread == threading.get_ident():  # in the handler of a signal, once all was stored
            asked.give_up(sent=False)  # and nothing is counted: this very thread may hold the spool's lock
        elif self._stopped or not (
            self._is_served() or self._queue.qsize() or self._opened.is_set() or self._start_for_children()
        ):
            asked.give_up(sent=not self.count_unsent())
        else:
            self._queue.put_flush(asked)
            if not self._is_served():
                self._serve(asked)
        self._stopped = self._stopped or last
        return asked

    def _start_for_children(self) -> bool:
        """Start the thread of a process that has recorded nothing itself, if its children may have left something.

        Return whether there is something to send.
        """
        if not self._has_children:
            return False
        from .spool.directory import has_left_spools

        found = False
        with guard("looking for what children have left"):
            found = has_left_spools(self._keeping, {kind: where for kind, (_, where) in self._sinks.items()})
        if found:
            self._start_thread()
        return found

    def note_fork_in_parent(self) -> None:
        """Look for what the child leaves. In a process that has threads anyway, ours starts for that."""
        self._has_children = True
        if self._worker is not None:
            self._worker.has_children = True
        is_pool = "billiard" in sys.modules or threading.active_count() > 1
        if is_pool and self._keeping.durability != "none" and not self._stopped and self._thread is None:
            self._start_thread()

    def count_unsent(self) -> int:
        """Return the number of stored spans that have not been sent to every backend."""
        return self._worker.count_unsent() if self._worker is not None else 0

    @property
    def has_lost_disk(self) -> bool:
        """Return whether spans that have ended are kept in memory only."""
        return self._worker is not None and not self._worker.directory.on_disk

    def log_unsent(self) -> None:
        """Log one line about the spans that have not been sent when the process ends."""
        if self._leaves_delivery():
            return
        if self._worker is not None and (left := self._worker.count_unsent()):
            directory = self._worker.directory
            where = (
                f"{'stays' if left == 1 else 'stay'} in {directory.folder}: the next program that sends there sends "
                f"{'it' if left == 1 else 'them'}, and so does `mlspan drain`"
                if directory.on_disk
                else f"{'is' if left == 1 else 'are'} lost"
            )
            spans = "1 span" if left == 1 else f"{left} spans"
            log.warning("mlspan: %s could not be sent and %s", spans, where)

    def _leaves_delivery(self) -> bool:
        """Return True if the parent of this forked process lives, and sends what this one leaves on disk."""
        return self._forked_from is not None and os.getppid() == self._forked_from

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.request_flush(last=False).wait(timeout_millis / 1000)  # what is lost is for flush() to tell

    def shutdown(self) -> None:
        self.stop()

    def _serve(self, asked: FlushRequest) -> None:
        """Do here what our thread would do, as none could be started."""
        with self._postponing_signals():
            try:
                with self._start_lock, suppress_instrumentation(), guard("sending traces"):
                    if self._is_served():  # started meanwhile
                        return
                    worker = self._begin()
                    while not asked.kept.is_set():
                        self._round(worker)
            finally:
                if not self._is_served() and not asked.kept.is_set():
                    asked.give_up(sent=False)

    @contextmanager
    def _postponing_signals(self) -> Iterator[None]:
        """Have a signal that interrupts this thread wait, at most to the end of the block.

        Its handler would wait for locks that its own thread holds.
        """
        if threading.current_thread() is not threading.main_thread():  # where handlers run
            yield
            return
        self._postponed_signals, self._busy_thread = [], threading.get_ident()
        try:
            yield
        finally:
            self._busy_thread = None  # first: the handler may now do what it does anywhere
            self._send_postponed_signals()

    def postpone_signal(self, number: int) -> bool:
        """Return whether the signal *number* has interrupted this thread while it stores; it is then sent again."""
        if self._postponed_signals is None or self._busy_thread != threading.get_ident():
            return False
        self._postponed_signals.append(number)
        return True

    def _send_postponed_signals(self) -> None:
        waiting, self._postponed_signals = self._postponed_signals, None
        for number in waiting or ():
            os.kill(os.getpid(), number)

    def _is_served(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    # On our own threads.

    def _run_sender(self, kind: SinkKind) -> None:
        self._opened.wait()
        for sender in self._worker.senders if self._worker is not None else ():
            if sender.kind == kind:
                sender.run()

    def _run_thread(self) -> None:
        suppress_on_this_thread()
        worker = self._begin()
        while (asked := self._round(worker)) is None or not asked.last:
            pass

    def _begin(self) -> ExportWorker:
        """Open what is to be opened, once, and let the senders go."""
        try:
            worker = self._open_worker()
            if not self._opened.is_set():
                worker.has_children = self._has_children
                with guard("looking for what others have left"):
                    worker.start_senders(self._sender_threads)
                    if self._leaves_delivery():
                        worker.hold_local_senders(_CHILD_HOLD)
        finally:
            self._opened.set()
        return worker

    def _round(self, worker: ExportWorker) -> FlushRequest | None:
        """Wait for what comes, and store it; return the flush that was asked for, once it has been passed on."""
        asked: FlushRequest | None = None
        with guard("putting traces together"):
            asked = read_queue(self._queue, worker, self.lost)
        if worker is not self._worker:  # in a forked child
            stay_behind()
        with guard("looking for what children have left"):
            worker.adopt_from_children(now=asked is not None)
        with guard("storing traces"):
            if asked is not None or worker.is_due():
                worker.store_ended()
        worker.report_lost(at_once=asked is not None and asked.last)
        if asked is not None:
            asked.kept.set()
            self._send_postponed_signals()
            self._flush_senders(asked, worker)
        worker.turn()
        return asked

    def _flush_senders(self, asked: FlushRequest, worker: ExportWorker) -> None:
        """Pass a flush request to every sender. With the last one, close the spool."""
        senders = worker.senders if asked.send else []
        asked.expect_answers(len(senders))
        for sender in senders:
            if asked.last and sender.is_held and self._leaves_delivery():
                sender.leave(asked.record_answer)
            else:
                sender.request_flush(asked.record_answer, last=asked.last)
            thread = self._sender_threads.get(sender.kind)
            if thread is not None and not thread.is_alive():
                worker.stand_in(sender)
        worker.turn()
        if asked.last:
            with guard("closing the spool"):
                worker.close()
        asked.record_answer(sent=True)


_processors: weakref.WeakSet[ExportProcessor] = weakref.WeakSet()
_leaked_after_fork: list[Any] = []  # in a forked child: the parent's objects are kept, so that none of them is closed


def _reset_after_fork() -> None:
    """Give the child a new queue and no thread. The parent sends the spans that were waiting."""
    for processor in list(_processors):
        _leaked_after_fork.append((processor._worker, processor._open_sinks))
        processor._forked_from, processor._has_children = os.getppid(), False
        processor._start_lock = threading.Lock()
        processor._reset_state()


def _note_fork_in_parent() -> None:
    for processor in list(_processors):
        processor.note_fork_in_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork, after_in_parent=_note_fork_in_parent)
