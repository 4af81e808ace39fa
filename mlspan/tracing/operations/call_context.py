"""Call context: the values around a call (session, user, tags, run) and whether the call may be recorded.

All of it is in context variables, so it follows ``await`` by itself and reaches other threads through ``tracing.wrap``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import Final, TypeVar

import opentelemetry.context as otel

from ..._bounded import BoundedDict
from . import semconv as sc

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CallScope:
    """The values that ``tracing.session``, ``user``, ``tags`` and the like have set around the caller."""

    session: str | None = None
    user: str | None = None
    run_id: str | None = None
    model_id: str | None = None
    request_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    experiment_id: str | None = None  # that of a trace of MLflow's own that the call is a part of
    around_run: str | None = None  # the run active where a task was sent from; a run that is active here overrides it


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceOrigin:
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


EMPTY_SCOPE: Final = CallScope()


_call_scope: ContextVar[CallScope] = ContextVar("mlspan_scope", default=EMPTY_SCOPE)


EMPTY_CONTEXT: Final = otel.Context()


get_call_scope: Final = _call_scope.get  # returns the caller's scope


def build_scope_attributes() -> dict[str, str]:
    """Return the attributes that the caller's scope gives to every span."""
    call_scope = _call_scope.get()
    if call_scope is EMPTY_SCOPE:
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
def use_scope(change: CallScope) -> Iterator[None]:
    """Make *change* the caller's scope inside the block."""
    token = enter_scope(change)
    try:
        yield
    finally:
        leave_scope(token, change)


def enter_scope(change: CallScope) -> Token[CallScope]:
    """Make *change* the caller's scope, until :func:`leave_scope` is called with the returned token."""
    return _call_scope.set(change)


def leave_scope(token: Token[CallScope], change: CallScope) -> None:
    """Put back the scope from before *change*, in whatever context this runs."""
    reset_variable(token, change, EMPTY_SCOPE)


@contextmanager
def use_context(around: otel.Context) -> Iterator[None]:
    """Make *around* OpenTelemetry's current context inside the block."""
    token = otel.attach(around)
    try:
        yield
    finally:
        detach_context(token, around)


def detach_context(token: Token[otel.Context], attached: otel.Context) -> None:
    """Detach *token*, and make sure that *attached* is no longer current, whatever a finalizer did meanwhile."""
    if type(token) is Token:
        reset_variable(token, attached, EMPTY_CONTEXT)
    else:  # of a runtime context that does not use context variables (OTEL_PYTHON_CONTEXT)
        otel.detach(token)


def reset_variable(token: Token[T], attached: T, nothing: T) -> None:
    """Reset the variable of *token* to its value from before *attached*.

    A block may be left in another context than it was entered in: another task closes an async generator, FastAPI runs
    both halves of a sync dependency in threads. What that context holds then stays, unless it is *attached* itself.
    """
    try:
        token.var.reset(token)
    except ValueError:
        if attached is not nothing and token.var.get(nothing) is attached:
            token.var.set(nothing if token.old_value is Token.MISSING else token.old_value)
    else:
        # Up to Python 3.11 the garbage collector may run inside ``reset``. If a finalizer reads the variable then, the
        # old value stays in the variable's cache, without being owned, and is returned until the next ``set``.
        if token.old_value is Token.MISSING and token.var.get(nothing) is attached:
            token.var.set(nothing)


_shared_traces: Final[BoundedDict[int, None]] = BoundedDict(10_000)


def mark_trace_shared(trace_id: int) -> None:
    """Note that other processes record spans of this trace, so that stored trace data is extended, not replaced."""
    _shared_traces[trace_id] = None


def is_trace_shared(trace_id: int) -> bool:
    """Return whether this process has marked the trace as shared with other processes."""
    return trace_id in _shared_traces


_joined_traces: Final[BoundedDict[int, None]] = BoundedDict(10_000)


def mark_trace_joined(trace_id: int) -> None:
    """Note that MLflow stores spans of this trace itself: a parent that its store lacks is yet to come."""
    _joined_traces[trace_id] = None


def is_trace_joined(trace_id: int) -> bool:
    """Return whether MLflow stores spans of this trace itself."""
    return trace_id in _joined_traces
