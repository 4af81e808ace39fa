"""What stands in for a stream has the methods that the stream has, and no others: callers ask with hasattr."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

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
