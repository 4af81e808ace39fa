"""The names of the arguments that an ``autolog`` was given: MLflow's options replace only those that were not given."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import ParamSpec

P = ParamSpec("P")
_named: ContextVar[frozenset[str] | None] = ContextVar("mlspan_named", default=None)


def noting_names(autolog: Callable[P, None]) -> Callable[P, None]:
    """Have *autolog* know by :func:`read_named` which arguments its caller gave."""

    @functools.wraps(autolog)
    def noting(*args: P.args, **kwargs: P.kwargs) -> None:
        positional = list(inspect.signature(autolog).parameters)[: len(args)]
        token = _named.set(frozenset(positional).union(kwargs))
        try:
            autolog(*args, **kwargs)
        finally:
            _named.reset(token)

    return noting


def read_named() -> frozenset[str] | None:
    """Return the names of the arguments that the ``autolog`` under way was given; None where that is not known."""
    return _named.get()
