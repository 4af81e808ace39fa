"""How a hook puts what surrounds a task into the place of the task's function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from .._carry import task
from .._hook import Hook
from .._patch import Undo, all_there, replace

Make = Callable[[Any], Any]  # the original -> what stands in its place


class StdlibHook(Hook):
    """Of a module that comes with Python, in whatever version."""

    def _supported(self) -> bool:
        return True


def submitting(place: int) -> Make:
    """For a method whose argument number *place*, named ``func`` or ``fn``, is the task's function."""

    def make(fn: Any) -> Any:
        @functools.wraps(fn)
        def submit(*args: Any, **kwargs: Any) -> Any:
            if len(args) > place:
                args = (*args[:place], task(args[place]), *args[place + 1 :])
            else:
                kwargs |= {name: task(kwargs[name]) for name in ("func", "fn") if name in kwargs}
            return fn(*args, **kwargs)

        return submit

    return make


def replacing(targets: Mapping[str, Make]) -> Callable[[Hook], Undo]:
    """An ``install`` that puts ``make(original)`` in the place of each target."""

    def install(_: Hook) -> Undo:
        return all_there((target, functools.partial(replace, target, make)) for target, make in targets.items())

    return install
