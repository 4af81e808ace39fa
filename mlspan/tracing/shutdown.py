"""Shutdown: ends of a process that ``atexit`` does not see, which are SIGTERM and multiprocessing's children."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from .._guard import guard

_UTILITIES: Final = ("multiprocessing.util", "billiard.util")  # billiard is Celery's fork of multiprocessing


class Exits:
    """A watcher of these ends, from :meth:`start_watching`, called in the main thread, to :meth:`stop_watching`.

    Args:
        stop: sends all recorded spans and stops recording.
        save: stores all recorded spans; it must be quick, because the application goes on.
    """

    def __init__(self, stop: Callable[[], Any], save: Callable[[], Any]) -> None:
        self._stop, self._save = stop, save
        self._before: Any = None
        self._watching = False

    def watch(self) -> None:
        """Install the handler of SIGTERM and the finalizer of a child process."""
        self._watching = True
        if threading.current_thread() is not threading.main_thread():
            return
        previous = signal.getsignal(signal.SIGTERM)
        if previous == signal.SIG_DFL or (callable(previous) and previous != self._on_signal):
            self._before = previous
            signal.signal(signal.SIGTERM, self._on_signal)
        self._finish_as_child()

    def leave(self) -> None:
        """Remove our handler of SIGTERM.

        If another handler has replaced ours, it stays. It may still call ours, which then only passes the signal on.
        """
        self._watching = False
        on_main = threading.current_thread() is threading.main_thread()
        if on_main and self._before is not None and signal.getsignal(signal.SIGTERM) == self._on_signal:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Store or send all spans, then do what the previous handler does."""
        previous = self._before
        if self._watching:
            with guard("storing traces at a signal"):
                self._save() if callable(previous) else self._stop()
        if callable(previous):
            previous(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _finish_as_child(self) -> None:
        """Register a finalizer in a spawned child of multiprocessing, which runs its finalizers but not ``atexit``."""
        multiprocessing = sys.modules.get("multiprocessing")
        if multiprocessing is not None and multiprocessing.parent_process() is not None:
            self._finalize("multiprocessing.util")

    def _finalize(self, name: str) -> None:
        """Register :attr:`_stop` as a finalizer with the multiprocessing utilities *name*."""
        sys.modules[name].Finalize(None, self._stop, exitpriority=100)

    def forked(self) -> None:
        """Register the finalizers again in a forked child.

        Multiprocessing clears a child's finalizers, then calls what is registered here.
        """
        for name in _UTILITIES:
            if self._watching and (utility := sys.modules.get(name)) is not None:
                utility.register_after_fork(self, lambda _, name=name: self._finalize(name))
