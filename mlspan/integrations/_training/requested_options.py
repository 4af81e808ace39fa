"""The options of a library's autologging, as calls of mlspan's and MLflow's autolog set them: the later call wins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...hooks.autolog_settings import AutologSettings


@dataclass
class RequestedOptions:
    """The settings of the last call of our autolog, and the options of MLflow's calls that hold beside them."""

    asked: AutologSettings = field(default_factory=AutologSettings)
    mlflow_options: Mapping[str, Any] = field(default_factory=dict)
    by_name: bool = False  # MLflow's own autolog of the library was called, which mlflow.autolog() does not change
    off: bool = False  # MLflow was last called with disable=True

    def apply_own_call(self, settings: AutologSettings, mlflow_options: Mapping[str, object]) -> None:
        """Apply a call of our autolog after MLflow's with *mlflow_options*, which hold where ours names no option."""
        named = settings.named
        self.asked, self.off = settings, False
        self.mlflow_options = {}
        if named is not None:
            self.mlflow_options = {name: value for name, value in mlflow_options.items() if name not in named}

    def apply_mlflow_call(self, mlflow_options: Mapping[str, object], *, by_name: bool) -> None:
        """Apply a call of MLflow's autolog, which sets every option: one that is not given has its default."""
        self.off, self.by_name = bool(mlflow_options.get("disable")), by_name
        self.mlflow_options = {} if self.off else dict(mlflow_options)

    def combine(self, options: frozenset[str]) -> AutologSettings:
        """Return the settings that hold now, for a hook with these *options*."""
        asked, mlflow_options = self.asked, self.mlflow_options
        return replace(
            asked,
            log_traces=asked.log_traces and mlflow_options.get("log_traces", True),
            exclusive=mlflow_options.get("exclusive", asked.exclusive),
            silent=mlflow_options.get("silent", asked.silent),
            options={**asked.options, **{name: mlflow_options[name] for name in options if name in mlflow_options}},
        )
