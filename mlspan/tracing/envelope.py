"""An answer whose body the caller has yet to read: whichever way he reads it, we see it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from types import TracebackType
from typing import Any, Protocol

import orjson

from .stream import AsyncStream, Stream, Watched, Watcher, drop, end


class Opener(Watcher, Protocol):
    """What an envelope needs besides: a place for what it holds."""

    def result(self, value: Any) -> Any: ...
    def wire(self) -> Wire: ...


class _Reading:
    """Around whatever opens an envelope."""

    __slots__ = ("live",)

    def __init__(self, live: Watcher) -> None:
        self.live = live

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            end(self.live, error)


class Size(int):
    """What is observed of a body that is no JSON: the number of its bytes."""


_JSON_STARTS = (
    b"{",
    b"[",
    b":",
    b"d",
    b"e",
    b"i",
    b"r",
)  # of JSON, and of event streams: data, event, id, retry, comments


class Wire:
    """An answer that its caller reads as bytes, text or lines: gathered piece by piece, decoded once at the end."""

    __slots__ = ("_pieces", "size")
    LIMIT = 64 * 1024 * 1024  # what is longer is counted, not kept: it is a file rather than an answer

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size = 0

    def add(self, piece: bytes | str, end: bytes = b"") -> None:
        data = (piece.encode("utf-8", "replace") if isinstance(piece, str) else bytes(piece)) + end
        self.size += len(data)
        if self.size <= self.LIMIT:
            self._pieces.append(data)
        else:
            self._pieces.clear()

    def decoded(self) -> Iterator[Any]:
        """The JSON values in it: one for each event of an event stream, else the whole body, else how long it was."""
        body = b"".join(self._pieces).strip()
        if body[:1] not in _JSON_STARTS or not body:
            yield Size(self.size)
            return
        events = [line[5:] for line in body.splitlines() if line.startswith(b"data:")]
        for event in events or [body]:
            try:
                yield orjson.loads(event)
            except orjson.JSONDecodeError:  # "[DONE]", a body that is no JSON, an event that was cut off
                continue


class _Gathering:
    """What watches a stream of raw pieces: it keeps them for the end."""

    def __init__(self, live: Opener, end: bytes) -> None:
        self._live, self._end = live, end
        self.finish = live.finish

    def observe(self, piece: Any) -> bool:
        self._live.wire().add(piece, self._end)
        return True


class Envelope(Watched):
    """An answer whose body the caller has yet to read, as ``with_raw_response`` and ``with_streaming_response`` give.

    Each of its doors leads to the same record: a parsed answer or stream, a body, or raw pieces.
    """

    __slots__ = ("_mlspan_opened",)
    _mlspan_live: Opener
    _mlspan_opened: tuple[Any, Any] | None  # what a door led to, and what watches it for the caller

    def __init__(self, own: Any, live: Opener) -> None:
        super().__init__(own, live)
        object.__setattr__(self, "_mlspan_opened", None)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._mlspan_own, name)
        door = _DOORS.get(name)
        return value if door is None or not callable(value) else self._mlspan_passing(value, door)

    def _mlspan_passing(self, method: Callable[..., Any], door: Callable[[Opener, Any], Any]) -> Callable[..., Any]:
        """*method*, with what it gives passed through *door*; an awaitable's result where it gives one."""

        async def later(value: Any) -> Any:
            with _Reading(self._mlspan_live):
                return self._mlspan_pass(door, await value)

        def passed(*args: Any, **kwargs: Any) -> Any:
            with _Reading(self._mlspan_live):
                value = method(*args, **kwargs)
                return later(value) if inspect.isawaitable(value) else self._mlspan_pass(door, value)

        return passed

    def _mlspan_pass(self, door: Callable[[Opener, Any], Any], value: Any) -> Any:
        opened = self._mlspan_opened
        if opened is not None and opened[0] is value:
            return opened[1]  # the client caches what it has parsed, so asking twice gives one stream
        passed = door(self._mlspan_live, value)
        if passed is not value:
            object.__setattr__(self, "_mlspan_opened", (value, passed))
        return passed

    def __enter__(self) -> Envelope:
        return self

    def __exit__(self, *exit: Any) -> Any:
        self._mlspan_left(exit[1])
        return self._mlspan_own.__exit__(*exit)

    def __del__(self) -> None:
        if self._mlspan_opened is None:
            drop(self._mlspan_live, stream_end="abandoned")


def _parsed(live: Opener, value: Any) -> Any:
    passed = live.result(value)
    if passed is value:  # no stream: this was all of it
        live.finish()
    return passed


def _body(live: Opener, value: Any) -> Any:
    if isinstance(value, (bytes, str)):
        live.wire().add(value)
    else:
        live.observe(value)
    live.finish()
    return value


def _pieces(live: Opener, value: Any, end: bytes = b"") -> Any:
    gathering = _Gathering(live, end)
    return (AsyncStream if hasattr(value, "__anext__") else Stream)(value, gathering)


def _lines(live: Opener, value: Any) -> Any:
    return _pieces(live, value, b"\n")


_DOORS: dict[str, Callable[[Opener, Any], Any]] = {
    "parse": _parsed,
    "read": _body,
    "text": _body,
    "json": _body,
    "iter_bytes": _pieces,
    "iter_text": _pieces,
    "iter_lines": _lines,
}


@cache
def watched_as(cls: type) -> type[Stream | AsyncStream | Envelope] | None:
    """What an answer of this class is to be watched as; None if it is whole."""
    if issubclass(cls, AsyncIterator):
        return AsyncStream
    if issubclass(cls, Iterator):
        return Stream
    # The raw responses of every SDK that Stainless generates (openai, anthropic, groq) look like this.
    return Envelope if hasattr(cls, "parse") and hasattr(cls, "http_request") else None


def body_read(envelope: Any) -> bytes | None:
    """The body of a raw response, if the client has read it already."""
    try:
        content = envelope.http_response.content
    except Exception:  # noqa: BLE001  # httpx and httpx2 each have an error of their own for a body not yet read
        return None
    return content if isinstance(content, bytes) else None
