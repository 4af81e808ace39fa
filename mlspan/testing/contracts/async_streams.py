"""The contract of asynchronous streams: the same ends, and those that only tasks have."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
from opentelemetry import trace

from ... import tracing
from .base import WAIT, CallersError, catch, run_with_end
from .streams import AnyStreamContract


async def read_all(stream: Any) -> list[object]:
    return [chunk async for chunk in stream]


async def close(stream: Any) -> None:
    """Close *stream* by ``close`` or ``aclose``, whichever it has; the first may be a plain method."""
    closing = stream.close() if hasattr(stream, "close") else stream.aclose()
    if inspect.isawaitable(closing):
        await closing


async def read_one_and_break(stream: Any) -> None:
    async for _ in stream:
        break


async def wait_for_new_tasks(before: set[asyncio.Task[object]]) -> None:
    """Wait for the tasks that are not among those of *before*."""
    await asyncio.sleep(0)  # a task that is about to be made is made
    await asyncio.gather(*asyncio.all_tasks() - before, return_exceptions=True)


async def drop_unread(stream: object) -> None:
    """Leave the stream without a single read."""


async def raise_in_the_loop(stream: Any) -> None:
    with suppress(CallersError):
        async for _ in stream:
            raise CallersError


async def close_early(stream: Any) -> None:
    await anext(aiter(stream))
    await close(stream)


async def close_unread(stream: object) -> None:
    await close(stream)


async def close_in_another_task(stream: Any) -> None:
    await anext(aiter(stream))
    await asyncio.create_task(close(stream))


async def leave_the_block(stream: Any) -> None:
    async with stream:
        await anext(aiter(stream))


async def close_a_generator(stream: Any) -> None:
    async def read() -> AsyncIterator[Any]:
        async with stream:
            async for chunk in stream:
                yield chunk

    reader: Any = read()
    await anext(reader)
    await reader.aclose()


class AsyncStreamContract(AnyStreamContract):
    """The contract of an asynchronous stream. Each test has an event loop of its own; no plugin is needed."""

    async def open_stream(self) -> Any:
        """Return a new stream of at least two chunks."""
        raise NotImplementedError

    async def open_cut_off_stream(self) -> object:
        """Return a new stream whose connection breaks, or which the server ends with an error, after one chunk."""
        raise NotImplementedError

    async def open_slow_stream(self) -> Any:
        """Return a new stream that waits for at least half a second between its first chunk and its second."""
        raise NotImplementedError

    async def close_client(self) -> None:
        """Close what the streams have opened, in the event loop in which that was done."""

    def run(self, scenario: Callable[[], Coroutine[object, object, object]]) -> Any:
        """Return what *scenario* returns in an event loop of its own."""
        return asyncio.run(run_with_end(scenario(), self.close_client))

    async def _read_new(self) -> list[object]:
        return await read_all(await self.open_stream())

    def test_read_to_the_end(self) -> None:
        """All tokens are there, nothing says that it was left early, and a later close changes nothing."""

        async def scenario() -> None:
            stream = await self.open_stream()
            self.check_type(stream)
            assert len(await read_all(stream)) >= 2
            self.check_span()
            await close(stream)

        self.run(scenario)
        gc.collect()
        self.check_span()

    def test_the_caller_gets_the_same_chunks(self) -> None:
        """Types and values of the chunks are those of an untraced stream."""

        def read() -> list[tuple[type, object]]:
            return [(type(chunk), self.read_chunk(chunk)) for chunk in self.run(self._read_new)]

        assert self.run_bare(read) == read()

    @pytest.mark.parametrize("leave", [read_one_and_break, raise_in_the_loop])
    def test_dropped(self, leave: Callable[[object], Coroutine[object, object, None]]) -> None:
        """A stream that nobody closes ends its span when it is collected, as abandoned: no error."""

        async def scenario() -> None:
            before = asyncio.all_tasks()
            await leave(await self.open_stream())
            gc.collect()
            await wait_for_new_tasks(before)  # the event loop closes a generator, or a stream's, in a task of its own
            self.check_dropped()

        self.run(scenario)

    @pytest.mark.parametrize("leave", [close_early, close_in_another_task])
    def test_closed(self, leave: Callable[[object], Coroutine[object, object, None]]) -> None:
        """A stream that is closed early ends its span at once."""

        async def scenario() -> None:
            stream = await self.open_stream()
            await leave(stream)
            self.check_left(end="closed")

        self.run(scenario)

    @pytest.mark.parametrize(("leave", "end"), [(drop_unread, "abandoned"), (close_unread, "closed")])
    def test_never_read(self, leave: Callable[[object], Coroutine[object, object, None]], end: str) -> None:
        """A stream that nobody reads ends its span too."""

        async def scenario() -> None:
            await leave(await self.open_stream())
            gc.collect()
            self.check_never_read(end)

        self.run(scenario)

    @pytest.mark.parametrize("leave", [leave_the_block, close_a_generator])
    def test_a_block_left_early(self, leave: Callable[[object], Coroutine[object, object, None]]) -> None:
        """Leaving the ``async with`` block closes the stream, also in a generator that is closed."""
        self.require_with()

        async def scenario() -> None:
            stream = await self.open_stream()
            await leave(stream)
            self.check_type(stream)

        self.run(scenario)
        self.check_left(end="closed")

    def test_the_http_response_closed(self) -> None:
        """Closing the response below the stream ends the span, while the stream still lives."""
        if not self.has_http_response:
            pytest.skip("these streams show no HTTP response")

        async def scenario() -> None:
            stream = await self.open_stream()
            await anext(stream)
            await stream.response.aclose()
            self.check_left(end="closed")

        self.run(scenario)

    def test_an_exception_in_the_block(self) -> None:
        """An exception of the caller's leaves the block as the object that it is, and the span says which."""
        self.require_with()
        error = CallersError("mine")

        async def scenario() -> None:
            async with await self.open_stream() as stream:
                async for _ in stream:
                    raise error

        assert catch(lambda: self.run(scenario), CallersError) is error
        self.check_left(error=CallersError)

    def test_cut_off(self) -> None:
        """A stream that breaks raises what it raises without tracing, and its span is an error."""

        async def read() -> object:
            return await read_all(await self.open_cut_off_stream())

        bare = self.run_bare(lambda: catch(lambda: self.run(read), self.cut_off))
        traced = catch(lambda: self.run(read), self.cut_off)
        assert type(traced) is type(bare)
        assert str(traced) == str(bare)
        self.check_left(error=type(bare))

    def test_a_cancelled_task(self) -> None:
        """A task that is cancelled while it reads: the span is an error that says so."""

        async def scenario() -> None:
            has_chunk = asyncio.Event()

            async def read() -> None:
                async for _ in await self.open_slow_stream():
                    has_chunk.set()

            task = asyncio.create_task(read())
            await asyncio.wait_for(has_chunk.wait(), WAIT)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        self.run(scenario)
        self.check_left(error=asyncio.CancelledError)

    def test_a_read_that_times_out(self) -> None:
        """``asyncio.wait_for`` gives up on a chunk: the span is cancelled."""

        async def scenario() -> None:
            stream = await self.open_slow_stream()
            chunks = aiter(stream)
            await anext(chunks)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(chunks), 0.1)
            await close(stream)

        self.run(scenario)
        self.check_left(error=asyncio.CancelledError)

    def test_read_in_another_task(self) -> None:
        """A stream may be handed to another task."""

        async def scenario() -> None:
            await asyncio.create_task(read_all(await self.open_stream()))

        self.run(scenario)
        self.check_span()

    def test_longer_than_the_span_around_it(self) -> None:
        """A stream that is read after its parent has ended stays its child, and meanwhile it is nobody's parent."""

        async def scenario() -> None:
            with tracing.span("outer"):
                around = trace.get_current_span()
                stream = await self.open_stream()
                await anext(aiter(stream))
                assert trace.get_current_span() is around
            await read_all(stream)

        self.run(scenario)
        (child,), (parent,) = self.spans.named(self.span), self.spans.named("outer")
        assert child.parent is not None
        assert parent.context is not None
        assert child.parent.span_id == parent.context.span_id

    def test_disable_brings_the_originals_back(self) -> None:
        """``disable=True`` leaves no patch behind, and no span of the next stream."""
        self.check_disabled(lambda: self.run(self._read_new))
