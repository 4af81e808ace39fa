"""A flush request, on its way from whoever waits for it to those who have to answer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .wakes import Latch

if TYPE_CHECKING:
    from .types import SinkKind


class FlushRequest:
    """A flush that somebody waits for: each sender has to answer. ``kept`` is set once the spool has it all."""

    __slots__ = ("_answers", "_done", "_kind_events", "_left", "_lock", "_sent", "kept", "last", "send")

    def __init__(self, *, last: bool, send: bool) -> None:
        self._done, self._sent, self.last, self.send = Latch(), True, last, send
        self._answers: dict[SinkKind, bool] = {}
        self._kind_events: dict[SinkKind, Latch] = {}  # of those that somebody waits for
        self._left, self._lock, self.kept = 1, threading.Lock(), Latch()

    def wait(self, timeout: float) -> bool:
        """Wait at most *timeout* seconds. Return whether the backends have taken everything by then."""
        return self._done.wait(timeout) and self._sent

    def wait_for(self, kind: SinkKind, timeout: float) -> bool:
        """Wait likewise for the sender of one *kind* alone."""
        event = self._kind_events.setdefault(kind, Latch())  # without the lock: a signal may interrupt us here
        if kind in self._answers or self._done.is_set():
            event.set()
        return event.wait(timeout) and self.has_sent_all(kind)

    @property
    def is_done(self) -> bool:
        """Return whether all senders have answered, whatever they said."""
        return self._done.is_set()

    def give_up(self, *, sent: bool) -> None:
        """Wait for nobody any more: all was *sent*, or nobody can send it."""
        if not self.is_done:
            self._left = 1
            self.record_answer(sent=sent)
        self.kept.set()

    def expect_answers(self, more: int) -> None:
        self._left += more

    def has_sent_all(self, kind: SinkKind) -> bool:
        """Return whether the sender of this *kind* has answered that all is taken."""
        return self._answers.get(kind, self._done.is_set() and self._sent)

    def record_answer(self, *, sent: bool, kind: SinkKind | None = None) -> None:
        """Record the answer of the sender of that *kind*; None is for the worker, which has passed on all it had."""
        with self._lock:
            if kind is not None:
                self._answers[kind] = sent
                if (event := self._kind_events.get(kind)) is not None:
                    event.set()
            self._sent = self._sent and sent
            self._left -= 1
            if self._left <= 0:
                self._done.set()
                for event in list(self._kind_events.values()):
                    event.set()
