"""Resolution of settings: the value of each, where it comes from, and the store that traces go to."""

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
from ..tracing.export.mlflow.addresses import default_tracking_uri, is_server_uri
from ..tracing.export.shown_addresses import hide_user_info
from ..tracing.export.spool.limits import default_folder
from ..tracing.settings import admin_policy
from ..tracing.settings.config import Config
from ..tracing.settings.resolution import resolve_config
from .common import CommandFailure

ARGUMENT_SOURCE: Final = "argument"
DEFAULT_SOURCE: Final = "default"

# Variables that apply if MLSPAN_* is not set. They are read when a trace is stored, not when settings are resolved.
FALLBACK_VARIABLES: Final = {
    "tracking_uri": ("MLFLOW_TRACKING_URI",),
    "experiment": ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"),
    "run": ("MLFLOW_RUN_ID",),
    "otlp_endpoint": ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    "otlp_protocol": ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"),
    "service_name": ("OTEL_SERVICE_NAME",),
}
_KNOWN_VARIABLES: Final = {name for setting in fields(Config) for name in setting.metadata["environ"]} | {
    "MLSPAN_POLICY",
    "MLSPAN_STRICT",
}


_DATABRICKS: Final = frozenset({"databricks", "databricks-uc", "uc"})
_STORE_SCHEMES: Final = frozenset(
    {"http", "https", "sqlite", "postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle", "file", "databricks"}
)


@dataclass(frozen=True)
class EffectiveSetting:
    """A setting's value in effect, and its source."""

    name: str
    value: Any
    source: str  # "argument", a policy file, the name of a variable, or "default"

    @property
    def display_text(self) -> str:
        """Return the value as text for a person, without passwords."""
        if self.value is None:
            return "-"
        if isinstance(self.value, str) and self.name in {"tracking_uri", "otlp_endpoint"}:
            return hide_user_info(self.value)
        return (
            ", ".join(f"{key}={value}" for key, value in self.value.items())
            if isinstance(self.value, dict)
            else str(self.value)
        )


def resolve_settings(arguments: Mapping[str, object]) -> tuple[dict[str, EffectiveSetting], list[str]]:
    """Return every setting by name, as a program started here would have it, and one line for each invalid variable.

    *arguments* are the values given on the command line; None stands for not given.
    """
    capture = LogCapture()
    log.addHandler(capture)
    propagated, log.propagate = log.propagate, False
    try:
        config = resolve_config(arguments)
    finally:
        log.removeHandler(capture)
        log.propagate = propagated
    problems = [line.removeprefix("mlspan: ") for line in capture.lines]
    found = {setting.name: _resolve_setting(setting, config, arguments, problems) for setting in fields(Config)}
    if found["tracking_uri"].value is None:
        found["tracking_uri"] = EffectiveSetting("tracking_uri", default_tracking_uri(Path.cwd()), DEFAULT_SOURCE)
    return found, problems + _report_misspelt_variables()


def _resolve_setting(
    setting: Any, config: Config, arguments: Mapping[str, object], problems: list[str]
) -> EffectiveSetting:
    """Return one setting with its source: policy lock, argument, policy, variables, default, in this order."""
    name, value = setting.name, getattr(config, setting.name)
    rules = admin_policy.load_policy()
    if name in rules.locked:
        return EffectiveSetting(name, value, f"locked by {rules.locked[name]}")
    if arguments.get(name) is not None:
        return EffectiveSetting(name, value, ARGUMENT_SOURCE)
    if name in rules.settings:
        return EffectiveSetting(name, value, str(rules.settings[name][1]))
    own_variable = next((variable for variable in setting.metadata["environ"] if os.environ.get(variable)), None)
    if own_variable is not None and not any(line.startswith(f"{own_variable}=") for line in problems):
        return EffectiveSetting(name, value, own_variable)
    for variable in FALLBACK_VARIABLES.get(name, ()):
        if variable_value := os.environ.get(variable):
            return EffectiveSetting(name, variable_value, variable)
    return EffectiveSetting(name, value, DEFAULT_SOURCE)


def find_spool_folder(found: Mapping[str, EffectiveSetting]) -> Path | None:
    """Return the folder in which spans wait on disk, by the settings *found*; None without a home directory."""
    named = found["spool_dir"].value
    try:
        return Path(named).expanduser().absolute() if named else default_folder()
    except RuntimeError:
        return None


def _report_misspelt_variables() -> list[str]:
    """Return a line for each MLSPAN_* variable that does not exist, with the closest name that does."""
    lines = []
    for name in sorted(os.environ):
        if name.startswith("MLSPAN_") and name not in _KNOWN_VARIABLES:
            similar = difflib.get_close_matches(name, _KNOWN_VARIABLES, 1)
            lines.append(
                f"{name} is no setting of mlspan's: " + (f"did you mean {similar[0]}?" if similar else "unset it")
            )
    return lines


class LogCapture(logging.Handler):
    """Logging handler that keeps the messages of a logger."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@dataclass(frozen=True)
class StoreLocation:
    """A store of traces, and the requested experiment; None for all experiments."""

    uri: str
    experiment: str | None

    @property
    def display_uri(self) -> str:
        """Return the URI without user name and password."""
        return hide_user_info(self.uri)


def locate_store(tracking_uri: str | None, experiment: str | None, *, exists: bool = True) -> StoreLocation:
    """Return the store and experiment that a program started here would send traces to.

    Raises:
        CommandFailure: if MLflow is turned off, or if the database does not exist yet (unless *exists* is False).
    """
    found, _ = resolve_settings({"tracking_uri": tracking_uri, "experiment": experiment})
    uri, where = found["tracking_uri"].value, found["tracking_uri"].source
    if uri == "none":
        raise CommandFailure(f"{where} says tracking_uri=none: no traces go to MLflow; give --tracking-uri")
    _check_address(uri, where)
    file = find_database_file(uri)
    if exists and file is not None and not file.exists():
        raise CommandFailure(
            f"there is no {file}: no trace has been stored yet, or this is another folder; "
            "give --tracking-uri, or run: mlspan demo"
        )
    return StoreLocation(uri, found["experiment"].value)


def _check_address(uri: str, source: str) -> None:
    """Check that MLflow can be at an address.

    Raises:
        CommandFailure: if it is of a kind that no store has.
    """
    scheme, has_scheme, rest = uri.partition(":")
    named = "--tracking-uri" if source == ARGUMENT_SOURCE else source
    if uri in _DATABRICKS or (has_scheme and scheme.partition("+")[0] in _STORE_SCHEMES):
        if is_server_uri(uri) and not find_host(uri):
            raise CommandFailure(f"{named}={hide_user_info(uri)} names no host: give http://localhost:5000")
        return
    if not has_scheme and Path(uri).is_dir():
        return
    what = (
        f"no store has addresses of {scheme}://" if has_scheme and rest.startswith("//") else "there is no such folder"
    )
    raise CommandFailure(
        f"{named}={hide_user_info(uri)}: {what}; give a server (http://localhost:5000) or a database (sqlite:///mlflow.db)"
    )


def find_database_file(uri: str) -> Path | None:
    """Return the file of an SQLite database; None for any other URI."""
    scheme, sep, path = uri.partition(":///")
    if not sep or scheme.partition("+")[0] != "sqlite" or path.startswith(":memory:"):
        return None
    return Path(path.partition("?")[0])


def is_tracking_server(uri: str) -> bool:
    """Return whether *uri* is a tracking server's, not a database's."""
    return is_server_uri(uri)


def find_host(uri: str) -> str:
    """Return the host and port of *uri*."""
    return urlsplit(uri).netloc.rpartition("@")[2]
