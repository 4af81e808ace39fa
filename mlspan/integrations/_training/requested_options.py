"""What a library's autologging is to do, as mlspan and MLflow were asked in turn: the later call wins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...hooks.autolog_settings import AutologSettings


@dataclass
class Wishes:
    """What was asked of ours, and the options of MLflow's calls that hold beside it."""

    asked: AutologSettings = field(default_factory=AutologSettings)
    heard: Mapping[str, Any] = field(default_factory=dict)
    by_name: bool = False  # MLflow's own autolog of the library was called, which mlflow.autolog() does not change
    off: bool = False  # MLflow was last called with disable=True

    def ask(self, settings: AutologSettings, heard: Mapping[str, Any]) -> None:
        """Take a call of ours, after MLflow's that gave *heard*: what ours does not name stays as MLflow has it."""
        named = settings.named
        self.asked, self.off = settings, False
        self.heard = {} if named is None else {name: value for name, value in heard.items() if name not in named}

    def hear(self, heard: Mapping[str, Any], *, by_name: bool) -> None:
        """Take a call of MLflow's, which says everything: what it does not name has MLflow's default."""
        self.off, self.by_name = bool(heard.get("disable")), by_name
        self.heard = {} if self.off else dict(heard)

    def combine(self, options: frozenset[str]) -> AutologSettings:
        """Return what holds now, for a hook with these *options*."""
        asked, heard = self.asked, self.heard
        return replace(
            asked,
            log_traces=asked.log_traces and heard.get("log_traces", True),
            exclusive=heard.get("exclusive", asked.exclusive),
            silent=heard.get("silent", asked.silent),
            options={**asked.options, **{name: heard[name] for name in options if name in heard}},
        )
