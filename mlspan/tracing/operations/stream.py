"""Stream proxies: they look like the client's own stream and make sure that the operation is finished.

A stream may be exhausted, broken out of, closed, left by an exception, cancelled or dropped. Each of these ends calls
``Operation.finish``, which counts only once.

What is read late and is no stream has modules of its own: ``raw_response`` for answers with an unread body,
``unread_member`` for answers with one unread field, ``generators`` for generators of the caller's code.
``control_flow.is_generator_close`` tells a reader that has stopped from a failure. LangChain has its own streams, whose
runs ``end_cancelled_run`` in ``integrations/langchain/runs.py`` ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from types import FunctionType, GeneratorType, TracebackType
from typing import Any

from opentelemetry import context as otel

from .call_context import detach_context
from .iterators import makes_generators
from .response_proxy import ResponseProxy, StreamObserver, finish_after_read, finish_in_finalizer


class _StreamProxy(ResponseProxy):
    """A proxy of an iterator.

    *context*, if given, is current in each read. It is for iterators that run user code rather than read from a server.
    """

    __slots__ = ("_mlspan_context",)
    _mlspan_context: otel.Context | None

    def __init__(self, own: object, observer: StreamObserver, context: otel.Context | None = None) -> None:
        super().__init__(own, observer)
        object.__setattr__(self, "_mlspan_context", context)

    def __del__(self) -> None:
        try:
            observer = object.__getattribute__(self, "_mlspan_observer")
        except AttributeError:  # __init__ has failed before setting it
            return
        finish_in_finalizer(observer, stream_end="abandoned")


class _ChunkProxy(_StreamProxy):
    """A proxy of an iterator of chunks, which holds what each read needs in one place.

    Its class has a ``__getattr__``, so each attribute takes a multiple of what one of another object takes.
    """

    __slots__ = ("_mlspan_reading",)
    _mlspan_reading: tuple[Callable[[Any], Any], Any, StreamObserver]

    def __init__(self, own: object, observer: StreamObserver, context: otel.Context | None = None) -> None:
        super().__init__(own, observer, context)
        object.__setattr__(self, "_mlspan_reading", (self._mlspan_find_read(type(own), context), own, observer))

    def _mlspan_find_read(self, cls: type, context: otel.Context | None) -> Callable[[Any], Any]:
        """Return the function that reads the next chunk of an iterator of class *cls*, inside *context* if given."""
        raise NotImplementedError


class PlainStream(_ChunkProxy):
    """A proxy of a synchronous stream that is no block of ``with``, such as a generator: callers ask with hasattr."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return self._mlspan_iterate() if makes_generators(type(self._mlspan_own), "__iter__") else self

    def _mlspan_iterate(self) -> Iterator[Any]:
        """Yield the chunks of the generator that the client's own ``__iter__`` makes, which ends with this one.

        This one keeps the stream alive, whose own end would otherwise come before the reading.
        """
        read, own, observer = self._mlspan_reading
        if self._mlspan_context is None:
            read, own = next, iter(own)
        while True:
            try:
                chunk = read(own)
            except BaseException as error:
                finish_after_read(observer, error)
                if isinstance(error, StopIteration):
                    return
                raise
            if observer.observe(chunk):
                yield chunk

    def __next__(self) -> Any:
        read, own, observer = self._mlspan_reading
        while True:
            try:
                chunk = read(own)
            except BaseException as error:
                finish_after_read(observer, error)
                raise
            if observer.observe(chunk):
                return chunk

    def _mlspan_find_read(self, cls: type, context: otel.Context | None) -> Callable[[Any], Any]:
        return partial(_read_in_context, context) if context is not None else _find_method(cls, "__next__") or next


class Stream(PlainStream):
    """A proxy of a synchronous stream."""

    __slots__ = ()

    def __enter__(self) -> Stream:
        self._mlspan_own.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> object:
        self._mlspan_finish(error)
        return self._mlspan_own.__exit__(kind, error, trace)


