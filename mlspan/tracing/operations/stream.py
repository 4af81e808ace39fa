"""Stream proxies: they look like the client's own stream and make sure that the operation is finished.

A stream may be exhausted, broken out of, closed, left by an exception, cancelled or dropped. Each of these ends calls
``Operation.finish``, which counts only once.

What is read late and is no stream has modules of its own: ``raw_response`` for answers with an unread body,
``unread_member`` for answers with one unread field, ``generators`` for generators of the caller's code.
``control_flow.is_generator_close`` tells a reader that has stopped from a failure. LangChain has its own streams, whose
runs ``end_cancelled_run`` in ``integrations/langchain/runs.py`` ends.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import copy_context
from functools import partial
from types import GeneratorType, TracebackType
from typing import Any, Final, Literal, Protocol, TypeAlias

from opentelemetry import context as otel

from .call_context import detach_context
from .event_filter import EventFilter
from .iterators import aiterate_chunks, iterate_chunks, makes_generators

StreamEnd: TypeAlias = Literal["closed", "abandoned"]  # how a stream was left early


class StreamObserver(Protocol):
    """An observer of a stream: it reads the chunks and learns of the end. Operations are observers."""

    def observe(self, value: object) -> bool: ...
    def finish(
        self, error: BaseException | None = None, *, stream_end: StreamEnd | None = None, collecting: bool = False
    ) -> None: ...


def finish_after_read(observer: StreamObserver, error: BaseException) -> None:
    """Finish after a read that raised *error*: exhaustion is a normal end, any other exception is an error."""
    observer.finish(None if isinstance(error, (StopIteration, StopAsyncIteration)) else error)


def finish_in_finalizer(observer: StreamObserver, *, stream_end: StreamEnd | None = None) -> None:
    """Finish in a finalizer without changing a context variable of the code that happens to run.

    Up to Python 3.11 that code may be in the middle of ``ContextVar.set``, and would then read freed memory:
    https://github.com/python/cpython/issues/148891.
    """
    copy_context().run(observer.finish, stream_end=stream_end, collecting=True)


class ResponseProxy:
    """A proxy that passes everything on to the client's own object, so that the caller sees no difference."""

    __slots__ = ("__weakref__", "_mlspan_observer", "_mlspan_own")
    _mlspan_own: Any
    _mlspan_observer: StreamObserver

    def __init__(self, own: object, observer: StreamObserver) -> None:
        object.__setattr__(self, "_mlspan_own", own)
        object.__setattr__(self, "_mlspan_observer", observer)

    def __getattr__(self, name: str) -> object:
        if name.startswith("_mlspan_"):  # one that was made past __init__ has none
            raise AttributeError(name)
        value = getattr(self._mlspan_own, name)
        # A client's own helpers close the HTTP response below the stream, rather than the stream.
        if name != "response" or not hasattr(value, "close"):
            return value
        return HttpResponseProxy(value, self)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._mlspan_own, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._mlspan_own, name)

    def __dir__(self) -> list[str]:
        return dir(self._mlspan_own)

    def __repr__(self) -> str:
        return repr(self._mlspan_own)

    @property  # type: ignore[misc]  # isinstance(stream, openai.Stream) stays true
    def __class__(self) -> type:
        return self._mlspan_own.__class__  # type: ignore[no-any-return]  # which may be a proxy as well

    # Copying is left to the client's stream: the copy belongs to the caller and is not traced.

    def __copy__(self) -> object:
        return copy.copy(self._mlspan_own)

    def __deepcopy__(self, known: dict[int, object]) -> object:
        return copy.deepcopy(self._mlspan_own, known)

    def __reduce_ex__(self, protocol: object) -> Any:
        return self._mlspan_own.__reduce_ex__(protocol)

    def _mlspan_finish(self, error: BaseException | None = None) -> None:
        """Finish because the caller has closed the object, or left its block with *error*."""
        self._mlspan_observer.finish(error, stream_end=None if error else "closed")

    # Sync and async objects close in the same way: for an async object these return the coroutine that is awaited.
    # An object without such a method has none here either, as callers ask with hasattr.
    @property
    def close(self) -> Callable[[], object]:
        return partial(self._mlspan_close, self._mlspan_own.close)

    @property
    def aclose(self) -> Callable[[], object]:
        return partial(self._mlspan_close, self._mlspan_own.aclose)

    def _mlspan_close(self, close: Callable[[], object]) -> object:
        self._mlspan_finish()
        return close()


