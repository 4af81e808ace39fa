"""Threads that a training starts: what trains there is a part of it, as everything is that runs in the training's own.

MLflow's autologging keeps one state for the process, so that it logs no training amid another. Ours is kept for each
training, and has to know which training a thread works for.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Iterator
from typing import Any, Final

from ..._guard import guard
from ...hooks.patching import Patch, Undo, replace_method
from .current import current_training, has_trainings, note_thread, work_for
from .training import ActiveTraining

_LOST: Final = "that what a training starts in threads belongs to it"


def make_patches() -> Iterator[Patch]:
    """Yield the patches of threads, and of the pools whose threads work for whoever gives them work."""
    yield Patch("threading:Thread.start", _note_start, _LOST)
    yield Patch("concurrent.futures.thread:ThreadPoolExecutor.submit", _carry_submitted, _LOST)


class _Work:
    """A function that a pool's thread calls for the training that has submitted it; None if none has."""

    __slots__ = ("fitting", "fn")

    def __init__(self, fn: Any, fitting: ActiveTraining | None) -> None:
        self.fn, self.fitting = fn, None if fitting is None else weakref.ref(fitting)

    def __call__(self, *args: object, **kwargs: object) -> object:
        with work_for(None if self.fitting is None else self.fitting()):
            return self.fn(*args, **kwargs)


def _note_start(target: str) -> Undo:
    def wrap_start(fn: Any, enabled: list[bool]) -> object:
        @functools.wraps(fn)
        def start(self: threading.Thread) -> object:
            if enabled and has_trainings():
                with guard("noting a thread"):
                    note_thread(self, current_training())
            return fn(self)

        return start

    return replace_method(target, wrap_start)


def _carry_submitted(target: str) -> Undo:
    def wrap_submit_method(fn: Any, enabled: list[bool]) -> object:
        @functools.wraps(fn)
        def submit_work(self: object, function: Any, /, *args: object, **kwargs: object) -> object:
            if enabled and has_trainings():
                function = _Work(function, current_training())
            return fn(self, function, *args, **kwargs)

        return submit_work

    return replace_method(target, wrap_submit_method)
