"""Memory of large content: what a span holds, what may be let go once it is on disk, and what the C library keeps."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan

from ..otel.frozen_span import FrozenSpan, read_attributes
from .text_size import sum_text

_SMALL_TEXT: Final = 1024  # characters: attributes that are kept when a span lets its content go
_RELEASE_AFTER: Final = 8 * 1024 * 1024  # bytes


def estimate_size(span: ReadableSpan) -> int:
    """Return about how many bytes of text the attributes of *span* hold."""
    return sum_text(read_attributes(span).values())


def drop_content(span: ReadableSpan) -> ReadableSpan:
    """Return *span* without long texts and events, for those who ask for its place, its times and its counts."""
    small = {
        key: value
        for key, value in read_attributes(span).items()
        if type(value) is not str or len(value) <= _SMALL_TEXT
    }
    return FrozenSpan.from_span(
        span, name=span.name, attributes=small, events=(), links=(), resource=span.resource, status=span.status
    )


class MemoryReleaser:
    """Gives memory back to the system after large content has been freed, as glibc keeps much of it."""

    def __init__(self) -> None:
        self._freed = 0

    def add(self, size: int) -> None:
        """Note that *size* bytes of content are no longer needed."""
        self._freed += size

    def release(self) -> None:
        """Give memory back if enough was freed since the last time. It takes a few milliseconds."""
        if self._freed < _RELEASE_AFTER:
            return
        self._freed = 0
        trim = _find_trim()
        if trim is not None:
            trim(0)


@cache
def _find_trim() -> Any:
    """Return glibc's ``malloc_trim``; None with another C library."""
    import ctypes  # few programs ever need it

    try:
        return getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # Windows
        return None
