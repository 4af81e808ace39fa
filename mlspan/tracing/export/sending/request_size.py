"""The size of requests: a limit that a server, or a proxy before it, shows by refusing what is larger.

What is too large is sent in halves, down to one span, of which the longest texts are cut then (``otlp/codec.py``). A
proxy may also close the connection instead of answering 413. That looks like an outage, so nothing is cut for it.
A server that does not answer in time gets half as much the next time, or it would never be through with a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Final, TypeVar

from ...._guard import warn_once

_REMEMBERED: Final = 600.0  # seconds, after which the limit may have been raised
_MIN_HUNG_UP: Final = 32 * 1024  # bytes: a connection that closes on less is closed for another reason
_MIN_SLOW: Final = 16 * 1024  # bytes: a server that takes too long for less is not helped by smaller requests
_HINT: Final = "raise its limit, or that of a proxy before it (nginx: client_max_body_size)"

_Item = TypeVar("_Item")


class RequestLimit:
    """The most bytes of spans in one request: *most*, or less for a while after one was refused for its size."""

    def __init__(self, most: int) -> None:
        self._most = self._lowered = most
        self._until = 0.0

    @property
    def most_bytes(self) -> int:
        return self._lowered if monotonic() < self._until else self._most

    def lower(self, size: int) -> None:
        """Note that *size* bytes of spans were too many for one request."""
        self._lowered, self._until = min(self.most_bytes, size // 2), monotonic() + _REMEMBERED

    def lower_for_time(self, size: int) -> None:
        """Note that there was no answer in time to *size* bytes of spans, which may be as there were so many."""
        if size > _MIN_SLOW:
            self.lower(size)

    def split(self, items: Sequence[_Item], measure: Callable[[_Item], int], most_items: int) -> Iterator[list[_Item]]:
        """Yield *items* in parts of at most *most_items* and of this size, or of one item."""
        part: list[_Item] = []
        size = 0
        for item in items:
            own = measure(item)
            if part and (size + own > self.most_bytes or len(part) >= most_items):
                yield part
                part, size = [], 0
            part.append(item)
            size += own
        if part:
            yield part


def may_be_size(sent: int) -> bool:
    """Return whether a connection that was closed without an answer may have been so for the *sent* bytes."""
    return sent >= _MIN_HUNG_UP


def describe_too_large(where: str, sent: int) -> str:
    """Return the line about a request of *sent* bytes that is refused for its size and cannot be made smaller."""
    return f"{where} answers 413: {_format_size(sent)} are too large for it; {_HINT}"


def describe_hung_up(sent: int) -> str:
    """Return the cause of a connection that closes on a request of *sent* bytes."""
    return f"it closes the connection on {_format_size(sent)}; if that is too large, {_HINT}"


def warn_of_cut(where: str, size: int) -> None:
    """Log once for each address that a span of *size* bytes was cut to be taken."""
    line = "mlspan: a span of %s is too large for %s: its longest texts were cut; %s, or set a lower max_content_bytes"
    warn_once(line, _format_size(size), where, _HINT, place=where)


def _format_size(size: int) -> str:
    kib = max(1, round(size / 1024))
    return f"{kib} KiB" if kib < 10 * 1024 else f"{round(kib / 1024)} MiB"
