"""Our layers around a library's training functions, below MLflow's patch and on top of it. One object owns them all.

Below, where MLflow's run is active, the span starts; on top, where MLflow has logged everything, it ends. A whole set
of layers lies below as well, so that a function that MLflow leaves alone, or patches unseen, has its span all the same.
"""

from __future__ import annotations

import functools
import sys
from contextlib import ExitStack
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING

from ..._held_functions import is_redirected
from ...hooks.held_functions import redirect_function
from ...hooks.patching import Patch, Undo, apply_patches, note_patch_point
from .library import PatchPoint
from .mlflow_autolog import find_stored_name
from .patch_points import is_function, observe_epochs, resolve_patch_point, wrap_patch_point
from .predictions import trace_predictions
from .wrappers import (
    Place,
    find_outermost_layer,
    make_place,
    outermost_layers,
    wrap_inner_layer,
    wrap_outer_layer,
    wrap_run_layer,
)

if TYPE_CHECKING:
    from ..._held_functions import FindReplacement
    from .mlflow_hook import MlflowAutologHook


class Layers:
    """The layers of one hook.

    Call ``lay`` while MLflow's patch is away, ``lift_top`` before MLflow removes it, and ``lift`` after.
    """

    def __init__(self, hook: MlflowAutologHook, patch_points: list[PatchPoint]) -> None:
        self._hook = hook
        self._patch_points = [patch_point for patch_point in patch_points if is_function(patch_point)]
        self._places: dict[Place, PatchPoint] = {}
        self._ours: set[int] = set()  # the ids of our functions, which live as long as they are in place
        self._top, self._below = ExitStack(), ExitStack()

    def lay(self) -> None:
        """Put the layers around the library's own functions. If one fails, remove them all."""
        library = self._hook.library
        with ExitStack() as undo:
            for owner, name in self._patch_points:
                if isinstance(owner, ModuleType):
                    find = functools.partial(find_outermost_layer, make_place((owner, name)))
                    undo.callback(redirect_function(owner, name, find))
                    undo.callback(self._lay_below_patch(owner, name, find))
            if library.patch_epochs is not None:
                undo.callback(library.patch_epochs())
            self._places = {make_place(point): resolve_patch_point(point) for point in self._patch_points}
            for owner, name in self._places.values():
                undo.callback(wrap_patch_point(owner, name, functools.partial(wrap_inner_layer, self._hook)))
            for owner, name in self._find_unlogged():
                undo.callback(wrap_patch_point(owner, name, functools.partial(wrap_run_layer, self._hook)))
            for place in self._places:
                undo.callback(self._wrap_outer_layer(place))
            if library.find_prediction_methods is not None:
                for patch_point in filter(is_function, library.find_prediction_methods()):
                    undo.callback(trace_predictions(self._hook, self._hook.name, patch_point))
            undo.callback(
                apply_patches(
                    Patch(target, functools.partial(observe_epochs, read=read), "the metrics of each epoch")
                    for target, read in library.epoch_methods.items()
                    if target.partition(":")[0].partition(".")[0] in sys.modules
                )
            )
            self._below = undo.pop_all()
        for function in sorted({name for _, name in self._patch_points}):
            classes = sum(name == function for _, name in self._patch_points)
            note_patch_point(f"{function} of {classes} classes and modules", "trainings", found=True)

    def _lay_below_patch(self, owner: object, name: str, find: FindReplacement) -> Undo:
        """Put a layer around the function that MLflow's patch for another library keeps: its next patch calls that."""
        if (stored := find_stored_name(owner, name)) is None:
            return lambda: None
        original = vars(owner)[stored]
        with ExitStack() as undo:
            if not (isinstance(original, FunctionType) and is_redirected(original)):  # as one that was seen before
                undo.callback(redirect_function(owner, stored, find))
            undo.callback(wrap_patch_point(owner, stored, functools.partial(wrap_inner_layer, self._hook)))
            layer, lift = vars(owner)[stored], undo.pop_all().close

        def restore() -> None:
            lift()
            if vars(owner).get(name) is layer:  # MLflow has removed its patch, and put back what it kept
                setattr(owner, name, original)

        return restore

    def _find_unlogged(self) -> list[PatchPoint]:
        """Return the training functions for which MLflow starts no run."""
        if self._hook.flavor is None:
            return list(self._places.values())
        return [self._places[place] for place in map(make_place, self._hook.library.find_unlogged_functions())]

    def _wrap_outer_layer(self, place: Place) -> Undo:
        """Put an outer layer around what is at *place* now; calls of those that stood there before go to it."""
        owner, name = self._places[place]
        unwrap = wrap_patch_point(owner, name, functools.partial(wrap_outer_layer, self._hook, place))
        layer = _now(owner, name)
        outermost_layers[place] = entry = self._hook, layer
        self._ours.add(id(layer))

        def undo() -> None:
            if outermost_layers.get(place) is entry:
                del outermost_layers[place]
            self._ours.discard(id(layer))
            unwrap()

        return undo

    def cover(self, owner: object, name: str) -> None:
        """Put a layer on top of a training function, unless the top is ours."""
        if (id(owner), name) in self._places and id(_now(owner, name)) not in self._ours:
            self._top.callback(self._wrap_outer_layer((id(owner), name)))

    def cover_all(self) -> None:
        for owner, name in self._places.values():
            self.cover(owner, name)

    def lift_top(self) -> None:
        self._top.close()

    def lift(self) -> None:
        """Remove all layers."""
        self._top.close()
        self._below.close()
        self._places, self._ours = {}, set()

    @property
    def in_place(self) -> bool:
        """Return whether every training function still calls a layer of ours, followed through ``__wrapped__``."""
        return all(self._is_in(_now(*place)) for place in self._places.values())

    def _is_in(self, fn: object) -> bool:
        while fn is not None:
            if id(fn) in self._ours:
                return True
            fn = getattr(fn, "__wrapped__", None)
        return False


def _now(owner: object, name: str) -> object:
    return vars(owner).get(name)
