"""Dead letters: items that no backend will take, one JSON file each, with the reason.

``sending/refusals.py`` decides which refused items become dead letters and which stay in the spool.
"""

from __future__ import annotations

import base64
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
from opentelemetry.sdk.trace import ReadableSpan

from ..destination import origin_to_json
from ..otlp.codec import UnencodableSpan, build_export_request, decode_span, encode_each_span, split_export_request
from ..types import EncodedSpan, SinkKind, TraceSegment
from .limits import SpoolSettings, default_folder

DEAD_LETTER_FOLDER: Final = "dead"
_MAX_FILES: Final = 1_000
_MAX_TOTAL_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A trace, a part of one, or a span that its backend has refused."""

    at: float  # seconds since 1970
    sink: str  # mlflow or otlp
    reason: str
    trace_id: str  # 32 hexadecimal digits
    name: str  # name of the first span
    origin: dict[str, object]  # experiment, run, session and so on, as far as known
    otlp: bytes  # an OTLP TracesData message, which any OTLP tool can read
    path: Path

    def spans(self) -> list[ReadableSpan]:
        """Return the spans of the letter."""
        return [decode_span(encoded) for encoded in split_export_request(self.otlp)]


class DeadLetters:
    """Writes dead letters.

    Their number and bytes are limited: the oldest are deleted. Without a folder nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = None if folder is None else folder / DEAD_LETTER_FOLDER

    def write_letter(self, kind: SinkKind, reason: str, item: TraceSegment | EncodedSpan | ReadableSpan) -> bool:
        """Write one letter; return False if there is no folder for it. Raise OSError."""
        if self._folder is None:
            return False
        spans = (
            [decode_span(item)]
            if isinstance(item, EncodedSpan)
            else [item]
            if isinstance(item, ReadableSpan)
            else item.spans
        )
        encoded = (
            [item]
            if isinstance(item, EncodedSpan)
            else [p for p in encode_each_span(list(spans)) if not isinstance(p, UnencodableSpan)]
        )
        context = spans[0].get_span_context() if spans else None
        trace_id = f"{context.trace_id:032x}" if context else ""
        letter = {
            "at": time.time(),
            "sink": kind,
            "reason": reason,
            "trace_id": trace_id,
            "name": str(spans[0].name) if spans else "",
            "origin": orjson.loads(origin_to_json(item.origin)) if isinstance(item, TraceSegment) else {},
            "otlp": base64.b64encode(build_export_request(encoded)).decode(),
        }
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{time.time_ns()}-{trace_id[:8]}-{uuid.uuid4().hex[:4]}.json"
        with open(path, "xb", opener=lambda p, flags: os.open(p, flags, 0o600)) as out:
            out.write(orjson.dumps(letter, default=str))
        self._delete_oldest()
        return True

    def _delete_oldest(self) -> None:
        """Delete the oldest letters while there are too many of them."""
        assert self._folder is not None  # noqa: S101  # narrows the type for mypy
        files = sorted(self._folder.glob("*.json"))
        sizes = [path.stat().st_size for path in files]
        while files and (len(files) > _MAX_FILES or sum(sizes) > _MAX_TOTAL_BYTES):
            files.pop(0).unlink(missing_ok=True)
            sizes.pop(0)


def read_dead_letters(keeping: SpoolSettings) -> list[DeadLetter]:
    """Return all dead letters, the oldest first. Files that cannot be read are left out."""
    folder = (keeping.folder or default_folder()) / DEAD_LETTER_FOLDER
    return [found for path in sorted(folder.glob("*.json")) if (found := _read_dead_letter(path)) is not None]


def _read_dead_letter(path: Path) -> DeadLetter | None:
    """Return the letter in the file, or None if it cannot be read."""
    try:
        letter = orjson.loads(path.read_bytes())
        return DeadLetter(**{**letter, "otlp": base64.b64decode(letter["otlp"])}, path=path)
    except (OSError, ValueError, KeyError, TypeError):
        return None
