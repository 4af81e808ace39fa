"""What surrounds a call here, as text, and put back around a task in another process: the caller's span, session, user,
tags and run, and where traces go.
"""

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
from . import context, setup
from .config import Config, resolve

_PROPAGATOR: Final = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
_VARIABLES: Final = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
_OF_THIS_MACHINE: Final = {"redact", "spool_dir"}  # settings that another machine cannot take as they are
_FLUSH_WITHIN: Final = 3.0  # seconds that a task's end may wait for a backend
_ASK_AGAIN_AFTER: Final = 30.0  # seconds without waiting for a backend that was away

_process = secrets.token_hex(8)  # of this process, whatever its id: ids repeat
_away_until = 0.0
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: globals().__setitem__("_process", secrets.token_hex(8)))


def capture(*, near: bool = False) -> dict[str, Any] | None:
    """What surrounds the caller, ready for JSON; None after a shutdown.

    *near*: for a process that this one starts, which may know the credentials in an address. A store elsewhere is to
    find them in its own ``MLFLOW_TRACKING_URI``.
    """
    now = setup.runtime()
    if now is None:
        return None
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers)
    if (at := get_current_span().get_span_context()).is_valid:
        context.share(at.trace_id)
    around = asdict(context.scope())
    around["around_run"] = context.active_run_id() or around["around_run"]
    settings = _settings(now.config)
    variables = _variables(now.config)
    if not near:
        settings, variables = _bare(settings), _bare(variables)
    return {"process": _process, "headers": headers, "scope": around, "settings": settings, "variables": variables}


def is_here(carried: Mapping[str, Any]) -> bool:
    """Whether this is the process that captured."""
    return bool(carried["process"] == _process)


@contextmanager
def restored(carried: Mapping[str, Any], *, wait: bool = True) -> Iterator[None]:
    """Run a task inside: what :func:`capture` saw surrounds it, and what it has recorded is stored when it ends.

    In the process that captured, only the surroundings are put back.
    """
    if is_here(carried):
        with _around(carried):
            yield
        return
    now, ends = None, 0
    with guard("taking over the settings of a task"):
        _configure(carried)
        _follow_parent()
        now = setup.runtime()
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
    above = _PROPAGATOR.extract(carried["headers"], otel.Context())
    with context.attached(above), context._within(context.Scope(**carried["scope"])):
        yield


def _settings(config: Config) -> dict[str, Any]:
    """What of *config* is not the default."""
    given = {f.name: getattr(config, f.name) for f in fields(Config) if f.name not in _OF_THIS_MACHINE}
    changed = {name: value for name, value in given.items() if value != getattr(_DEFAULT, name)}
    if config.redact is not None:
        changed |= _redaction(config.redact)
    if "tracking_uri" in changed:
        changed["tracking_uri"] = _settled(changed["tracking_uri"])
    return changed


_DEFAULT: Final = Config()


def _redaction(redact: Any) -> dict[str, Any]:
    """A function travels by its name. What has none leaves no content to redact: none is recorded over there."""
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
    """Where MLflow logs from here, for the runs that a task starts."""
    from .export.mlflow import _default_uri

    said = {name: value for name in _VARIABLES if (value := os.environ.get(name))}
    if "MLFLOW_TRACKING_URI" not in said and config.tracking_uri not in {None, "none"}:
        said["MLFLOW_TRACKING_URI"] = str(config.tracking_uri)
    said["MLFLOW_TRACKING_URI"] = _settled(said.get("MLFLOW_TRACKING_URI") or _default_uri(Path.cwd()))
    return said


def _settled(uri: str) -> str:
    from .export.address import settled

    return settled(uri)


def _bare(said: dict[str, Any]) -> dict[str, Any]:
    from .export.address import bare

    return {name: bare(value) if name.lower().endswith("tracking_uri") else value for name, value in said.items()}


def _configure(carried: Mapping[str, Any]) -> None:
    """Take the settings over, unless this process's own code has made its own."""
    from .export.address import bare, full

    for name, value in carried["variables"].items():
        said = full(value) if name == "MLFLOW_TRACKING_URI" else value
        if os.environ.get(name) not in {said, value}:
            os.environ[name] = said
            if name == "MLFLOW_TRACKING_URI" and (mlflow := sys.modules.get("mlflow")) is not None:
                mlflow.set_tracking_uri(said)
    now, settings = setup.runtime(), dict(carried["settings"])
    if now is not None and _bare(_settings(now.config)) == _bare(settings):
        return
    if now is not None and now.config not in _ours and now.config != resolve({}):
        return
    if (by := settings.pop("redact_by", None)) is not None:
        settings["redact"] = _named(by)
        settings["capture_content"] = settings["redact"] is not None and settings.get("capture_content", True)
    if (uri := settings.get("tracking_uri")) is not None and uri != "none":
        settings["tracking_uri"] = full(bare(uri)) if bare(uri) == uri else uri
    config = resolve(settings)
    _ours.append(config)
    del _ours[:-2]
    setup.start(config)


_ours: list[Config] = []  # what was carried here, rather than set by this process's own code


def _named(name: str) -> Any:
    import importlib

    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        tell_once("mlspan: this worker records no content, as it lacks the function that redacts: %s", error)
        return None


def _store(now: setup.Runtime | None, ends: int, *, wait: bool) -> None:
    """Wait for the backend, not long, and not again soon if it is away: then the disk has it."""
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
    """For MLflow's registry of run contexts: a run that a task starts is a child of the caller's."""

    def in_context(self) -> bool:
        return _parent_run.get() is not None

    def tags(self) -> dict[str, str | None]:
        return {"mlflow.parentRunId": _parent_run.get()}


def _follow_parent() -> None:
    global _followed
    if not _followed:
        import wrapt

        _followed = True
        wrapt.register_post_import_hook(_register, "mlflow.tracking.context.registry")


_followed = False


def _register(registry: Any) -> None:
    with guard("registering the parent of runs"):
        registry._run_context_provider_registry.register(_Parent)
