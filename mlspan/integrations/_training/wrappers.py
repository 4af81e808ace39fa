"""The layers around a function that trains: the inner one starts its span, the outer one ends it, between them a run.

The run is ours only if MLflow starts none for the library.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from ..._guard import guard
from ...tracing.mlflow_state.runs import get_active_run_id
from ...tracing.operations.exceptions import read_module
from .current import current_training, is_nested, join_remote_training
from .patch_points import resolve_patch_point
from .training import ActiveTraining, bind_arguments

if TYPE_CHECKING:
    from .library import PatchPoint
    from .mlflow_hook import MlflowAutologHook


Place = tuple[int, str]  # the id of a class or module, and the name of a training function in it
# The outermost layer at each place where a hook is on, and that hook. An entry is gone before its layer is turned off.
outermost_layers: Final[dict[Place, tuple[MlflowAutologHook, Any]]] = {}


def make_place(patch_point: PatchPoint) -> Place:
    """Return the place of a training function, which may be inside a descriptor."""
    owner, name = resolve_patch_point(patch_point)
    return id(owner), name


def find_outermost_layer(place: Place, args: tuple[Any, ...]) -> Any:
    """Return the layer that is now outermost at *place*, for a call of a function that stood there before.

    None if the call is to run what is held: no hook is on there, or the hook leaves the call alone. It does so inside
    of a training, where the call is the library's own: the scikit-learn API of XGBoost calls ``train``. So a layer that
    somebody has wrapped, and that the outermost one calls in turn, does not lead back there.
    """
    hook, layer = outermost_layers.get(place, (None, None))
    return None if hook is None or _leaves_alone(hook, args) else layer


def _leaves_alone(hook: MlflowAutologHook, args: tuple[Any, ...]) -> bool:
    """Return whether a call is part of a training, or of a run that ``exclusive`` keeps as it is."""
    return is_nested(hook, args) or (hook.settings.exclusive and get_active_run_id() is not None)


def _trains_later(hook: MlflowAutologHook, fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether the call only returns what trains once it is awaited."""
    with guard("asking when a training begins"):
        return hook.library.trains_later is not None and hook.library.trains_later(fn, args, kwargs)
    return False


def _is_of_library(hook: MlflowAutologHook, args: tuple[Any, ...], called: FrameType | None) -> bool:
    """Return whether the library itself has called, in *called*, to fit a helper outside of trainings.

    It does so in predictions.
    """
    modules = hook.library.helper_modules
    caller = called.f_back if called is not None else None
    if not modules or not args or caller is None or not read_module(type(args[0])).startswith(modules):
        return False
    package = modules[0].partition(".")[0]
    return str(caller.f_globals.get("__name__")).startswith(f"{package}.")


def _is_part(hook: MlflowAutologHook, args: tuple[Any, ...]) -> bool:
    """Return whether the training is a part of one that the first of several processes traces and logs."""
    with guard("asking which process of a training this is"):
        return hook.library.find_rank is not None and hook.library.find_rank(args) > 0
    return False


def wrap_outer_layer(hook: MlflowAutologHook, place: Place, fn: Any, on: list[bool]) -> object:
    """Return *fn*, MLflow's patch, in a layer that ends the span.

    A caller may hold the layer longer than it is in place, as after ``from xgboost import train`` and another call of
    ``autolog()``: its calls then go to the layer that has taken its place.
    """

    @functools.wraps(fn)
    def call_training(*args: Any, **kwargs: Any) -> object:
        if not on:
            return (find_outermost_layer(place, args) or fn)(*args, **kwargs)
        if _leaves_alone(hook, args) or _trains_later(hook, fn, args, kwargs):
            return fn(*args, **kwargs)
        if _is_of_library(hook, args, inspect.currentframe()):
            return fn(*args, **kwargs)
        if hook.library.adjust_arguments is not None:
            with guard("reading the arguments of a training"):
                hook.library.adjust_arguments(kwargs)
        if _is_part(hook, args):
            with join_remote_training():
                return fn(*args, **kwargs)
        with ActiveTraining(hook, args):
            return fn(*args, **kwargs)

    return call_training


def wrap_run_layer(hook: MlflowAutologHook, fn: Any, on: list[bool]) -> object:
    """Return *fn* in a layer that starts a run, for a function that MLflow has no patch for."""

    @functools.wraps(fn)
    def call_training(*args: Any, **kwargs: Any) -> object:
        fitting = current_training()
        if not on or fitting is None or fitting.hook is not hook or fitting.has_started:
            return fn(*args, **kwargs)
        fitting.is_unlogged = True
        with hook.run():
            return fn(*args, **kwargs)

    return call_training


def wrap_inner_layer(hook: MlflowAutologHook, fn: Any, on: list[bool]) -> object:
    """Return *fn*, the library's own, in a layer that starts the span."""
    read_signature = functools.cache(lambda: inspect.signature(fn))

    @functools.wraps(fn)
    def call_training(*args: Any, **kwargs: Any) -> object:
        fitting = current_training()
        if not on or fitting is None or fitting.hook is not hook or fitting.has_started:
            return fn(*args, **kwargs)
        bound = bind_arguments(read_signature, args, kwargs)
        with fitting.open_span(bound, fn.__name__):
            result = fn(*args, **kwargs)
        fitting.log_result(bound, result)
        return result

    return call_training
