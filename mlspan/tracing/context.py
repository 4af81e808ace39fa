"""Set the context of the calls inside a block: session, user, tags, run, model and request id; and carry it along."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from dataclasses import replace
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from .mlflow_state.runs import get_active_model_id, get_active_run_id
from .operations.call_context import _call_scope, use_scope
from .operations.foreign_objects import as_text

P = ParamSpec("P")
T = TypeVar("T")


def _text(value: object) -> str | None:
    """Return *value* as text that can be stored; None is none."""
    return None if value is None else as_text(value)


def session(id: str | None) -> Any:
    """``with session("chat-42"):`` groups the traces of one conversation; MLflow shows them as a session.

    ``session(None)`` is none, whatever there is around it; so with :func:`user` and the others.
    """
    return use_scope(replace(_call_scope.get(), session=_text(id)))


def user(id: str | None) -> Any:
    """``with user("ada"):`` names whom the calls inside are made for."""
    return use_scope(replace(_call_scope.get(), user=_text(id)))


def tags(**tags: object) -> Any:
    """``with tags(env="prod"):`` puts tags on the traces inside; inner ones add to outer ones."""
    around = _call_scope.get()
    return use_scope(
        replace(around, tags={**around.tags, **{as_text(key): as_text(value) for key, value in tags.items()}})
    )


def run(run_id: str | None) -> Any:
    """``with run(run_id):`` ties the traces inside to this MLflow run, whatever run is active."""
    return use_scope(replace(_call_scope.get(), run_id=_text(run_id)))


def model(model_id: str | None) -> Any:
    """``with model(model_id):`` ties the traces inside to this LoggedModel of MLflow's, whatever model is active."""
    return use_scope(replace(_call_scope.get(), model_id=_text(model_id)))


def request_id(id: str | None) -> Any:
    """``with request_id("req-7"):`` gives the traces inside the id that the caller's own system has for the request.

    MLflow keeps the first 50 characters as the trace's ``client_request_id`` and can search for it.
    """
    return use_scope(replace(_call_scope.get(), request_id=_text(id)))


def wrap(fn: Callable[P, T]) -> Callable[P, T]:
    """Return *fn* for use in another thread: it runs with the current span, session, user, run and model of this place.

    The result may be called many times, and by many threads at once.
    """
    here = copy_context()
    run_id, model_id = get_active_run_id(), get_active_model_id()
    if run_id is not None or model_id is not None:
        here.run(_call_scope.set, replace(_call_scope.get(), run_id=run_id, model_id=model_id))

    @wraps(fn)
    def call_in_context(*args: P.args, **kwargs: P.kwargs) -> T:
        return here.copy().run(fn, *args, **kwargs)

    return call_in_context
