"""Raw responses: answers whose body the caller has yet to read, recorded however the caller reads them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from types import TracebackType
from typing import Any, Protocol

import orjson

from ..._guard import let_handler_through
from .response_proxy import ResponseProxy, StreamObserver, finish_after_read, finish_in_finalizer
from .stream import PlainAsyncStream, PlainStream, find_stream_class


class ResponseObserver(StreamObserver, Protocol):
    """A stream observer that can also take a whole answer and collect a raw body."""

    def record_result(self, value: object) -> object: ...
    def get_body_buffer(self) -> BodyBuffer: ...


class _EndOnError:
    """A context manager that ends the operation if reading the raw response fails inside the block."""

    __slots__ = ("observer",)

    def __init__(self, observer: StreamObserver) -> None:
        self.observer = observer

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            finish_after_read(self.observer, error)


class BodySize(int):
    """The number of bytes of a body that is not JSON; it is observed in place of the body."""


_JSON_STARTS = (
    b"{",
    b"[",
    b":",
    b"d",
    b"e",
    b"i",
    b"r",
)  # first bytes of JSON and of event streams: data, event, id, retry, comments


class BodyBuffer:
    """A body that the caller reads as bytes, text or lines: collected piece by piece, decoded once at the end."""

    __slots__ = ("_pieces", "size")
    LIMIT = 64 * 1024 * 1024  # bytes; a longer body is a file rather than an answer, so it is counted and not kept

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size = 0

    def add_piece(self, piece: bytes | str, end: bytes = b"") -> None:
        """Add a piece of the body, followed by *end*."""
        data = (piece.encode("utf-8", "replace") if isinstance(piece, str) else bytes(piece)) + end
        self.size += len(data)
        if self.size <= self.LIMIT:
            self._pieces.append(data)
        else:
            self._pieces.clear()

    def is_complete_json(self) -> bool:
        """Return whether the body so far is JSON to its end, so that nothing of it is left to read."""
        try:
            orjson.loads(b"".join(self._pieces))
        except orjson.JSONDecodeError:
            return False
        return True

    def decode_values(self) -> Iterator[object]:
        """Yield the JSON values of the body: one for each event of an event stream, else the whole body.

        If the body is no JSON, or was too long to keep, yield its size.
        """
        body = b"".join(self._pieces).strip()
        if body[:1] not in _JSON_STARTS or not body:
            yield BodySize(self.size)
            return
        events = [line[5:] for line in body.splitlines() if line.startswith(b"data:")]
        for event in events or [body]:
            try:
                yield orjson.loads(event)
            except orjson.JSONDecodeError:  # "[DONE]", a body that is not JSON, or an event that was cut off
                continue


class _PieceCollector:
    """An observer of a stream of raw pieces, which collects them until the end."""

    def __init__(self, observer: ResponseObserver, end: bytes) -> None:
        self._observer, self._end = observer, end
        self.finish = observer.finish

    def observe(self, piece: Any) -> bool:
        self._observer.get_body_buffer().add_piece(piece, self._end)
        return True


class RawResponse(ResponseProxy):
    """A proxy of the raw response that ``with_raw_response`` and ``with_streaming_response`` return.

    Every method that reads the body (parsed answer or stream, body, raw pieces) fills the same record.
    """

    __slots__ = ("_mlspan_opened",)
    _mlspan_observer: ResponseObserver
    _mlspan_opened: list[tuple[object, object]]  # what was read, and the proxy of it

    def __init__(self, own: object, observer: ResponseObserver) -> None:
        super().__init__(own, observer)
        object.__setattr__(self, "_mlspan_opened", [])

    def __getattr__(self, name: str) -> object:
        if name.startswith("_mlspan_"):  # one that was made past __init__ has none
            raise AttributeError(name)
        value = getattr(self._mlspan_own, name)
        if name == "http_response":
            return RawHttpResponse(value, self._mlspan_observer, self._mlspan_wrap_method)
        if name == "stream_to_file":  # it reads past this proxy
            return self._mlspan_wrap_method(value, functools.partial(_handle_written_file, self._mlspan_own))
        handler = _READ_METHODS.get(name)
        return value if handler is None or not callable(value) else self._mlspan_wrap_method(value, handler)

    def _mlspan_wrap_method(
        self, method: Callable[..., object], handler: Callable[[ResponseObserver, object], object]
    ) -> Callable[..., object]:
        """Return *method* with its result, or the result of the awaitable that it returns, passed through *handler*."""

        async def wrap_awaited(value: Any) -> object:
            with _EndOnError(self._mlspan_observer):
                return self._mlspan_wrap_value(handler, await value)

        def wrap_returned(*args: object, **kwargs: object) -> object:
            with _EndOnError(self._mlspan_observer):
                value = method(*args, **kwargs)
                return wrap_awaited(value) if inspect.isawaitable(value) else self._mlspan_wrap_value(handler, value)

        return wrap_returned

    def _mlspan_wrap_value(self, handler: Callable[[ResponseObserver, object], object], value: object) -> object:
        """Return *value* passed through *handler*; a value that was passed before gives the same object again."""
        for own, proxy in self._mlspan_opened:
            if own is value:
                return proxy  # the client caches what it has parsed, so parsing twice gives one stream
            if _is_inside(proxy, value):
                return value  # another tracer has put its proxy around ours, and that in the client's cache
        wrapped = handler(self._mlspan_observer, value)
        if wrapped is not value:  # kept as long as the response: reading in another way abandons nothing
            self._mlspan_opened.append((value, wrapped))
        return wrapped

    def __enter__(self) -> RawResponse:
        return self

    def __exit__(self, *exit: Any) -> object:
        self._mlspan_finish(exit[1])
        return self._mlspan_own.__exit__(*exit)

    def __del__(self) -> None:
        if not getattr(self, "_mlspan_opened", True):  # nor was it made past __init__
            finish_in_finalizer(self._mlspan_observer, stream_end="abandoned")


class RawHttpResponse(ResponseProxy):
    """A proxy of the HTTP response below a raw response. What the caller reads from it is read into the same record.

    It keeps the raw response alive, whose end would otherwise come before the reading.
    """

    __slots__ = ("_mlspan_wrap",)
    _mlspan_wrap: Any  # the method of the raw response that wraps methods

    def __init__(self, own: object, observer: ResponseObserver, wrap: Any) -> None:
        super().__init__(own, observer)
        object.__setattr__(self, "_mlspan_wrap", wrap)

    def __getattr__(self, name: str) -> object:
        value = super().__getattr__(name)
        handler = _HTTP_READ_METHODS.get(name)
        return value if handler is None or not callable(value) else self._mlspan_wrap(value, handler)


def _handle_written_file(response: Any, observer: ResponseObserver, value: object) -> object:
    """Record the size of a body that was written to a file, and end the operation."""
    size = getattr(response.http_response, "num_bytes_downloaded", None)
    if isinstance(size, int):
        observer.observe(BodySize(size))
    observer.finish()
    return value


_MAX_PROXIES = 10  # one around another


def _is_inside(proxy: object, value: object) -> bool:
    """Return whether *value* is a proxy around *proxy*, directly or around others."""
    for _ in range(_MAX_PROXIES):
        value = getattr(value, "__wrapped__", None)  # as wrapt's have it
        if value is proxy or value is None:
            break
    return value is proxy


def _handle_parsed(observer: ResponseObserver, value: object) -> object:
    """Record a parsed answer, which ends the operation unless it is a stream."""
    wrapped = observer.record_result(value)
    if wrapped is value:  # not a stream: the answer is complete
        observer.finish()
    return wrapped


def _handle_body(observer: ResponseObserver, value: object) -> object:
    """Record a body that was read whole, and end the operation."""
    if isinstance(value, (bytes, str)):
        observer.get_body_buffer().add_piece(value)
    else:
        observer.observe(value)
    observer.finish()
    return value


def _handle_pieces(observer: ResponseObserver, value: object, end: bytes = b"") -> object:
    """Return a proxy of an iterator of raw pieces, which collects them for the record."""
    collector = _PieceCollector(observer, end)
    return find_stream_class(type(value), is_async=hasattr(value, "__anext__"))(value, collector)


def _handle_lines(observer: ResponseObserver, value: object) -> object:
    """Return a proxy of an iterator of lines, whose ends were removed by the client."""
    return _handle_pieces(observer, value, b"\n")


_READ_METHODS: dict[str, Callable[[ResponseObserver, object], object]] = {
    "parse": _handle_parsed,
    "read": _handle_body,
    "text": _handle_body,
    "json": _handle_body,
    "iter_bytes": _handle_pieces,
    "iter_text": _handle_pieces,
    "iter_lines": _handle_lines,
}
_HTTP_READ_METHODS: dict[str, Callable[[ResponseObserver, object], object]] = {  # of httpx's responses
    "read": _handle_body,
    "aread": _handle_body,
    **{f"{kind}_{unit}": _handle_pieces for kind in ("iter", "aiter") for unit in ("bytes", "text", "raw")},
    **{f"{kind}_lines": _handle_lines for kind in ("iter", "aiter")},
}


@cache
def find_proxy_class(cls: type, awaited: bool = False) -> type[PlainStream | PlainAsyncStream | RawResponse] | None:
    """Return the proxy class for an answer of class *cls*, or None if the answer is whole.

    *awaited* says whether the call was asynchronous, for a class that can be read in both ways.
    """
    if issubclass(cls, AsyncIterator) and (awaited or not issubclass(cls, Iterator)):
        return find_stream_class(cls, is_async=True)
    if issubclass(cls, Iterator):
        return find_stream_class(cls, is_async=False)
    # Raw responses of every SDK that Stainless generates (openai, anthropic, groq) have both.
    return RawResponse if hasattr(cls, "parse") and hasattr(cls, "http_request") else None


def get_cached_body(response: Any) -> bytes | None:
    """Return the body of a raw response if the client has read it already, else None."""
    try:
        content = response.http_response.content
    except Exception as raised:  # noqa: BLE001  # httpx and httpx2 each have an error of their own for a body not yet read
        let_handler_through(raised)
        return None
    return content if isinstance(content, bytes) else None
