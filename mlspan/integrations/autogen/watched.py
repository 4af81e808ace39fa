"""How a method of AutoGen's is watched: in the colour that it has, once however often an object calls itself."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Final

from opentelemetry import context as otel

from ..._guard import guard
from ..._shape import dig
from ...tracing.decorate import async_generator
from ...tracing.live import Live
from ...tracing.live import _type_name as type_name
from ...tracing.nothing import NOTHING
from ...tracing.records import Observe, Record, Retrieval, Tool
from ...tracing.steps import Steps
from .._family import Open
from .._hook import Call, Hook

Begin = Callable[[Call], "tuple[Record, Observe[Any] | None]"]


def argument(call: Call, index: int, name: str) -> Any:
    """What a method was given, by its place (0 is the object itself) or by its name."""
    return call.args[index] if len(call.args) > index else call.kwargs.get(name)


def tool_type(owner: Any) -> str:
    """The conventions' type of a tool: one of an MCP server runs elsewhere."""
    return "extension" if ".mcp." in type(owner).__module__ else "function"


def watched(fn: Any, open_: Open, on: list[bool]) -> Any:
    """*fn* with a span around what it gives, be that awaited or iterated over."""

    def opened(args: Any, kwargs: Any) -> Any:
        return open_(args, kwargs) if on else NOTHING

    async def awaited(result: Any, args: Any, kwargs: Any) -> Any:
        with opened(args, kwargs) as live:
            return live.result(await result)

    if inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        async def around(*args: Any, **kwargs: Any) -> Any:
            with opened(args, kwargs) as live:
                return live.result(await fn(*args, **kwargs))
    else:

        @functools.wraps(fn)
        def around(*args: Any, **kwargs: Any) -> Any:
            result = fn(*args, **kwargs)
            if isinstance(result, AsyncGenerator):
                return async_generator(lambda *_, **__: result, opened, _Items)(*args, **kwargs)
            if isinstance(result, AsyncIterator):  # somebody's own, with methods of its own
                with opened(args, kwargs) as live:
                    return live.result(result)
            return awaited(result, args, kwargs) if inspect.isawaitable(result) else result

    return around


class _Items(Steps):
    """The steps of a stream that is observed item by item rather than at its end."""

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


_INSIDE: Final = otel.create_key("mlspan-autogen")  # -> the _Inside of the innermost call that is watched


class _Inside:
    """The call of *owner*, of this kind, that the caller is in."""

    def __init__(self, kind: str, owner: Any, live: Live, call_id: Any) -> None:
        self.kind, self.owner, self.live, self.call_id = kind, owner, live, call_id
        self.folded = False

    def is_of(self, kind: str, owner: Any) -> bool:
        return self.kind == kind and self.owner is owner

    def runs(self, tool: Any, asked: Call) -> bool:
        """Whether *tool* is run by us, a workbench that was asked for it; it is then no call of its own."""
        if self.kind != "tool" or self.folded or not hasattr(self.owner, "call_tool"):
            return False
        if asked.kwargs.get("call_id") != self.call_id:
            return False
        if hasattr(tool, "call_tool"):  # a workbench in front of another
            return isinstance(self.live.record, Tool) and self.live.record.name == argument(asked, 1, "name")
        self.folded = True
        return True


class _Folded:
    """Stands for a tool's own call inside of a workbench's, whose span it tells what it is and of an error."""

    def __init__(self, live: Live, tool: Any) -> None:
        self._live = live
        if isinstance(live.record, Tool):
            live.record.description, live.record.type = dig(tool, "description", str) or None, tool_type(tool)

    def __enter__(self) -> _Folded:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):  # the workbench makes an answer of it
            self._live.record.failure = (type_name(error), str(error))

    def result(self, value: Any) -> Any:
        return value


def opening(hook: Hook, kind: str, begin: Begin, then: Callable[[Live, Call], None] | None = None) -> Open:
    """An ``open`` of a family's method, for which a call that an object makes to itself is no call.

    *then* is told of each that is opened.
    """

    def open_(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        owner, around, call = args[0], otel.get_value(_INSIDE), Call(args, kwargs, content=True, options={})
        if isinstance(around, _Inside):
            if around.is_of(kind, owner):
                _ask(around.live.record, begin, call)
                return NOTHING
            if kind == "tool" and around.runs(owner, call):
                return _Folded(around.live, owner)
        live = hook.open(begin, args, kwargs)
        if isinstance(live, Live):
            live.context = otel.set_value(_INSIDE, _Inside(kind, owner, live, kwargs.get("call_id")), live.context)
            if then is not None:
                with guard("linking a span"):
                    then(live, call)
        return live

    return open_


def _ask(record: Record, begin: Begin, call: Call) -> None:
    """A memory that fills a context asks itself a question, which its span then tells."""
    if isinstance(record, Retrieval) and record.input is None:
        with guard("reading a query"):
            asked, _ = begin(call)
            record.input = asked.input if isinstance(asked, Retrieval) else None
