"""Signals that come while a fork is under way.

Python writes an exception that leaves a hook of ``os.register_at_fork`` to stderr and goes on, so a handler that raises
there raises nothing. Our handler of SIGTERM would also find the child with the threads and files of its parent. And a
child forgets the signals that Python has noted between the fork and its first line: one with a handler is then lost,
where one without has ended the process. So SIGTERM waits until all of our hooks have run, and Ctrl-C
while a fork waits for a lock of ours is sent again after it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .export.fork_safety import take_interrupts
from .export.threads import start


class _Here(threading.local):
    """The steps that this thread has taken for its fork, so that they can be undone."""

    is_main = False  # it has noted that the main thread forks
    has_blocked = False  # it has blocked SIGTERM
    handler: Any = None  # ours, while the signal has its default in the child


class ForkSignals:
    """Keeps SIGTERM out of the hooks of a fork.

    A handler of another signal may raise in these hooks too, wherever a function is called. So what has to be undone
    is noted before it is done, and ``_is_forking`` is reset in a ``finally`` without a call.

    Args:
        is_handled: returns whether our handler is installed.
        ends_by_default: returns whether the signal ends the process once our handler is done.
    """

    def __init__(self, is_handled: Callable[[], bool], ends_by_default: Callable[[], bool]) -> None:
        self._is_handled, self._ends_by_default = is_handled, ends_by_default
        self._is_forking = False  # whether the main thread, which runs all handlers, is in a hook
        self._waiting: list[int] = []  # signals to send again after the fork
        self._process = os.getpid()  # the one that these wait in
        self._here = _Here()

    def postpone(self, number: int) -> bool:
        """Return whether the main thread is in a hook of a fork; the signal is then sent again after it."""
        if self._is_forking:
            self._waiting.append(number)
        return self._is_forking

    def register(self) -> None:
        """Register the hooks, twice: a handler that raises as one is entered ends it before its first line."""
        for _ in range(2):
            os.register_at_fork(before=self.before, after_in_parent=self.in_parent, after_in_child=self.in_child)

    def before(self) -> None:
        """Begin a fork. This hook has to run before all others of ours."""
        try:
            if threading.current_thread() is threading.main_thread():
                self._here.is_main = self._is_forking = True
            # To block a signal also runs the handlers of others that have come, so it is noted first.
            if self._is_handled() and signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
                self._here.has_blocked = True
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        except KeyboardInterrupt:  # raised in the main thread alone
            self._here.is_main = self._is_forking = True
            self._waiting += [signal.SIGINT]

    def in_parent(self) -> None:
        """End a fork in the parent. This hook has to run after all others of ours."""
        self._end_fork(self._unblock)

    def in_child(self) -> None:
        """End a fork in the child. This hook has to run after all others of ours."""
        if self._process != (process := os.getpid()):
            self._waiting, self._process = [], process  # the parent's are not ours
        self._here.is_main = True  # the thread that has forked is the child's main thread
        self._end_fork(self._unblock_in_child)

    def _end_fork(self, unblock: Callable[[], None]) -> None:
        """Let signals through again, and have those sent that have come."""
        self._is_forking = self._is_forking or self._here.is_main
        try:
            unblock()
            self._send_again()
        except KeyboardInterrupt:
            self._waiting += [signal.SIGINT]
            self._send_again()
        finally:
            if self._here.is_main:
                self._is_forking = False  # nothing may follow in which a handler could run

    def _unblock_in_child(self) -> None:
        """Let SIGTERM through. What has come of it is the child's own: without us, it would have ended the child."""
        if self._here.has_blocked and self._is_handled() and self._ends_by_default():
            self._here.handler = signal.getsignal(signal.SIGTERM)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._unblock()
        if self._here.handler is not None:
            signal.signal(signal.SIGTERM, self._here.handler)
            self._here.handler = None

    def _unblock(self) -> None:
        if self._here.has_blocked:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            self._here.has_blocked = False

    def _send_again(self) -> None:
        """Send what was postponed from a thread, as the handler may not run before the hook is over."""
        if not self._here.is_main:
            return
        self._waiting += take_interrupts()
        if self._waiting and start("mlspan-signal", self._send_after_fork) is None:
            self._is_forking = False  # there are no threads: now, or never
            self._send_waiting()

    def _send_after_fork(self) -> None:
        for _ in range(1_000):
            if not self._is_forking:
                break
            time.sleep(0.001)
        self._send_waiting()

    def _send_waiting(self) -> None:
        """Send each signal that waits. One that the next fork postpones waits for its end."""
        for _ in range(len(self._waiting)):
            with suppress(IndexError, OSError):  # another thread has sent it
                os.kill(os.getpid(), self._waiting.pop(0))
