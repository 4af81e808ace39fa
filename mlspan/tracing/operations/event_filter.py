"""Event streams that a caller reads as text or bytes: events that the caller has not asked for are left out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, Protocol, TypeVar

import orjson

from .iterators import close_generator, start_generator

T = TypeVar("T")
_END: Final = object()  # of the pieces


class ChunkObserver(Protocol):
    """A reader of the chunks of a stream; it returns False for one that the caller may not see."""

    def observe(self, value: Any) -> bool: ...


def hides_chunks(observe: T) -> T:
    """Mark a function that observes answers as one that may hide chunks from the caller."""
    observe.hides_chunks = True  # type: ignore[attr-defined]  # functions take attributes
    return observe


class EventFilter:
    """Passes an event stream on, piece by piece, without the events that the observer hides.

    Pieces are lines, or text or bytes cut anywhere. An event is held back until its end, an empty line, has come.
    """

    def __init__(self, observer: ChunkObserver, *, lines: bool, hides: bool = True, owner: object = None) -> None:
        """Filter for *observer*.

        Args:
            observer: reads the events.
            lines: whether the pieces are lines.
            hides: whether the observer may hide events. If not, the pieces are passed on as they are.
            owner: what has to live until the stream has been read.
        """
        self._observer, self._lines, self._hides, self._owner = observer, lines, hides, owner
        self._held: list[object] = []  # lines of the event that has not ended
        self._rest: Any = None  # what follows the last end of a line

    def feed(self, piece: object) -> list[Any]:
        """Return what the caller may see once *piece* has come."""
        shown = self._add_line(piece) if self._lines else self._split_text(piece)
        return shown if self._hides else [piece]

    def flush(self) -> list[Any]:
        """Return what was held back when the stream ends."""
        held = [*self._held, *([] if self._rest is None else [self._rest])]
        self._held, self._rest = [], None
        if not held or not self._may_see(held) or not self._hides:
            return []
        return held if self._lines else _join_pieces(held)

    def _split_text(self, piece: Any) -> list[Any]:
        if not isinstance(piece, (str, bytes)):
            return [piece]
        text: Any = piece if self._rest is None else self._rest + piece
        end: Any = "\n" if isinstance(text, str) else b"\n"
        *whole, rest = text.split(end)  # not splitlines(), which ends lines at characters that JSON may hold
        self._rest = rest or None
        return _join_pieces([line for one in whole for line in self._add_line(one + end)])

    def _add_line(self, line: Any) -> list[object]:
        self._held.append(line)
        if line.strip():
            return []
        held, self._held = self._held, []
        return held if self._may_see(held) else []

    def _may_see(self, event: list[Any]) -> bool:
        """Read one event, and return whether the caller may see it. What is no JSON is not ours to hide."""
        shown = True
        for line in event:
            prefix = "data:" if isinstance(line, str) else b"data:"
            if line.startswith(prefix):
                try:
                    shown = self._observer.observe(orjson.loads(line[5:])) and shown
                except orjson.JSONDecodeError:
                    continue
        return shown

    def read(self, pieces: Iterator[Any], finish: Callable[[BaseException | None], object]) -> Iterator[Any]:
        """Yield what the caller may see of *pieces*, and call *finish* at the end."""
        try:
            for piece in pieces:
                yield from self.feed(piece)
            yield from self.flush()
        except BaseException as error:
            finish(error)
            raise
        finish(None)

    async def aread(
        self, pieces: AsyncIterator[object], finish: Callable[[BaseException | None], object]
    ) -> AsyncIterator[object]:
        """Yield what the caller may see of *pieces*, and call *finish* at the end."""
        try:
            piece = await start_generator(pieces, _END)
            while piece is not _END:
                for shown in self.feed(piece):
                    yield shown
                piece = await anext(pieces, _END)
            for shown in self.flush():
                yield shown
        except BaseException as error:
            await close_generator(pieces)
            finish(error)
            raise
        finish(None)


def _join_pieces(pieces: list[Any]) -> list[object]:
    """Return *pieces*, all text or all bytes, as at most one piece."""
    return [pieces[0][:0].join(pieces)] if pieces else []
