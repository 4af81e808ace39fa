"""Propagation to tasks in other processes: the caller's span, session, user, tags, run and settings as text.

:func:`capture_context` is called by the caller, :func:`restore_context` around the task. ``integrations/workers/``
calls both for Spark, Ray, Dask, joblib, multiprocessing and Celery. AG2's envelopes have ``ag2/network.py``. Requests
between services are not handled here: the ``traceparent`` header is written by the instrumentation of an HTTP client
and read by that of an HTTP server, with OpenTelemetry's own propagators.
"""

from __future__ import annotations

import importlib
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

import opentelemetry.context as otel
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .._guard import guard, warn_once
from . import runtime
from .configured_runtime import Runtime
from .export.destination import make_store_path_absolute, restore_credentials, strip_credentials
from .mlflow_state.parent_run import parent_run, provide_parent_runs
from .mlflow_state.runs import get_active_run_id
from .operations import call_context
from .settings.config import Config
from .settings.resolution import resolve_config

_PROPAGATOR: Final = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
_MLFLOW_VARIABLES: Final = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
_LOCAL_SETTINGS: Final = {"redact", "spool_dir"}  # settings that mean nothing on another machine
_FLUSH_TIMEOUT: Final = 3.0  # seconds that the end of a task may wait for the backend
_SECONDS_WITHOUT_WAITING: Final = 30.0  # after a backend was unavailable, tasks that end do not wait for it

_process = secrets.token_hex(8)  # identifies this process; process ids repeat
_away_until = 0.0


def _renew_process_id() -> None:
    """Give a forked child an id of its own."""
    global _process
    _process = secrets.token_hex(8)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_process_id)


def capture_context(*, near: bool = False) -> dict[str, Any] | None:
    """Return what a task has to know of its caller, ready for JSON; None after a shutdown.

    Args:
        near: for a process that this one starts, which may see the credentials in an address. Other processes find
            credentials in their own ``MLFLOW_TRACKING_URI``.
    """
    now = runtime.get_runtime()
    if now is None:
        return None
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers)
    if (caller := get_current_span().get_span_context()).is_valid:
        call_context.mark_trace_shared(caller.trace_id)
    scope = asdict(call_context.get_call_scope())
    scope["around_run"] = get_active_run_id() or scope["around_run"]
    if scope["experiment_id"] is None:
        del scope["experiment_id"]  # mlspan of the process that gets it may be older
    settings = _list_changed_settings(now.config)
    variables = _collect_mlflow_variables(now.config)
    if not near:
        settings, variables = _strip_credentials(settings), _strip_credentials(variables)
    return {"process": _process, "headers": headers, "scope": scope, "settings": settings, "variables": variables}


def is_same_process(captured: Mapping[str, object]) -> bool:
    """Return whether *captured* was captured in this process."""
    return bool(captured["process"] == _process)


@contextmanager
def restore_context(captured: Mapping[str, Any], *, wait: bool | Callable[[], bool] = True) -> Iterator[None]:
    """Run a task inside the block with its caller's context, and store the spans that it has recorded at the end.

    In the process that captured, only the context is restored.

    Args:
        captured: what :func:`capture_context` returned.
        wait: whether the end of the block waits for the backend, or a function that says so then.
    """
    if is_same_process(captured):
        with _attach_captured(captured):
            yield
        return
    now, ends = None, 0
    with guard("taking over the settings of a task"):
        _apply_captured_settings(captured)
        provide_parent_runs()
        now = runtime.get_runtime()
        ends = now.count_ended_spans() if now is not None else 0
    around_run = captured["scope"]["around_run"]
    token = parent_run.set(around_run)
    try:
        with _attach_captured(captured):
            yield
    finally:
        call_context.reset_variable(token, around_run, None)
        with guard("storing the traces of a task"):
            _store_task_spans(now, ends, wait=wait() if callable(wait) else wait)


@contextmanager
def _attach_captured(captured: Mapping[str, Any]) -> Iterator[None]:
    """Make the captured span context, baggage and call scope current inside the block."""
    caller_context = _PROPAGATOR.extract(captured["headers"], otel.Context())
    with call_context.use_context(caller_context), call_context.use_scope(call_context.CallScope(**captured["scope"])):
        yield


