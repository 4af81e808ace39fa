"""What surrounds a call: the session, user, tags and MLflow run it belongs to, and whether it may be recorded.

All of it lives in context variables, so that it follows await points by itself and threads through :func:`wrap`.
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
from . import semconv as sc
from .foreign import as_text

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scope:
    """What ``tracing.session``, ``user``, ``tags`` and their like have set around the caller."""

    session: str | None = None
    user: str | None = None
    run_id: str | None = None
    model_id: str | None = None
    request_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    around_run: str | None = None  # active where a task was sent from; one that is active here counts over it


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a trace belongs, as its caller saw it when the trace's root span started.

    A field is None where the caller's surroundings do not say; the exporter then asks its Config.
    """

    tracking_uri: str | None = None
    experiment_id: str | None = None
    experiment_name: str | None = None
    run_id: str | None = None
    model_id: str | None = None
    session: str | None = None
    user: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


_last: tuple[dict[str, Any], Origin] = ({}, Origin())  # what the last one said, and it
NOWHERE: Final = Scope()
_scope: ContextVar[Scope] = ContextVar("mlspan_scope", default=NOWHERE)
_started_run: ContextVar[str | None] = ContextVar("mlspan_started_run", default=None)
_hearers: list[Callable[[Any], object]] = []  # who is told of each run that MLflow makes active
_FLUENT: Final = "mlflow.tracking.fluent"
_SUPPRESSED: Final = otel._SUPPRESS_INSTRUMENTATION_KEY  # as OTel's own instrumentations do
_NO_TAGS: Final[Mapping[str, str]] = {}
_EMPTY: Final = otel.Context()


scope: Final = _scope.get  # what is around the caller


def surroundings() -> dict[str, str]:
    """The attributes that every span has of what surrounds it."""
    around = _scope.get()
    if around is NOWHERE:
        return {}
    named = {sc.TAG_PREFIX + key: value for key, value in around.tags.items()}
    if around.session is not None:
        named[sc.SESSION_ID] = around.session
    if around.user is not None:
        named[sc.USER_ID] = around.user
    if around.model_id is not None:
        named[sc.MODEL_ID] = around.model_id
    if around.request_id is not None:
        named[sc.CLIENT_REQUEST_ID] = around.request_id
    return named


@contextmanager
def _within(change: Scope) -> Iterator[None]:
    token = _scope.set(change)
    try:
        yield
    finally:
        _scope.reset(token)
        _forget(token, change, NOWHERE)


@contextmanager
def attached(around: otel.Context) -> Iterator[None]:
    """*around* is OpenTelemetry's current context inside the block."""
    token = otel.attach(around)
    try:
        yield
    finally:
        detach(token, around)


def detach(token: Token[otel.Context], attached: otel.Context) -> None:
    """``otel.detach(token)``, after which *attached* is not what is current, whatever a finalizer did meanwhile."""
    otel.detach(token)
    _forget(token, attached, _EMPTY)


def _forget(token: Token[T], gone: T, nothing: T) -> None:
    """See that *token*'s variable, which has been reset, holds *gone* no more, but *nothing* if it held nothing before.

    Up to Python 3.11 the garbage collector may run inside of ``ContextVar.reset``. If a finalizer reads the variable
    there, what it read stays in the variable's cache, to be returned as long as nothing is set, and is not even owned.
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

    MLflow keeps its first 50 characters as the trace's ``client_request_id``, by which it can be searched for.
    """
    return _within(replace(_scope.get(), request_id=_text(id)))


def wrap(fn: Callable[P, T]) -> Callable[P, T]:
    """*fn*, to be called in another thread with all that surrounds us here: current span, session, user, run, model...

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
    """Note that other processes record spans of this trace: what they have stored of it is added to, not replaced."""
    _shared[trace_id] = None
    while len(_shared) > _MOST_SHARED:
        _shared.pop(next(iter(_shared)), None)


def is_shared(trace_id: int) -> bool:
    """Whether :func:`share` was told of this trace in this process."""
    return trace_id in _shared


def suppressed(around: otel.Context | None = None) -> bool:
    """Whether the caller, or who stands *around*, is inside OpenTelemetry's ``suppress_instrumentation``."""
    if around is None:
        around = otel.get_current()
    return bool(around.get(_SUPPRESSED))


