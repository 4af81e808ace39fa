"""Generators of ours that stand around the iterators of a library or of the caller."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable
from types import AsyncGeneratorType
from typing import Any


def start_generator(own: Any, *default: object) -> Awaitable[Any]:
    """Return the first step of *own*, an asynchronous iterator around which a generator of ours stands.

    The event loop is not told of *own* if it is a generator, as ours closes it. A loop that ends would close both at
    once, and log that one of them "is already running". One that is collected together with ours is closed by the loop
    all the same, as what it awaits at its end cannot be awaited by the collector.
    """
    if type(own) is not AsyncGeneratorType:
        return anext(own, *default)
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=None)  # for this call, which makes the step and does not run it
    try:
        return anext(own, *default)
    finally:
        sys.set_asyncgen_hooks(*hooks)


async def close_generator(own: object) -> None:
    """Close *own*, whose reader has left, if it can be closed."""
    if hasattr(own, "aclose"):
        await own.aclose()


def makes_generators(cls: type, method: str) -> bool:
    """Return whether *method* of *cls*, ``__iter__`` or ``__aiter__``, makes a generator, which callers may close."""
    function = getattr(cls, method, None)
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
