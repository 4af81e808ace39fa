"""Wrappers around AutoGen's methods: sync, async and streaming, with one span even if an object calls itself."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Final

from opentelemetry import context as otel

from ..._guard import guard
from ..._shape import dig
from ...hooks.hook import Call, Hook
from ...hooks.subclasses import Open
from ...tracing.decorator import async_generator
from ...tracing.operations.generators import Steps
from ...tracing.operations.noop import NOTHING
from ...tracing.operations.operation import Live
from ...tracing.operations.operation import _type_name as type_name
from ...tracing.operations.records import Observe, Record, Retrieval, Tool

Begin = Callable[[Call], "tuple[Record, Observe[Any] | None]"]


def argument(call: Call, index: int, name: str) -> Any:
    """Return an argument of a call, by position (0 is the object itself) or by name; None if it was not given."""
    return call.args[index] if len(call.args) > index else call.kwargs.get(name)


def tool_type(owner: Any) -> str:
    """Return the conventions' type of a tool: "extension" for a tool of an MCP server, else "function"."""
    return "extension" if ".mcp." in type(owner).__module__ else "function"


def watched(fn: Any, open_: Open, on: list[bool]) -> Any:
    """Wrap *fn* in a span that ends with its result, which may be await_result or iterated over.

    Args:
        fn: a coroutine function, or a function that returns an awaitable or an async iterator.
        open_: starts an operation from arguments and keyword arguments.
        on: the wrapper passes calls through once this list is empty.
    """

    def open_operation(args: Any, kwargs: Any) -> Any:
        return open_(args, kwargs) if on else NOTHING

    async def await_result(result: Any, args: Any, kwargs: Any) -> Any:
        with open_operation(args, kwargs) as operation:
            return operation.result(await result)

    if inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        async def call_method(*args: Any, **kwargs: Any) -> Any:
            with open_operation(args, kwargs) as operation:
                return operation.result(await fn(*args, **kwargs))
    else:

        @functools.wraps(fn)
        def call_method(*args: Any, **kwargs: Any) -> Any:
            result = fn(*args, **kwargs)
            if isinstance(result, AsyncGenerator):
                return async_generator(lambda *_, **__: result, open_operation, _Items)(*args, **kwargs)
            if isinstance(result, AsyncIterator):  # a class of its own, whose other methods the caller may need
                with open_operation(args, kwargs) as operation:
                    return operation.result(result)
            return await_result(result, args, kwargs) if inspect.isawaitable(result) else result

    return call_method


class _Items(Steps):
    """The steps of a stream whose items are observed one by one rather than at its end."""

    def __init__(self, own: Any, opened: Any) -> None:
        super().__init__(own, opened)
        self._opened = opened

    def _seen(self, item: Any) -> Any:
        self._opened.result(item)
        return item

    def end(self, error: BaseException | None = None, stream_end: Any = None) -> None:
        if self._live is None and not isinstance(error, StopAsyncIteration):
            self._opened.__exit__(None, error, None)
        super().end(error, stream_end)


_INSIDE: Final = otel.create_key("mlspan-autogen")  # context key of the innermost watched call


class _Inside:
    """A watched call that is running: a method of *owner*, which belongs to a family such as "agent" or "tool"."""

    def __init__(self, kind: str, owner: Any, live: Live, call_id: Any) -> None:
        self.kind, self.owner, self.live, self.call_id = kind, owner, live, call_id
        self.folded = False

    def is_of(self, kind: str, owner: Any) -> bool:
        return self.kind == kind and self.owner is owner

    def runs(self, tool: Any, asked: Call) -> bool:
        """Return True if this is a workbench's call that runs *tool*, so that the two calls share one span."""
        if self.kind != "tool" or self.folded or not hasattr(self.owner, "call_tool"):
            return False
        if asked.kwargs.get("call_id") != self.call_id:
            return False
        if hasattr(tool, "call_tool"):  # a workbench that delegates to another
            return isinstance(self.live.record, Tool) and self.live.record.name == argument(asked, 1, "name")
        self.folded = True
        return True


class _Folded:
    """Stand-in for the operation of a tool that a workbench runs.

    It completes the span of the workbench's call with the tool's description, its type and its error.
    """

    def __init__(self, live: Live, tool: Any) -> None:
        self._live = live
        if isinstance(live.record, Tool):
            live.record.description, live.record.type = dig(tool, "description", str) or None, tool_type(tool)

    def __enter__(self) -> _Folded:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):  # the workbench turns it into an answer
            self._live.record.failure = (type_name(error), str(error))

    def result(self, value: Any) -> Any:
        return value


def opening(hook: Hook, family: str, begin: Begin, then: Callable[[Live, Call], None] | None = None) -> Open:
    """Return a function that starts the operation of a method, or returns a no-op if an object calls itself.

    Args:
        hook: the hook whose settings apply.
        family: the family that the method belongs to, such as "agent" or "tool".
        begin: reads the call into a record.
        then: called with each operation that was started, and its call.
    """

    def open_(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        owner, around, call = args[0], otel.get_value(_INSIDE), Call(args, kwargs, content=True, options={})
        if isinstance(around, _Inside):
            if around.is_of(family, owner):
                _ask(around.live.record, begin, call)
                return NOTHING
            if family == "tool" and around.runs(owner, call):
                return _Folded(around.live, owner)
        live = hook.open(begin, args, kwargs)
        if isinstance(live, Live):
            live.context = otel.set_value(_INSIDE, _Inside(family, owner, live, kwargs.get("call_id")), live.context)
            if then is not None:
                with guard("linking a span"):
                    then(live, call)
        return live

    return open_


def _ask(record: Record, begin: Begin, call: Call) -> None:
    """Read the query that a memory sends to itself when it updates a context, into the span of that update."""
    if isinstance(record, Retrieval) and record.input is None:
        with guard("reading a query"):
            asked, _ = begin(call)
            record.input = asked.input if isinstance(asked, Retrieval) else None
