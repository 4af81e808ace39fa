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

from ...._guard import tell_once
from ...operations.call_context import Origin
from ..destination import origin_of_json, origin_to_json
from ..fork_safety import GATES, OPENING
from ..otlp.codec import unpack
from ..types import Kind, Packed, Parcel
from .cache import Recent
from .schema import as_json, connect, insert

BITS: Final[Mapping[Kind, int]] = {"mlflow": 1, "otlp": 2}
HELD: Final = 4  # held back from OTLP until its trace is sampled
_NOTHING: Final[Mapping[int, bool]] = {}
# One JSON row, because the thread gives up the interpreter's lock for every row that it reads.
_READY: Final = """select json_group_array(json_array(ready, number, origin, root, whole))
    from (select * from parcel where ready > ? order by ready limit ?)"""
_CROSS_OUT: Final[Mapping[Kind, Sequence[str]]] = {
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


class Fresh(NamedTuple):
    """A span that has ended, and its segment."""

    packed: Packed
    sinks: int  # bits of the sinks that still have to take it
    number: int = 0  # number of its segment; 0 if no sink takes segments
    trace: str = ""
    seq: int | None = None  # its position in the write-ahead log, if it is there


@dataclass(frozen=True, slots=True)
class Batch:
    """Items to send, and the keys that delete them once they are sent."""

    items: Sequence[Parcel] | Sequence[Packed]
    keys: Sequence[int]
    last: int  # the id after which the next batch begins


class Spool:
    """Spans and trace segments, each stored until every sink has taken it. Thread-safe.

    All methods raise sqlite3.Error, for example if the disk is full or the file damaged. ``Spool(None)`` is in memory.
    The tables call a segment ``parcel``: that is the format of files on disk.
    """

    def __init__(self, path: Path | None, *, cached_spans: int = 10_000) -> None:
        self.path = path
        self.inherited = False  # left by another process, or under other settings
        self._lock = threading.RLock()
        self._recent = Recent(cached_spans)
        self._contexts: dict[tuple[bytes, bytes], int] = {}
        self._unsaid: list[tuple[Kind, list[int]]] = []  # sent items that could not be deleted yet
        with OPENING.closed():
            self._db = connect(path)
            ids, places = self._one("select max(id) from span"), self._one("select max(ready) from parcel")
            _spools.add(self)
        self._next = count(max(ids or 0, places or 0) + 1)

    def _one(self, query: str, *values: Any) -> Any:
        return self._db.execute(query, values).fetchone()[0]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
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

    def describe(self, sinks: Mapping[str, Mapping[str, Any]]) -> None:
        """Store the destinations of the spans by kind, for the process that may find the file."""
        with self._transaction() as db:
            db.execute("insert or replace into meta values ('sinks', ?)", [orjson.dumps(dict(sinks)).decode()])

    def described(self) -> dict[str, dict[str, Any]]:
        """Return the stored destinations of the spans by kind."""
        with self._lock:
            row = self._db.execute("select value from meta where name = 'sinks'").fetchone()
        return dict(orjson.loads(row[0])) if row else {}

    def add(
        self,
        fresh: Sequence[Fresh],
        ready: Sequence[Parcel] = (),
        opened: Iterable[tuple[int, Origin, int, bool]] = (),
        dropped: Sequence[int] = (),
        sampled: Mapping[int, bool] = _NOTHING,
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
        with self._transaction() as db:
            rows = [
                (next(self._next), one.number, self._context(one.packed), one.sinks, now, one.packed.span, one.trace)
                for one in fresh
            ]
            insert(db, "insert into span values", rows)
            if seen := [(one.seq,) for one in fresh if one.seq is not None]:
                db.executemany("insert or ignore into seen values (?)", seen)
            growing: list[tuple[Any, ...]] = [
                (number, None, origin_to_json(origin), f"{root:x}", 0, genai) for number, origin, root, genai in opened
            ]
            leaving = [
                (p.number, next(self._next), origin_to_json(p.origin), f"{p.root_id:x}", p.whole, True) for p in ready
            ]
            insert(db, "insert or replace into parcel values", growing + leaving)
            if dropped:
                self._cross_out("mlflow", dropped)
            if sampled:
                self._release([number for number, kept in sampled.items() if kept])
                query = "delete from span where sinks & 4 and parcel in (select value from json_each(?))"
                db.execute(query, [as_json([number for number, kept in sampled.items() if not kept])])
        changed = {one.number for one in fresh if one.packed.changed}
        stored: dict[int, list[bytes]] = {}
        for one in fresh:
            stored.setdefault(one.number, []).append(one.packed.span)
        with self._lock:
            for parcel in ready:
                if parcel.number not in changed:
                    data = stored.get(parcel.number, [])
                    whole = len(data) == len(parcel.spans)
                    self._recent.keep(replace(parcel, stored=data) if whole else parcel, sum(map(len, data)))

    def _release(self, numbers: Sequence[int]) -> None:
        """Hand held spans to OTLP under new ids, because senders continue from the last id that they have seen."""
        query = "select id from span where sinks & 4 and parcel in (select value from json_each(?)) order by id"
        rows = self._db.execute(query, [as_json(numbers)]).fetchall()
        send = "update span set id = ?, sinks = sinks & ~4 | 2 where id = ?"
        self._db.executemany(send, [(next(self._next), id) for (id,) in rows])

    def _context(self, packed: Packed) -> int:
        key = (packed.resource, packed.scope)
        found = self._contexts.get(key)
        if found is None:
            self._db.execute("insert or ignore into context (resource, scope) values (?, ?)", key)
            found = self._contexts[key] = self._one("select id from context where resource = ? and scope = ?", *key)
        return found

    # Reading and deleting.

    def take(self, kind: Kind, after: int, most: int, most_bytes: int) -> Batch | None:
        """Return the next items for the sinks of this *kind* after that id, at least one; None if there are none."""
        with self._lock:
            return self._parcels(after, most, most_bytes) if kind == "mlflow" else self._spans(after, most, most_bytes)

    def _parcels(self, after: int, most: int, most_bytes: int) -> Batch | None:
        """Return the next batch of segments, from the cache or decoded from the file."""
        rows = orjson.loads(self._one(_READY, after, most))
        rows = rows[: self._fitting([row[1] for row in rows], most_bytes)]
        found = self._loaded([row[1] for row in rows if row[1] not in self._recent])
        parcels: list[Parcel] = []
        last = 0
        for last, number, origin, root, whole in rows:  # noqa: B007  # its last value is used below
            if (parcel := self._recent.parcel(number)) is None:
                packed = found.get(number, [])
                spans = tuple(_unpacked(packed))
                data = [one.span for one in packed] if len(spans) == len(packed) else ()
                parcel = Parcel(origin_of_json(origin), spans, int(root, 16), bool(whole), number, data)
            parcels.append(parcel)
        if empty := [parcel.number for parcel in parcels if not parcel.spans]:
            self.done("mlflow", empty)
        parcels = [parcel for parcel in parcels if parcel.spans]
        return Batch(parcels, [parcel.number for parcel in parcels], last) if rows else None

    def _fitting(self, numbers: Sequence[int], most_bytes: int) -> int:
        """Return how many of these segments, from the first on and at least one, fit into *most_bytes*."""
        unknown = [number for number in numbers if number not in self._recent]
        query = "select parcel, sum(length(data)) from span where parcel in (select value from json_each(?)) group by 1"
        sizes = dict(self._db.execute(query, [as_json(unknown)])) if unknown else {}
        size = 0
        for place, number in enumerate(numbers):
            size += self._recent.size(number) or sizes.get(number, 0)
            if place and size > most_bytes:
                return place
        return len(numbers)

    def _loaded(self, numbers: Sequence[int]) -> dict[int, list[Packed]]:
        """Return the encoded spans of these segments by segment number."""
        if not numbers:
            return {}
        query = """select span.parcel, resource, scope, data from span join context on context.id = span.context
            where span.parcel in (select value from json_each(?)) and sinks & 1 order by span.id"""
        found: dict[int, list[Packed]] = {}
        for number, *packed in self._db.execute(query, [as_json(numbers)]):
            found.setdefault(number, []).append(Packed(*packed))
        return found

    def _spans(self, after: int, most: int, most_bytes: int) -> Batch | None:
        """Return the next batch of encoded spans for OTLP."""
        query = """select span.id, resource, scope, data from span join context on context.id = span.context
            where sinks & 2 and span.id > ? order by span.id limit ?"""
        keys: list[int] = []
        items: list[Packed] = []
        size = 0
        for key, *packed in self._db.execute(query, (after, most)):
            size += len(packed[2])
            if items and size > most_bytes:
                break
            keys.append(key)
            items.append(Packed(*packed))
        return Batch(items, keys, keys[-1]) if keys else None

    def done(self, kind: Kind, keys: Sequence[int]) -> None:
        """Mark these items as sent to the sinks of this *kind*, and delete them once every sink has taken them."""
        with self._lock:
            self._recent.forget(keys if kind == "mlflow" else ())
            self._unsaid.append((kind, list(keys)))
            with self._transaction():
                for one in self._unsaid:
                    self._cross_out(*one)
            self._unsaid.clear()

    def _cross_out(self, kind: Kind, keys: Sequence[int]) -> None:
        numbers = as_json(keys)
        for statement in _CROSS_OUT[kind]:
            self._db.execute(statement, [numbers])

    # Counting and maintenance.

    def waiting(self, kind: Kind) -> int:
        """Return the number of segments or spans that are ready for the sinks of this *kind*."""
        parcels, spans = (
            "select count(*) from parcel where ready is not null",
            "select count(*) from span where sinks & 2",
        )
        with self._lock:
            return int(self._one(parcels if kind == "mlflow" else spans))

    def spans(self) -> int:
        """Return the number of spans."""
        with self._lock:
            return int(self._one("select count(*) from span"))

    def used(self) -> int:
        """Return the bytes in use."""
        with self._lock:
            pages = self._one("pragma page_count") - self._one("pragma freelist_count")
            return int(pages * self._one("pragma page_size"))

    def seen(self) -> set[int]:
        """Return the positions in the write-ahead log of the spans that are or were here."""
        with self._lock:
            return {row[0] for row in self._db.execute("select seq from seen")}

    def forget_seen(self, before: int) -> None:
        with self._transaction() as db:
            db.execute("delete from seen where seq < ?", [before])

    def finish_open(self) -> None:
        """Make all incomplete segments of an ended process ready. Those without a GenAI span are left to OTLP alone.

        Spans that were not sampled yet are kept.
        """
        with self._transaction() as db:
            self._release([number for (number,) in db.execute("select distinct parcel from span where sinks & 4")])
            plain = [row[0] for row in db.execute("select number from parcel where ready is null and not genai")]
            self._cross_out("mlflow", plain)
            rows = db.execute("select number from parcel where ready is null order by number").fetchall()
            db.executemany("update parcel set ready = ? where number = ?", [(next(self._next), n) for (n,) in rows])

    def open_parcels(self) -> dict[str, int]:
        """Return the number of each incomplete segment by its trace id."""
        query = "select trace, parcel from span join parcel on number = parcel where ready is null"
        with self._lock:
            return dict(self._db.execute(query).fetchall())

    def mark_genai(self, number: int) -> None:
        with self._transaction() as db:
            db.execute("update parcel set genai = 1 where number = ?", [number])

    def new_number(self) -> int:
        with self._lock:
            return 1 + int(self._one("select ifnull(max(number), 0) from parcel"))

    def expire(self, before: float) -> int:
        """Delete spans stored *before* that time (seconds since 1970); return their number."""
        with self._transaction() as db:
            gone = db.execute("delete from span where stored < ?", [before]).rowcount
            if gone:
                db.execute("delete from parcel where number not in (select parcel from span)")
                self._recent.clear()
        return int(gone)

    def shrink(self) -> None:
        """Give unused space back to the disk."""
        with self._lock:
            self._db.execute("pragma incremental_vacuum").fetchall()
            self._db.execute("pragma wal_checkpoint(truncate)").fetchall()

    def close(self) -> None:
        """Close the file. An empty spool is deleted with all files beside it; another is left for a later process."""
        with OPENING.closed(), self._lock:
            _spools.discard(self)
            empty = False
            with suppress(sqlite3.Error):
                empty = not self._one("select exists (select 1 from span)")
                if empty and self.path is not None:
                    self.shrink()
            if empty and self.path is not None:  # while the lock is held; the spool's own file is deleted last
                for beside in (*self.path.parent.glob(f"{self.path.name}-*"), self.path):
                    beside.unlink(missing_ok=True)
            self._db.close()

    def abandon(self) -> None:
        """Forget the connection in a forked child without closing it, as it belongs to the parent."""
        import ctypes

        _spools.discard(self)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._db))
        self._lock = threading.RLock()


def _unpacked(packed: Sequence[Packed]) -> Iterator[ReadableSpan]:
    for one in packed:
        try:
            yield unpack(one)
        except Exception as error:  # noqa: BLE001  # protobuf's errors; a damaged page may hold anything
            tell_once("mlspan: a span in the spool cannot be read and is lost: %s", error)


_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


class _Spools:
    """Makes a fork wait for statements in progress, as SQLite's locks do not survive one.

    Waits at most 0.5 s for each spool.
    """

    def __init__(self) -> None:
        self._held: list[Any] = []

    def before(self) -> None:
        self._held = [spool._lock for spool in list(_spools) if spool._lock.acquire(timeout=0.5)]

    def in_parent(self) -> None:
        while self._held:
            self._held.pop().release()

    def in_child(self) -> None:
        self._held.clear()
        for spool in list(_spools):
            spool.abandon()


GATES.append(_Spools())
