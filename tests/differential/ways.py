"""The few words in which sync and async clients differ, for scenarios that are written once for both."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from harness import Tools

Row: TypeAlias = tuple[str, Callable[[Any], Any], bool]  # the server's answer, what is done, whether it is awaited


class Way:
    """A client, sync or async, and how to call it."""

    def __init__(self, client: Any, *, is_async: bool) -> None:
        self.client, self.is_async = client, is_async

    async def got(self, value: Any) -> Any:
        """Return what a call comes to."""
        return await value if self.is_async and hasattr(value, "__await__") else value

    async def read(self, items: Any, most: int = 99) -> list[Any]:
        """Return the first items of a stream."""
        found: list[Any] = []
        if hasattr(items, "__aiter__") and self.is_async:
            async for item in items:
                found.append(item)
                if len(found) == most:
                    break
        else:
            for item in items:
                found.append(item)
                if len(found) == most:
                    break
        return found

    @contextlib.asynccontextmanager
    async def inside(self, block: Any) -> Any:
        """Enter a block of the client's."""
        if self.is_async:
            async with block as entered:
                yield entered
        else:
            with block as entered:
                yield entered

    async def close(self) -> None:
        await self.got(self.client.close())


def make_ways(forms: Mapping[str, tuple[str, Callable[[Any], Any]]]) -> dict[str, Row]:
    """Return each form, an answer of the server and what is done with it, for a sync and an async client."""
    return {
        f"{name}, {'async' if is_async else 'sync'}": (*form, is_async)
        for name, form in forms.items()
        for is_async in (False, True)
    }


async def run_way(make_way: Callable[..., Any], tools: Tools, row: Row) -> Any:
    """Do what *row* says with a client that *make_way* makes, and close it."""
    answer, form, is_async = row
    way = make_way(tools, answer, is_async=is_async)
    try:
        return await form(way)
    finally:
        gc.collect()  # a stream that holds itself ends before its client, rather than by chance
        await way.close()
