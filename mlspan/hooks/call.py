"""A call of a traced function, as an integration reads it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, TypeVar, overload

from .._shape import is_a
from ..tracing.operations.records import Observe, Record

T = TypeVar("T")


class Call(NamedTuple):
    """A call of a traced method, as ``begin`` reads it.

    Attributes:
        args: the positional arguments; the object that the method is called on comes first.
        kwargs: the keyword arguments.
        capture_content: whether messages and other content are recorded. If not, ``begin`` need not read them.
        options: the options of ``autolog`` that only this integration has, as far as the caller has set them.
        function: the function that is called, as it was before it was patched.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    capture_content: bool
    options: Mapping[str, Any]
    function: Callable[..., object] | None = None

    @overload
    def argument(self, name: str, default: object = None) -> Any: ...

    @overload
    def argument(self, name: str, default: T, *, want: type[T]) -> T: ...

    @overload
    def argument(self, name: str, default: None = None, *, want: type[T]) -> T | None: ...

    def argument(self, name: str, default: object = None, *, want: type[object] | None = None) -> Any:
        """Return an argument by its name in the signature of the called function, however the caller has passed it.

        Args:
            name: the parameter's name.
            default: what to return for an argument that was not passed, or is not of the type *want*.
            want: the type that it has to be of, as :func:`mlspan.hooks.is_a` compares types; None for any.
        """
        if name in self.kwargs:
            found = self.kwargs[name]
        else:
            index = _index_parameters(self.function).get(name)
            if index is None or index >= len(self.args):
                return default
            found = self.args[index]
        return found if want is None or is_a(found, want) else default


@lru_cache(maxsize=1024)
def _index_parameters(function: Callable[..., object] | None) -> Mapping[str, int]:
    """Return the positions of the parameters of *function* that may be passed by position; ``self`` is at 0.

    A function without a readable signature, such as some of C, has none.
    """
    try:
        parameters = inspect.signature(function).parameters.values() if function is not None else ()
    except (TypeError, ValueError):
        return {}
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return {parameter.name: index for index, parameter in enumerate(parameters) if parameter.kind in positional}


# The record of a call, and the function that reads the answer into it; None if there is nothing to read.
BegunCall: TypeAlias = "tuple[Record, Observe[Any] | None]"

# Reads a call into a record; returns None for a call that is not to be recorded.
Begin = Callable[[Call], "BegunCall | None"]
