"""What is put around a function that trains: the end of its span, a run where MLflow starts none, and its start."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ..._guard import guard
from ...tracing.mlflow_state.runs import active_run_id
from .training import Fitting, arguments, current, nested

if TYPE_CHECKING:
    from .mlflow_hook import TrainingHook


def outer(hook: TrainingHook, fn: Any, on: list[bool]) -> Any:
    """Return *fn*, MLflow's patch, with the span's end around it."""

    @functools.wraps(fn)
    def watched(*args: Any, **kwargs: Any) -> Any:
        if not on or nested(hook, args) or (hook.settings.exclusive and active_run_id() is not None):
            return fn(*args, **kwargs)
        if hook.library.tidy is not None:
            with guard("reading the arguments of a training"):
                hook.library.tidy(kwargs)
        with Fitting(hook, args):
            return fn(*args, **kwargs)

    return watched


def managed(hook: TrainingHook, fn: Any, on: list[bool]) -> Any:
    """Return *fn* with a run around it, for a library that MLflow has no patch for."""

    @functools.wraps(fn)
    def watched(*args: Any, **kwargs: Any) -> Any:
        fitting = current()
        if not on or fitting is None or fitting.hook is not hook or fitting.opened:
            return fn(*args, **kwargs)
        with hook.run():
            return fn(*args, **kwargs)

    return watched


def inner(hook: TrainingHook, fn: Any, on: list[bool]) -> Any:
    """Return *fn*, the library's own, with the span's start around it."""

    @functools.wraps(fn)
    def watched(*args: Any, **kwargs: Any) -> Any:
        fitting = current()
        if not on or fitting is None or fitting.hook is not hook or fitting.opened:
            return fn(*args, **kwargs)
        bound = arguments(fn, args, kwargs)
        with fitting.training(bound):
            result = fn(*args, **kwargs)
        fitting.conclude(bound, result)
        return result

    return watched
