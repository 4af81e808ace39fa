"""Set the context of the calls inside a block: session, user, tags, run, model and request id; and carry it along."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextvars import Token, copy_context
from dataclasses import replace
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from .._frames import skip_in_warnings
from .mlflow_state.runs import get_active_model_id, get_active_run_id
from .operations.call_context import CallScope, enter_scope, get_call_scope, leave_scope
from .operations.foreign_objects import as_text
from .operations.generators import GeneratorSteps, wrap_async_generator, wrap_generator
from .operations.sessions import name_session

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class ScopeBlock:
    """A change of the caller's scope, as a block or as a decorator. It is read when the block or the call begins.

    As a decorator it takes functions, coroutine functions and both kinds of generator functions. A generator's body has
    the scope; the code that reads the generator does not.
    """

    __slots__ = ("_change", "_entered")

    def __init__(self, change: Callable[[CallScope], CallScope]) -> None:
        self._change = change
        self._entered: list[tuple[Token[CallScope], CallScope]] = []

    def __enter__(self) -> None:
        scope = self._change(get_call_scope())
        self._entered.append((enter_scope(scope), scope))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leave_scope(*self._entered.pop())

    def __call__(self, fn: F) -> F:
        """Return *fn* with this change around each of its calls."""
        wrapper = next((wrapper for is_kind, wrapper in _WRAPPERS if is_kind(fn)), _wrap_function)
        return wraps(fn)(skip_in_warnings(wrapper(fn, self._change)))  # type: ignore[return-value]  # it has the signature of fn


def _wrap_function(fn: Any, change: Callable[[CallScope], CallScope]) -> Any:
    def call_in_scope(*args: Any, **kwargs: Any) -> Any:
        with ScopeBlock(change):
            return fn(*args, **kwargs)

    return call_in_scope


def _wrap_coroutine(fn: Any, change: Callable[[CallScope], CallScope]) -> Any:
    async def await_in_scope(*args: Any, **kwargs: Any) -> Any:
        with ScopeBlock(change):
            return await fn(*args, **kwargs)

    return await_in_scope


def _wrap_generator(fn: Any, change: Callable[[CallScope], CallScope]) -> Any:
    return wrap_generator(fn, lambda *_: change, _ScopedSteps)


def _wrap_async_generator(fn: Any, change: Callable[[CallScope], CallScope]) -> Any:
    return wrap_async_generator(fn, lambda *_: change, _ScopedSteps)


class _ScopedSteps(GeneratorSteps):
    """The steps of a generator, each in the changed scope."""

    def __init__(self, own: Any, change: Callable[[CallScope], CallScope]) -> None:
        super().__init__(own)
        self._change = change

    def _enter_step(self) -> ScopeBlock:
        return ScopeBlock(self._change)


_WRAPPERS: list[tuple[Callable[[Any], bool], Callable[..., Any]]] = [
    (inspect.isasyncgenfunction, _wrap_async_generator),
    (inspect.isgeneratorfunction, _wrap_generator),
    (inspect.iscoroutinefunction, _wrap_coroutine),
]


def _text(value: object) -> str | None:
    """Return *value* as text that can be stored; None is none."""
    return None if value is None else as_text(value)


def session(id: str | Sequence[str] | None) -> ScopeBlock:
    """``with session("chat-42"):`` groups the traces of one conversation; MLflow shows them as a session.

    ``session(["trip-2", "episode-1"])`` names a session of several levels, the outermost first: MLflow 3.18 groups by
    each of them.
    ``session(None)`` sets no session, even inside another ``session`` block; likewise for :func:`user` and the others.
    """
    text = name_session(id)
    return ScopeBlock(lambda around: replace(around, session=text))


def user(id: str | None) -> ScopeBlock:
    """``with user("ada"):`` names the user for whom the calls inside are made."""
    text = _text(id)
    return ScopeBlock(lambda around: replace(around, user=text))


def tags(**tags: object) -> ScopeBlock:
    """``with tags(env="prod"):`` puts tags on the traces inside; inner ones add to outer ones."""
    named = {as_text(key): as_text(value) for key, value in tags.items()}
    return ScopeBlock(lambda around: replace(around, tags={**around.tags, **named}))


def run(run_id: str | None) -> ScopeBlock:
    """``with run(run_id):`` ties the traces inside to this MLflow run, whatever run is active."""
    text = _text(run_id)
    return ScopeBlock(lambda around: replace(around, run_id=text))


def model(model_id: str | None) -> ScopeBlock:
    """``with model(model_id):`` ties the traces inside to this LoggedModel of MLflow's, whatever model is active."""
    text = _text(model_id)
    return ScopeBlock(lambda around: replace(around, model_id=text))


def request_id(id: str | None) -> ScopeBlock:
    """``with request_id("req-7"):`` gives the traces inside the id that the caller's own system has for the request.

    MLflow keeps the first 50 characters as the trace's ``client_request_id`` and can search for it.
    """
    text = _text(id)
    return ScopeBlock(lambda around: replace(around, request_id=text))


def wrap(fn: Callable[P, T]) -> Callable[P, T]:
    """Return *fn* for use in another thread: it runs with the current span, session, user, run and model of this place.

    The result may be called many times, and by many threads at once.
    """
    here = copy_context()
    run_id, model_id = get_active_run_id(), get_active_model_id()
    if run_id is not None or model_id is not None:
        here.run(enter_scope, replace(get_call_scope(), run_id=run_id, model_id=model_id))

    @wraps(fn)
    def call_in_context(*args: P.args, **kwargs: P.kwargs) -> T:
        return here.copy().run(fn, *args, **kwargs)

    return call_in_context
