"""Frames of wrappers: they do not count for ``warnings.warn(..., stacklevel=2)``, as the program never called them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any, Final, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

# Python passes over the frames of its own import machinery, which it knows by these two words in the file's name.
_PASSED_OVER: Final = " [importlib._bootstrap]"


def skip_in_warnings(wrapper: F) -> F:
    """Make a wrapper's frames invisible to ``stacklevel``, so that a warning names the wrapped function's caller.

    The file's name in the wrapper's tracebacks ends with a mark. What is no plain function comes back as it is.
    """
    if isinstance(wrapper, FunctionType):
        wrapper.__code__ = _mark_code(wrapper.__code__)
    return wrapper


@lru_cache(maxsize=1024)
def _mark_code(code: CodeType) -> CodeType:
    """Return *code* with the mark in its file's name: one object for all wrappers that share it."""
    if code.co_filename.endswith(_PASSED_OVER):
        return code
    return code.replace(co_filename=code.co_filename + _PASSED_OVER)
