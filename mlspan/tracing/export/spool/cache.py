"""A cache of trace segments of this process, which spares the sender to read and decode them from the spool."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ..types import Parcel

_MOST_BYTES: Final = 16 * 1024 * 1024  # bytes of all cached spans as OTLP


class Recent:
    """The cached segments of one spool, by number. The caller holds the spool's lock."""

    def __init__(self, most_spans: int) -> None:
        self._most_spans = most_spans
        self._held: dict[int, tuple[Parcel, int]] = {}
        self._spans = self._bytes = 0

    def keep(self, parcel: Parcel, size: int) -> None:
        """Add a segment of *size* bytes if there is room."""
        spans, in_all = self._spans + len(parcel.spans), self._bytes + size
        if spans <= self._most_spans and in_all <= _MOST_BYTES:
            self._held[parcel.number] = parcel, size
            self._spans, self._bytes = spans, in_all

    def __contains__(self, number: int) -> bool:
        return number in self._held

    def parcel(self, number: int) -> Parcel | None:
        """Return a segment, or None if it is not cached."""
        found = self._held.get(number)
        return found and found[0]

    def size(self, number: int) -> int:
        """Return the bytes of a segment; 0 if it is not cached."""
        found = self._held.get(number)
        return found[1] if found else 0

    def forget(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if (found := self._held.pop(number, None)) is not None:
                parcel, size = found
                self._spans -= len(parcel.spans)
                self._bytes -= size

    def clear(self) -> None:
        self._held.clear()
        self._spans = self._bytes = 0
