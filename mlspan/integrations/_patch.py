"""Functions of other libraries, replaced, and put back as they were."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import wrapt

from .._guard import guard, log
from ..tracing.nothing import NOTHING

Undo = Callable[[], None]


def all_there(patches: Iterable[tuple[str, Callable[[], Undo]]]) -> Undo:
    """Apply *patches*, each with the name of its target; one whose target this version lacks costs no other."""
    with ExitStack() as undo:
        for target, patch in patches:
            try:
                undo.callback(patch())
            except (ImportError, AttributeError) as error:
                log.debug("mlspan: %s is not there to watch: %s", target, error)
        return undo.pop_all().close


def when_imported(module: str, install: Callable[[], Undo]) -> Undo:
    """*install* as soon as *module* is imported, which may be now or never, and which we never do ourselves."""
    wanted, undone = [True], ExitStack()

    def installing(_: Any) -> None:
        if wanted:
            with guard(f"hooking into {module}"):
                undone.callback(install())

    def undo() -> None:
        wanted.clear()
        undone.close()

    wrapt.register_post_import_hook(installing, module)
    return undo


def watch(target: str, open_: Callable[[Any, Any], Any]) -> Undo:
    """Replace ``module:Class.method`` by a watched one; return what puts the very original back.

    Raises ImportError or AttributeError where there is no such method.
    """
    owner, name = _found(target)
    own, fn, on = vars(owner).get(name), getattr(owner, name), [True]
    return put(owner, name, own, watched(fn, open_, on), on)


def watched(fn: Any, open_: Callable[[Any, Any], Any], on: list[bool]) -> Any:
    """*fn* with what ``open_`` gives around each call, as long as *on* is not empty."""
    if inspect.iscoroutinefunction(inspect.unwrap(fn)):

        @functools.wraps(fn)
        async def around(*args: Any, **kwargs: Any) -> Any:
            with open_(args, kwargs) if on else NOTHING as live:
                return live.result(await fn(*args, **kwargs))
    else:

        @functools.wraps(fn)
        def around(*args: Any, **kwargs: Any) -> Any:
            with open_(args, kwargs) if on else NOTHING as live:
                return live.result(fn(*args, **kwargs))

    return around


Seen = Callable[[tuple[Any, ...], dict[str, Any], Any], None]  # (arguments, keyword arguments, result)


def tap(target: str, seen: Seen) -> Undo:
    """Have *seen* told of the arguments and the result of each call of ``module:Class.method`` that succeeds.

    Raises ImportError or AttributeError where there is no such method.
    """
    owner, name = _found(target)
    own, fn, on = vars(owner).get(name), getattr(owner, name), [True]

    @functools.wraps(fn)
    def tapped(*args: Any, **kwargs: Any) -> Any:
        result = fn(*args, **kwargs)
        if on:
            with guard(f"looking at {name}"):
                seen(args, kwargs, result)
        return result

    return put(owner, name, own, tapped, on)


def replace(target: str, make: Callable[[Any], Any]) -> Undo:
    """Put ``make(original)`` in the place of ``module:Class.method`` or ``module:function``.

    Raises ImportError or AttributeError where there is no such thing.
    """
    owner, name = _found(target)
    return put(owner, name, vars(owner).get(name), make(getattr(owner, name)), [True])


def _found(target: str) -> tuple[Any, str]:
    module, _, path = target.partition(":")
    owner, _, name = path.rpartition(".")
    return functools.reduce(getattr, filter(None, owner.split(".")), importlib.import_module(module)), name


def put(owner: Any, name: str, own: Any, watched: Any, on: list[bool]) -> Undo:
    def undo() -> None:
        on.clear()  # a reference that somebody has kept falls silent too
        if vars(owner).get(name) is not watched:
            return  # somebody has patched over us: what they hold of us passes everything through
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)

    if isinstance(owner, type):  # where the method is inherited, pickle would look for ours on the parent
        watched.__module__, watched.__qualname__ = owner.__module__, f"{owner.__qualname__}.{name}"
    setattr(owner, name, watched)
    return undo
