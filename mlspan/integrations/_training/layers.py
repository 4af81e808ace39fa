"""Our layers around a library's functions that train: below MLflow's patch, and on top of it. They have one owner.

Below, where MLflow's run is active, the span starts; on top, where MLflow has logged everything, it ends. A whole set
of layers lies below as well, so that a function that MLflow leaves alone, or patches unseen, has its span all the same.
"""

from __future__ import annotations

import functools
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ...hooks.patching import Patch, apply_patches, note_patch_point
from .library import PatchPoint
from .patch_points import find_seam, observe_epochs, wrap_patch_point
from .predictions import trace_predictions
from .wrappers import inner, managed, outer

if TYPE_CHECKING:
    from .mlflow_hook import MlflowAutologHook


class Layers:
    """Those of one hook: ``lay`` them while MLflow's patch is away, ``lift_top`` before it goes, ``lift`` after."""

    def __init__(self, hook: MlflowAutologHook, seams: list[PatchPoint]) -> None:
        self._hook = hook
        self._seams = seams
        self._places: dict[tuple[int, str], PatchPoint] = {}
        self._ours: set[int] = set()  # the ids of what we have put there, which lives as long as it is there
        self._top, self._below = ExitStack(), ExitStack()

    def lay(self) -> None:
        """Put the layers around the library's own functions; where one fails, none stays."""
        library = self._hook.library
        with ExitStack() as undo:
            if library.patch_epochs is not None:
                undo.callback(library.patch_epochs())
            self._places = {(id(owner), name): (owner, name) for owner, name in map(find_seam, self._seams)}
            for make in (inner, outer) if self._hook.flavor else (inner, managed, outer):
                for owner, name in self._seams:
                    undo.callback(wrap_patch_point(owner, name, functools.partial(make, self._hook)))
            if library.find_prediction_methods is not None:
                for seam in library.find_prediction_methods():
                    undo.callback(trace_predictions(self._hook, self._hook.name, seam))
            undo.callback(
                apply_patches(
                    Patch(target, functools.partial(observe_epochs, read=read), "the metrics of each epoch")
                    for target, read in library.epoch_methods.items()
                    if target.partition(":")[0].partition(".")[0] in sys.modules
                )
            )
            self._below = undo.pop_all()
        for function in sorted({name for _, name in self._seams}):
            classes = sum(name == function for _, name in self._seams)
            note_patch_point(f"{function} of {classes} classes and modules", "trainings", found=True)
        self._ours = {id(_now(*place)) for place in self._places.values()}

    def cover(self, owner: object, name: str) -> None:
        """Put a layer on top of what is there now, if it is a function that trains and the top is not ours."""
        if (id(owner), name) in self._places and id(_now(owner, name)) not in self._ours:
            self._top.callback(wrap_patch_point(owner, name, functools.partial(outer, self._hook)))
            self._ours.add(id(_now(owner, name)))

    def cover_all(self) -> None:
        for owner, name in self._places.values():
            self.cover(owner, name)

    def lift_top(self) -> None:
        self._top.close()

    def lift(self) -> None:
        """Take everything away."""
        self._top.close()
        self._below.close()
        self._places, self._ours = {}, set()

    @property
    def in_place(self) -> bool:
        """Whether a call of each function comes by us, as far as the functions around it say what they wrap."""
        return all(self._is_in(_now(*place)) for place in self._places.values())

    def _is_in(self, fn: object) -> bool:
        while fn is not None:
            if id(fn) in self._ours:
                return True
            fn = getattr(fn, "__wrapped__", None)
        return False


def _now(owner: object, name: str) -> object:
    return vars(owner).get(name)
