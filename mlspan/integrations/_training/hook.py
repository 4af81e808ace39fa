"""The hook of a library that trains models: each training becomes a span and, by MLflow's autologging, an MLflow run.

A training function such as ``fit`` is wrapped twice, inside and outside of MLflow's own patch. The inner wrapper starts
the span: MLflow's run is active there, so the trace belongs to that run. The outer wrapper ends the span: MLflow has
logged the model and the metrics by then, so the span can carry both.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..._copies import take_over_recording
from ..._guard import warn_once
from ...hooks.autolog_settings import AutologSettings
from ...hooks.hook import has_package
from ...hooks.named_arguments import noting_names
from ...hooks.patching import is_being_imported, is_half_imported
from ...hooks.version_range import is_version_in_range, split_requirement
from ...tracing.mlflow_state.runs import get_active_run_id
from .autolog_state import release_autolog_state
from .current import is_nested
from .mlflow_autolog import read_on, unfollow
from .mlflow_hook import MlflowAutologHook
from .mlflow_watch import unwatch_mlflow
from .patch_points import find_version
from .refused_options import check_tags, refuse_option
from .requested_options import RequestedOptions
from .training import ActiveTraining


class TrainingHook(MlflowAutologHook):
    """A Hook whose library trains. It may be imported under several names: *modules*. *name* is ours for it."""

    @noting_names
    def autolog(  # type: ignore[override]  # by name only: MLflow's order differs from library to library
        self,
        *,
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
        **options: object,
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
            MlflowException: an option has a value that MLflow refuses; ValueError without MLflow.
        """
        check_tags(extra_tags)
        if self.library.check_options is not None and (wrong := self.library.check_options(options)):
            refuse_option(wrong)
        # The user named this library, so it may take patch points from another hook, as TensorFlow does from Keras.
        self._has_priority = not disable
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

    def apply_settings(self, settings: AutologSettings | None) -> None:
        if settings is not None:
            take_over_recording()  # before MLflow is asked: what it was told by another copy is not the user's wish
        requested, mlflow_options = self._requested, self._requested.mlflow_options
        if self._undo is None:
            mlflow_options, requested.by_name = read_on(self.integration)
        self._disable()  # MLflow's patches hold their options: others need others
        if settings is None:
            self._requested = RequestedOptions()
            unfollow(self)
            super().apply_settings(None)
            release_autolog_state(self)
            unwatch_mlflow(self)
            return
        requested.apply_own_call(settings, mlflow_options)
        super().apply_settings(requested.combine(self.options))
        if self._wanted:
            self._follow()
        for module in self.modules[1:]:
            if module in sys.modules:
                self._install_if_wanted()
        flavor = [self.flavor] if self.flavor else []
        for module in (*self.modules[1:], *self.library.required_modules, "mlflow", *flavor):
            if self._wanted and module not in sys.modules:
                self._wait_for(module, functools.partial(self._on_import, module))

    def _on_import(self, module: str) -> None:
        """Follow MLflow and install anew after the import of *module*, which may bring new patch points."""
        if self._wanted and module == "mlflow":
            self._follow()
        if module in self.modules:
            self._disable()
        if any(name in sys.modules for name in self.modules):
            self._install_if_wanted()

    def _install_if_wanted(self) -> None:
        # MLflow's flavors import their libraries: amid that there is no autolog yet; the first training waits for it.
        if self._requested.off or not self._wanted or self._undo is not None:
            return
        if any(map(is_half_imported, self.modules)):
            return  # the end of that import calls this again
        if not any(map(is_being_imported, self.library.required_modules)):
            self._deferred_install.install_when_imported(self._install_layers)

    def _install_layers(self) -> None:
        super()._install_if_wanted()
        if self._undo is not None and not self.is_installed:
            warn_once(
                "mlspan: trainings of %s are not traced: something else has replaced what trains",
                self.name,
                place=self.name,
            )

    def _disable(self) -> None:
        self._deferred_install.stop_waiting()
        super()._remove_patches()

    def _is_library_available(self) -> bool:
        return any(map(has_package, self.modules))

    def find_installed_version(self) -> str | None:
        """Return the version of the library that is installed, or None."""
        return find_version(self.modules, split_requirement(self.requires)[0])

    def _is_version_supported(self) -> bool:
        name, versions = split_requirement(self.requires)
        version = self.find_installed_version()
        if version is None or is_version_in_range(version, versions):
            return True
        self._log_warning(
            "mlspan: %s %s is outside of the tested range %s: %s",
            name,
            version,
            versions,
            "its trainings are logged and traced all the same"
            if self.settings.any_version
            else "its trainings are left alone; disable_for_unsupported_versions=False logs and traces them anyway",
        )
        return self.settings.any_version

    @contextmanager
    def trace_training(self, call: dict[str, Any]) -> Iterator[ActiveTraining | None]:
        """Trace a training that is no function call; *call* has its arguments by name. Yield None if this is off."""
        self._deferred_install.wait()
        exclusive = self.settings.exclusive and get_active_run_id() is not None
        if self._undo is None or exclusive or is_nested(self, (call["self"],)):
            yield None
            return
        with ActiveTraining(self, (call["self"],)) as fitting, self.run():
            with fitting.open_span(call):
                yield fitting
            fitting.log_result(call, None)
