"""Proxies of what a client returns: they pass everything on to the client's own object.

``stream`` has the proxies of streams, ``raw_response`` those of answers with an unread body, and ``unread_member``
those of answers with one unread field.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any, Final, Literal, Protocol, TypeAlias

from .event_filter import EventFilter

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


class _OwnCopy:
    """The ``__copy__`` of a proxy: that of the client's object, which may have none.

    ``copy.copy`` asks the class for it. ``itertools.tee`` asks the object, and takes a copy in the place of what it
    reads, so an iterator that cannot be copied must not have one.
    """

    def __get__(self, proxy: ResponseProxy | None, _: type | None = None) -> object:
        return self if proxy is None else proxy._mlspan_own.__copy__

    def __call__(self, proxy: ResponseProxy) -> object:
        return copy.copy(proxy._mlspan_own)


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
    __copy__ = _OwnCopy()

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
