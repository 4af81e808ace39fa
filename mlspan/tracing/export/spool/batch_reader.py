"""Reading from a spool: the next batch of segments or spans that a sink has to take."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import orjson
from opentelemetry.sdk.trace import ReadableSpan

from ...._guard import warn_once
from ..destination import origin_from_json
from ..otlp.codec import decode_span
from ..types import EncodedSpan, TraceSegment
from .cache import SegmentCache
from .rows import PARENT_MISSING_BIT, WHOLE_BIT, SpoolBatch
from .schema import numbers_to_json

# One JSON row, because the thread gives up the interpreter's lock for every row that it reads.
_SELECT_READY: Final = """select json_group_array(json_array(ready, number, origin, root, whole))
    from (select * from parcel where ready > ? order by ready limit ?)"""


class BatchReader:
    """Reads batches from a spool's database. The caller holds the spool's lock. All methods raise sqlite3.Error."""

    def __init__(self, db: sqlite3.Connection, cache: SegmentCache) -> None:
        self._db, self._cache = db, cache

    def read_segments(
        self, after: int, most: int, most_bytes: int, drop_empty: Callable[[list[int]], None]
    ) -> SpoolBatch | None:
        """Return the next batch of segments, from the cache or decoded from the file.

        *drop_empty* is called with the numbers of those whose spans cannot be read.
        """
        rows = orjson.loads(self._db.execute(_SELECT_READY, (after, most)).fetchone()[0])
        rows = rows[: self._count_fitting([row[1] for row in rows], most_bytes)]
        found = self._load_segments([row[1] for row in rows if row[1] not in self._cache])
        segments: list[TraceSegment] = []
        last = 0
        for last, number, origin, root, whole in rows:  # noqa: B007  # its last value is used below
            if (segment := self._cache.get_segment(number)) is None:
                encoded = found.get(number, [])
                spans = tuple(_decode_readable(encoded))
                data = [one.span for one in encoded] if len(spans) == len(encoded) else ()
                is_whole, parent_missing = bool(whole & WHOLE_BIT), bool(whole & PARENT_MISSING_BIT)
                segment = TraceSegment(
                    origin_from_json(origin), spans, int(root, 16), is_whole, number, parent_missing, data
                )
            segments.append(segment)
        if empty := [segment.number for segment in segments if not segment.spans]:
            drop_empty(empty)
        segments = [segment for segment in segments if segment.spans]
        return SpoolBatch(segments, [segment.number for segment in segments], last) if rows else None

    def _count_fitting(self, numbers: Sequence[int], most_bytes: int) -> int:
        """Return how many of these segments, from the first on and at least one, fit into *most_bytes*."""
        unknown = [number for number in numbers if number not in self._cache]
        query = "select parcel, sum(length(data)) from span where parcel in (select value from json_each(?)) group by 1"
        sizes = dict(self._db.execute(query, [numbers_to_json(unknown)])) if unknown else {}
        size = 0
        for place, number in enumerate(numbers):
            size += self._cache.get_size(number) or sizes.get(number, 0)
            if place and size > most_bytes:
                return place
        return len(numbers)

    def _load_segments(self, numbers: Sequence[int]) -> dict[int, list[EncodedSpan]]:
        """Return the encoded spans of these segments by segment number."""
        if not numbers:
            return {}
        query = """select span.parcel, resource, scope, data from span join context on context.id = span.context
            where span.parcel in (select value from json_each(?)) and sinks & 1 order by span.id"""
        found: dict[int, list[EncodedSpan]] = {}
        for number, *encoded in self._db.execute(query, [numbers_to_json(numbers)]):
            found.setdefault(number, []).append(EncodedSpan(*encoded))
        return found

    def read_spans(self, after: int, most: int, most_bytes: int) -> SpoolBatch | None:
        """Return the next batch of encoded spans for OTLP."""
        query = """select span.id, resource, scope, data from span join context on context.id = span.context
            where sinks & 2 and span.id > ? order by span.id limit ?"""
        keys: list[int] = []
        items: list[EncodedSpan] = []
        size = 0
        for key, *encoded in self._db.execute(query, (after, most)):
            size += len(encoded[2])
            if items and size > most_bytes:
                break
            keys.append(key)
            items.append(EncodedSpan(*encoded))
        return SpoolBatch(items, keys, keys[-1]) if keys else None


def _decode_readable(encoded: Sequence[EncodedSpan]) -> Iterator[ReadableSpan]:
    for one in encoded:
        try:
            yield decode_span(one)
        except Exception as error:  # noqa: BLE001  # protobuf's errors; a damaged page may hold anything
            warn_once("mlspan: a span in the spool cannot be read and is lost: %s", error)
