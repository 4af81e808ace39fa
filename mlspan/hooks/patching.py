"""Patching: replace functions of other libraries, and put the very originals back.

Every function here that patches returns an ``Undo``, which removes the patch. A target is named as text:
``"module:Class.method"`` or ``"module:function"``.

After its undo, a traced or observed function only passes calls through, even where somebody has kept a reference to
it. If another library has patched the same function since, that patch stays in place.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from .._import_waiting import (
    call_when_imported,
    install_when_imported,
    is_being_imported,
    is_half_imported,
    patch_when_imported,
)
from .._patching import (
    Installation,
    Patch,
    PatchPoint,
    PatchPointMissing,
    ResultCallback,
    SharedPatch,
    Undo,
    apply_patches,
    note_patch_point,
    observe_method,
    remember_undo,
    replace_attribute,
    replace_function,
    replace_method,
    resolve_target,
    set_attribute,
)
from ..tracing.operations.noop import NOOP_OPERATION

__all__ = [
    "CallStarter",
    "Installation",
    "Patch",
    "PatchPoint",
    "PatchPointMissing",
    "ResultCallback",
    "SharedPatch",
    "Undo",
    "apply_patches",
    "call_when_imported",
    "install_when_imported",
    "is_being_imported",
    "is_half_imported",
    "note_patch_point",
    "observe_method",
    "patch_when_imported",
    "remember_undo",
    "replace_attribute",
    "replace_function",
    "replace_method",
    "resolve_target",
    "set_attribute",
    "trace_function",
    "trace_method",
]


class CallStarter(functools.partial[Any]):
    """A function that starts the operation of a call, given arguments and keyword arguments.

    It learns which function it starts operations of when that is patched; see :meth:`mlspan.hooks.Hook.make_starter`.
    """

    def bind_function(self, fn: object) -> functools.partial[Any]:
        """Return this starter for calls of *fn*."""
        return functools.partial(self, function=fn)


def trace_method(target: str, start: Callable[[Any, Any], object], *, is_awaited: bool = False) -> Undo:
    """Trace each call of a method or function: start an operation, make the call, and record its result.

    Args:
        target: ``module:Class.method`` or ``module:function``, plain or a coroutine function.
        start: starts the operation of a call, given its arguments and keyword arguments; see
            :meth:`Hook.start_operation`.
        is_awaited: whether the function returns a coroutine, although it is no coroutine function itself.

    Returns:
        The function that puts the original back.

    Raises:
        ImportError: there is no such module.
        AttributeError: there is no such class, method or function.
    """
    return replace_method(target, lambda fn, enabled: trace_function(fn, start, enabled, is_awaited=is_awaited))


def trace_function(
    fn: Any, start: Callable[[object, object], Any], enabled: list[bool], *, is_awaited: bool = False
) -> Any:
    """Return a wrapper of *fn* that traces each call; the wrapper of a coroutine function is a coroutine function.

    Args:
        fn: the function to wrap.
        start: starts the operation of a call, given its arguments and keyword arguments.
        enabled: a list that is emptied to turn tracing off; the wrapper then only calls *fn*.
        is_awaited: whether *fn* returns a coroutine, although it is no coroutine function itself.
    """
    if isinstance(start, CallStarter):
        start = start.bind_function(fn)
    if is_awaited or inspect.iscoroutinefunction(inspect.unwrap(fn)):

        @functools.wraps(fn)
        async def call_traced(*args: Any, **kwargs: Any) -> object:
            with start(args, kwargs) if enabled else NOOP_OPERATION as operation:
                return operation.record_result(await fn(*args, **kwargs), awaited=True)
    else:

        @functools.wraps(fn)
        def call_traced(*args: Any, **kwargs: Any) -> object:
            with start(args, kwargs) if enabled else NOOP_OPERATION as operation:
                return operation.record_result(fn(*args, **kwargs))

    return call_traced
