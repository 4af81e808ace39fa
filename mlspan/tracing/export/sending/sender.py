"""From the spools to one sink, on a thread for it alone; a sink that is away is asked again later."""

from __future__ import annotations

import math
import os
import random
import sqlite3
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

from ...._guard import guard, log, warn_once
from ...otel.compat import suppress_on_this_thread
from ..flush_result import NO_ANSWER, DeliveryTally
from ..spool.dead_letters import DeadLetters
from ..spool.queue import Spool
from ..threads import stay_behind
from ..types import BackendUnavailable, Sink, SinkKind
from ..wakes import Wake
from .batch import BatchSender

_MAX_BACKOFF: Final = 30.0  # seconds
_MAX_RETRY_AFTER: Final = 300.0  # seconds: the longest Retry-After obeyed, and the wait until kept items are retried


class Sender:
    """A BatchSender, and when it is time for it. Other threads may call ``notify_new_batch`` and ``request_flush``.

    ``run`` is for a thread that does nothing else. Where there is none, ``turn`` is called now and then instead.

    Args:
        kind: the kind of the sink.
        sink: the destination.
        spools: returns the spools to send from, the oldest first.
        letters: see BatchSender.
        damaged: called with a spool that cannot be read, and the error.
        sent, refused, tally: see BatchSender.
    """

    def __init__(
        self,
        kind: SinkKind,
        sink: Sink,
        spools: Callable[[], Sequence[Spool]],
        letters: DeadLetters,
        damaged: Callable[[Spool, Exception], None],
        sent: Counter[str],
        refused: Counter[str],
        tally: DeliveryTally,
    ) -> None:
        self.kind, self._spools, self._damaged = kind, spools, damaged
        self._sink = sink
        self.delivery = BatchSender(kind, sink, letters, sent, refused, tally)
        self._asked: deque[tuple[Callable[..., None], bool]] = deque()
        self._away_reason = ""
        self._wake = Wake()
        self._thing = "trace" if kind == "mlflow" else "span"
        self._failures = 0
        self._retry_at = self._again_at = self._hold_until = 0.0
        self._leaves = False
        self.finished = threading.Event()

    def notify_new_batch(self) -> None:
        """Wake the thread, as there is something to send."""
        self._wake.set()
        self._sink.executor.notify()

    @property
    def is_taking(self) -> bool:
        """Return True if the destination has taken what it was given last."""
        return self.delivery.has_taken and not (self._failures or self.delivery.refusals.kept)

    @property
    def reason(self) -> str:
        """Return why spans wait, as one line."""
        return self._away_reason or self.delivery.refusals.kept_reason or NO_ANSWER

    def request_flush(self, answer: Callable[..., None], *, last: bool) -> None:
        """Send everything, then call *answer* with ``kind`` and ``sent``.

        ``sent`` is True if the backend has taken all spans of this process.
        """
        self._asked.append((answer, last))
        self._wake.set()

    def hold(self, seconds: float) -> None:
        """Send nothing for so long, unless somebody asks for a flush."""
        self._hold_until = monotonic() + seconds

    @property
    def is_held(self) -> bool:
        """Return True if nothing has been sent, as it is for another process unless this one lives long enough."""
        return bool(self._hold_until)

    def leave(self, answer: Callable[..., None]) -> None:
        """Send no more and finish, as another process sends what waits; then call *answer* as :meth:`request_flush`."""
        self._leaves = True
        self.request_flush(answer, last=True)

    def run(self) -> None:
        """Send, until somebody asks for the last time."""
        suppress_on_this_thread()
        process = os.getpid()
        while not self.finished.is_set():
            self._wake.wait(self._seconds_until_retry())
            if os.getpid() != process:
                stay_behind()
            self.turn()

    def turn(self) -> None:
        """Send what there is, and answer those who have asked."""
        self._wake.clear()
        asked = [self._asked.popleft() for _ in range(len(self._asked))]
        with guard("sending traces"):
            if not self._leaves:
                self._send_spools(at_once=bool(asked))
        self.delivery.release_memory()
        for answer, last in asked:
            answer(sent=not self._count_ready(inherited=False), kind=self.kind)
            if last:
                with guard("closing the exporter"):
                    self._sink.close()
                self.finished.set()

    def _seconds_until_retry(self) -> float | None:
        """Return the seconds until the next retry; None if there is none."""
        until = [at for at in (self._retry_at, self._again_at, self._hold_until) if at]
        return max(0.01, min(until) - monotonic()) if until else None

    def _count_ready(self, *, inherited: bool = True) -> int:
        """Return the number of segments or spans that are ready for this sink in all spools."""
        waiting = 0
        for spool in self._spools():
            if spool.inherited and not inherited:
                continue
            try:
                waiting += spool.count_ready(self.kind)
            except sqlite3.Error:
                continue
        return waiting

    def _send_spools(self, *, at_once: bool) -> None:
        """Send from every spool. With *at_once*, ignore the backoff and retry kept items."""
        now = monotonic()
        if self._again_at and (at_once or now >= self._again_at):
            self.delivery.retry_kept()
            self._again_at = 0.0
        if now < max(self._retry_at, self._hold_until) and not at_once:
            return
        self._hold_until = 0.0
        for spool in self._spools():
            try:
                self.delivery.send_spool(spool, failures=self._failures, passed=self._mark_available)
            except BackendUnavailable as away:
                self._back_off(away)
                return
            except sqlite3.OperationalError as error:  # a full disk: sent items are deleted from the spool later
                warn_once("mlspan: the spool %s cannot be written: %s", spool.path, error, place=spool.path)
            except sqlite3.ProgrammingError:  # the spool was empty and has been closed meanwhile
                continue
            except sqlite3.DatabaseError as error:
                self._damaged(spool, error)
        if self.delivery.refusals.kept:
            longest = _MAX_BACKOFF if self.delivery.refusals.suspects else _MAX_RETRY_AFTER
            self._again_at = self._again_at or monotonic() + longest

    def _mark_available(self) -> None:
        """Reset the backoff and log that the backend is available again."""
        if self._failures:
            waiting = self._describe_waiting("is on its way", "are on their way")
            log.warning("mlspan: the trace store is back; %s", waiting)
        self._failures, self._retry_at, self._away_reason = 0, 0.0, ""

    def _describe_waiting(self, does: str, do: str) -> str:
        """Return how many traces or spans are ready and what they do, such as "2 traces wait for it"."""
        ready = self._count_ready()
        return f"1 {self._thing} {does}" if ready == 1 else f"{ready} {self._thing}s {do}"

    def _back_off(self, away: BackendUnavailable) -> None:
        """Schedule the next retry by exponential backoff with jitter, or by the server's Retry-After."""
        if not self._failures:
            log.warning("mlspan: %s; %s", away.reason, self._describe_waiting("waits for it", "wait for it"))
        self._failures += 1
        self._away_reason = away.reason
        self._retry_at = monotonic() + choose_wait(self._failures, away.retry_after)


def choose_wait(failures: int, retry_after: float | None) -> float:
    """Return the seconds to wait after so many *failures* in a row.

    That is the larger of our own backoff, which is exponential with jitter, and the server's Retry-After.
    """
    own = min(2.0 ** min(failures - 1, 30), _MAX_BACKOFF) * random.uniform(0.8, 1.2)  # noqa: S311  # jitter needs no secure randomness
    if retry_after is None or not math.isfinite(retry_after):
        return own
    return max(own, min(retry_after, _MAX_RETRY_AFTER))
