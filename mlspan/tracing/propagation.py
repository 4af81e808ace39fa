"""Propagation: the caller's span, session, user, tags, run and settings as text, restored around a task elsewhere."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

import opentelemetry.context as otel
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .._guard import guard, tell_once
from . import runtime
from .mlflow_state.runs import active_run_id
from .operations import call_context
from .settings.config import Config
from .settings.resolution import resolve

_PROPAGATOR: Final = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
_VARIABLES: Final = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
_OF_THIS_MACHINE: Final = {"redact", "spool_dir"}  # settings that mean nothing on another machine
_FLUSH_WITHIN: Final = 3.0  # seconds that the end of a task may wait for the backend
_ASK_AGAIN_AFTER: Final = 30.0  # seconds during which an unavailable backend is not waited for

_process = secrets.token_hex(8)  # identifies this process; process ids repeat
_away_until = 0.0
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: globals().__setitem__("_process", secrets.token_hex(8)))


def capture(*, near: bool = False) -> dict[str, Any] | None:
    """Return what a task has to know of its caller, ready for JSON; None after a shutdown.

    Args:
        near: for a process that this one starts, which may see the credentials in an address. Other processes find
            credentials in their own ``MLFLOW_TRACKING_URI``.
    """
    now = runtime.runtime()
    if now is None:
        return None
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers)
    if (caller := get_current_span().get_span_context()).is_valid:
        call_context.share(caller.trace_id)
    scope = asdict(call_context.scope())
    scope["around_run"] = active_run_id() or scope["around_run"]
    settings = _settings(now.config)
    variables = _variables(now.config)
    if not near:
        settings, variables = _bare(settings), _bare(variables)
    return {"process": _process, "headers": headers, "scope": scope, "settings": settings, "variables": variables}


def is_here(carried: Mapping[str, Any]) -> bool:
    """Return whether *carried* was captured in this process."""
    return bool(carried["process"] == _process)


@contextmanager
def restored(carried: Mapping[str, Any], *, wait: bool = True) -> Iterator[None]:
    """Run a task inside the block with its caller's context, and store the spans that it has recorded at the end.

    In the process that captured, only the context is restored.

    Args:
        carried: what :func:`capture_context` returned.
        wait: whether the end of the block waits for the backend.
    """
    if is_here(carried):
        with _around(carried):
            yield
        return
    now, ends = None, 0
    with guard("taking over the settings of a task"):
        _configure(carried)
        _follow_parent()
        now = runtime.runtime()
        ends = now.ends() if now is not None else 0
    token = _parent_run.set(carried["scope"]["around_run"])
    try:
        with _around(carried):
            yield
    finally:
        _parent_run.reset(token)
        with guard("storing the traces of a task"):
            _store(now, ends, wait=wait)


@contextmanager
def _around(carried: Mapping[str, Any]) -> Iterator[None]:
    """Make the carried span context, baggage and call scope current inside the block."""
    caller_context = _PROPAGATOR.extract(carried["headers"], otel.Context())
    with call_context.attached(caller_context), call_context._within(call_context.Scope(**carried["scope"])):
        yield


def _settings(config: Config) -> dict[str, Any]:
    """Return the settings of *config* that differ from the defaults, in a form that JSON can hold."""
    given = {field.name: getattr(config, field.name) for field in fields(Config) if field.name not in _OF_THIS_MACHINE}
    changed = {name: value for name, value in given.items() if value != getattr(_DEFAULT, name)}
    if config.redact is not None:
        changed |= _redaction(config.redact)
    if "tracking_uri" in changed:
        changed["tracking_uri"] = _settled(changed["tracking_uri"])
    return changed


_DEFAULT: Final = Config()


def _redaction(redact: Any) -> dict[str, Any]:
    """Return the settings that carry *redact* to another process.

    A function travels as its importable name. If it has none, content cannot be redacted there, so none is recorded.
    """
    if not callable(redact):
        patterns = [redact] if isinstance(redact, str) else redact
        return {"redact": [getattr(pattern, "pattern", pattern) for pattern in patterns]}
    name, module = getattr(redact, "__qualname__", ""), getattr(redact, "__module__", "") or ""
    if name.isidentifier() and module != "__main__" and getattr(sys.modules.get(module), name, None) is redact:
        return {"redact_by": f"{module}:{name}"}
    tell_once(
        "mlspan: workers cannot import the function that redacts, so they record no content; "
        "give one that stands at the top of a module"
    )
    return {"capture_content": False}


def _variables(config: Config) -> dict[str, str]:
    """Return MLflow's environment variables for the runs that a task starts."""
    from .export.mlflow.store import _default_uri

    variables = {name: value for name in _VARIABLES if (value := os.environ.get(name))}
    if "MLFLOW_TRACKING_URI" not in variables and config.tracking_uri not in {None, "none"}:
        variables["MLFLOW_TRACKING_URI"] = str(config.tracking_uri)
    variables["MLFLOW_TRACKING_URI"] = _settled(variables.get("MLFLOW_TRACKING_URI") or _default_uri(Path.cwd()))
    return variables


