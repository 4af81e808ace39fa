"""The layers around a function that trains: the inner one starts its span, the outer one ends it, between them a run.

The run is ours only if MLflow starts none for the library.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ..._guard import guard
from ...tracing.mlflow_state.runs import get_active_run_id
from .current import current_training, is_nested
from .training import ActiveTraining, bind_arguments

if TYPE_CHECKING:
    from .mlflow_hook import MlflowAutologHook


def wrap_outer_layer(hook: MlflowAutologHook, fn: Any, on: list[bool]) -> object:
    """Return *fn*, MLflow's patch, in a layer that ends the span."""

    @functools.wraps(fn)
    def call_training(*args: Any, **kwargs: Any) -> object:
        if not on or is_nested(hook, args) or (hook.settings.exclusive and get_active_run_id() is not None):
            return fn(*args, **kwargs)
        if hook.library.adjust_arguments is not None:
            with guard("reading the arguments of a training"):
                hook.library.adjust_arguments(kwargs)
        with ActiveTraining(hook, args):
            return fn(*args, **kwargs)

    return call_training


def wrap_run_layer(hook: MlflowAutologHook, fn: Any, on: list[bool]) -> object:
    """Return *fn* in a layer that starts a run, for a library that MLflow has no patch for."""

    @functools.wraps(fn)
    def call_training(*args: Any, **kwargs: Any) -> object:
        fitting = current_training()
        if not on or fitting is None or fitting.hook is not hook or fitting.has_started:
            return fn(*args, **kwargs)
        with hook.run():
            return fn(*args, **kwargs)

    return call_training


def wrap_inner_layer(hook: MlflowAutologHook, fn: Any, on: list[bool]) -> object:
    """Return *fn*, the library's own, in a layer that starts the span."""

    @functools.wraps(fn)
    def call_training(*args: Any, **kwargs: Any) -> object:
        fitting = current_training()
        if not on or fitting is None or fitting.hook is not hook or fitting.has_started:
            return fn(*args, **kwargs)
        bound = bind_arguments(fn, args, kwargs)
        with fitting.open_span(bound, fn.__name__):
            result = fn(*args, **kwargs)
        fitting.log_result(bound, result)
        return result

    return call_training
