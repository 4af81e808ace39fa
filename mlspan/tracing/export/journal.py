"""What ``durability="span"`` adds: each span is on disk before the caller goes on, by one write to the end of a file.

Spans may end in a finalizer, in the middle of anything, so no lock may be taken and no database touched there. The
spool takes the spans over within a second or so; a journal is read only where a process was killed in between.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan

from ..context import Origin
from .address import origin_of_json, origin_to_json
from .parcel import Packed
from .wire import Unfit, pack, request, unpack_request

_MARK: Final = b"\xf5mls"  # no UTF-8 text holds its first byte
_HEAD: Final = struct.Struct("<4sIIIQ")  # mark, checksum of the rest, bytes of origin and of spans, place
_ROTATE: Final = 4 * 1024 * 1024
_LINGER: Final = 5.0  # seconds that a file is kept after the last write to it: a thread may still be at it


class Journal:
    """Files beside a spool, one of them in use. ``write`` may be called by any thread, finalizers included."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._files = count()
        self._places = count(1)
        self._old: list[tuple[Path, int, float]] = []
        self._open()

    def _open(self) -> None:
        self._path = self._spool.with_name(f"{self._spool.name}-j{next(self._files)}")
        self._file = open(self._path, "ab", buffering=0, opener=lambda p, flags: os.open(p, flags, 0o600))  # noqa: SIM115

    def write(self, span: ReadableSpan, origin: Origin) -> tuple[Packed | Unfit, int | None]:
        """Returns the span as it was written, and its place. Raises OSError."""
        (packed,) = pack([span])
        if isinstance(packed, Unfit):
            return packed, None
        place, said, data = next(self._places), origin_to_json(origin).encode(), request([packed])
        head = _HEAD.pack(_MARK, zlib.crc32(data, zlib.crc32(said)), len(said), len(data), place)
        record = head + said + data
        written = self._file.write(record)  # the file object: after a rotation, who holds it may still write to it
        if written != len(record):
            raise OSError(f"{written} of {len(record)} bytes written")
        return packed, place

    def rotate(self) -> None:
        """Begin a new file where the last one is large; called when what was written so far is in the spool."""
        if self._file.tell() > _ROTATE:
            self._old.append((self._path, next(self._places), monotonic()))
            self._open()

    def retire(self) -> int:
        """Delete what is no longer needed; the place before which nothing is."""
        before = 0
        while self._old and monotonic() - self._old[0][2] > _LINGER:
            path, before, _ = self._old.pop(0)
            path.unlink(missing_ok=True)
        return before

    def close(self) -> None:
        self._file.close()


def journals(spool: Path) -> list[Path]:
    return sorted(spool.parent.glob(f"{spool.name}-j*"))


def read(path: Path) -> Iterator[tuple[int, Origin, Packed]]:
    """Place, origin and span of each record that is whole; what is torn is passed over."""
    data = path.read_bytes()
    at = data.find(_MARK)
    while at >= 0 and at + _HEAD.size <= len(data):
        _, checksum, said, size, place = _HEAD.unpack_from(data, at)
        begin = at + _HEAD.size
        record = data[begin : begin + said + size]
        if len(record) == said + size and zlib.crc32(record) == checksum:
            for packed in unpack_request(record[said:]):
                yield place, origin_of_json(record[:said].decode()), packed
            begin += len(record)
        else:
            begin = at + 1
        at = data.find(_MARK, begin)
