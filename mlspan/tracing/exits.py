"""Ways in which a process ends that ``atexit`` does not see: SIGTERM, and the children of multiprocessing."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from .._guard import guard

_UTILITIES: Final = ("multiprocessing.util", "billiard.util")  # Celery has its own


class Exits:
    """Watches them once ``watch`` is called, in the main thread, and until ``leave``.

    Args:
        stop: sends what there is, and records no more.
        save: stores what there is; quick, as the application goes on.
    """

    def __init__(self, stop: Callable[[], Any], save: Callable[[], Any]) -> None:
        self._stop, self._save = stop, save
        self._before: Any = None
        self._watching = False

    def watch(self) -> None:
        self._watching = True
        if threading.current_thread() is not threading.main_thread():
            return
        before = signal.getsignal(signal.SIGTERM)
        if before == signal.SIG_DFL or (callable(before) and before != self._on_signal):
            self._before = before
            signal.signal(signal.SIGTERM, self._on_signal)
        self._finish_as_child()

    def leave(self) -> None:
        """A handler that somebody has put over ours stays, and may call ours, which then only passes on."""
        self._watching = False
        on_main = threading.current_thread() is threading.main_thread()
        if on_main and self._before is not None and signal.getsignal(signal.SIGTERM) == self._on_signal:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        before = self._before
        if self._watching:
            with guard("storing traces at a signal"):
                self._save() if callable(before) else self._stop()
        if callable(before):
            before(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _finish_as_child(self) -> None:
        """A child of multiprocessing that is no fork of ours ends without atexit, but not without its finalizers."""
        multiprocessing = sys.modules.get("multiprocessing")
        if multiprocessing is not None and multiprocessing.parent_process() is not None:
            self._finalize("multiprocessing.util")

    def _finalize(self, name: str) -> None:
        sys.modules[name].Finalize(None, self._stop, exitpriority=100)

    def forked(self) -> None:
        """In a forked child: multiprocessing's clear their finalizers, then call what is registered here."""
        for name in _UTILITIES:
            if self._watching and (utility := sys.modules.get(name)) is not None:
                utility.register_after_fork(self, lambda _, name=name: self._finalize(name))
