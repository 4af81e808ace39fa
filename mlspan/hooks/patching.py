"""Patching: replace functions of other libraries, and put the very originals back.

Every function here that patches returns an ``Undo``, which removes the patch. A target is named as text:
``"module:Class.method"`` or ``"module:function"``.

After its undo, a traced or observed function only passes calls through, even where somebody has kept a reference to
it. If another library has patched the same function since, that patch stays in place.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import wrapt

from .._guard import guard, log
from ..tracing.operations.noop import NOOP_OPERATION

Undo = Callable[[], None]  # removes what has been installed, and leaves nothing behind


class CallStarter(functools.partial[Any]):
    """A function that starts the operation of a call, given arguments and keyword arguments.

    It learns which function it starts operations of when that is patched; see :meth:`mlspan.hooks.Hook.make_starter`.
    """

    def bind_function(self, fn: Any) -> functools.partial[Any]:
        """Return this starter for calls of *fn*."""
        return functools.partial(self, function=fn)


def apply_patches(patches: Iterable[tuple[str, Callable[[], Undo]]]) -> Undo:
    """Apply *patches*, and return the function that removes them all.

    A patch whose target the installed version of the library lacks is left out, with a line in the debug log.

    Args:
        patches: pairs of the target's name, for the log, and a function that applies the patch and returns its undo.
    """
    with ExitStack() as undo:
        for target, patch in patches:
            try:
                undo.callback(patch())
            except (ImportError, AttributeError) as error:
                log.debug("mlspan: %s is not there to watch: %s", target, error)
        return undo.pop_all().close


def install_when_imported(module: str, install: Callable[[], Undo]) -> Undo:
    """Call *install* when *module* is imported, at once if it already is; never import it.

    The returned function removes what *install* has installed, or cancels it if the module has not been imported.
    """
    wanted, installed = [True], ExitStack()

    def install_if_wanted(_: Any) -> None:
        if wanted:
            with guard(f"hooking into {module}"):
                installed.callback(install())

    def undo() -> None:
        wanted.clear()
        installed.close()

    wrapt.register_post_import_hook(install_if_wanted, module)
    return undo


def trace_method(target: str, start: Callable[[Any, Any], Any]) -> Undo:
    """Trace each call of a method or function: start an operation, make the call, and record its result.

    Args:
        target: ``module:Class.method`` or ``module:function``, plain or a coroutine function.
        start: starts the operation of a call, given its arguments and keyword arguments; see
            :meth:`Hook.start_operation`.

    Returns:
        The function that puts the original back.

    Raises:
        ImportError: there is no such module.
        AttributeError: there is no such class, method or function.
    """
    owner, name = _resolve_target(target)
    original, fn, enabled = vars(owner).get(name), getattr(owner, name), [True]
    return replace_attribute(owner, name, original, trace_function(fn, start, enabled), enabled)


def trace_function(fn: Any, start: Callable[[Any, Any], Any], enabled: list[bool]) -> Any:
    """Return a wrapper of *fn* that traces each call; the wrapper of a coroutine function is a coroutine function.

    Args:
        fn: the function to wrap.
        start: starts the operation of a call, given its arguments and keyword arguments.
        enabled: a list that is emptied to turn tracing off; the wrapper then only calls *fn*.
    """
    if isinstance(start, CallStarter):
        start = start.bind_function(fn)
    if inspect.iscoroutinefunction(inspect.unwrap(fn)):

        @functools.wraps(fn)
        async def call_traced(*args: Any, **kwargs: Any) -> Any:
            with start(args, kwargs) if enabled else NOOP_OPERATION as operation:
                return operation.record_result(await fn(*args, **kwargs))
    else:

        @functools.wraps(fn)
        def call_traced(*args: Any, **kwargs: Any) -> Any:
            with start(args, kwargs) if enabled else NOOP_OPERATION as operation:
                return operation.record_result(fn(*args, **kwargs))

    return call_traced


ResultCallback = Callable[[tuple[Any, ...], dict[str, Any], Any], None]  # given (arguments, keyword arguments, result)


def observe_method(target: str, callback: ResultCallback) -> Undo:
    """Call *callback* after each call of a method or function that succeeds, with its arguments and its result.

    No span is started. Errors of *callback* are logged and reach nobody. The result of a coroutine function is the
    coroutine, which has not run yet.

    Returns:
        The function that puts the original back.

    Raises:
        ImportError: there is no such module.
        AttributeError: there is no such class, method or function.
    """
    owner, name = _resolve_target(target)
    original, fn, enabled = vars(owner).get(name), getattr(owner, name), [True]

    @functools.wraps(fn)
    def call_and_report(*args: Any, **kwargs: Any) -> Any:
        result = fn(*args, **kwargs)
        if enabled:
            with guard(f"looking at {name}"):
                callback(args, kwargs, result)
        return result

    return replace_attribute(owner, name, original, call_and_report, enabled)


def replace_function(target: str, make: Callable[[Any], Any]) -> Undo:
    """Put ``make(original)`` in the place of a method or function.

    The replacement is not told when it is removed: a reference that somebody has kept goes on working as it did.

    Returns:
        The function that puts the original back.

    Raises:
        ImportError: there is no such module.
        AttributeError: there is no such class, method or function.
    """
    owner, name = _resolve_target(target)
    return replace_attribute(owner, name, vars(owner).get(name), make(getattr(owner, name)), [True])


def _resolve_target(target: str) -> tuple[Any, str]:
    """Return the class or module that *target* belongs to, and the name it has there; the module is imported."""
    module, _, path = target.partition(":")
    owner, _, name = path.rpartition(".")
    return functools.reduce(getattr, filter(None, owner.split(".")), importlib.import_module(module)), name


def replace_attribute(owner: Any, name: str, original: Any, replacement: Any, enabled: list[bool]) -> Undo:
    """Set attribute *name* of *owner* to *replacement*, and return the function that restores the original.

    Args:
        owner: a class or a module.
        name: the attribute.
        original: the entry that *owner* itself has under *name*; None to let it inherit the attribute again.
        replacement: the function that takes its place.
        enabled: a list that the undo empties, so that a replacement which looks at it does nothing more.
    """

    def undo() -> None:
        enabled.clear()  # a reference that somebody has kept falls silent too
        if vars(owner).get(name) is not replacement:
            return  # somebody has patched over us, and their patch still calls ours, which now passes calls through
        if original is None:
            delattr(owner, name)
        else:
            setattr(owner, name, original)

    if isinstance(owner, type):  # else pickle would look for an inherited method's replacement on the parent class
        replacement.__module__, replacement.__qualname__ = owner.__module__, f"{owner.__qualname__}.{name}"
    setattr(owner, name, replacement)
    return undo
