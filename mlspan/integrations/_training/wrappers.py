"""What is put around a function that trains: the end of its span, a run where MLflow starts none, and its start."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ..._guard import guard
from ...tracing.mlflow_state.runs import get_active_run_id
from .training import ActiveTraining, bind_arguments, current_training, is_nested

if TYPE_CHECKING:
    from .mlflow_hook import MlflowAutologHook


def outer(hook: MlflowAutologHook, fn: Any, on: list[bool]) -> object:
    """Return *fn*, MLflow's patch, with the span's end around it."""

    @functools.wraps(fn)
    def watched(*args: Any, **kwargs: Any) -> object:
        if not on or is_nested(hook, args) or (hook.settings.exclusive and get_active_run_id() is not None):
            return fn(*args, **kwargs)
        if hook.library.adjust_arguments is not None:
            with guard("reading the arguments of a training"):
                hook.library.adjust_arguments(kwargs)
        with ActiveTraining(hook, args):
            return fn(*args, **kwargs)

    return watched


def managed(hook: MlflowAutologHook, fn: Any, on: list[bool]) -> object:
    """Return *fn* with a run around it, for a library that MLflow has no patch for."""

    @functools.wraps(fn)
    def watched(*args: Any, **kwargs: Any) -> object:
        fitting = current_training()
        if not on or fitting is None or fitting.hook is not hook or fitting.has_started:
            return fn(*args, **kwargs)
        with hook.run():
            return fn(*args, **kwargs)

    return watched


def inner(hook: MlflowAutologHook, fn: Any, on: list[bool]) -> object:
    """Return *fn*, the library's own, with the span's start around it."""

    @functools.wraps(fn)
    def watched(*args: Any, **kwargs: Any) -> object:
        fitting = current_training()
        if not on or fitting is None or fitting.hook is not hook or fitting.has_started:
            return fn(*args, **kwargs)
        bound = bind_arguments(fn, args, kwargs)
        with fitting.open_span(bound):
            result = fn(*args, **kwargs)
        fitting.log_result(bound, result)
        return result

    return watched
