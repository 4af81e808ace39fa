"""Events that the handler of a signal may set and wait for, also where it has interrupted somebody who does.

``threading.Event`` takes a lock to be set and to be waited for. A thread that a signal interrupts there holds it, and
its handler would wait for ever. What is here takes none.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Final

_TURN: Final = 1.0  # seconds


class Latch:
    """An event that is set once and stays set; any number of threads wait for it."""

    __slots__ = ("_closed", "_is_set")

    def __init__(self) -> None:
        self._is_set, self._closed = False, threading.Lock()
        self._closed.acquire()

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it. Whoever waits goes on; each passes the lock to the next."""
        if not self._is_set:
            self._is_set = True
            self._open()

    def wait(self, timeout: float) -> bool:
        """Wait at most *timeout* seconds. Return whether it is set."""
        until = monotonic() + timeout
        while not self._is_set and (left := until - monotonic()) > 0:
            # In short turns: Ctrl-C may strike a waiter that has the lock, and it then stays closed.
            if self._closed.acquire(timeout=min(left, _TURN)):
                self._open()
        return self._is_set

    def _open(self) -> None:
        with suppress(RuntimeError):  # two threads have set it at once: it is open
            self._closed.release()


class Wake:
    """An event that any thread sets; the one thread that waits for it clears it."""

    __slots__ = ("_is_set", "_tokens")

    def __init__(self) -> None:
        self._is_set = False
        self._tokens: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """End the waiting, of now or of the next time."""
        self._is_set = True
        if self._tokens.empty():  # not what was set before: a signal may have interrupted that before its token
            self._tokens.put(None)

    def clear(self) -> None:
        """Wait again from now on."""
        self._is_set = False
        try:
            while True:
                self._tokens.get_nowait()
        except Empty:
            return

    def wait(self, timeout: float | None) -> bool:
        """Wait at most *timeout* seconds; None: for ever. Return whether it is set. It may return early."""
        if not self._is_set:
            try:
                self._tokens.get(timeout=timeout)
            except Empty:
                return self._is_set
        return self._is_set
