"""What is set, to what, and by whom."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from .._guard import log
from ..tracing.export.mlflow.store import default_tracking_uri, hide_user_info, is_server_uri
from ..tracing.settings import admin_policy
from ..tracing.settings.config import Config
from ..tracing.settings.resolution import resolve_config
from .common import Failure

ARGUMENT: Final = "argument"
DEFAULT: Final = "default"

# What counts after MLSPAN_*, and is read when a trace is stored rather than when the settings are resolved.
LATER: Final = {
    "tracking_uri": ("MLFLOW_TRACKING_URI",),
    "experiment": ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"),
    "run": ("MLFLOW_RUN_ID",),
    "otlp_endpoint": ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    "otlp_protocol": ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"),
    "service_name": ("OTEL_SERVICE_NAME",),
}
_OURS: Final = {name for setting in fields(Config) for name in setting.metadata["environ"]} | {
    "MLSPAN_POLICY",
    "MLSPAN_STRICT",
}


@dataclass(frozen=True)
class Setting:
    name: str
    value: Any
    source: str  # "argument", a policy's file, the name of a variable, or "default"

    @property
    def shown(self) -> str:
        """For a person, without passwords."""
        if self.value is None:
            return "-"
        if isinstance(self.value, str) and "://" in self.value:
            return hide_user_info(self.value)
        return (
            ", ".join(f"{key}={value}" for key, value in self.value.items())
            if isinstance(self.value, dict)
            else str(self.value)
        )


def settings(arguments: Mapping[str, Any]) -> tuple[dict[str, Setting], list[str]]:
    """Every setting, as a program started here would have it, and a line for each variable that is wrong."""
    heard = Heard()
    log.addHandler(heard)
    passes, log.propagate = log.propagate, False
    try:
        config = resolve_config(arguments)
    finally:
        log.removeHandler(heard)
        log.propagate = passes
    wrong = [line.removeprefix("mlspan: ") for line in heard.lines]
    found = {setting.name: _one(setting, config, arguments, wrong) for setting in fields(Config)}
    if found["tracking_uri"].value is None:
        found["tracking_uri"] = Setting("tracking_uri", default_tracking_uri(Path.cwd()), DEFAULT)
    return found, wrong + _misspelt()


def _one(setting: Any, config: Config, arguments: Mapping[str, Any], wrong: list[str]) -> Setting:
    name, value = setting.name, getattr(config, setting.name)
    rules = admin_policy.load_policy()
    if name in rules.locked:
        return Setting(name, value, f"locked by {rules.locked[name]}")
    if arguments.get(name) is not None:
        return Setting(name, value, ARGUMENT)
    if name in rules.settings:
        return Setting(name, value, str(rules.settings[name][1]))
    own = next((variable for variable in setting.metadata["environ"] if os.environ.get(variable)), None)
    if own is not None and not any(line.startswith(f"{own}=") for line in wrong):
        return Setting(name, value, own)
    for variable in LATER.get(name, ()):
        if said := os.environ.get(variable):
            return Setting(name, said, variable)
    return Setting(name, value, DEFAULT)


def _misspelt() -> list[str]:
    lines = []
    for name in sorted(os.environ):
        if name.startswith("MLSPAN_") and name not in _OURS:
            near = difflib.get_close_matches(name, _OURS, 1)
            lines.append(f"{name} is no setting of mlspan's: " + (f"did you mean {near[0]}?" if near else "unset it"))
    return lines


class Heard(logging.Handler):
    """Keeps what a logger says."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@dataclass(frozen=True)
class Place:
    """A store, and the experiment that was asked for; None: all."""

    uri: str
    experiment: str | None

    @property
    def shown(self) -> str:
        return hide_user_info(self.uri)


def place(tracking_uri: str | None, experiment: str | None, *, exists: bool = True) -> Place:
    """Where traces go from here.

    Raises Failure where MLflow is turned off, or where the database is yet to be made (unless *exists* is False).
    """
    found, _ = settings({"tracking_uri": tracking_uri, "experiment": experiment})
    uri, where = found["tracking_uri"].value, found["tracking_uri"].source
    if uri == "none":
        raise Failure(f"{where} says tracking_uri=none: no traces go to MLflow; give --tracking-uri")
    file = database_file(uri)
    if exists and file is not None and not file.exists():
        raise Failure(
            f"there is no {file}: no trace has been stored yet, or this is another folder; "
            "give --tracking-uri, or run: mlspan demo"
        )
    return Place(uri, found["experiment"].value)


def database_file(uri: str) -> Path | None:
    """The file of an SQLite database; None for anything else."""
    scheme, sep, path = uri.partition(":///")
    if not sep or scheme.partition("+")[0] != "sqlite" or path.startswith(":memory:"):
        return None
    return Path(path.partition("?")[0])


def is_server(uri: str) -> bool:
    return is_server_uri(uri)


def host(uri: str) -> str:
    return urlsplit(uri).netloc.rpartition("@")[2]
