"""What surrounds a call: the session, user, tags and MLflow run it belongs to, and whether it may be recorded.

All of it lives in one context variable, so that it follows await points by itself and threads through :func:`wrap`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scope:
    """What ``tracing.session``, ``user``, ``tags`` and ``run`` have set around the caller."""

    session: str | None = None
    user: str | None = None
    run_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a trace belongs, as its caller saw it when the trace's root span started.

    A field is None where the caller's surroundings do not say; the exporter then asks its Config.
    """

    tracking_uri: str | None = None
    experiment_id: str | None = None
    experiment_name: str | None = None
    run_id: str | None = None
    session: str | None = None
    user: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


_NOWHERE: Final = Scope()
_scope: ContextVar[Scope] = ContextVar("mlspan_scope", default=_NOWHERE)


def scope() -> Scope:
    return _scope.get()


@contextmanager
def _within(**change: object) -> Iterator[None]:
    token = _scope.set(replace(_scope.get(), **change))  # type: ignore[arg-type]  # the four callers below give str
    try:
        yield
    finally:
        _scope.reset(token)
