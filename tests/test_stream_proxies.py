"""What stands in for a stream has the methods that the stream has, and no others: callers ask with hasattr."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from types import GeneratorType
from typing import Any

import pytest

from mlspan import tracing
from mlspan.testing import Spans, content
from mlspan.tracing.operations import raw_response
from mlspan.tracing.operations.stream import AsyncStream, Awaited, Generated, Stream


class Finished:
    """An observer that keeps how it was finished."""

    def __init__(self) -> None:
        self.ends: list[Any] = []

    def observe(self, value: object) -> bool:
        return True

    def finish(self, error: Any = None, *, stream_end: Any = None, collecting: bool = False) -> None:
        self.ends.append(stream_end)


class Items:
    """An iterator that nobody can close."""

    def __iter__(self) -> Items:
        return self

    def __next__(self) -> int:
        return 1


class AsyncItems:
    """An asynchronous iterator that nobody can close."""

    def __aiter__(self) -> AsyncItems:
        return self

    async def __anext__(self) -> int:
        return 1


class Closable(Items):
    def close(self) -> str:
        return "closed"


class AsyncClosable(AsyncItems):
    async def close(self) -> str:
        return "closed"


class BothClosable(AsyncClosable):
    async def aclose(self) -> str:
        return "closed"


def generate() -> Iterator[int]:
    yield 1


async def generate_async() -> AsyncIterator[int]:
    yield 1


async def wait() -> int:
    return 1


STREAMS: dict[str, tuple[Any, Any]] = {
    "iterator": (Items, Stream),
    "closable": (Closable, Stream),
    "generator": (generate, Generated),
    "async iterator": (AsyncItems, AsyncStream),
    "async, closable": (AsyncClosable, AsyncStream),
    "async, with both": (BothClosable, AsyncStream),
    "async generator": (generate_async, AsyncStream),
    "coroutine": (wait, Awaited),
}


@pytest.mark.any_span
@pytest.mark.parametrize("name", STREAMS)
async def test_it_has_what_its_stream_has(name: str) -> None:
    """By hasattr and by getattr with a default; what closes the stream also ends what is recorded."""
    make, proxy_class = STREAMS[name]
    own, observer = make(), Finished()
    proxy = proxy_class(own, observer)
    asked = {one for one in {*dir(proxy_class), *dir(own)} if not one.startswith(("_", "__"))}
    assert {one for one in asked if hasattr(proxy, one)} == {one for one in asked if hasattr(own, one)}
    close = getattr(proxy, "aclose", None) or getattr(proxy, "close", None)
    if close is not None:
        result = close()
        if hasattr(result, "__await__"):
            await result
        assert observer.ends[0] == "closed"
    if name == "coroutine":
        own.close()


class Looped:
    """A stream whose ``__iter__`` is a generator, as that of each client that Stainless generates."""

    def __init__(self, *items: Any) -> None:
        self._items = iter(items)
        self.left = 0  # so many loops have ended

    def __next__(self) -> Any:
        return next(self._items)

    def __iter__(self) -> Iterator[Any]:
        try:
            for item in self._items:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.left += 1


class Reading(Finished):
    """An observer that hides an item, and keeps what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def observe(self, value: object) -> bool:
        self.seen.append(value)
        return value != "hidden"

    def finish(self, error: Any = None, *, stream_end: Any = None, collecting: bool = False) -> None:
        self.ends.append(error or stream_end)


@pytest.mark.any_span
def test_a_loop_is_the_clients_own() -> None:
    """It is a generator of the client's, which ends when the loop does; another loop goes on after it."""
    own, observer = Looped(1, "hidden", 2, 3), Reading()
    proxy = Stream(own, observer)
    loop = iter(proxy)
    assert type(loop) is GeneratorType
    assert [next(loop), next(loop)] == [1, 2]
    loop.close()  # type: ignore[attr-defined]  # a generator
    assert (own.left, observer.ends) == (1, [])
    assert [next(proxy), *proxy] == [3]
    assert (own.left, observer.ends, observer.seen) == (2, [None], [1, "hidden", 2, 3])


@pytest.mark.any_span
def test_a_loop_that_fails_or_is_left() -> None:
    """Its own error is the end of what is recorded; a loop keeps the stream alive, whose end is that of the loop."""
    observer, failure = Reading(), ValueError("no more")
    with pytest.raises(ValueError, match="no more"):
        list(Stream(Looped(1, failure), observer))
    assert observer.ends[0] is failure
    observer = Reading()
    loop = iter(Stream(Looped(1, 2), observer))
    assert next(loop) == 1
    assert observer.ends == []
    del loop
    assert observer.ends == ["abandoned"]


BLOCKS = ("__enter__", "__exit__", "__aenter__", "__aexit__")


class Block(Items):
    def __enter__(self) -> Block:
        return self

    def __exit__(self, *_: object) -> None: ...


class AsyncBlock(AsyncItems):
    async def __aenter__(self) -> AsyncBlock:
        return self

    async def __aexit__(self, *_: object) -> None: ...


RETURNED: dict[str, Any] = {
    "iterator": Items,
    "block": Block,
    "generator": generate,
    "async iterator": AsyncItems,
    "async block": AsyncBlock,
    "async generator": generate_async,
}


@pytest.mark.any_span
@pytest.mark.parametrize("name", RETURNED)
def test_it_is_a_block_if_its_stream_is(name: str) -> None:
    """A client's answer, one that a raw response gives, and one of a framework is a block of ``with`` as without us."""
    own = RETURNED[name]()
    is_block = [hasattr(own, one) for one in BLOCKS]
    proxy_class: Any = raw_response.find_proxy_class(type(own))
    assert [hasattr(proxy_class(own, Finished()), one) for one in BLOCKS] == is_block
    assert [hasattr(raw_response._handle_pieces(Pieces(), own), one) for one in BLOCKS] == is_block  # type: ignore[arg-type]


class Pieces(Finished):
    def get_body_buffer(self) -> raw_response.BodyBuffer:
        return raw_response.BodyBuffer()


@pytest.mark.parametrize("name", ["generator", "async generator"])
def test_what_a_traced_function_returns(name: str, spans: Spans) -> None:
    """A generator, or what stands in for a client's, is no block either, and its items are the output."""

    async def read(stream: Any) -> list[Any]:
        return [item async for item in stream]

    def ask(own: Any) -> Any:
        return own

    proxy_class: Any = raw_response.find_proxy_class(type(RETURNED[name]()))
    for own in (RETURNED[name](), proxy_class(RETURNED[name](), Finished())):
        stream: Any = tracing.trace(ask)(own)
        assert not any(hasattr(stream, one) for one in BLOCKS)
        assert (asyncio.run(read(stream)) if name == "async generator" else list(stream)) == [1]
        assert content(spans.all[-1], "mlspan.output") == [1]
