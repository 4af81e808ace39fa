"""The hook of a library that trains models: each training becomes a span and, by MLflow's autologging, an MLflow run.

A training function such as ``fit`` is wrapped twice, inside and outside of MLflow's own patch. The inner wrapper starts
the span: MLflow's run is active there, so the trace belongs to that run. The outer wrapper ends the span: MLflow has
logged the model and the metrics by then, so the span can carry both.
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
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Final

import wrapt

from .._guard import guard
from ..tracing.context import active_run_id
from ._apart import keep_apart
from ._fitting import Fitting, arguments, current, nested
from ._hook import Hook, Settings, within
from ._library import Library, Seam
from ._models import run_of
from ._patch import Undo, all_there
from ._predict import watch_predictions
from ._seams import being_imported, tell, version_of, wrap
from ._waiting import Waiting

DEFAULTS: Final = {  # options that every library has, in addition to those of Hook
    "log_input_examples": False,
    "log_model_signatures": True,
    "log_models": True,
    "log_datasets": True,
    "extra_tags": None,
    "registered_model_name": None,
}

_taken: dict[FitHook, list[Seam]] = {}  # the patch points that each active hook has claimed


class FitHook(Hook):
    """A hook for a library that trains models.

    Args:
        name: mlspan's name for the library, such as ``sklearn``; spans and runs carry it.
        requires: the distribution and the tested versions, such as ``"scikit-learn>=1.6,<2"``.
        modules: the module names under which the library may be imported.
        library: the description of the library.
        options: names of the settings that only this library has.
    """

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
        self._hears = self._first = False
        flavor = [self.flavor] if self.flavor else []
        self._entry = Waiting(("mlflow", *flavor), library.seams, self._enable)
        self.logs = False  # whether there is an MLflow to log to

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
        """Turn logging and tracing of trainings on, change its settings, or turn it off.

        Import nothing: the patches are made when the application imports the library.

        Args:
            log_input_examples: log a few rows of the training data with the model.
            log_model_signatures: log the model's signature with it.
            log_models: log the trained model.
            log_datasets: log the training data as inputs of the run.
            disable: undo every patch, including MLflow's.
            exclusive: log and record nothing while the caller has an MLflow run active.
            disable_for_unsupported_versions: stay off if the installed version of the library is untested.
            silent: write no log lines about this integration, and tell MLflow to write none.
            registered_model_name: register each trained model under this name.
            extra_tags: tags of the runs that are started for trainings.
            log_traces: record a span for each training.
            options: the options that MLflow's autolog has for this library only.

        Raises:
            TypeError: the library has no such option.
        """
        # The user named this library, so it may take patch points from another hook, as TensorFlow does from Keras.
        self._first = not disable
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
        self._disable()  # MLflow's patches keep the options they were made with, so new options need new patches
        super().apply(settings)
        if settings is None:
            return
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
        """Return the name of the MLflow module that logs this library, or None if MLflow has none."""
        return f"mlflow.{self.library.flavor}" if self.library.flavor else None

    def _heard(self, module: str, _: object) -> None:
        """Patch again, because *module* has just been imported and may bring new patch points."""
        if module in self.modules:
            self._disable()
        if any(name in sys.modules for name in self.modules):
            self._enable()

    def _enable(self) -> None:
        # MLflow's flavors import their libraries: amid that there is no autolog yet; the first training waits for it.
        if self._wanted and self._undo is None and not any(map(being_imported, self.library.needs)):
            self._entry.hook_in(super()._enable)

    def _disable(self) -> None:
        self._entry.let_go()
        super()._disable()

    def _installed(self) -> bool:
        return any(importlib.util.find_spec(module.partition(".")[0]) is not None for module in self.modules)

    def asked(self) -> dict[str, Any]:
        """Return the current options of the library, with defaults for those that the user has not set."""
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

    def _delegate(self) -> Undo:
        """Turn on MLflow's autologging for the library, if MLflow is installed and has one."""
        try:
            importlib.import_module("mlflow")
            autolog = importlib.import_module(self.flavor).autolog if self.flavor else None
            self.logs = True
        except ImportError as error:
            self.logs = False
            self._say("mlspan: trainings of %s are traced and not logged, as MLflow says: %s", self.name, error)
            return lambda: None
        takes = inspect.signature(autolog).parameters if autolog else {}
        asked = self.asked()
        if ignored := sorted(self._wanted_options(asked) - takes.keys() - self._ours()):
            self._say("mlspan: autologging of %s has no option %s: it changes nothing", self.name, ", ".join(ignored))
        if autolog is None:
            return lambda: None
        if self.logs_model():
            asked["log_models"] = False
        asked["extra_tags"] = dict(asked["extra_tags"] or {}) or None  # a copy: MLflow changes the dict it is given
        given = {**asked, "exclusive": self.settings.exclusive, "silent": self.settings.silent}
        autolog(**{name: value for name, value in given.items() if name in takes})
        keep_apart()
        return functools.partial(autolog, disable=True)

    def _wanted_options(self, asked: Mapping[str, Any]) -> set[str]:
        return {name for name, value in asked.items() if name not in DEFAULTS or value != DEFAULTS[name]}

    def _ours(self) -> set[str]:
        """Return the names of the options that mlspan serves rather than MLflow's flavor."""
        if self.flavor is None:
            return set(self.options)
        return {*self.library.adds, *(["log_datasets"] if self.library.data else [])}

    def takes(self, seams: list[Seam]) -> bool:
        """Claim the patch points *seams* for this hook; return False if another hook keeps them.

        Two libraries may share a class, such as ``tf.keras.Model`` and ``keras.Model``. One training must be logged
        only once, so only one hook patches that class.
        """
        others = [hook for hook, theirs in _taken.items() if any(seam in theirs for seam in seams)]
        if others and not self._first:
            return False
        for hook in others:
            hook._disable()
        _taken[self] = seams
        return True

    def logs_model(self) -> bool:
        """Return True if mlspan logs the model: MLflow has no flavor for it, or the flavor lacks a requested option."""
        asked, library = self.asked(), self.library
        lacks = library.flavor is None or any(asked[name] for name in library.adds)
        return bool(library.log_model and asked["log_models"] and lacks)

    def outer(self, fn: Any, on: list[bool]) -> Any:
        """Wrap *fn*, which is MLflow's patch, so that the span ends after MLflow has logged the training."""

        @functools.wraps(fn)
        def watched(*args: Any, **kwargs: Any) -> Any:
            if not on or nested(self, args) or (self.settings.exclusive and active_run_id() is not None):
                return fn(*args, **kwargs)
            if self.library.tidy is not None:
                with guard("reading the arguments of a training"):
                    self.library.tidy(kwargs)
            with Fitting(self, args):
                return fn(*args, **kwargs)

        return watched

    @contextmanager
    def training(self, call: dict[str, Any]) -> Iterator[Fitting | None]:
        """A training that is no call of a function, with what would be its arguments; None where this is off."""
        self._entry.wait()
        exclusive = self.settings.exclusive and active_run_id() is not None
        if self._undo is None or exclusive or nested(self, (call["self"],)):
            yield None
            return
        with Fitting(self, (call["self"],)) as fitting, self._run():
            with fitting.training(call):
                yield fitting
            fitting.conclude(call, None)

    def _run(self) -> AbstractContextManager[None]:
        return run_of(self.name, self.asked()["extra_tags"]) if self.logs else nullcontext()

    def managed(self, fn: Any, on: list[bool]) -> Any:
        """Wrap *fn* in an MLflow run, for a library that MLflow does not patch."""

        @functools.wraps(fn)
        def watched(*args: Any, **kwargs: Any) -> Any:
            fitting = current()
            if not on or fitting is None or fitting.hook is not self or fitting.opened:
                return fn(*args, **kwargs)
            with self._run():
                return fn(*args, **kwargs)

        return watched

    def inner(self, fn: Any, on: list[bool]) -> Any:
        """Wrap *fn*, the library's own function, so that the span starts inside of MLflow's patch."""

        @functools.wraps(fn)
        def watched(*args: Any, **kwargs: Any) -> Any:
            fitting = current()
            if not on or fitting is None or fitting.hook is not self or fitting.opened:
                return fn(*args, **kwargs)
            bound = arguments(fn, args, kwargs)
            with fitting.training(bound):
                result = fn(*args, **kwargs)
            fitting.conclude(bound, result)
            return result

        return watched


def _install(hook: Hook) -> Undo:
    assert isinstance(hook, FitHook)  # noqa: S101  # only TrainingHook passes this function on
    library, seams = hook.library, list(hook.library.seams())
    if not hook.takes(seams):
        return lambda: None
    with ExitStack() as undo:
        undo.callback(_taken.pop, hook)
        if library.follow is not None:
            undo.callback(library.follow())
        for owner, name in seams:
            undo.callback(wrap(owner, name, hook.inner))
        if library.predicts is not None:
            for seam in library.predicts():
                undo.callback(watch_predictions(hook, hook.name, seam))
        undo.callback(_off(hook, hook._delegate()))
        if hook.flavor is None:
            for owner, name in seams:
                undo.callback(wrap(owner, name, hook.managed))
        for owner, name in seams:
            undo.callback(wrap(owner, name, hook.outer))
        undo.callback(
            all_there(
                (target, functools.partial(tell, target, read))
                for target, read in library.epochs.items()
                if target.partition(":")[0].partition(".")[0] in sys.modules
            )
        )
        return undo.pop_all().close


def _off(hook: FitHook, undo: Undo) -> Undo:
    def off() -> None:
        with guard(f"turning off MLflow's autologging of {hook.module}"):
            undo()

    return off
