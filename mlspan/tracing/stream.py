"""The caller's stream, watched: same type, same methods, plus one promise: the span ends.

However a stream ends (exhausted, broken out of, closed, left by an exception, cancelled, dropped), it reaches
``Live.finish``, which counts only once.
"""

from __future__ import annotations

import copy
from contextvars import copy_context
from types import TracebackType
from typing import Any, Protocol

from opentelemetry import context as otel

from .context import detach


class Watcher(Protocol):
    """What a stream needs of whoever watches it."""

    def observe(self, value: Any) -> bool: ...
    def finish(
        self, error: BaseException | None = None, *, stream_end: Any = None, collecting: bool = False
    ) -> None: ...


def end(live: Watcher, error: BaseException) -> None:
    """How a read ends decides how we end."""
    live.finish(None if isinstance(error, (StopIteration, StopAsyncIteration)) else error)


def drop(live: Watcher, *, stream_end: str | None = None) -> None:
    """Finish from a finalizer, and change no context variable of who is at work where it runs.

    Up to Python 3.11 that may be somebody in the middle of ``ContextVar.set``, who would read freed memory:
    https://github.com/python/cpython/issues/148891.
    """
    copy_context().run(live.finish, stream_end=stream_end, collecting=True)


class Watched:
    """Passes everything on to what it watches, so that the caller cannot tell the two apart."""

    __slots__ = ("__weakref__", "_mlspan_live", "_mlspan_own")
    _mlspan_own: Any
    _mlspan_live: Watcher

    def __init__(self, own: Any, live: Watcher) -> None:
        object.__setattr__(self, "_mlspan_own", own)
        object.__setattr__(self, "_mlspan_live", live)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_mlspan_"):  # one that was made past __init__ has none
            raise AttributeError(name)
        value = getattr(self._mlspan_own, name)
        # A client's own helpers close the HTTP response below the stream, rather than the stream.
        return Transport(value, self._mlspan_live) if name == "response" and hasattr(value, "close") else value

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._mlspan_own, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._mlspan_own, name)

    def __dir__(self) -> list[str]:
        return dir(self._mlspan_own)

    def __repr__(self) -> str:
        return repr(self._mlspan_own)

    @property  # type: ignore[misc]  # isinstance(stream, openai.Stream) stays true
    def __class__(self) -> type:
        return type(self._mlspan_own)

    # Copying is for what is watched to do: the copy is the caller's own.

    def __copy__(self) -> Any:
        return copy.copy(self._mlspan_own)

    def __deepcopy__(self, known: dict[int, Any]) -> Any:
        return copy.deepcopy(self._mlspan_own, known)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._mlspan_own.__reduce_ex__(protocol)

    def _mlspan_left(self, error: BaseException | None = None) -> None:
        self._mlspan_live.finish(error, stream_end=None if error else "closed")

    # Closing is the same for both colours: of an async object these return the coroutine that the caller awaits.

    def close(self) -> Any:
        self._mlspan_left()
        return self._mlspan_own.close()

    def aclose(self) -> Any:
        self._mlspan_left()
        return self._mlspan_own.aclose()


class Transport(Watched):
    """The HTTP response below a stream."""

    __slots__ = ()


class _Iterated(Watched):
    """*context*, if given, is current in each read, which runs somebody's own code rather than take from a server."""

    __slots__ = ("_mlspan_context",)
    _mlspan_context: otel.Context | None

    def __init__(self, own: Any, live: Watcher, context: otel.Context | None = None) -> None:
        super().__init__(own, live)
        object.__setattr__(self, "_mlspan_context", context)

    def __del__(self) -> None:
        try:
            live = object.__getattribute__(self, "_mlspan_live")
        except AttributeError:  # __init__ did not get that far
            return
        drop(live, stream_end="abandoned")


class Stream(_Iterated):
    __slots__ = ()

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Any:
        while True:
            try:
                chunk = next(self._mlspan_own) if self._mlspan_context is None else self._mlspan_inside()
            except BaseException as error:
                end(self._mlspan_live, error)
                raise
            if self._mlspan_live.observe(chunk):
                return chunk

    def _mlspan_inside(self) -> Any:
        token = otel.attach(self._mlspan_context)  # type: ignore[arg-type]  # asked for where there is one
        try:
            return next(self._mlspan_own)
        finally:
            detach(token, self._mlspan_context)  # type: ignore[arg-type]  # as above

    def __enter__(self) -> Stream:
        self._mlspan_own.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        self._mlspan_left(error)
        return self._mlspan_own.__exit__(kind, error, trace)


class Generated(Stream):
    """A generator: what is sent or thrown into it is a read as well."""

    __slots__ = ()

    def send(self, value: Any) -> Any:
        return self._mlspan_read(lambda: self._mlspan_own.send(value))

    def throw(self, *error: Any) -> Any:
        return self._mlspan_read(lambda: self._mlspan_own.throw(*error))

    def _mlspan_read(self, read: Any) -> Any:
        token = otel.attach(self._mlspan_context) if self._mlspan_context is not None else None
        try:
            item = read()
        except BaseException as error:
            end(self._mlspan_live, error)
            raise
        finally:
            if token is not None:
                detach(token, self._mlspan_context)  # type: ignore[arg-type]  # as above
        self._mlspan_live.observe(item)
        return item


class AsyncStream(_Iterated):
    __slots__ = ()

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Any:
        while True:
            try:
                chunk = await (anext(self._mlspan_own) if self._mlspan_context is None else self._mlspan_inside())
            except BaseException as error:
                end(self._mlspan_live, error)
                raise
            if self._mlspan_live.observe(chunk):
                return chunk

    async def _mlspan_inside(self) -> Any:
        token = otel.attach(self._mlspan_context)  # type: ignore[arg-type]  # as above
        try:
            return await anext(self._mlspan_own)
        finally:
            detach(token, self._mlspan_context)  # type: ignore[arg-type]  # as above

    async def __aenter__(self) -> AsyncStream:
        await self._mlspan_own.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        self._mlspan_left(error)
        return await self._mlspan_own.__aexit__(kind, error, trace)
