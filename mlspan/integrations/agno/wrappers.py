"""Wrappers of Agno's methods: each ends its span with its value, its coroutine or its stream."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator
from typing import Any, Final

from opentelemetry import context as otel

from ...hooks.patching import Undo, resolve_target, set_attribute
from ...hooks.subclasses import OperationStarter, start_while_on
from ...tracing.context import wrap
from ...tracing.operations.exceptions import get_error_type
from ...tracing.operations.generators import (
    ObservedGenerator,
    is_generator,
    keep_open,
    wrap_async_generator,
    wrap_generator,
)
from ...tracing.operations.operation import Operation


def find_cause(error: BaseException | None) -> BaseException | None:
    """Return what a client has raised, where Agno has made a ModelProviderError or the like of it."""
    if isinstance(error, Exception) and isinstance(error.__cause__, Exception):
        is_own = type(error).__module__.partition(".")[0] == "agno"
        return error.__cause__ if is_own else error
    return error


_ERRORS_KEY: Final = otel.create_key("mlspan-agno-errors")  # context key of what has failed inside of a run or a tool


def open_errors(operation: Operation) -> None:
    """Have the errors of what is done inside of *operation* noted for it."""
    operation.context = otel.set_value(_ERRORS_KEY, [], operation.context)


def note_error(error: BaseException | None) -> None:
    """Note an error for the run or the tool that it has happened in."""
    errors = otel.get_value(_ERRORS_KEY)
    if isinstance(errors, list) and isinstance(error, Exception):
        errors.append(error)


def describe_failure(fallback: str, said: str | None) -> tuple[str, str]:
    """Return type and message of the failure of the run or tool that is current: the last error inside of it."""
    errors = otel.get_value(_ERRORS_KEY)
    if isinstance(errors, list) and errors:
        return get_error_type(errors[-1]), said or str(errors[-1])
    return fallback, said or ""


class _Unwrapped:
    """An operation whose error is what the client has raised."""

    def __init__(self, operation: Any) -> None:
        self.operation = operation

    def __enter__(self) -> Any:
        self.operation.__enter__()
        return self.operation

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        cause = find_cause(error)
        self.operation.__exit__(type(cause) if cause is not None else None, cause, trace)
        note_error(cause)  # for what is around this operation


class _Steps(ObservedGenerator):
    def finish_operation(self, error: BaseException | None = None, stream_end: Any = None) -> None:
        super().finish_operation(find_cause(error), stream_end)


def trace_any(fn: Any, open_: OperationStarter, on: list[bool]) -> Any:
    """Wrap a method of any kind: plain, a coroutine function, a generator function, or one that returns one of these.

    Args:
        fn: the method.
        open_: starts an operation from arguments and keyword arguments.
        on: the wrapper passes calls through once this list is empty.
    """
    open_operation = start_while_on(open_, on)

    async def await_result(result: Any, args: Any, kwargs: Any) -> Any:
        with _Unwrapped(open_operation(args, kwargs)) as operation:
            return _record_result(await result, operation, args[0])

    plain = inspect.unwrap(fn)
    if inspect.isgeneratorfunction(plain):
        return functools.wraps(fn)(wrap_generator(fn, open_operation, _Steps))
    if inspect.isasyncgenfunction(plain):
        return functools.wraps(fn)(wrap_async_generator(fn, open_operation, _Steps))
    if inspect.iscoroutinefunction(plain):

        @functools.wraps(fn)
        async def call_in_span(*args: Any, **kwargs: Any) -> Any:
            return await await_result(fn(*args, **kwargs), args, kwargs)
    else:

        @functools.wraps(fn)
        def call_in_span(*args: Any, **kwargs: Any) -> Any:
            if not on:
                return fn(*args, **kwargs)
            if fn.__name__.startswith("a"):  # it returns a coroutine or an asynchronous stream, and has not begun
                result = fn(*args, **kwargs)
                if isinstance(result, AsyncIterator):
                    return wrap_async_generator(lambda *_, **__: result, open_operation, _Steps)(*args, **kwargs)
                return await_result(result, args, kwargs) if inspect.isawaitable(result) else result
            with _Unwrapped(open_operation(args, kwargs)) as operation:
                return _record_result(fn(*args, **kwargs), operation, args[0])

    return call_in_span


def _record_result(result: Any, operation: Any, owner: Any) -> Any:
    """Record a value; a stream keeps the operation open until its end, and is read inside of it."""
    if not isinstance(operation, Operation):
        return result
    if is_generator(result):
        return keep_open(operation, result)
    inner = getattr(result, "result", None) if type(result).__name__ == "FunctionExecutionResult" else None
    if is_generator(inner):  # a tool that goes on while its result is read
        result.result = keep_open(operation, inner)
        if getattr(owner, "result", None) is inner:
            owner.result = result.result
        return result
    operation.observe(result)
    return result


class _CarryingExecutor:
    """An executor whose threads work in the context of whoever has submitted the work."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        return self._own.submit(wrap(fn), *args, **kwargs)

    def __getattr__(self, name: str) -> object:
        return getattr(self._own, name)


def carry_executor(target: str) -> Undo:
    """Have the executor that a property returns work in the context of whoever has submitted the work."""
    owner, name = resolve_target(target)
    own = getattr(owner, name)
    return set_attribute(owner, name, property(lambda self: _CarryingExecutor(own.fget(self)), doc=own.__doc__))
