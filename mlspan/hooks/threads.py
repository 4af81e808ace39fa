"""Threads of a library's own pools: they work in the context of whoever has given them the work."""

from __future__ import annotations

from typing import Any

from ..tracing.context import wrap
from .patching import Undo, resolve_target, set_attribute


def carry_contexts(target: str) -> Undo:
    """Have the threads of a module's executors work in the context of whoever has submitted the work.

    Args:
        target: the class of the executors, as the module knows it: ``module:ThreadPoolExecutor``.
    """
    module, name = resolve_target(target)
    executor: Any = getattr(module, name)

    class CarryingExecutor(executor):  # type: ignore[misc]  # a class that is read from the library
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            return super().submit(wrap(fn), *args, **kwargs)

    CarryingExecutor.__name__, CarryingExecutor.__qualname__ = executor.__name__, executor.__qualname__
    CarryingExecutor.__module__ = executor.__module__
    return set_attribute(module, name, CarryingExecutor)
