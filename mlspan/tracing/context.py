"""The caller's context: session, user, tags, MLflow run and model, and whether calls may be recorded.

All of it is in context variables, so it follows ``await`` by itself and reaches other threads through :func:`wrap`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token, copy_context
from dataclasses import dataclass, field, replace
from functools import cache, wraps
from types import ModuleType
from typing import Any, Final, ParamSpec, TypeVar

import opentelemetry.context as otel

from .._guard import guard
from .operations import semconv as sc
from .operations.foreign_objects import as_text

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scope:
    """The values that ``tracing.session``, ``user``, ``tags`` and the like have set around the caller."""

    session: str | None = None
    user: str | None = None
    run_id: str | None = None
    model_id: str | None = None
    request_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    around_run: str | None = None  # the run active where a task was sent from; a run that is active here overrides it


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The destination and labels of a trace, as its caller saw them when the trace's root span started.

    A field is None if the caller's context does not set it; the exporter then uses its Config.
    """

    tracking_uri: str | None = None
    experiment_id: str | None = None
    experiment_name: str | None = None
    run_id: str | None = None
    model_id: str | None = None
    session: str | None = None
    user: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


_last: tuple[dict[str, Any], Origin] = ({}, Origin())  # the last values read, and the object made of them
NOWHERE: Final = Scope()
_scope: ContextVar[Scope] = ContextVar("mlspan_scope", default=NOWHERE)
_started_run: ContextVar[str | None] = ContextVar("mlspan_started_run", default=None)
_hearers: list[Callable[[Any], object]] = []  # called with each run that MLflow makes active
_FLUENT: Final = "mlflow.tracking.fluent"
_SUPPRESSED: Final = otel._SUPPRESS_INSTRUMENTATION_KEY  # OTel's own instrumentations read the same private key
_NO_TAGS: Final[Mapping[str, str]] = {}
_EMPTY: Final = otel.Context()


scope: Final = _scope.get  # returns the caller's scope


def surroundings() -> dict[str, str]:
    """Return the attributes that the caller's scope gives to every span."""
    call_scope = _scope.get()
    if call_scope is NOWHERE:
        return {}
    named = {sc.TAG_PREFIX + key: value for key, value in call_scope.tags.items()}
    if call_scope.session is not None:
        named[sc.SESSION_ID] = call_scope.session
    if call_scope.user is not None:
        named[sc.USER_ID] = call_scope.user
    if call_scope.model_id is not None:
        named[sc.MODEL_ID] = call_scope.model_id
    if call_scope.request_id is not None:
        named[sc.CLIENT_REQUEST_ID] = call_scope.request_id
    return named


@contextmanager
def _within(change: Scope) -> Iterator[None]:
    """Make *change* the caller's scope inside the block."""
    token = _scope.set(change)
    try:
        yield
    finally:
        _scope.reset(token)
        _forget(token, change, NOWHERE)


@contextmanager
def attached(around: otel.Context) -> Iterator[None]:
    """Make *around* OpenTelemetry's current context inside the block."""
    token = otel.attach(around)
    try:
        yield
    finally:
        detach(token, around)


def detach(token: Token[otel.Context], attached: otel.Context) -> None:
    """Detach *token*, and make sure that *attached* is no longer current, whatever a finalizer did meanwhile."""
    otel.detach(token)
    _forget(token, attached, _EMPTY)


def _forget(token: Token[T], gone: T, nothing: T) -> None:
    """Clear *gone* from the cache of *token*'s variable, which has just been reset, by setting it to *nothing*.

    Up to Python 3.11 the garbage collector may run inside ``ContextVar.reset``. If a finalizer reads the variable then,
    the old value stays in the variable's cache, without being owned, and is returned until the next ``set``.
    """
    if token.old_value is Token.MISSING and token.var.get(nothing) is gone:
        token.var.set(nothing)


def _text(value: Any) -> str | None:
    """Return *value* as text that can be stored; None is none."""
    return None if value is None else as_text(value)


def session(id: str | None) -> Any:
    """``with session("chat-42"):`` groups the traces of one conversation; MLflow shows them as a session.

    ``session(None)`` is none, whatever there is around it; so with :func:`user` and the others.
    """
    return _within(replace(_scope.get(), session=_text(id)))


def user(id: str | None) -> Any:
    """``with user("ada"):`` names whom the calls inside are made for."""
    return _within(replace(_scope.get(), user=_text(id)))


def tags(**tags: object) -> Any:
    """``with tags(env="prod"):`` puts tags on the traces inside; inner ones add to outer ones."""
    around = _scope.get()
    return _within(
        replace(around, tags={**around.tags, **{as_text(key): as_text(value) for key, value in tags.items()}})
    )


def run(run_id: str | None) -> Any:
    """``with run(run_id):`` ties the traces inside to this MLflow run, whatever run is active."""
    return _within(replace(_scope.get(), run_id=_text(run_id)))


def model(model_id: str | None) -> Any:
    """``with model(model_id):`` ties the traces inside to this LoggedModel of MLflow's, whatever model is active."""
    return _within(replace(_scope.get(), model_id=_text(model_id)))


def request_id(id: str | None) -> Any:
    """``with request_id("req-7"):`` gives the traces inside the id that the caller's own system has for the request.

    MLflow keeps the first 50 characters as the trace's ``client_request_id`` and can search for it.
    """
    return _within(replace(_scope.get(), request_id=_text(id)))