def _settled(uri: str) -> str:
    """Return *uri* with the path of a database made absolute."""
    from .export.destination import settled

    return settled(uri)


def _bare(values: dict[str, Any]) -> dict[str, Any]:
    """Return *values* with the credentials removed from each tracking URI."""
    from .export.destination import bare

    return {name: bare(value) if name.lower().endswith("tracking_uri") else value for name, value in values.items()}


def _configure(carried: Mapping[str, Any]) -> None:
    """Apply the carried settings, unless this process's own code has set its own."""
    from .export.destination import bare, full

    for name, value in carried["variables"].items():
        own_value = full(value) if name == "MLFLOW_TRACKING_URI" else value
        if os.environ.get(name) not in {own_value, value}:
            os.environ[name] = own_value
            if name == "MLFLOW_TRACKING_URI" and (mlflow := sys.modules.get("mlflow")) is not None:
                mlflow.set_tracking_uri(own_value)
    now, settings = runtime.runtime(), dict(carried["settings"])
    if now is not None and _bare(_settings(now.config)) == _bare(settings):
        return
    if now is not None and now.config not in _ours and now.config != resolve({}):
        return
    if (redactor_name := settings.pop("redact_by", None)) is not None:
        settings["redact"] = _named(redactor_name)
        settings["capture_content"] = settings["redact"] is not None and settings.get("capture_content", True)
    if (uri := settings.get("tracking_uri")) is not None and uri != "none":
        settings["tracking_uri"] = full(bare(uri)) if bare(uri) == uri else uri
    config = resolve(settings)
    _ours.append(config)
    del _ours[:-2]
    runtime.start(config)


_ours: list[Config] = []  # configurations that came with a task, not from this process's code


def _named(name: str) -> Any:
    """Import the redact function *name*, written ``module:function``. Return None and warn once if that fails."""
    import importlib

    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        tell_once("mlspan: this worker records no content, as it lacks the function that redacts: %s", error)
        return None


def _store(now: runtime.Runtime | None, ends: int, *, wait: bool) -> None:
    """Send the spans of a task, and wait at most 3 seconds for the backend.

    If the backend was unavailable, spans are only written to disk for the next 30 seconds.
    """
    global _away_until
    if now is None or now.ends() == ends:
        return
    if not wait:
        now.hurry()
        return
    if time.monotonic() >= _away_until:
        if now.flush(_FLUSH_WITHIN):
            return
        _away_until = time.monotonic() + _ASK_AGAIN_AFTER
    now.save(1.0)


_parent_run: ContextVar[str | None] = ContextVar("mlspan_parent_run", default=None)


class _Parent:
    """A provider in MLflow's registry of run contexts: a run that a task starts becomes a child of the caller's run."""

    def in_context(self) -> bool:
        return _parent_run.get() is not None

    def tags(self) -> dict[str, str | None]:
        return {"mlflow.parentRunId": _parent_run.get()}


def _follow_parent() -> None:
    """Register the parent provider, once, as soon as MLflow is imported."""
    global _followed
    if not _followed:
        import wrapt

        _followed = True
        wrapt.register_post_import_hook(_register, "mlflow.tracking.context.registry")


_followed = False


def _register(registry: Any) -> None:
    with guard("registering the parent of runs"):
        registry._run_context_provider_registry.register(_Parent)
