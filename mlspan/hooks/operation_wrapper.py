"""Wrapper that an integration puts around an operation, to change its error or its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..tracing.operations.operation import Operation


class OperationWrapper:
    """A wrapper of an operation: it is entered, left and given the result in the place of the operation.

    Args:
        operation: the operation.
        convert: returns the error that the operation ends with, given the one that is raised; None for none. The caller
            gets the one that is raised.
    """

    def __init__(
        self, operation: Operation, convert: Callable[[BaseException], BaseException | None] | None = None
    ) -> None:
        self.operation, self._convert = operation, convert

    def __enter__(self) -> OperationWrapper:
        self.operation.__enter__()
        return self

    def __exit__(self, _: object, error: BaseException | None, trace: Any) -> None:
        if error is not None and self._convert is not None:
            error = self._convert(error)
        self.operation.__exit__(type(error) if error is not None else None, error, trace)

    def record_result(self, value: object, *, awaited: bool = False) -> object:
        """Record the result *value* and return it, as the operation does."""
        return self.operation.record_result(value, awaited=awaited)


def get_raised_cause(error: BaseException) -> BaseException:
    """Return the exception that a library has raised *error* from; *error* itself if there is none."""
    return error.__cause__ if isinstance(error, Exception) and isinstance(error.__cause__, Exception) else error