def wrap(fn: Callable[P, T]) -> Callable[P, T]:
    """Return *fn* for use in another thread: it runs with the current span, session, user, run and model of this place.

    The result may be called many times, and by many threads at once.
    """
    here = copy_context()
    run_id, model_id = active_run_id(), active_model_id()
    if run_id is not None or model_id is not None:
        here.run(_scope.set, replace(_scope.get(), run_id=run_id, model_id=model_id))

    @wraps(fn)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        return here.copy().run(fn, *args, **kwargs)

    return wrapped


_shared: dict[int, None] = {}
_MOST_SHARED: Final = 10_000


def share(trace_id: int) -> None:
    """Note that other processes record spans of this trace, so that stored trace data is extended, not replaced."""
    _shared[trace_id] = None
    while len(_shared) > _MOST_SHARED:
        _shared.pop(next(iter(_shared)), None)


def is_shared(trace_id: int) -> bool:
    """Return whether this process has marked the trace as shared with other processes."""
    return trace_id in _shared


def suppressed(around: otel.Context | None = None) -> bool:
    """Return whether the current context, or *around*, is inside OpenTelemetry's ``suppress_instrumentation``."""
    if around is None:
        around = otel.get_current()
    return bool(around.get(_SUPPRESSED))


def active_run_id() -> str | None:
    """Return the id of the caller's MLflow run: the one set by :func:`run`, else the one that is active in MLflow.

    This never imports MLflow: a process that has not imported it has no active run.
    """
    chosen = _scope.get().run_id
    if chosen is not None:
        return chosen
    fluent = sys.modules.get(_FLUENT)
    stacks = getattr(fluent, "_active_run_stack", None)
    if stacks is None:
        return _scope.get().around_run
    # MLflow keeps one stack per thread, and the tasks of an event loop share it. So a run that was started in this
    # context is the caller's as long as it is active in any thread.
    started = _started_run.get()
    if started is not None and any(started == run.info.run_id for runs in _all(stacks) for run in runs):
        return started
    own = stacks.get()
    return str(own[-1].info.run_id) if own else _scope.get().around_run


def active_model_id() -> str | None:
    """Return the id of the caller's LoggedModel: the one set by :func:`model`, else the one active in this thread."""
    chosen = _scope.get().model_id
    if chosen is not None:
        return chosen
    active = getattr(sys.modules.get(_FLUENT), "_ACTIVE_MODEL_CONTEXT", None)
    found = _variable("MLFLOW_ACTIVE_MODEL_ID") if active is None else active.get().model_id
    return found or None


def _variable(name: str) -> str | None:
    """Return an environment variable, or None if it is unset or empty.

    ``os.environ.get`` raises and catches KeyError for a missing name, which costs more than looking it up first.
    """
    stored = getattr(os.environ, "_data", None)
    return None if isinstance(stored, dict) and _key(name) not in stored else os.environ.get(name) or None


@cache
def _key(name: str) -> Any:
    """Return *name* in the form in which ``os.environ`` stores it."""
    return getattr(os.environ, "encodekey", str)(name)


def _all(stacks: Any) -> list[list[Any]]:
    """Return MLflow's stack of active runs of every thread."""
    return list(stacks.get_all_thread_values().values())


def follow_runs() -> None:
    """Track, from now on, which MLflow run is started in which context. This waits until MLflow is imported."""
    import wrapt

    wrapt.register_post_import_hook(_note_starts, _FLUENT)


def hear_runs(hearer: Callable[[Any], object]) -> Callable[[], None]:
    """Call *hearer* with each run that MLflow makes active, until the returned function is called."""
    follow_runs()
    _hearers.append(hearer)
    return lambda: _hearers.remove(hearer)


def _note_starts(fluent: ModuleType) -> None:
    """Patch ``ActiveRun.__init__``, which every start of a run passes through. Without it, only the stack is read."""
    active_run_class: Any = getattr(fluent, "ActiveRun", None)
    if active_run_class is None or hasattr(active_run_class.__init__, "_mlspan"):
        return
    init = active_run_class.__init__

    @wraps(init)
    def noted(self: Any, run: Any) -> None:
        init(self, run)
        _started_run.set(run.info.run_id)
        for hearer in tuple(_hearers):
            with guard("calling a run listener"):
                hearer(run)

    noted._mlspan = True  # type: ignore[attr-defined]
    active_run_class.__init__ = noted


def origin(*, tracking_uri: bool = True, experiment: bool = True, tags: Mapping[str, str] = _NO_TAGS) -> Origin:
    """Return the destination and labels that the caller's context gives to a trace.

    ``mlflow.set_tracking_uri`` and ``mlflow.set_experiment`` set the environment variables that are read here.

    Args:
        tracking_uri: False if the Config sets the tracking URI, which is then not read.
        experiment: False if the Config sets the experiment, which is then not read.
        tags: tags of every trace.
    """
    global _last  # most spans start where the last one did, and making a new object takes as long as all the rest
    call_scope = _scope.get()
    experiment_id = _variable("MLFLOW_EXPERIMENT_ID") if experiment else None
    by_name = experiment and not experiment_id
    values: dict[str, Any] = {
        "tracking_uri": _variable("MLFLOW_TRACKING_URI") if tracking_uri else None,
        "experiment_id": experiment_id,
        "experiment_name": _variable("MLFLOW_EXPERIMENT_NAME") if by_name else None,
        "run_id": active_run_id(),
        "model_id": active_model_id(),
        "session": call_scope.session,
        "user": call_scope.user,
        "tags": {**tags, **call_scope.tags} if tags else call_scope.tags,
    }
    last_values, trace_origin = _last
    if values != last_values:
        trace_origin = Origin(**values)
        _last = values, trace_origin
    return trace_origin
