"""What a program does with a client of models, written once: calls, streams with each way to leave them, errors."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from typing import Any, Final

import ways
from harness import Tools


class Way(ways.Way):
    """A client, sync or async. A client's own class says how it is made, and how it is asked."""

    needs: str = ""  # the module of the library

    def __init__(self, tools: Tools, answer: str, *, is_async: bool) -> None:
        super().__init__(self.make(tools.url(answer), is_async=is_async), is_async=is_async)

    def make(self, url: str, *, is_async: bool) -> Any:
        """Return a client of the server at *url*, whose path ends with ``/v1``."""
        raise NotImplementedError

    def call(self, *, stream: bool, **more: Any) -> Any:
        """Say hello; return the answer, the stream, or what is awaited for either."""
        raise NotImplementedError

    def find_method(self) -> Any:
        """Return the method that :meth:`call` calls."""
        raise NotImplementedError

    async def ask(self, **more: Any) -> Any:
        return await self.got(self.call(stream=False, **more))

    async def open_stream(self) -> Any:
        return await self.got(self.call(stream=True))

    async def shut(self, stream: Any) -> None:
        """Close a stream in the way that it has; one without any is dropped."""
        for name in ("aclose", "close"):
            if hasattr(stream, name):
                await self.got(getattr(stream, name)())
                return

    async def close(self) -> None:
        for name in ("aclose", "close"):
            if hasattr(self.client, name):
                await self.got(getattr(self.client, name)())
                return


def is_installed(way: type[Way]) -> bool:
    """Return whether the library of a client is there: without it there are no scenarios, and its test is skipped."""
    try:
        return importlib.util.find_spec(way.needs) is not None
    except ImportError:  # of a package above
        return False


async def plain(way: Way) -> Any:
    return await way.ask()


async def twice(way: Way) -> Any:
    return [await way.ask(), await way.ask()]


async def wrong_arguments(way: Way) -> Any:
    """The frames are left out: a coroutine function of ours raises when it is awaited, and not when it is called."""
    try:
        return await way.ask(nonsense=1)
    except (TypeError, ValueError) as error:
        return [type(error), str(error)]


async def signature(way: Way) -> Any:
    method = way.find_method()
    kinds = [inspect.iscoroutinefunction(method), inspect.ismethod(method), callable(method)]
    return [method.__name__, method.__doc__, inspect.signature(method), kinds]


async def stream_read(way: Way) -> Any:
    stream = await way.open_stream()
    return [isinstance(stream, type(stream)), await way.read(stream)]


async def stream_shown(way: Way) -> Any:
    stream = await way.open_stream()
    found = [stream, hasattr(stream, "__next__"), hasattr(stream, "__anext__"), hasattr(stream, "nonsense")]
    await way.read(stream)
    return found


async def stream_left(way: Way) -> Any:
    return await way.read(await way.open_stream(), 1)


async def stream_resumed(way: Way) -> Any:
    stream = await way.open_stream()
    return [await way.read(stream, 1), await way.read(stream), await way.read(stream)]


async def stream_closed(way: Way) -> Any:
    stream = await way.open_stream()
    first = await way.read(stream, 1)
    await way.shut(stream)
    return [first, stream.__class__]  # type() alone tells a proxy


async def stream_in_block(way: Way) -> Any:
    stream = await way.open_stream()
    if not hasattr(stream, "__aenter__" if way.is_async else "__enter__"):
        return "no block"
    async with way.inside(stream) as entered:
        return await way.read(entered)


async def stream_with_error(way: Way) -> Any:
    stream = await way.open_stream()
    await way.read(stream, 1)
    raise ValueError("the caller's own")


async def stream_never_read(way: Way) -> Any:
    await way.open_stream()


CALLS: Final[dict[str, Callable[[Any], Any]]] = {"called": plain, "called twice": twice, "signature": signature}
STREAMS: Final[dict[str, Callable[[Any], Any]]] = {
    "stream read": stream_read,
    "stream shown": stream_shown,
    "stream left": stream_left,
    "stream resumed": stream_resumed,
    "stream closed": stream_closed,
    "stream in a block": stream_in_block,
    "stream with the caller's error": stream_with_error,
    "stream never read": stream_never_read,
}
STATUSES: Final = ("400", "401", "404", "429", "500")


def list_forms(prefix: str, *, endings: tuple[str, ...], call: str = "") -> dict[str, tuple[str, Callable[[Any], Any]]]:
    """Return the forms of a client.

    Args:
        prefix: of the server's answers, such as ``cohere``: that is also the answer to a call.
        endings: of streams that are no whole ones, such as ``cut``.
        call: the answer to a call, if it has another name.
    """
    whole, stream = call or prefix, f"{prefix}-stream" if prefix else "stream"
    return {
        **{name: (whole, form) for name, form in CALLS.items()},
        "wrong arguments": (whole, wrong_arguments),
        "a tool's call": (f"{prefix}-tool" if prefix else "tool", plain),
        "empty object": ("empty", plain),
        "a list": ("list", plain),
        "no JSON": ("garbage", plain),
        **{f"status {code}": (code, plain) for code in STATUSES},
        **{name: (stream, form) for name, form in STREAMS.items()},
        **{f"stream {ending}": (f"{stream}-{ending}", stream_read) for ending in endings},
        "stream refused": ("500", stream_read),
    }