def _list_changed_settings(config: Config) -> dict[str, Any]:
    """Return the settings of *config* that differ from the defaults, in a form that JSON can hold."""
    given = {field.name: getattr(config, field.name) for field in fields(Config) if field.name not in _LOCAL_SETTINGS}
    changed = {name: value for name, value in given.items() if value != getattr(_DEFAULT_CONFIG, name)}
    if config.redact is not None:
        changed |= _describe_redaction(config.redact)
    if changed.get("tracking_uri", "none") != "none":
        changed["tracking_uri"] = make_store_path_absolute(changed["tracking_uri"])
    return changed


_DEFAULT_CONFIG: Final = Config()


def _describe_redaction(redact: Any) -> dict[str, object]:
    """Return the settings that carry *redact* to another process.

    A function travels as its importable name. If it has none, content cannot be redacted there, so none is recorded.
    """
    if not callable(redact):
        patterns = [redact] if isinstance(redact, str) else redact
        return {"redact": [getattr(pattern, "pattern", pattern) for pattern in patterns]}
    name, module = getattr(redact, "__qualname__", ""), getattr(redact, "__module__", "") or ""
    if name.isidentifier() and module != "__main__" and getattr(sys.modules.get(module), name, None) is redact:
        return {"redact_by": f"{module}:{name}"}
    warn_once(
        "mlspan: workers cannot import the function that redacts, so they record no content; "
        "give one that stands at the top of a module"
    )
    return {"capture_content": False}


def _collect_mlflow_variables(config: Config) -> dict[str, str]:
    """Return MLflow's environment variables for the runs that a task starts."""
    from .export.mlflow.addresses import default_tracking_uri

    variables = {name: value for name in _MLFLOW_VARIABLES if (value := os.environ.get(name))}
    if "MLFLOW_TRACKING_URI" not in variables and config.tracking_uri not in {None, "none"}:
        variables["MLFLOW_TRACKING_URI"] = str(config.tracking_uri)
    variables["MLFLOW_TRACKING_URI"] = make_store_path_absolute(
        variables.get("MLFLOW_TRACKING_URI") or default_tracking_uri(Path.cwd())
    )
    return variables


def _strip_credentials(values: dict[str, Any]) -> dict[str, Any]:
    """Return *values* with the credentials removed from each tracking URI."""
    return {
        name: strip_credentials(value) if name.lower().endswith("tracking_uri") else value
        for name, value in values.items()
    }


def _apply_captured_settings(captured: Mapping[str, Any]) -> None:
    """Apply the captured settings, unless this process's own code has set its own."""
    for name, value in captured["variables"].items():
        own_value = restore_credentials(value) if name == "MLFLOW_TRACKING_URI" else value
        if os.environ.get(name) not in {own_value, value}:
            os.environ[name] = own_value
            if name == "MLFLOW_TRACKING_URI" and (mlflow := sys.modules.get("mlflow")) is not None:
                mlflow.set_tracking_uri(own_value)
    now, settings = runtime.get_runtime(), dict(captured["settings"])
    if now is not None and _strip_credentials(_list_changed_settings(now.config)) == _strip_credentials(settings):
        return
    if now is not None and now.config not in _received_configs and now.config != resolve_config({}):
        return
    if (redactor_name := settings.pop("redact_by", None)) is not None:
        settings["redact"] = _import_redactor(redactor_name)
        settings["capture_content"] = settings["redact"] is not None and settings.get("capture_content", True)
    if (uri := settings.get("tracking_uri")) is not None and uri != "none":
        settings["tracking_uri"] = restore_credentials(strip_credentials(uri)) if strip_credentials(uri) == uri else uri
    config = resolve_config(settings)
    _received_configs.append(config)
    del _received_configs[:-2]
    runtime.start_runtime(config)


_received_configs: list[Config] = []  # configurations that came with a task, not from this process's code


def _import_redactor(name: str) -> object:
    """Import the redact function *name*, written ``module:function``. Return None and warn once if that fails."""
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        warn_once("mlspan: this worker records no content, as it lacks the function that redacts: %s", error)
        return None


def _store_task_spans(now: Runtime | None, ends: int, *, wait: bool) -> None:
    """Send the spans of a task, and wait at most 3 seconds for the backend.

    If the backend was unavailable, spans are only written to disk for the next 30 seconds.
    """
    global _away_until
    if now is None or now.count_ended_spans() == ends:
        return
    if not wait:
        now.start_flush()
        return
    if time.monotonic() >= _away_until:
        if now.send_ended(_FLUSH_TIMEOUT):
            return
        _away_until = time.monotonic() + _SECONDS_WITHOUT_WAITING
    now.save_to_disk(1.0)
