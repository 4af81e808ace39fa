"""The spool: a queue of spans in one SQLite file for each process, which its owner keeps locked while it runs."""

from __future__ import annotations

import sqlite3
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
from opentelemetry.sdk.trace import ReadableSpan

from ...._guard import warn_once
from ...operations.call_context import TraceOrigin
from ..destination import origin_from_json, origin_to_json
from ..fork_safety import FORK_HANDLERS, SPOOL_OPEN_LOCK
from ..otlp.codec import decode_span
from ..types import EncodedSpan, SinkKind, TraceSegment
from .cache import SegmentCache
from .schema import insert_rows, numbers_to_json, open_database

SINK_BITS: Final[Mapping[SinkKind, int]] = {"mlflow": 1, "otlp": 2}
HELD_BIT: Final = 4  # held back from OTLP until its trace is sampled
_WHOLE: Final = 1  # bits of the column `whole`
_PARENT_MISSING: Final = 2
_NO_DECISIONS: Final[Mapping[int, bool]] = {}
# One JSON row, because the thread gives up the interpreter's lock for every row that it reads.
_SELECT_READY: Final = """select json_group_array(json_array(ready, number, origin, root, whole))
    from (select * from parcel where ready > ? order by ready limit ?)"""
_DELETE_SENT: Final[Mapping[SinkKind, Sequence[str]]] = {
    "mlflow": (
        "delete from span where parcel in (select value from json_each(?)) and sinks = 1",
        "update span set sinks = sinks & ~1 where parcel in (select value from json_each(?))",
        "delete from parcel where number in (select value from json_each(?))",
    ),
    "otlp": (
        "delete from span where id in (select value from json_each(?)) and sinks = 2",
        "update span set sinks = sinks & ~2 where id in (select value from json_each(?))",
    ),
}


class SpoolRow(NamedTuple):
    """A span that has ended, and its segment."""

    encoded: EncodedSpan
    sinks: int  # bits of the sinks that still have to take it
    segment_number: int = 0  # number of its segment; 0 if no sink takes segments
    trace: str = ""
    log_position: int | None = None  # its position in the write-ahead log, if it is there


@dataclass(frozen=True, slots=True)
class SpoolBatch:
    """Items to send, and the keys that delete them once they are sent."""

    items: Sequence[TraceSegment] | Sequence[EncodedSpan]
    keys: Sequence[int]
    last_id: int  # the id after which the next batch begins


