"""From ended spans to a sink, on a thread of its own: the caller's thread only puts them on a queue."""

from __future__ import annotations

import os
import random
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Final

import opentelemetry.context as otel
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from ..._guard import guard, log, tell_once
from ..context import Origin
from .assembly import Assembler, Assembly
from .parcel import Away, Parcel, Sink

_LONGEST_BACKOFF: Final = 30.0


class Flush:
    """A flush that somebody waits for."""

    __slots__ = ("_done", "_sent", "last")

    def __init__(self, *, last: bool) -> None:
        self._done, self._sent, self.last = threading.Event(), False, last

    def wait(self, timeout: float) -> bool:
        """Whether all was stored, within *timeout* seconds."""
        return self._done.wait(max(timeout, 0)) and self._sent

    def answer(self, *, sent: bool) -> None:
        self._sent = sent
        self._done.set()


class Pipeline(SpanProcessor):
    """A span processor that groups spans into traces and sends them in batches.

    ``on_start`` and ``on_end`` may run inside a finalizer, in the middle of our own code on the same thread: they take
    no lock and do no I/O, and ``SimpleQueue.put`` may be re-entered. All bookkeeping is the thread's alone.

    Args:
        sink: where parcels go.
        origin: reads the caller's surroundings; called on the caller's thread as each span starts.
        assembly: what puts spans together, made anew in a forked child.
        queue_spans: the most spans that may wait to be looked at; what comes on top is dropped, counted and reported.
        store_bytes: the most content that may wait for a sink that is away; likewise.
        interval: seconds after which a trace that has ended is sent, if no full batch comes first.
        batch: the most traces in one call of the sink.
    """

    def __init__(
        self,
        sink: Sink,
        origin: Callable[[], Origin],
        *,
        assembly: Callable[[], Assembler] = Assembly,
        queue_spans: int = 50_000,
        store_bytes: int = 256 * 1024 * 1024,
        interval: float = 1.0,
        batch: int = 100,
    ) -> None:
        self._sink, self._origin, self._assemble = sink, origin, assembly
        self._queue_spans, self._store_bytes, self._interval, self._batch = queue_spans, store_bytes, interval, batch
        self.lost: Counter[str] = Counter()  # spans, by reason: overflow, refused, failed
        self._reported = 0
        self._stopped = False
        self._start_lock = threading.Lock()
        self._reset()
        _pipelines.add(self)

    def _reset(self) -> None:
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._assembly = self._assemble()
        self._outbox: deque[tuple[Parcel, int]] = deque()
        self._outbox_bytes = 0
        self._oldest = self._retry_at = self._looked = self._told_lost = 0.0
        self._failures = 0
        self._thread: threading.Thread | None = None

    # On the caller's thread.

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002  # the SDK's signature
        if self._thread is None and not self._stopped:
            self._start()
        if self._queue.qsize() < self._queue_spans:
            self._queue.put((span, self._origin()))
        else:
            self.lost["overflow"] += 1

    def on_end(self, span: ReadableSpan) -> None:
        if self._queue.qsize() < 2 * self._queue_spans:  # twice: an end that belongs to a start we have is no news
            self._queue.put(span)
        else:
            self.lost["overflow"] += 1

    def _start(self) -> None:
        with self._start_lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="mlspan-export", daemon=True)
                self._thread.start()

    def flush(self, timeout: float) -> bool:
        """Whether all that had ended when this was called is stored, within *timeout* seconds."""
        return self.ask(last=False).wait(timeout)

    def stop(self, timeout: float | None = None) -> bool:
        """Send what has ended, wait for it at most *timeout* seconds (None: as the sink asks), and stop."""
        return self.ask(last=True).wait(self.grace(timeout))

    def grace(self, timeout: float | None) -> float:
        return self._sink.exit_grace if timeout is None else timeout

    def ask(self, *, last: bool) -> Flush:
        """Begin a flush, or the last of them, without waiting for it."""
        asked = Flush(last=last)
        if self._thread is None or not self._thread.is_alive() or self._stopped:
            asked.answer(sent=not self._outbox)
        else:
            self._queue.put(asked)
        self._stopped = self._stopped or last
        return asked

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        self.stop()

    # On our own thread.

    def _run(self) -> None:
        otel.attach(otel.set_value(otel._SUPPRESS_INSTRUMENTATION_KEY, True))  # nobody traces our sending
        asked = None
        while asked is None or not asked.last:
            try:
                item = self._queue.get(timeout=self._patience())
            except Empty:
                item = None
            asked = item if isinstance(item, Flush) else None
            with guard("putting traces together"):
                self._take(item)
            with guard("sending traces"):
                self._send(at_once=asked is not None)
            self._report_lost(at_once=asked is not None and asked.last)
            if asked is not None:
                asked.answer(sent=not self._outbox)
        with guard("closing the exporter"):
            self._sink.close()

    def _patience(self) -> float:
        """Seconds until there is something to do even if nothing comes."""
        if not self._outbox:
            return 5.0
        return max(0.01, max(self._oldest + self._interval, self._retry_at) - monotonic())

    def _take(self, item: Any) -> None:
        if isinstance(item, tuple):
            self._assembly.started(*item)
        elif isinstance(item, Flush):
            for parcel in self._assembly.rest() if item.last else self._assembly.settled():
                self._post(parcel)
        elif item is not None and (done := self._assembly.ended(item)) is not None:
            self._post(done)
        if item is None or monotonic() - self._looked > 1:
            self._looked = monotonic()
            for parcel in self._assembly.overdue():
                self._post(parcel)

    def _post(self, parcel: Parcel) -> None:
        size = sum(len(v) for span in parcel.spans for v in (span.attributes or {}).values() if isinstance(v, str))
        if self._outbox_bytes + size > self._store_bytes:
            self.lost["overflow"] += len(parcel.spans)
            return
        if not self._outbox:
            self._oldest = monotonic()
        self._outbox.append((parcel, size))
        self._outbox_bytes += size

    def _send(self, *, at_once: bool) -> None:
        while self._outbox and self._is_due(at_once):
            parcels = [parcel for parcel, _ in list(self._outbox)[: self._batch]]
            try:
                refused = self._sink.send(parcels)
            except Away as away:
                self._back_off(away)
                return
            except Exception as error:  # noqa: BLE001  # a sink's bug must not stop what comes after
                tell_once("mlspan: traces are lost: %s: %s", type(error).__name__, error, error=error)
                self.lost["failed"] += sum(len(parcel.spans) for parcel in parcels)
            else:
                for refusal in refused:
                    tell_once("mlspan: %s", refusal.reason)
                    self.lost["refused"] += len(refusal.parcel.spans)
            self._sent(len(parcels))

    def _is_due(self, at_once: bool) -> bool:  # ours alone
        if at_once:
            return True
        now = monotonic()
        return now >= self._retry_at and (len(self._outbox) >= self._batch or now - self._oldest >= self._interval)

    def _sent(self, count: int) -> None:
        for _ in range(count):
            self._outbox_bytes -= self._outbox.popleft()[1]
        if self._failures:
            log.warning("mlspan: the trace store is back; %d traces are on their way", len(self._outbox))
        self._failures, self._retry_at = 0, 0.0
        self._oldest = monotonic()

    def _back_off(self, away: Away) -> None:
        if not self._failures:
            log.warning("mlspan: %s; %d traces wait for it", away.reason, len(self._outbox))
        self._failures += 1
        wait = min(2.0 ** (self._failures - 1), _LONGEST_BACKOFF) * random.uniform(0.8, 1.2)  # noqa: S311  # no secret
        self._retry_at = monotonic() + (away.retry_after or wait)

    def _report_lost(self, *, at_once: bool) -> None:
        lost = self.lost["overflow"]
        if lost > self._reported and (at_once or monotonic() - self._told_lost > _LONGEST_BACKOFF):
            log.warning("mlspan: spans lost so far, as more came than could be sent: %d", lost)
            self._reported, self._told_lost = lost, monotonic()


_pipelines: weakref.WeakSet[Pipeline] = weakref.WeakSet()


def _after_fork() -> None:
    """What the parent has waiting is the parent's to send, and its thread has stayed there."""
    for pipeline in list(_pipelines):
        pipeline._start_lock = threading.Lock()
        pipeline._reset()


os.register_at_fork(after_in_child=_after_fork)
