"""Patches of the methods that submit a task: the task's function is replaced by one that restores the context."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo, apply_patches, replace_function
from ._task import task

LOST_TASKS: Final = "that what a task does in another process belongs to its caller's trace and run"
MakeReplacement = Callable[[Any], Any]  # the original function -> its replacement


class StdlibHook(Hook):
    """A hook for a module of Python's standard library, which has no version of its own to check."""

    def _is_version_supported(self) -> bool:
        return True


def wrap_submit(place: int) -> MakeReplacement:
    """Return a wrapper for a method that submits a task.

    Args:
        place: the position of the task's function among the arguments; its name is ``func`` or ``fn``.
    """

    def make_wrapper(fn: Any) -> object:
        @functools.wraps(fn)
        def submit(*args: object, **kwargs: object) -> object:
            if len(args) > place:
                args = (*args[:place], task(args[place]), *args[place + 1 :])
            else:
                kwargs |= {name: task(kwargs[name]) for name in ("func", "fn") if name in kwargs}
            return fn(*args, **kwargs)

        return submit

    return make_wrapper


def make_install(targets: Mapping[str, MakeReplacement]) -> Callable[[Hook], Undo]:
    """Return an ``install`` function that replaces each target by ``make(original)``.

    Args:
        targets: ``{"module:Class.method": make}``. A target that this version lacks is skipped.
    """

    def install(_: Hook) -> Undo:
        return apply_patches(
            Patch(target, functools.partial(replace_function, make=make), LOST_TASKS)
            for target, make in targets.items()
        )

    return install
