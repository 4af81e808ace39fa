"""A flush, from whoever waits for it to those who have to answer."""

from __future__ import annotations

import threading


class Flush:
    """A flush that somebody waits for: each courier has to answer. ``kept`` is set once the spool has it all."""

    __slots__ = ("_done", "_left", "_lock", "_sent", "kept", "last", "send")

    def __init__(self, *, last: bool, send: bool) -> None:
        self._done, self._sent, self.last, self.send = threading.Event(), True, last, send
        self._left, self._lock, self.kept = 1, threading.Lock(), threading.Event()

    def wait(self, timeout: float) -> bool:
        """Whether all was taken by its backends, within *timeout* seconds."""
        return self._done.wait(max(timeout, 0)) and self._sent

    @property
    def done(self) -> bool:
        """Whether all have answered, whatever they said."""
        return self._done.is_set()

    def give_up(self, *, sent: bool) -> None:
        """Wait for nobody any more: all was *sent*, or nobody can send it."""
        if not self.done:
            self._left = 1
            self.answer(sent)
        self.kept.set()

    def expect(self, more: int) -> None:
        self._left += more

    def answer(self, sent: bool) -> None:
        with self._lock:
            self._sent = self._sent and sent
            self._left -= 1
            if self._left <= 0:
                self._done.set()