class Spool:
    """Spans and trace segments, each stored until every sink has taken it. Thread-safe.

    All methods raise sqlite3.Error, for example if the disk is full or the file damaged. ``Spool(None)`` is in memory.
    The tables call a segment ``parcel``: that is the format of files on disk.
    """

    def __init__(self, path: Path | None, *, cached_spans: int = 10_000) -> None:
        self.path = path
        self.inherited = False  # left by another process, or under other settings
        self._lock = threading.RLock()
        self._recent = SegmentCache(cached_spans)
        self._contexts: dict[tuple[bytes, bytes], int] = {}
        self._unsaid: list[tuple[SinkKind, list[int]]] = []  # sent items that could not be deleted yet
        with SPOOL_OPEN_LOCK.delay_forks():
            self._db = open_database(path)
            ids, places = (
                self._query_value("select max(id) from span"),
                self._query_value("select max(ready) from parcel"),
            )
            _open_spools.add(self)
        self._next = count(max(ids or 0, places or 0) + 1)

    def _query_value(self, query: str, *values: Any) -> Any:
        return self._db.execute(query, values).fetchone()[0]

    @contextmanager
    def _begin_transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the block in a transaction under the lock; roll back if it raises."""
        with self._lock:
            self._db.execute("begin immediate")
            try:
                yield self._db
                self._db.execute("commit")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._db.execute("rollback")
                self._contexts.clear()
                raise

    # Writing.

    def write_sinks(self, sinks: Mapping[str, Mapping[str, Any]]) -> None:
        """Store the destinations of the spans by kind, for the process that may find the file."""
        with self._begin_transaction() as db:
            db.execute("insert or replace into meta values ('sinks', ?)", [orjson.dumps(dict(sinks)).decode()])

    def read_sinks(self) -> dict[str, dict[str, Any]]:
        """Return the stored destinations of the spans by kind."""
        with self._lock:
            row = self._db.execute("select value from meta where name = 'sinks'").fetchone()
        return dict(orjson.loads(row[0])) if row else {}

    def add_spans(
        self,
        fresh: Sequence[SpoolRow],
        ready: Sequence[TraceSegment] = (),
        opened: Iterable[tuple[int, TraceOrigin, int, bool]] = (),
        dropped: Sequence[int] = (),
        sampled: Mapping[int, bool] = _NO_DECISIONS,
    ) -> None:
        """Store everything in one transaction.

        Args:
            fresh: spans that have ended.
            ready: segments that may be sent. Their spans are in *fresh* or were stored before.
            opened: number, origin, id of the root and "has a GenAI span" of segments that are not complete.
            dropped: numbers of segments that no sink for segments is to get.
            sampled: by number, True if the held spans of a segment are to be sent, False if they are to be deleted.
        """
        now = time.time()
        with self._begin_transaction() as db:
            rows = [
                (
                    next(self._next),
                    one.segment_number,
                    self._find_context_id(one.encoded),
                    one.sinks,
                    now,
                    one.encoded.span,
                    one.trace,
                )
                for one in fresh
            ]
            insert_rows(db, "insert into span values", rows)
            if seen := [(one.log_position,) for one in fresh if one.log_position is not None]:
                db.executemany("insert or ignore into seen values (?)", seen)
            growing: list[tuple[Any, ...]] = [
                (number, None, origin_to_json(origin), f"{root:x}", 0, genai) for number, origin, root, genai in opened
            ]
            leaving = [
                (p.number, next(self._next), origin_to_json(p.origin), f"{p.root_id:x}", _state_bits(p), True)
                for p in ready
            ]
            insert_rows(db, "insert or replace into parcel values", growing + leaving)
            if dropped:
                self._delete_sent("mlflow", dropped)
            if sampled:
                self._release_held([number for number, kept in sampled.items() if kept])
                query = "delete from span where sinks & 4 and parcel in (select value from json_each(?))"
                db.execute(query, [numbers_to_json([number for number, kept in sampled.items() if not kept])])
        changed = {one.segment_number for one in fresh if one.encoded.changed}
        stored: dict[int, list[bytes]] = {}
        for one in fresh:
            stored.setdefault(one.segment_number, []).append(one.encoded.span)
        with self._lock:
            for parcel in ready:
                if parcel.number not in changed:
                    data = stored.get(parcel.number, [])
                    whole = len(data) == len(parcel.spans)
                    self._recent.add_segment(replace(parcel, stored=data) if whole else parcel, sum(map(len, data)))

    def _release_held(self, numbers: Sequence[int]) -> None:
        """Hand held spans to OTLP under new ids, because senders continue from the last id that they have seen."""
        query = "select id from span where sinks & 4 and parcel in (select value from json_each(?)) order by id"
        rows = self._db.execute(query, [numbers_to_json(numbers)]).fetchall()
        send = "update span set id = ?, sinks = sinks & ~4 | 2 where id = ?"
        self._db.executemany(send, [(next(self._next), id) for (id,) in rows])

    def _find_context_id(self, packed: EncodedSpan) -> int:
        key = (packed.resource, packed.scope)
        found = self._contexts.get(key)
        if found is None:
            self._db.execute("insert or ignore into context (resource, scope) values (?, ?)", key)
            found = self._contexts[key] = self._query_value(
                "select id from context where resource = ? and scope = ?", *key
            )
        return found

    # Reading and deleting.

    def read_batch(self, kind: SinkKind, after: int, most: int, most_bytes: int) -> SpoolBatch | None:
        """Return the next items for the sinks of this *kind* after that id, at least one; None if there are none."""
        with self._lock:
            return (
                self._read_segments(after, most, most_bytes)
                if kind == "mlflow"
                else self._read_spans(after, most, most_bytes)
            )

    def _read_segments(self, after: int, most: int, most_bytes: int) -> SpoolBatch | None:
        """Return the next batch of segments, from the cache or decoded from the file."""
        rows = orjson.loads(self._query_value(_SELECT_READY, after, most))
        rows = rows[: self._count_fitting([row[1] for row in rows], most_bytes)]
        found = self._load_segments([row[1] for row in rows if row[1] not in self._recent])
        parcels: list[TraceSegment] = []
        last = 0
        for last, number, origin, root, whole in rows:  # noqa: B007  # its last value is used below
            if (parcel := self._recent.get_segment(number)) is None:
                packed = found.get(number, [])
                spans = tuple(_decode_readable(packed))
                data = [one.span for one in packed] if len(spans) == len(packed) else ()
                missing = bool(whole & _PARENT_MISSING)
                parcel = TraceSegment(
                    origin_from_json(origin), spans, int(root, 16), bool(whole & _WHOLE), number, missing, data
                )
            parcels.append(parcel)
        if empty := [parcel.number for parcel in parcels if not parcel.spans]:
            self.mark_sent("mlflow", empty)
        parcels = [parcel for parcel in parcels if parcel.spans]
        return SpoolBatch(parcels, [parcel.number for parcel in parcels], last) if rows else None

    def _count_fitting(self, numbers: Sequence[int], most_bytes: int) -> int:
        """Return how many of these segments, from the first on and at least one, fit into *most_bytes*."""
        unknown = [number for number in numbers if number not in self._recent]
        query = "select parcel, sum(length(data)) from span where parcel in (select value from json_each(?)) group by 1"
        sizes = dict(self._db.execute(query, [numbers_to_json(unknown)])) if unknown else {}
        size = 0
        for place, number in enumerate(numbers):
            size += self._recent.get_size(number) or sizes.get(number, 0)
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
        for number, *packed in self._db.execute(query, [numbers_to_json(numbers)]):
            found.setdefault(number, []).append(EncodedSpan(*packed))
        return found

    def _read_spans(self, after: int, most: int, most_bytes: int) -> SpoolBatch | None:
        """Return the next batch of encoded spans for OTLP."""
        query = """select span.id, resource, scope, data from span join context on context.id = span.context
            where sinks & 2 and span.id > ? order by span.id limit ?"""
        keys: list[int] = []
        items: list[EncodedSpan] = []
        size = 0
        for key, *packed in self._db.execute(query, (after, most)):
            size += len(packed[2])
            if items and size > most_bytes:
                break
            keys.append(key)
            items.append(EncodedSpan(*packed))
        return SpoolBatch(items, keys, keys[-1]) if keys else None

    def mark_sent(self, kind: SinkKind, keys: Sequence[int]) -> None:
        """Mark these items as sent to the sinks of this *kind*, and delete them once every sink has taken them."""
        with self._lock:
            self._recent.remove_segments(keys if kind == "mlflow" else ())
            self._unsaid.append((kind, list(keys)))
            with self._begin_transaction():
                for one in self._unsaid:
                    self._delete_sent(*one)
            self._unsaid.clear()

    def _delete_sent(self, kind: SinkKind, keys: Sequence[int]) -> None:
        numbers = numbers_to_json(keys)
        for statement in _DELETE_SENT[kind]:
            self._db.execute(statement, [numbers])

    # Counting and maintenance.

    def count_ready(self, kind: SinkKind) -> int:
        """Return the number of segments or spans that are ready for the sinks of this *kind*."""
        parcels, spans = (
            "select count(*) from parcel where ready is not null",
            "select count(*) from span where sinks & 2",
        )
        with self._lock:
            return int(self._query_value(parcels if kind == "mlflow" else spans))

    def count_spans(self) -> int:
        """Return the number of spans."""
        with self._lock:
            return int(self._query_value("select count(*) from span"))

    def count_used_bytes(self) -> int:
        """Return the bytes in use."""
        with self._lock:
            pages = self._query_value("pragma page_count") - self._query_value("pragma freelist_count")
            return int(pages * self._query_value("pragma page_size"))

    def read_log_positions(self) -> set[int]:
        """Return the positions in the write-ahead log of the spans that are or were here."""
        with self._lock:
            return {row[0] for row in self._db.execute("select seq from seen")}

    def delete_log_positions(self, before: int) -> None:
        with self._begin_transaction() as db:
            db.execute("delete from seen where seq < ?", [before])

    def release_open_segments(self) -> None:
        """Make all incomplete segments of an ended process ready. Those without a GenAI span are left to OTLP alone.

        Spans that were not sampled yet are kept.
        """
        with self._begin_transaction() as db:
            self._release_held([number for (number,) in db.execute("select distinct parcel from span where sinks & 4")])
            plain = [row[0] for row in db.execute("select number from parcel where ready is null and not genai")]
            self._delete_sent("mlflow", plain)
            rows = db.execute("select number from parcel where ready is null order by number").fetchall()
            db.executemany("update parcel set ready = ? where number = ?", [(next(self._next), n) for (n,) in rows])

    def find_open_segments(self) -> dict[str, int]:
        """Return the number of each incomplete segment by its trace id."""
        query = "select trace, parcel from span join parcel on number = parcel where ready is null"
        with self._lock:
            return dict(self._db.execute(query).fetchall())

    def mark_genai(self, number: int) -> None:
        with self._begin_transaction() as db:
            db.execute("update parcel set genai = 1 where number = ?", [number])

    def next_segment_number(self) -> int:
        with self._lock:
            return 1 + int(self._query_value("select ifnull(max(number), 0) from parcel"))

    def delete_older_than(self, before: float) -> int:
        """Delete spans stored *before* that time (seconds since 1970); return their number."""
        with self._begin_transaction() as db:
            gone = db.execute("delete from span where stored < ?", [before]).rowcount
            if gone:
                db.execute("delete from parcel where number not in (select parcel from span)")
                self._recent.remove_all()
        return int(gone)

    def shrink_file(self) -> None:
        """Give unused space back to the disk."""
        with self._lock:
            self._db.execute("pragma incremental_vacuum").fetchall()
            self._db.execute("pragma wal_checkpoint(truncate)").fetchall()

    def close(self) -> None:
        """Close the file. An empty spool is deleted with all files beside it; another is left for a later process."""
        with SPOOL_OPEN_LOCK.delay_forks(), self._lock:
            _open_spools.discard(self)
            empty = False
            with suppress(sqlite3.Error):
                empty = not self._query_value("select exists (select 1 from span)")
                if empty and self.path is not None:
                    self.shrink_file()
            if empty and self.path is not None:  # while the lock is held; the spool's own file is deleted last
                for beside in (*self.path.parent.glob(f"{self.path.name}-*"), self.path):
                    beside.unlink(missing_ok=True)
            self._db.close()

    def abandon_after_fork(self) -> None:
        """Forget the connection in a forked child without closing it, as it belongs to the parent."""
        import ctypes

        _open_spools.discard(self)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._db))
        self._lock = threading.RLock()


def _state_bits(segment: TraceSegment) -> int:
    return _WHOLE * segment.whole | _PARENT_MISSING * segment.parent_missing


def _decode_readable(packed: Sequence[EncodedSpan]) -> Iterator[ReadableSpan]:
    for one in packed:
        try:
            yield decode_span(one)
        except Exception as error:  # noqa: BLE001  # protobuf's errors; a damaged page may hold anything
            warn_once("mlspan: a span in the spool cannot be read and is lost: %s", error)


_open_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


class _SpoolForkHandler:
    """Makes a fork wait for statements in progress, as SQLite's locks do not survive one.

    Waits at most 0.5 s for each spool.
    """

    def __init__(self) -> None:
        self._held: list[Any] = []

    def before(self) -> None:
        self._held = [spool._lock for spool in list(_open_spools) if spool._lock.acquire(timeout=0.5)]

    def in_parent(self) -> None:
        while self._held:
            self._held.pop().release()

    def in_child(self) -> None:
        self._held.clear()
        for spool in list(_open_spools):
            spool.abandon_after_fork()


FORK_HANDLERS.append(_SpoolForkHandler())
