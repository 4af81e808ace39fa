"""The spill file: content of spans that wait in the queue, on disk, while more arrives than the export worker can take.

A span may end in a finalizer, where no lock may be waited for and no database used. So its bytes go into a part of a
file that is reserved without waiting. The file has no name, so nothing of it is left when the process ends.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from pathlib import Path
from typing import NamedTuple

from opentelemetry.sdk.trace import ReadableSpan

from ..memory import drop_content
from ..types import EncodedSpan


class SpilledSpan(NamedTuple):
    """An ended span whose content is in a spill file."""

    span: ReadableSpan  # redacted, without its content
    encoded: EncodedSpan  # without the bytes of the span
    file: SpillFile
    position: int  # in the file, in bytes
    size: int  # of the bytes of the span
    log_position: int | None = None  # position in the write-ahead log

    def read_encoded(self) -> EncodedSpan:
        """Return the encoded span. Raise OSError if it cannot be read back."""
        return self.encoded._replace(span=self.file.read_bytes(self.position, self.size))


class SpillFile:
    """A file of at most *max_bytes* in *folder*, which is deleted once nobody refers to it. Raise OSError.

    Any thread may call :meth:`write_span`, also from a finalizer.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._file, path = tempfile.mkstemp(dir=folder)
        weakref.finalize(self, os.close, self._file).atexit = False
        os.unlink(path)  # noqa: PTH108  # the text is enough
        self._max_bytes, self._end = max_bytes, 0
        self._lock = threading.Lock()

    def write_span(
        self, span: ReadableSpan, encoded: EncodedSpan, log_position: int | None = None
    ) -> SpilledSpan | None:
        """Write the bytes of a span; return None if there is no room, or another thread reserves its part just now.

        Raise OSError if the disk is full.
        """
        data = encoded.span
        if not self._lock.acquire(blocking=False):
            return None
        position = self._end
        fits = position + len(data) <= self._max_bytes
        self._end += len(data) if fits else 0
        self._lock.release()
        if not fits:
            return None
        if os.pwrite(self._file, data, position) != len(data):
            return None
        return SpilledSpan(drop_content(span), encoded._replace(span=b""), self, position, len(data), log_position)

    def read_bytes(self, position: int, size: int) -> bytes:
        """Return *size* bytes. Raise OSError if they are not there."""
        data = os.pread(self._file, size, position)
        if len(data) != size:
            raise OSError(f"{len(data)} of {size} bytes read")
        return data
