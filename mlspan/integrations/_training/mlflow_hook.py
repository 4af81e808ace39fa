"""MLflow's side of a training library's hook: it turns MLflow's autologging on, follows it, and turns it off."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from ..._guard import guard
from ...hooks.autolog_settings import TRAINING_OPTIONS
from ...hooks.hook import Hook
from ...hooks.patching import Undo
from .autolog_state import isolate_autolog_state
from .deferred_install import DeferredInstall
from .layers import Layers
from .library import PatchPoint, TrainingLibrary
from .mlflow_autolog import (
    Asked,
    follow,
    is_late,
    leaves_out,
    mark_globally_configured,
    own_autolog_call,
    read_asked,
    warn_not_followed,
)
from .mlflow_logging import ensure_run
from .mlflow_watch import watch_mlflow
from .requested_options import RequestedOptions

_claimed_patch_points: dict[MlflowAutologHook, list[PatchPoint]] = {}  # what each active hook has hooked


class MlflowAutologHook(Hook):
    """A Hook with MLflow's autologging between its layers. *modules* are the library's; *name* is ours for it."""

    def __init__(
        self,
        name: str,
        requires: str,
        modules: tuple[str, ...],
        library: TrainingLibrary,
        options: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(requires, modules[0], install, options | TRAINING_OPTIONS.keys())
        self.name, self.modules, self.library = name, modules, library
        self._has_priority = self._left_to_mlflow = False
        self._requested = RequestedOptions()
        self._layers: Layers | None = None
        flavor = [self.flavor] if self.flavor else []
        self._deferred_install = DeferredInstall(
            ("mlflow", *flavor), library.find_patch_points, self._install_if_wanted
        )
        self.logs = False  # whether there is an MLflow to log to

    @property
    def flavor(self) -> str | None:
        """MLflow's module that logs this library."""
        return f"mlflow.{self.library.flavor}" if self.library.flavor else None

    @property
    def integration(self) -> str | None:
        """MLflow's name for the library."""
        return self.library.flavor

    @property
    def is_installed(self) -> bool:
        return self._undo is not None and (self._layers is None or self._layers.in_place)

    @property
    def state(self) -> str:
        if self._requested.off:
            return "turned off by MLflow's autolog(disable=True)"
        return super().state if self._undo is None or self.is_installed else "replaced by something else"

    def lay(self, patch_points: list[PatchPoint]) -> Undo:
        """Put our layers in place while MLflow's patches are away; return a function that removes both."""
        layers = Layers(self, patch_points)
        layers.lay()
        self._layers = layers
        return self._lift

    def _lift(self) -> None:
        layers, self._layers = self._layers, None
        _claimed_patch_points.pop(self, None)
        if layers is not None:
            layers.lift_top()
            self.turn_mlflow_off()
            layers.lift()

    def turn_mlflow_off(self) -> None:
        """Remove the patches of MLflow's autologging of the library."""
        flavor = sys.modules.get(self.flavor or "")
        if flavor is None or (read_asked(self.integration) or {}).get("disable"):
            return
        with guard(f"turning off MLflow's autologging of {self.module}"), own_autolog_call():
            flavor.autolog(disable=True)
            mark_globally_configured(self.integration)

    def cover(self, owner: object, name: str) -> None:
        if self._layers is not None:
            self._layers.cover(owner, name)

    def on_general_autolog(self, asked: Asked) -> None:
        if not self._wanted or leaves_out(asked, self.integration):
            return
        if self._requested.by_name and not asked.get("disable"):
            return  # MLflow's rule
        self._requested.apply_mlflow_call(asked, by_name=False)
        self._remove_patches()
        self.settings = self._requested.combine(self.options)
        if any(module in sys.modules for module in self.modules):
            self._install_if_wanted()

    @contextmanager
    def on_own_autolog(self, asked: Asked) -> Iterator[None]:
        layers, was_off = self._layers, self._requested.off
        late = (
            layers is None and is_late(asked) and (not was_off or asked.get("disable"))
        )  # applied when the call was made
        if late or not self._wanted:
            yield
            return
        if layers is not None:
            layers.lift_top()
        yield
        self._requested.apply_mlflow_call(asked, by_name=True)
        self.settings = self._requested.combine(self.options)
        self._left_to_mlflow = True
        if layers is not None:
            layers.lift()
        if self._requested.off:
            self._undo = self._layers = None
            _claimed_patch_points.pop(self, None)
        elif layers is not None:
            layers.lay()
        elif was_off and any(module in sys.modules for module in self.modules):
            self._undo = self.take()

    def asked(self) -> dict[str, Any]:
        """Return the library's options as they now are."""
        return {**TRAINING_OPTIONS, **self.settings.options}

    def delegate(self) -> None:
        """Turn on MLflow's autologging for the library, between our layers."""
        try:
            importlib.import_module("mlflow")
            autolog = importlib.import_module(self.flavor).autolog if self.flavor else None
            self.logs = True
        except ImportError as error:
            self.logs = False
            self._log_warning("mlspan: trainings of %s are traced and not logged, as MLflow says: %s", self.name, error)
            return
        takes = inspect.signature(autolog).parameters if autolog else {}
        if ignored := sorted(self._wanted_options() - takes.keys() - self._ours()):
            self._log_warning(
                "mlspan: autologging of %s has no option %s: it changes nothing", self.name, ", ".join(ignored)
            )
        self._follow()
        watch_mlflow(self)
        if autolog is None:
            return
        self._left_to_mlflow = False
        asked = self.asked()
        if self.logs_model():
            asked["log_models"] = False
        asked["extra_tags"] = dict(asked["extra_tags"] or {}) or None  # MLflow takes what it may change
        given = {**asked, "exclusive": self.settings.exclusive, "silent": self.settings.silent}
        with own_autolog_call():
            autolog(**{name: value for name, value in given.items() if name in takes})
        isolate_autolog_state(self)
        if self._layers is not None:
            self._layers.cover_all()

    def _follow(self) -> None:
        if not follow(self) and not self.settings.silent:
            warn_not_followed(self.name)

    def _wanted_options(self) -> set[str]:
        options = self._requested.asked.options.items()
        return {name for name, value in options if name not in TRAINING_OPTIONS or value != TRAINING_OPTIONS[name]}

    def _ours(self) -> set[str]:
        """Return the options that mlspan itself serves, not MLflow's flavor."""
        if self.flavor is None:
            return set(self.options)
        return {*self.library.added_options, *(["log_datasets"] if self.library.read_data else [])}

    def take(self) -> Undo | None:
        """Put our layers in place, unless another hook has: ``tf.keras.Model`` and ``keras.Model`` may be one class."""
        patch_points = list(self.library.find_patch_points())
        others = [
            hook
            for hook, theirs in _claimed_patch_points.items()
            if any(patch_point in theirs for patch_point in patch_points)
        ]
        if others and not self._has_priority:
            return None
        for hook in others:
            hook._remove_patches()
        undo = self.lay(patch_points)
        _claimed_patch_points[self] = patch_points
        return undo

    def logs_model(self, *, unlogged: bool = False) -> bool:
        """Return whether we log the model: MLflow has no flavor for it, or one without an option that is on.

        Args:
            unlogged: it is of a function that MLflow's flavor leaves alone.
        """
        asked, library = self.asked(), self.library
        lacks = library.flavor is None or any(asked[name] for name in library.added_options)
        return bool(library.log_model and asked["log_models"] and (unlogged or (lacks and not self._left_to_mlflow)))

    def run(self) -> AbstractContextManager[None]:
        return ensure_run(self.name, self.asked()["extra_tags"]) if self.logs else nullcontext()


def install(hook: Hook) -> Undo:
    assert isinstance(hook, MlflowAutologHook)  # noqa: S101  # TrainingHook alone passes this function on
    hook.turn_mlflow_off()  # its patches of before would lie below our layers, and go with them
    undo = hook.take()
    if undo is None:
        return lambda: None
    try:
        hook.delegate()
    except BaseException:
        undo()
        raise
    return undo
