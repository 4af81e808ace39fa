"""Training as a span, and as an MLflow run by MLflow's own autologging: what the classic libraries share.

A library's ``fit`` is wrapped twice. Inside of MLflow's patch, where MLflow's run is active, the span starts, so that
the trace belongs to that run; outside of it, where MLflow has logged model and metrics, the span ends and says both.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

import wrapt

from .._guard import guard, tell_once
from ..tracing.context import active_run_id
from ._apart import keep_apart
from ._fitting import Fitting, nested
from ._hook import Hook, Settings, within
from ._layers import Layers
from ._library import Library, Seam
from ._mlflow_autolog import (
    Asked,
    calling,
    follow,
    is_late,
    leaves_out,
    read_asked,
    read_on,
    say_unfollowed,
    unfollow,
)
from ._models import run_of
from ._named import noting_names
from ._patch import Undo
from ._seams import being_imported, version_of
from ._wishes import Wishes

DEFAULTS: Final = {  # the options of every library, beside those of Hook
    "log_input_examples": False,
    "log_model_signatures": True,
    "log_models": True,
    "log_datasets": True,
    "extra_tags": None,
    "registered_model_name": None,
}

_taken: dict[FitHook, list[Seam]] = {}  # what each active hook has hooked


class FitHook(Hook):
    """A Hook whose library trains. It may be imported under several names: *modules*. *name* is ours for it."""

    def __init__(
        self,
        name: str,
        requires: str,
        modules: tuple[str, ...],
        library: Library,
        options: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(requires, modules[0], _install, options | DEFAULTS.keys())
        self.name, self.modules, self.library = name, modules, library
        self._hears = self._first = self._left_to_mlflow = False
        self._wishes = Wishes()
        self._layers: Layers | None = None
        self.logs = False  # whether there is an MLflow to log to

    @noting_names
    def autolog(  # type: ignore[override]  # the options come first, in MLflow's order
        self,
        log_input_examples: bool = False,
        log_model_signatures: bool = True,
        log_models: bool = True,
        log_datasets: bool = True,
        disable: bool = False,
        exclusive: bool = False,
        disable_for_unsupported_versions: bool = True,
        silent: bool = False,
        registered_model_name: str | None = None,
        extra_tags: Mapping[str, str] | None = None,
        log_traces: bool = True,
        **options: Any,
    ) -> None:
        """Log every training to MLflow, and trace it; change how; or stop. Imports nothing: it waits for the library.

        Args:
            log_input_examples: log a few rows of the training data with the model.
            log_model_signatures: log the model's signature with it.
            log_models: log the trained model.
            log_datasets: log what the model was trained with as the run's inputs.
            disable: take every patch back, MLflow's too.
            exclusive: log and record nothing while the caller has an MLflow run active.
            disable_for_unsupported_versions: stay off for a version of the library that the tests have not seen.
            silent: write no log line about this integration, and have MLflow write none.
            registered_model_name: register each trained model under this name.
            extra_tags: tags of the runs that are started for trainings.
            log_traces: record a span for each training.
            options: those of MLflow's autolog for this library alone.

        Raises:
            TypeError: an option is not one of this library's.
        """
        self._first = not disable  # asked for by name: it takes what another hook has, such as Keras below TensorFlow
        super().autolog(
            log_traces,
            disable,
            exclusive,
            disable_for_unsupported_versions,
            silent,
            log_input_examples=log_input_examples,
            log_model_signatures=log_model_signatures,
            log_models=log_models,
            log_datasets=log_datasets,
            extra_tags=extra_tags,
            registered_model_name=registered_model_name,
            **options,
        )

    def apply(self, settings: Settings | None) -> None:
        wishes, heard = self._wishes, self._wishes.heard
        if self._undo is None:
            heard, wishes.by_name = read_on(self.integration)
        self._disable()  # MLflow's patches hold their options: others need others
        if settings is None:
            self._wishes = Wishes()
            unfollow(self)
            super().apply(None)
            return
        wishes.ask(settings, heard)
        super().apply(wishes.combine(self.options))
        if self._wanted:
            self._follow()
        for module in self.modules[1:]:
            if module in sys.modules:
                self._enable()
        if not self._hears:
            self._hears = True
            for module in (*self.modules[1:], *self.library.needs, "mlflow", *([self.flavor] if self.flavor else [])):
                if module not in sys.modules:
                    wrapt.register_post_import_hook(functools.partial(self._heard, module), module)

    @property
    def flavor(self) -> str | None:
        """The module of MLflow's that logs this library."""
        return f"mlflow.{self.library.flavor}" if self.library.flavor else None

    @property
    def integration(self) -> str | None:
        """MLflow's name for the library."""
        return self.library.flavor

    def _heard(self, module: str, _: object) -> None:
        """A module has been imported that may change what there is to hook."""
        if self._wanted and module == "mlflow":
            self._follow()
        if module in self.modules:
            self._disable()
        if any(name in sys.modules for name in self.modules):
            self._enable()

    def _enable(self) -> None:
        # MLflow's flavors import their libraries: amid that there is no autolog yet. _heard comes when there is.
        if self._wishes.off or any(being_imported(name) for name in ("mlflow", self.flavor, *self.library.needs)):
            return
        super()._enable()
        if self._undo is not None and not self.hooked:
            tell_once("mlspan: trainings of %s are not traced: something else has replaced what trains", self.name)

    @property
    def hooked(self) -> bool:
        return self._undo is not None and (self._layers is None or self._layers.in_place)

    @property
    def state(self) -> str:
        if self._wishes.off:
            return "turned off by MLflow's autolog(disable=True)"
        return super().state if self._undo is None or self.hooked else "replaced by something else"

    def lay(self, seams: list[Seam]) -> Undo:
        """Put our layers in place, MLflow's patches being away; return what takes both away."""
        layers = Layers(self, seams)
        layers.lay()
        self._layers = layers
        return self._lift

    def _lift(self) -> None:
        layers, self._layers = self._layers, None
        _taken.pop(self, None)
        if layers is not None:
            layers.lift_top()
            self.turn_mlflow_off()
            layers.lift()

    def turn_mlflow_off(self) -> None:
        """Take the patches away that MLflow's autologging of the library has in place."""
        flavor = sys.modules.get(self.flavor or "")
        if flavor is None or (read_asked(self.integration) or {}).get("disable"):
            return
        with guard(f"turning off MLflow's autologging of {self.module}"), calling():
            flavor.autolog(disable=True)

    def cover(self, owner: Any, name: str) -> None:
        if self._layers is not None:
            self._layers.cover(owner, name)

    def hear_general(self, asked: Asked) -> None:
        if not self._wanted or leaves_out(asked, self.integration):
            return
        if self._wishes.by_name and not asked.get("disable"):
            return  # MLflow's rule
        self._wishes.hear(asked, by_name=False)
        self._disable()
        self.settings = self._wishes.combine(self.options)
        if any(module in sys.modules for module in self.modules):
            self._enable()

    @contextmanager
    def hear_own(self, asked: Asked) -> Iterator[None]:
        layers, was_off = self._layers, self._wishes.off
        if not self._wanted or (layers is None and is_late(asked)):
            yield
            return
        if layers is not None:
            layers.lift_top()
        yield
        self._wishes.hear(asked, by_name=True)
        self.settings = self._wishes.combine(self.options)
        self._left_to_mlflow = True
        if layers is not None:
            layers.lift()
        if self._wishes.off:
            self._undo = self._layers = None
            _taken.pop(self, None)
        elif layers is not None:
            layers.lay()
        elif was_off and any(module in sys.modules for module in self.modules):
            self._undo = self.take()

    def _installed(self) -> bool:
        return any(importlib.util.find_spec(module.partition(".")[0]) is not None for module in self.modules)

    def asked(self) -> dict[str, Any]:
        """The library's options as they now are."""
        return {**DEFAULTS, **self.settings.options}

    def _supported(self) -> bool:
        name, versions = re.split(r"(?=[<>=])", self.requires, maxsplit=1)
        version = version_of(self.modules, name)
        if version is None or within(version, versions):
            return True
        self._say(
            "mlspan: %s %s is outside of the tested range %s: %s",
            name,
            version,
            versions,
            "its trainings are logged and traced all the same"
            if self.settings.any_version
            else "its trainings are left alone; disable_for_unsupported_versions=False logs and traces them anyway",
        )
        return self.settings.any_version

    def delegate(self) -> None:
        """Turn on MLflow's autologging for the library, between our layers."""
        try:
            importlib.import_module("mlflow")
            autolog = importlib.import_module(self.flavor).autolog if self.flavor else None
            self.logs = True
        except ImportError as error:
            self.logs = False
            self._say("mlspan: trainings of %s are traced and not logged, as MLflow says: %s", self.name, error)
            return
        takes = inspect.signature(autolog).parameters if autolog else {}
        if ignored := sorted(self._wanted_options() - takes.keys() - self._ours()):
            self._say("mlspan: autologging of %s has no option %s: it changes nothing", self.name, ", ".join(ignored))
        self._follow()
        if autolog is None:
            return
        self._left_to_mlflow = False
        asked = self.asked()
        if self.logs_model():
            asked["log_models"] = False
        asked["extra_tags"] = dict(asked["extra_tags"] or {}) or None  # MLflow takes what it may change
        given = {**asked, "exclusive": self.settings.exclusive, "silent": self.settings.silent}
        with calling():
            autolog(**{name: value for name, value in given.items() if name in takes})
        keep_apart()
        if self._layers is not None:
            self._layers.cover_all()

    def _follow(self) -> None:
        if not follow(self) and not self.settings.silent:
            say_unfollowed(self.name)

    def _wanted_options(self) -> set[str]:
        options = self._wishes.asked.options.items()
        return {name for name, value in options if name not in DEFAULTS or value != DEFAULTS[name]}

    def _ours(self) -> set[str]:
        """The options that are served here rather than by MLflow's flavor."""
        if self.flavor is None:
            return set(self.options)
        return {*self.library.adds, *(["log_datasets"] if self.library.data else [])}

    def take(self) -> Undo | None:
        """Lay our layers, unless another hook has them: ``tf.keras.Model`` and ``keras.Model`` may be one class."""
        seams = list(self.library.seams())
        others = [hook for hook, theirs in _taken.items() if any(seam in theirs for seam in seams)]
        if others and not self._first:
            return None
        for hook in others:
            hook._disable()
        undo = self.lay(seams)
        _taken[self] = seams
        return undo

    def logs_model(self) -> bool:
        """Whether we log the model, as MLflow has no flavor for it, or one that lacks an option that is on."""
        asked, library = self.asked(), self.library
        lacks = library.flavor is None or any(asked[name] for name in library.adds)
        return bool(library.log_model and asked["log_models"] and lacks and not self._left_to_mlflow)

    @contextmanager
    def training(self, call: dict[str, Any]) -> Iterator[Fitting | None]:
        """A training that is no call of a function, with what would be its arguments; None where this is off."""
        exclusive = self.settings.exclusive and active_run_id() is not None
        if self._undo is None or exclusive or nested(self, (call["self"],)):
            yield None
            return
        with Fitting(self, (call["self"],)) as fitting, self.run():
            with fitting.training(call):
                yield fitting
            fitting.conclude(call, None)

    def run(self) -> AbstractContextManager[None]:
        return run_of(self.name, self.asked()["extra_tags"]) if self.logs else nullcontext()


def _install(hook: Hook) -> Undo:
    assert isinstance(hook, FitHook)  # noqa: S101  # FitHook alone passes this function on
    hook.turn_mlflow_off()  # what it has put in place before us would be below our layers, and go with them
    undo = hook.take()
    if undo is None:
        return lambda: None
    try:
        hook.delegate()
    except BaseException:
        undo()
        raise
    return undo