class Generated(PlainStream):
    """A generator: what is sent or thrown into it is a read as well."""

    __slots__ = ()

    def send(self, value: object) -> object:
        return self._mlspan_read(lambda: self._mlspan_own.send(value))

    def throw(self, *error: object) -> object:
        return self._mlspan_read(lambda: self._mlspan_own.throw(*error))

    def _mlspan_read(self, read: Any) -> object:
        token = otel.attach(self._mlspan_context) if self._mlspan_context is not None else None
        try:
            item = read()
        except BaseException as error:
            finish_after_read(self._mlspan_observer, error)
            raise
        finally:
            if token is not None:
                detach_context(token, self._mlspan_context)  # type: ignore[arg-type]  # as above
        self._mlspan_observer.observe(item)
        return item


class Awaited(_StreamProxy):
    """A proxy of a coroutine, whose result is the one value that the observer sees."""

    __slots__ = ()

    def __await__(self) -> Awaited:
        return self

    def __iter__(self) -> Awaited:
        return self

    def __next__(self) -> object:
        return self._mlspan_step(self._mlspan_own.send, None)

    def send(self, value: object) -> object:
        return self._mlspan_step(self._mlspan_own.send, value)

    def throw(self, *error: object) -> object:
        return self._mlspan_step(self._mlspan_own.throw, *error)

    def _mlspan_step(self, step: Any, *given: object) -> object:
        """Run the coroutine until it waits for something, inside the given context."""
        token = otel.attach(self._mlspan_context) if self._mlspan_context is not None else None
        try:
            return step(*given)
        except BaseException as error:
            if isinstance(error, StopIteration):
                self._mlspan_observer.observe(error.value)
            finish_after_read(self._mlspan_observer, error)
            raise
        finally:
            if token is not None:
                detach_context(token, self._mlspan_context)  # type: ignore[arg-type]  # as above


class PlainAsyncStream(_ChunkProxy):
    """A proxy of an asynchronous stream that is no block of ``async with``."""

    __slots__ = ()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._mlspan_iterate() if makes_generators(type(self._mlspan_own), "__aiter__") else self

    async def _mlspan_iterate(self) -> AsyncIterator[Any]:
        """Yield the chunks, as the generator that the client's own ``__aiter__`` makes does.

        That one is not made: it would have to be closed within the caller's event loop.
        """
        read, own, observer = self._mlspan_reading
        while True:
            try:
                chunk = await read(own)
            except BaseException as error:
                finish_after_read(observer, error)
                if isinstance(error, StopAsyncIteration):
                    return
                raise
            if observer.observe(chunk):
                yield chunk

    async def __anext__(self) -> object:
        read, own, observer = self._mlspan_reading
        while True:
            try:
                chunk = await read(own)
            except BaseException as error:
                finish_after_read(observer, error)
                raise
            if observer.observe(chunk):
                return chunk

    def _mlspan_find_read(self, cls: type, context: otel.Context | None) -> Callable[[Any], Any]:
        return partial(_aread_in_context, context) if context is not None else _find_method(cls, "__anext__") or anext


class AsyncStream(PlainAsyncStream):
    """A proxy of an asynchronous stream."""

    __slots__ = ()

    async def __aenter__(self) -> AsyncStream:
        await self._mlspan_own.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> object:
        self._mlspan_finish(error)
        return await self._mlspan_own.__aexit__(kind, error, trace)


def _find_method(cls: type, name: str) -> Callable[[Any], Any] | None:
    """Return method *name* of *cls* if it is a function in Python, which is called faster than by ``next``."""
    method = getattr(cls, name, None)
    return method if isinstance(method, FunctionType) else None


def _read_in_context(context: otel.Context, own: Iterator[Any]) -> object:
    """Return the next chunk, read inside *context*."""
    token = otel.attach(context)
    try:
        return next(own)
    finally:
        detach_context(token, context)


async def _aread_in_context(context: otel.Context, own: AsyncIterator[Any]) -> object:
    """Return the next chunk, read inside *context*."""
    token = otel.attach(context)
    try:
        return await anext(own)
    finally:
        detach_context(token, context)


def find_stream_class(cls: type, *, is_async: bool) -> type[PlainStream | PlainAsyncStream]:
    """Return the proxy for streams of class *cls*: a block of ``with`` if they are one, as callers ask with hasattr."""
    if is_async:
        return AsyncStream if hasattr(cls, "__aenter__") else PlainAsyncStream
    if issubclass(cls, GeneratorType):
        return Generated
    return Stream if hasattr(cls, "__enter__") else PlainStream
