"""A cache of trace segments of this process, which spares the sender to read and decode them from the spool."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ..types import TraceSegment

_MAX_BYTES: Final = 16 * 1024 * 1024  # bytes of all cached spans as OTLP


class SegmentCache:
    """The cached segments of one spool, by number. The caller holds the spool's lock."""

    def __init__(self, most_spans: int) -> None:
        self._most_spans = most_spans
        self._held: dict[int, tuple[TraceSegment, int]] = {}
        self._spans = self._bytes = 0

    def add_segment(self, segment: TraceSegment, size: int) -> None:
        """Add a segment of *size* bytes if there is room."""
        spans, in_all = self._spans + len(segment.spans), self._bytes + size
        if spans <= self._most_spans and in_all <= _MAX_BYTES:
            self._held[segment.number] = segment, size
            self._spans, self._bytes = spans, in_all

    def __contains__(self, number: int) -> bool:
        return number in self._held

    def get_segment(self, number: int) -> TraceSegment | None:
        """Return a segment, or None if it is not cached."""
        found = self._held.get(number)
        return found and found[0]

    def get_size(self, number: int) -> int:
        """Return the bytes of a segment; 0 if it is not cached."""
        found = self._held.get(number)
        return found[1] if found else 0

    def remove_segments(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if (found := self._held.pop(number, None)) is not None:
                segment, size = found
                self._spans -= len(segment.spans)
                self._bytes -= size

    def remove_all(self) -> None:
        self._held.clear()
        self._spans = self._bytes = 0
