"""Functions that a program holds while others take their place: their code is exchanged for one that calls those.

Whoever has imported a function calls the function itself, under whatever name and from wherever. Its own code goes on
in a copy. The function stays the object that it was: it is pickled by its name, its signature and its source are what
they were.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from types import CodeType, FunctionType
from typing import Any, Final

from ._frames import skip_in_warnings

# By the arguments of a call; with None, the copy is called.
FindReplacement = Callable[[tuple[object, ...]], "Callable[..., object] | None"]
Undo = Callable[[], None]  # see _patching.py


class _Redirection:
    """A function's copy, and where its calls go."""

    def __init__(self, copy: FunctionType, find_replacement: FindReplacement) -> None:
        self.copy, self.find_replacement, self.is_on = copy, find_replacement, True


class FunctionsByPlace:
    """The functions that have been in each place, a name of an owner, as long as somebody holds them."""

    def __init__(self) -> None:
        self._places: weakref.WeakKeyDictionary[object, dict[str, weakref.WeakSet[FunctionType]]] = (
            weakref.WeakKeyDictionary()
        )

    def get_place(self, owner: object, name: str) -> weakref.WeakSet[FunctionType]:
        """Return the functions of a place, for the caller to add to.

        Raises:
            TypeError: nothing can be noted of such an owner.
        """
        return self._places.setdefault(owner, {}).setdefault(name, weakref.WeakSet())


_redirections: Final[dict[str, _Redirection]] = {}  # the newest of each function; it outlives calls under way
_removed_wrappers: Final = FunctionsByPlace()
# What stands in the place of a removed wrapper that is led on.
_successors: Final[weakref.WeakKeyDictionary[FunctionType, FunctionType]] = weakref.WeakKeyDictionary()

_optional_wrappers: Final[weakref.WeakSet[FunctionType]] = weakref.WeakSet()


def lead_removed_wrappers(owner: object, name: str, wrapper: object) -> Undo:
    """Have wrappers that were removed from a place lead to *wrapper*, which is there now, for whoever holds them still.

    Only a wrapper with the same code around the very same function is led on. So none leads to itself, and no wrapper
    of somebody else in between is called twice.

    Returns:
        The function that ends this, as *wrapper* is removed.
    """
    if not isinstance(wrapper, FunctionType):
        return lambda: None
    try:
        removed = _removed_wrappers.get_place(owner, name)
    except TypeError:
        return lambda: None
    undo, wrapped = ExitStack(), _find_wrapped(wrapper)
    for earlier in removed - {wrapper} if wrapped is not None else ():
        if earlier.__code__ == wrapper.__code__ and _find_wrapped(earlier) is wrapped:
            undo.callback(exchange_code(earlier, lambda _: wrapper)[1])
            undo.callback(_successors.pop, earlier, None)
            _successors[earlier] = wrapper

    def end() -> None:
        undo.close()
        removed.add(wrapper)

    return end


def see_through(wrapper: Any) -> Any:
    """Note that *wrapper* may be left out, and return it: the wrapper around it is the same with it as without it."""
    _optional_wrappers.add(wrapper)
    return wrapper


def _find_wrapped(wrapper: FunctionType) -> object:
    """Return what a wrapper wraps; what has taken its place, if that is a wrapper that was removed as well."""
    wrapped = vars(wrapper).get("__wrapped__")
    while isinstance(wrapped, FunctionType) and wrapped in _optional_wrappers:
        wrapped = vars(wrapped).get("__wrapped__")
    return _successors.get(wrapped, wrapped) if isinstance(wrapped, FunctionType) else wrapped


def is_redirected(function: FunctionType) -> bool:
    """Return whether calls of a function go elsewhere now."""
    redirection = _redirections.get(_make_key(function))
    return redirection is not None and redirection.is_on


def exchange_code(function: FunctionType, find_replacement: FindReplacement) -> tuple[FunctionType, Undo]:
    """Redirect the calls of a function; return a copy that runs its own code, and what gives its code back.

    A generator is not redirected: it would be another kind of function.
    """
    key, code, had = _make_key(function), function.__code__, "__wrapped__" in vars(function)
    copy = _copy_function(function)
    if code.co_flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
        return copy, lambda: None
    if key not in _redirections:
        weakref.finalize(function, _redirections.pop, key, None).atexit = False
    _redirections[key] = redirection = _Redirection(copy, find_replacement)
    if not had:
        function.__dict__["__wrapped__"] = copy  # which has the signature and the source
    function.__code__ = redirecting = _make_code(key, code)

    def restore_code() -> None:
        redirection.is_on = False
        if function.__code__ is redirecting:
            function.__code__ = code
            if not had:
                function.__dict__.pop("__wrapped__", None)

    return copy, restore_code


def call_replacement(key: str, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    """Call what is now in the place of the function of this *key*."""
    redirection = _redirections[key]
    found = redirection.find_replacement(args) if redirection.is_on else None
    return (redirection.copy if found is None else found)(*args, **kwargs)


def _redirect(*args: object, **kwargs: object) -> object:
    call: Any = "call_replacement"  # itself: its globals are another module's
    return call("the key", args, kwargs)


async def _redirect_coroutine(*args: object, **kwargs: object) -> object:
    call: Any = "call_replacement"
    return await call("the key", args, kwargs)


def _make_key(function: FunctionType) -> str:
    return f"{function.__module__}:{function.__qualname__}:{id(function)}"


def _make_code(key: str, code: CodeType) -> CodeType:
    """Return code that calls the replacement, for a function that has *code*, whose free variables it must have too."""
    is_coroutine = bool(code.co_flags & inspect.CO_COROUTINE)
    made = _compile_redirection(is_coroutine, len(code.co_freevars))
    filled = {"the key": key, "call_replacement": call_replacement}
    constants = tuple(filled.get(one, one) if isinstance(one, str) else one for one in made.co_consts)
    return made.replace(co_consts=constants, co_freevars=code.co_freevars, co_name=code.co_name)


@functools.lru_cache(maxsize=64)
def _compile_redirection(is_coroutine: bool, variables: int) -> CodeType:
    """Return code like that of ``_redirect`` with so many free variables: a frame without them crashes a debugger."""
    template = (_redirect_coroutine if is_coroutine else _redirect).__code__
    if not variables:
        return template
    names = "".join(f"free_{number:04}, " for number in range(variables))
    source = (
        f"def surround({names}):\n"
        f"    {'async ' if is_coroutine else ''}def redirect(*args, **kwargs):\n"
        "        call = 'call_replacement'\n"
        f"        return {'await ' if is_coroutine else ''}call('the key', args, kwargs)\n"
        f"        {names}\n"
    )
    surrounding = _find_code(compile(source, template.co_filename, "exec"))
    return _find_code(surrounding).replace(co_firstlineno=template.co_firstlineno)


def _find_code(code: CodeType) -> CodeType:
    return next(constant for constant in code.co_consts if isinstance(constant, CodeType))


def _copy_function(function: FunctionType) -> FunctionType:
    own = (function.__name__, function.__defaults__, function.__closure__)
    copy = FunctionType(function.__code__, function.__globals__, *own)
    copy.__kwdefaults__ = function.__kwdefaults__
    for name in functools.WRAPPER_ASSIGNMENTS:
        setattr(copy, name, getattr(function, name))
    copy.__dict__.update(function.__dict__)
    return copy


skip_in_warnings(_redirect)
skip_in_warnings(_redirect_coroutine)
skip_in_warnings(call_replacement)
