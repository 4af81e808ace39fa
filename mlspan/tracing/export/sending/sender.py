"""From the spools to one sink, on a thread for it alone; a sink that is away is asked again later."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

import opentelemetry.context as otel

from ...._guard import guard, log, tell_once
from ..spool.dead_letters import Letters
from ..spool.queue import Spool
from ..types import Away, Kind, Sink
from .batch import Delivery
from .concurrency import Lanes

_LONGEST_BACKOFF: Final = 30.0  # seconds
_LONGEST_WAIT: Final = 300.0  # seconds: the longest Retry-After obeyed, and the wait until kept items are retried
_STUCK: Final = 3  # failures in a row after which a quick failure may be caused by one of the items
_QUICK: Final = 2.0  # seconds


class Courier:
    """A Delivery, and when it is time for it. ``hurry`` and ``ask`` are for other threads.

    ``run`` is for a thread that does nothing else. Where there is none, ``turn`` is called now and then instead.

    Args:
        kind: the kind of the sink.
        sink: the destination.
        spools: returns the spools to send from, the oldest first.
        letters: see BatchSender.
        damaged: called with a spool that cannot be read, and the error.
        sent, lost: see BatchSender.
    """

    def __init__(
        self,
        kind: Kind,
        sink: Sink,
        spools: Callable[[], Sequence[Spool]],
        letters: Letters,
        damaged: Callable[[Spool, Exception], None],
        sent: Counter[str],
        lost: Counter[str],
    ) -> None:
        self.kind, self._spools, self._damaged = kind, spools, damaged
        self._sink = sink
        self.delivery = Delivery(kind, sink, letters, sent, lost)
        self._asked: deque[tuple[Callable[[bool], None], bool]] = deque()
        self._wake = threading.Event()
        self._lanes = Lanes(sink.at_once)
        self._things = "traces" if kind == "mlflow" else "spans"
        self._failures = 0
        self._retry_at = self._again_at = 0.0
        self.finished = threading.Event()

    def hurry(self) -> None:
        """Wake the thread, as there is something to send."""
        self._wake.set()
        self._lanes.more()

    def ask(self, answer: Callable[[bool], None], *, last: bool) -> None:
        """Send everything, then call *answer* with True if the backend has taken all spans of this process."""
        self._asked.append((answer, last))
        self._wake.set()

    def run(self) -> None:
        """Send, until somebody asks for the last time."""
        otel.attach(otel.set_value(otel._SUPPRESS_INSTRUMENTATION_KEY, True))  # nobody traces our sending
        while not self.finished.is_set():
            self._wake.wait(self._patience())
            self.turn()

    def turn(self) -> None:
        """Send what there is, and answer those who have asked."""
        self._wake.clear()
        asked = [self._asked.popleft() for _ in range(len(self._asked))]
        with guard("sending traces"):
            self._deliver(at_once=bool(asked))
        for answer, last in asked:
            answer(not self._waiting(inherited=False))
            if last:
                with guard("closing the exporter"):
                    self._sink.close()
                self.finished.set()

    def _patience(self) -> float | None:
        """Return the seconds until the next retry; None if there is none."""
        until = [at for at in (self._retry_at, self._again_at) if at]
        return max(0.01, min(until) - monotonic()) if until else None

    def _waiting(self, *, inherited: bool = True) -> int:
        """Return the number of segments or spans that are ready for this sink in all spools."""
        waiting = 0
        for spool in self._spools():
            if spool.inherited and not inherited:
                continue
            try:
                waiting += spool.waiting(self.kind)
            except sqlite3.Error:
                continue
        return waiting

    def _deliver(self, *, at_once: bool) -> None:
        """Send from every spool. With *at_once*, ignore the backoff and retry kept items."""
        now = monotonic()
        if self._again_at and (at_once or now >= self._again_at):
            self.delivery.again()
            self._again_at = 0.0
        if now < self._retry_at and not at_once:
            return
        for spool in self._spools():
            try:
                self._empty(spool)
            except Away as away:
                self._back_off(away)
                return
            except sqlite3.OperationalError as error:  # a full disk: sent items are deleted from the spool later
                tell_once("mlspan: the spool %s cannot be written: %s", spool.path, error)
            except sqlite3.ProgrammingError:  # the spool was empty and has been closed meanwhile
                continue
            except sqlite3.DatabaseError as error:
                self._damaged(spool, error)
        if self.delivery.kept:
            self._again_at = self._again_at or monotonic() + _LONGEST_WAIT

    def _empty(self, spool: Spool) -> None:
        """Send everything in *spool*. After a failure, send one batch at a time until one succeeds."""
        if not self._failures:
            self._lanes.empty(lambda: self.delivery.take(spool), lambda taken: self.delivery.send(spool, taken))
            return
        while True:
            began = monotonic()
            try:
                if not self.delivery.step(spool):
                    return
            except Away as away:
                answers = away.retry_after is None and monotonic() - began < _QUICK
                if self._failures < _STUCK or not answers or not self.delivery.probe(spool):
                    raise
            self._is_back()

    def _is_back(self) -> None:
        """Reset the backoff and log that the backend is available again."""
        if self._failures:
            log.warning("mlspan: the trace store is back; %d %s are on their way", self._waiting(), self._things)
        self._failures, self._retry_at = 0, 0.0

    def _back_off(self, away: Away) -> None:
        """Schedule the next retry by exponential backoff with jitter, or by the server's Retry-After."""
        if not self._failures:
            log.warning("mlspan: %s; %d %s wait for it", away.reason, self._waiting(), self._things)
        self._failures += 1
        wait = min(2.0 ** (self._failures - 1), _LONGEST_BACKOFF) * random.uniform(0.8, 1.2)  # noqa: S311  # jitter needs no secure randomness
        self._retry_at = monotonic() + (wait if away.retry_after is None else min(away.retry_after, _LONGEST_WAIT))