def active_run_id() -> str | None:
    """The MLflow run that the caller is in: the one of :func:`run`, else the one MLflow has active here.

    Never imports MLflow: who has not imported it has no active run.
    """
    chosen = _scope.get().run_id
    if chosen is not None:
        return chosen
    fluent = sys.modules.get(_FLUENT)
    stacks = getattr(fluent, "_active_run_stack", None)
    if stacks is None:
        return _scope.get().around_run
    # MLflow keeps a stack for each thread, which tasks of one event loop share: the run started in this very context
    # is ours, as long as it is active anywhere.
    started = _started_run.get()
    if started is not None and any(started == run.info.run_id for runs in _all(stacks) for run in runs):
        return started
    own = stacks.get()
    return str(own[-1].info.run_id) if own else _scope.get().around_run


def active_model_id() -> str | None:
    """The LoggedModel that the caller is in: the one of :func:`model`, else what MLflow has active in this thread."""
    chosen = _scope.get().model_id
    if chosen is not None:
        return chosen
    active = getattr(sys.modules.get(_FLUENT), "_ACTIVE_MODEL_CONTEXT", None)
    found = _variable("MLFLOW_ACTIVE_MODEL_ID") if active is None else active.get().model_id
    return found or None


def _variable(name: str) -> str | None:
    """An environment variable, None where it is empty. ``os.environ.get`` raises and catches what is not there."""
    held = getattr(os.environ, "_data", None)
    return None if isinstance(held, dict) and _key(name) not in held else os.environ.get(name) or None


@cache
def _key(name: str) -> Any:
    """*name* as the interpreter holds it."""
    return getattr(os.environ, "encodekey", str)(name)


def _all(stacks: Any) -> list[list[Any]]:
    return list(stacks.get_all_thread_values().values())


def follow_runs() -> None:
    """Note, from now on, which MLflow run is started in which context; waits for MLflow to be imported."""
    import wrapt

    wrapt.register_post_import_hook(_note_starts, _FLUENT)


def hear_runs(hearer: Callable[[Any], object]) -> Callable[[], None]:
    """Have *hearer* told of each run that MLflow makes active, until what this returns is called."""
    follow_runs()
    _hearers.append(hearer)
    return lambda: _hearers.remove(hearer)


def _note_starts(fluent: ModuleType) -> None:
    active_run: Any = getattr(fluent, "ActiveRun", None)
    if active_run is None or hasattr(active_run.__init__, "_mlspan"):
        return
    init = active_run.__init__

    @wraps(init)
    def noted(self: Any, run: Any) -> None:
        init(self, run)
        _started_run.set(run.info.run_id)
        for hearer in tuple(_hearers):
            with guard("telling of a run"):
                hearer(run)

    noted._mlspan = True  # type: ignore[attr-defined]
    active_run.__init__ = noted


def origin(*, tracking_uri: bool = True, experiment: bool = True, tags: Mapping[str, str] = _NO_TAGS) -> Origin:
    """What the caller's surroundings say of where a trace belongs; the two flags leave out what Config has fixed.

    *tags* are those of every trace.

    ``mlflow.set_tracking_uri`` and ``mlflow.set_experiment`` set the environment variables that are read here.
    """
    global _last  # most spans start where the one before did; making another Origin takes as long as all the rest
    around = _scope.get()
    experiment_id = _variable("MLFLOW_EXPERIMENT_ID") if experiment else None
    by_name = experiment and not experiment_id
    said: dict[str, Any] = {
        "tracking_uri": _variable("MLFLOW_TRACKING_URI") if tracking_uri else None,
        "experiment_id": experiment_id,
        "experiment_name": _variable("MLFLOW_EXPERIMENT_NAME") if by_name else None,
        "run_id": active_run_id(),
        "model_id": active_model_id(),
        "session": around.session,
        "user": around.user,
        "tags": {**tags, **around.tags} if tags else around.tags,
    }
    known, found = _last
    if said != known:
        found = Origin(**said)
        _last = said, found
    return found
