"""Wrappers around AutoGen's methods: sync, async and streaming, with one span even if an object calls itself."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Final

from opentelemetry import context as otel

from ..._guard import guard
from ..._shape import get_nested
from ...hooks.call import BegunCall, Call
from ...hooks.hook import Hook
from ...hooks.patching import CallStarter
from ...hooks.subclasses import OperationStarter, start_while_on
from ...tracing.operations.exceptions import get_error_type
from ...tracing.operations.generators import TracedGenerator, wrap_async_generator
from ...tracing.operations.noop import NOOP_OPERATION, NoOpOperation
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import Record, Retrieval, Tool
from ...tracing.operations.response_proxy import StreamEnd
from .message_context import use_outer_span

BeginAlways = Callable[[Call], BegunCall]


def tool_type(owner: object) -> str:
    """Return the conventions' type of a tool: "extension" for a tool of an MCP server, else "function"."""
    return "extension" if ".mcp." in type(owner).__module__ else "function"


def trace_async_function(fn: Any, open_: OperationStarter, on: list[bool]) -> object:
    """Wrap *fn* in a span that ends with its result, which may be await_result or iterated over.

    Args:
        fn: a coroutine function, or a function that returns an awaitable or an async iterator.
        open_: starts an operation from arguments and keyword arguments.
        on: the wrapper passes calls through once this list is empty.
    """
    open_operation = start_while_on(open_, on)

    async def await_result(result: Any, args: Any, kwargs: object) -> Any:
        with open_operation(args, kwargs) as operation:
            return operation.record_result(await result, awaited=True)

    if inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        async def call_method(*args: object, **kwargs: object) -> object:
            with open_operation(args, kwargs) as operation:
                return operation.record_result(await fn(*args, **kwargs), awaited=True)
    else:

        @functools.wraps(fn)
        def call_method(*args: object, **kwargs: object) -> Any:
            result = fn(*args, **kwargs)
            if isinstance(result, AsyncGenerator):
                return wrap_async_generator(lambda *_, **__: result, open_operation, _ObservedItems)(*args, **kwargs)
            if isinstance(result, AsyncIterator):  # a class of its own, whose other methods the caller may need
                with open_operation(args, kwargs) as operation:
                    return operation.record_result(result)
            return await_result(result, args, kwargs) if inspect.isawaitable(result) else result

    return call_method


class _ObservedItems(TracedGenerator):
    """The steps of a stream whose items are observed one by one rather than at its end."""

    def __init__(self, own: object, opened: Any) -> None:
        super().__init__(own, opened)
        self._opened = opened

    def _note_yielded(self, item: object) -> object:
        self._opened.record_result(item)
        return item

    def finish_operation(self, error: BaseException | None = None, stream_end: StreamEnd | None = None) -> None:
        if self._operation is None and not isinstance(error, StopAsyncIteration):
            self._opened.__exit__(None, error, None)
        super().finish_operation(error, stream_end)


_ACTIVE_CALL: Final = otel.create_key("mlspan-autogen")  # context key of the innermost traced call


class _ActiveCall:
    """A traced call that is running: a method of *owner*, which belongs to a family such as "agent" or "tool"."""

    def __init__(self, kind: str, owner: Any, operation: Operation, call_id: Any) -> None:
        self.family, self.owner, self.operation, self.call_id = kind, owner, operation, call_id
        self.is_merged = False

    def matches_call(self, kind: str, owner: object) -> bool:
        return self.family == kind and self.owner is owner

    def merges_tool(self, tool: object, asked: Call) -> bool:
        """Return True if this is a workbench's call that runs *tool*, so that the two calls share one span."""
        if self.family != "tool" or self.is_merged or not hasattr(self.owner, "call_tool"):
            return False
        if asked.kwargs.get("call_id") != self.call_id:
            return False
        if hasattr(tool, "call_tool"):  # a workbench that delegates to another
            return isinstance(self.operation.record, Tool) and self.operation.record.name == asked.argument("name")
        self.is_merged = True
        return True


class _MergedCall(NoOpOperation):
    """Stand-in for the operation of a tool that a workbench runs.

    It completes the span of the workbench's call with the tool's description, its type and its error.
    """

    def __init__(self, operation: Operation, tool: object) -> None:
        self._operation = operation
        if isinstance(operation.record, Tool):
            operation.record.description = get_nested(tool, "description", str) or None
            operation.record.type = tool_type(tool)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):  # the workbench turns it into an answer
            self._operation.record.failure = (get_error_type(error), str(error))


def make_operation_starter(hook: Hook, family: str, begin: BeginAlways) -> OperationStarter:
    """Return a function that starts the operation of a method, or returns a no-op if an object calls itself.

    Args:
        hook: the hook whose settings apply.
        family: the family that the method belongs to, such as "agent" or "tool".
        begin: reads the call into a record.
    """

    def open_(args: tuple[object, ...], kwargs: dict[str, Any], *, function: Any = None) -> object:
        owner, around, call = (
            args[0],
            otel.get_value(_ACTIVE_CALL),
            Call(args, kwargs, capture_content=True, options={}, function=function),
        )
        if isinstance(around, _ActiveCall):
            if around.matches_call(family, owner):
                _read_query(around.operation.record, begin, call)
                return NOOP_OPERATION
            if family == "tool" and around.merges_tool(owner, call):
                return _MergedCall(around.operation, owner)
        with use_outer_span():
            operation = hook.start_operation(begin, args, kwargs, function=function)
        if isinstance(operation, Operation):
            operation.context = otel.set_value(
                _ACTIVE_CALL, _ActiveCall(family, owner, operation, kwargs.get("call_id")), operation.context
            )
        return operation

    return CallStarter(open_)


def _read_query(record: Record, begin: BeginAlways, call: Call) -> None:
    """Read the query that a memory sends to itself when it updates a context, into the span of that update."""
    if isinstance(record, Retrieval) and record.input is None:
        with guard("reading a query"):
            asked, _ = begin(call)
            record.input = asked.input if isinstance(asked, Retrieval) else None
