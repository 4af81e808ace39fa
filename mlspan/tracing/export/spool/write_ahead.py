"""The write-ahead log of ``durability="span"``: each span is in a file before the caller goes on.

Spans may end in a finalizer, where no lock may be taken and no database used, so a span is appended by one write. The
spool stores the span within a second or so; a log is only read after a process was killed in between.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan

from ...operations.call_context import TraceOrigin
from ..destination import origin_from_json, origin_to_json
from ..otlp.codec import UnencodableSpan, build_export_request, encode_each_span, split_export_request
from ..types import EncodedSpan

_RECORD_MARK: Final = b"\xf5mls"  # its first byte occurs in no UTF-8 text
_RECORD_HEADER: Final = struct.Struct("<4sIIIQ")  # mark, checksum of the rest, sizes of origin and spans, position
_LOG_MARK: Final = "-j"  # between the name of a spool and the number of a log file
_ROTATE_BYTES: Final = 4 * 1024 * 1024
_DELETE_DELAY: Final = 5.0  # seconds that a full file is kept, as a thread may still write to it


class WriteAheadLog:
    """Log files beside a spool, one of them in use. Any thread may call ``append_span``, also from a finalizer."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._files = count()
        self._places = count(1)
        self._old: list[tuple[Path, FileIO, int, float]] = []
        self._open_file()

    def _open_file(self) -> None:
        self._path = _name_log(self._spool, next(self._files))
        self._file = open(self._path, "ab", buffering=0, opener=lambda p, flags: os.open(p, flags, 0o600))  # noqa: SIM115

    def append_span(self, span: ReadableSpan, origin: TraceOrigin) -> tuple[EncodedSpan | UnencodableSpan, int | None]:
        """Append *span* to the log. Return the encoded span and its position. Raise OSError.

        A span that cannot be encoded is returned as an UnencodableSpan without a position.
        """
        (encoded,) = encode_each_span([span])
        if isinstance(encoded, UnencodableSpan):
            return encoded, None
        place, origin_json, data = next(self._places), origin_to_json(origin).encode(), build_export_request([encoded])
        head = _RECORD_HEADER.pack(
            _RECORD_MARK, zlib.crc32(data, zlib.crc32(origin_json)), len(origin_json), len(data), place
        )
        record = head + origin_json + data
        written = self._file.write(record)  # a thread that has read self._file before a rotation may still write to it
        if written != len(record):
            raise OSError(f"{written} of {len(record)} bytes written")
        return encoded, place

    def rotate_file(self) -> None:
        """Start a new file if the current one is large. Called when the spool holds everything written so far."""
        if self._file.tell() > _ROTATE_BYTES:
            self._old.append((self._path, self._file, next(self._places), monotonic()))
            self._open_file()

    def delete_old_files(self) -> int:
        """Delete files that are no longer needed.

        Return the position before which none is needed; 0 if nothing was deleted.
        """
        before = 0
        while self._old and monotonic() - self._old[0][-1] > _DELETE_DELAY:
            path, file, before, _ = self._old.pop(0)
            file.close()
            path.unlink(missing_ok=True)
        return before

    def close(self) -> None:
        for file in (*(file for _, file, *_ in self._old), self._file):
            file.close()


class LogFinder:
    """Finds the log files of the spools of one *folder*, by one listing of the folder for many spools.

    A listing is used for less time than a full file is kept. So of the files that have appeared since, none is gone
    again, and as their numbers follow each other, they are found by name.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers: dict[str, list[int]] = {}  # by the name of the spool
        self._listed: float | None = None

    def find_logs(self, spool: Path) -> list[Path]:
        """Return the log files of a spool whose process has ended, the oldest first."""
        if self._is_listing_fresh():
            found = list(self._iterate_numbers(spool))
            if self._is_listing_fresh():
                return [_name_log(spool, number) for number in found]
        self._list_folder()
        return [_name_log(spool, number) for number in self._numbers.get(spool.name, ())]

    def _is_listing_fresh(self) -> bool:
        return self._listed is not None and monotonic() - self._listed < _DELETE_DELAY / 2

    def _iterate_numbers(self, spool: Path) -> Iterator[int]:
        """Yield the numbers that were listed and are still there, then those that have come since."""
        listed = self._numbers.get(spool.name, [])
        yield from (number for number in listed if _name_log(spool, number).exists())
        for number in count(max(listed, default=-1) + 1):
            if not _name_log(spool, number).exists():
                return
            yield number

    def _list_folder(self) -> None:
        self._listed, self._numbers = monotonic(), {}
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                spool, mark, number = entry.name.rpartition(_LOG_MARK)
                if mark and number.isdigit():
                    self._numbers.setdefault(spool, []).append(int(number))
        for numbers in self._numbers.values():
            numbers.sort()


def _name_log(spool: Path, number: int) -> Path:
    return spool.with_name(f"{spool.name}{_LOG_MARK}{number}")


def read_log(path: Path) -> Iterator[tuple[int, TraceOrigin, EncodedSpan]]:
    """Yield position, origin and span of each intact record. Torn records are skipped."""
    data = path.read_bytes()
    at = data.find(_RECORD_MARK)
    while at >= 0 and at + _RECORD_HEADER.size <= len(data):
        _, checksum, origin_size, size, place = _RECORD_HEADER.unpack_from(data, at)
        begin = at + _RECORD_HEADER.size
        record = data[begin : begin + origin_size + size]
        if len(record) == origin_size + size and zlib.crc32(record) == checksum:
            for encoded in split_export_request(record[origin_size:]):
                yield place, origin_from_json(record[:origin_size].decode()), encoded
            begin += len(record)
        else:
            begin = at + 1
        at = data.find(_RECORD_MARK, begin)
