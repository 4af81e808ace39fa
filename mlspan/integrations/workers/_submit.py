"""Patches of the methods that submit a task: the task's function is replaced by one that restores the context."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from ...hooks.hook import Hook
from ...hooks.patching import Undo, all_there, replace
from ._task import task

Make = Callable[[Any], Any]  # the original function -> its replacement


class StdlibHook(Hook):
    """A hook for a module of Python's standard library, which has no version of its own to check."""

    def _supported(self) -> bool:
        return True


def submitting(place: int) -> Make:
    """Return a wrapper for a method that submits a task.

    Args:
        place: the position of the task's function among the arguments; its name is ``func`` or ``fn``.
    """

    def make_wrapper(fn: Any) -> Any:
        @functools.wraps(fn)
        def submit(*args: Any, **kwargs: Any) -> Any:
            if len(args) > place:
                args = (*args[:place], task(args[place]), *args[place + 1 :])
            else:
                kwargs |= {name: task(kwargs[name]) for name in ("func", "fn") if name in kwargs}
            return fn(*args, **kwargs)

        return submit

    return make_wrapper


def replacing(targets: Mapping[str, Make]) -> Callable[[Hook], Undo]:
    """Return an ``install`` function that replaces each target by ``make(original)``.

    Args:
        targets: ``{"module:Class.method": make}``. A target that this version lacks is skipped.
    """

    def install(_: Hook) -> Undo:
        return all_there((target, functools.partial(replace, target, make)) for target, make in targets.items())

    return install