class HttpResponseProxy(ResponseProxy):
    """A proxy of the HTTP response below a stream. What the caller reads from it is read into the same record.

    It keeps the stream alive: the stream's own end would otherwise come before the reading.
    """

    __slots__ = ("_mlspan_stream",)

    def __init__(self, own: Any, stream: ResponseProxy) -> None:
        super().__init__(own, stream._mlspan_observer)
        object.__setattr__(self, "_mlspan_stream", stream)

    def __getattr__(self, name: str) -> object:
        value: Any = super().__getattr__(name)
        if name in {"read", "aread"}:
            return self._mlspan_wrap_read(value)
        is_compressed = name.endswith("raw") and self._mlspan_own.headers.get("content-encoding")
        if name not in _ITERATING_METHODS or is_compressed:
            return value

        def iterate_filtered(*args: Any, **kwargs: Any) -> object:
            events = self._mlspan_make_filter(lines=name.endswith("lines"))
            return (events.aread if name[0] == "a" else events.read)(
                value(*args, **kwargs), self._mlspan_observer.finish
            )

        return iterate_filtered

    def _mlspan_make_filter(self, *, lines: bool) -> EventFilter:
        observer = self._mlspan_observer
        hides = getattr(observer, "hides_chunks", False)
        return EventFilter(observer, lines=lines, hides=hides, owner=self)

    def _mlspan_wrap_read(self, read: Any) -> object:
        """Return ``read`` or ``aread``, which reads the events of the whole body and ends the operation."""

        def filter_body(body: Any) -> object:
            events = self._mlspan_make_filter(lines=False)
            shown = b"".join([*events.feed(body), *events.flush()])
            self._mlspan_observer.finish()
            return shown

        async def filter_awaited(body: Any) -> object:
            try:
                return filter_body(await body)
            except BaseException as error:
                self._mlspan_observer.finish(error)
                raise

        def read_filtered() -> object:
            try:
                body = read()
            except BaseException as error:
                self._mlspan_observer.finish(error)
                raise
            return filter_body(body) if isinstance(body, bytes) else filter_awaited(body)

        return read_filtered


# Methods of httpx's responses. One that is compressed cannot be filtered as it came in.
_ITERATING_METHODS: Final = frozenset(
    {f"{kind}{unit}" for kind in ("iter_", "aiter_") for unit in ("lines", "text", "bytes", "raw")}
)


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


class PlainStream(_StreamProxy):
    """A proxy of a synchronous stream that is no block of ``with``, such as a generator: callers ask with hasattr."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return iterate_chunks(self) if makes_generators(type(self._mlspan_own), "__iter__") else self

    def __next__(self) -> Any:
        while True:
            try:
                chunk = next(self._mlspan_own) if self._mlspan_context is None else self._mlspan_next_in_context()
            except BaseException as error:
                finish_after_read(self._mlspan_observer, error)
                raise
            if self._mlspan_observer.observe(chunk):
                return chunk

    def _mlspan_next_in_context(self) -> object:
        """Return the next chunk, read inside the given context."""
        token = otel.attach(self._mlspan_context)  # type: ignore[arg-type]  # only called if there is a context
        try:
            return next(self._mlspan_own)
        finally:
            detach_context(token, self._mlspan_context)  # type: ignore[arg-type]  # as above


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


class PlainAsyncStream(_StreamProxy):
    """A proxy of an asynchronous stream that is no block of ``async with``."""

    __slots__ = ()

    def __aiter__(self) -> AsyncIterator[Any]:
        return aiterate_chunks(self) if makes_generators(type(self._mlspan_own), "__aiter__") else self

    async def __anext__(self) -> object:
        while True:
            try:
                chunk = await (
                    anext(self._mlspan_own) if self._mlspan_context is None else self._mlspan_next_in_context()
                )
            except BaseException as error:
                finish_after_read(self._mlspan_observer, error)
                raise
            if self._mlspan_observer.observe(chunk):
                return chunk

    async def _mlspan_next_in_context(self) -> object:
        """Return the next chunk, read inside the given context."""
        token = otel.attach(self._mlspan_context)  # type: ignore[arg-type]  # as above
        try:
            return await anext(self._mlspan_own)
        finally:
            detach_context(token, self._mlspan_context)  # type: ignore[arg-type]  # as above


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


def find_stream_class(cls: type, *, is_async: bool) -> type[PlainStream | PlainAsyncStream]:
    """Return the proxy for streams of class *cls*: a block of ``with`` if they are one, as callers ask with hasattr."""
    if is_async:
        return AsyncStream if hasattr(cls, "__aenter__") else PlainAsyncStream
    if issubclass(cls, GeneratorType):
        return Generated
    return Stream if hasattr(cls, "__enter__") else PlainStream
