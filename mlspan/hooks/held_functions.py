"""Functions that a program holds since before they were patched, as after ``from xgboost import train``.

A patch takes the place of a function in its module. Whoever has imported the function before calls the function itself,
under whatever name and from wherever. So its calls are redirected to the patch, which calls a copy.
"""

from __future__ import annotations

from contextlib import ExitStack
from types import FunctionType
from typing import Final

from .._held_functions import FindReplacement, FunctionsByPlace, exchange_code, is_redirected
from .._patching import Undo, remember_undo, set_attribute

_seen_functions: Final = FunctionsByPlace()  # what a program may hold although somebody has replaced it since


def redirect_function(owner: object, name: str, find_replacement: FindReplacement) -> Undo:
    """Have calls of a function of a module go elsewhere, also those of whoever has imported it.

    Put a copy of the function into the module, which runs the function's own code. A function that an earlier call has
    found in this place, and somebody has replaced since, is redirected as well.

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
    seen = _seen_functions.get_place(owner, name)
    with ExitStack() as undo:
        for earlier in seen - {function}:
            if not is_redirected(earlier) and not _wraps(earlier, function):
                undo.callback(exchange_code(earlier, find_replacement)[1])
        copy, restore = exchange_code(function, find_replacement)
        undo.callback(set_attribute(owner, name, copy))
        undo.callback(restore)
        seen.add(function)
        return remember_undo(undo.pop_all().close)


def _wraps(wrapper: object, function: FunctionType) -> bool:
    while wrapper is not function and isinstance(wrapper, FunctionType):
        wrapper = vars(wrapper).get("__wrapped__")
    return wrapper is function
