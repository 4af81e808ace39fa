"""Functions that a program holds since before they were patched, as after ``from xgboost import train``.

A patch takes the place of a function in its module. Whoever has imported the function before calls the function itself,
under whatever name and from wherever. So the function's code is exchanged for one that calls the patch, and its own
code goes on in a copy, for the patch to call. The function stays the object that it was: it is pickled by its name, its
signature and its source are what they were.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Final

from .._frames import skip_in_warnings
from .._patching import Undo, remember_undo, set_attribute

# By the arguments of a call; with None, the copy is called.
FindReplacement = Callable[[tuple[object, ...]], "Callable[..., object] | None"]


class _Redirection:
    """A function's copy, and where its calls go."""

    def __init__(self, copy: FunctionType, find_replacement: FindReplacement) -> None:
        self.copy, self.find_replacement, self.is_on = copy, find_replacement, True


_redirections: Final[dict[str, _Redirection]] = {}  # the newest of each function; it outlives calls under way


def redirect_function(owner: object, name: str, find_replacement: FindReplacement) -> Undo:
    """Have calls of a function of a module go elsewhere, also those of whoever has imported it.

    Put a copy of the function into the module, which runs the function's own code.

    Args:
        owner: the module.
        name: the function's name there. What is no plain Python function is left alone.
        find_replacement: returns what to call in the place of the function, for the arguments of a call; with None,
            the copy is called.

    Returns:
        The function that puts everything back.
    """
    function = vars(owner).get(name)
    if not isinstance(function, FunctionType):
        return lambda: None
    key, code, had = (
        f"{function.__module__}:{function.__qualname__}",
        function.__code__,
        "__wrapped__" in vars(function),
    )
    copy = _copy_function(function)
    _redirections[key] = redirection = _Redirection(copy, find_replacement)
    restore = set_attribute(owner, name, copy)
    if not had:
        function.__dict__["__wrapped__"] = copy  # which has the signature and the source
    function.__code__ = redirecting = _make_code(key, code)

    def restore_function() -> None:
        redirection.is_on = False
        if function.__code__ is redirecting:
            function.__code__ = code
            if not had:
                function.__dict__.pop("__wrapped__", None)
        restore()

    return remember_undo(restore_function)


def call_replacement(key: str, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    """Call what is now in the place of the function of this *key*."""
    redirection = _redirections[key]
    found = redirection.find_replacement(args) if redirection.is_on else None
    return (redirection.copy if found is None else found)(*args, **kwargs)


def _redirect(*args: object, **kwargs: object) -> object:
    from mlspan.hooks.held_functions import call_replacement  # the globals are another module's

    return call_replacement("the key", args, kwargs)


def _make_code(key: str, code: CodeType) -> CodeType:
    """Return code that calls the replacement, for a function that has *code*, whose free variables it must have too."""
    constants = tuple(key if constant == "the key" else constant for constant in _redirect.__code__.co_consts)
    return _redirect.__code__.replace(co_consts=constants, co_freevars=code.co_freevars, co_name=code.co_name)


def _copy_function(function: FunctionType) -> FunctionType:
    own = (function.__name__, function.__defaults__, function.__closure__)
    copy = FunctionType(function.__code__, function.__globals__, *own)
    copy.__kwdefaults__ = function.__kwdefaults__
    for name in functools.WRAPPER_ASSIGNMENTS:
        setattr(copy, name, getattr(function, name))
    copy.__dict__.update(function.__dict__)
    return copy


skip_in_warnings(_redirect)
skip_in_warnings(call_replacement)
