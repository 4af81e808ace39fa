"""The queue on disk: one SQLite file for each process, which holds a lock on it for as long as it lives."""

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

from ..._guard import tell_once
from ..context import Origin
from .address import origin_of_json, origin_to_json
from .gate import GATES, OPENING
from .parcel import Kind, Packed, Parcel
from .recent import Recent
from .spool_file import as_json, connect, insert
from .wire import unpack

BITS: Final[Mapping[Kind, int]] = {"mlflow": 1, "otlp": 2}
HELD: Final = 4  # for OTLP, once its trace is known to be kept
_NOTHING: Final[Mapping[int, bool]] = {}
# As one row, since after each row, too, this thread has to wait for its turn.
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
    """A span that has ended, and what it is part of."""

    packed: Packed
    sinks: int  # the bits of those that are to have it
    number: int = 0  # of its parcel; 0 where no sink takes parcels
    trace: str = ""
    seq: int | None = None  # its place in the journal, if it stands there already


@dataclass(frozen=True, slots=True)
class Batch:
    """What a sink is to be sent, and how to say that it has been."""

    items: Sequence[Parcel] | Sequence[Packed]
    keys: Sequence[int]
    last: int  # where the next batch begins


class Spool:
    """Spans and parcels, each until every sink that is to have it has taken it. For any number of threads.

    All of them raise sqlite3.Error: a disk that is full, a file that is torn. ``Spool(None)`` is in memory.
    """

    def __init__(self, path: Path | None, *, cached_spans: int = 10_000) -> None:
        self.path = path
        self.inherited = False  # left by another process, or under other settings
        self._lock = threading.RLock()
        self._recent = Recent(cached_spans)
        self._contexts: dict[tuple[bytes, bytes], int] = {}
        self._unsaid: list[tuple[Kind, list[int]]] = []  # what was sent and could not be crossed out
        with OPENING.closed():
            self._db = connect(path)
            ids, places = self._one("select max(id) from span"), self._one("select max(ready) from parcel")
            _spools.add(self)
        self._next = count(max(ids or 0, places or 0) + 1)

    def _one(self, query: str, *values: Any) -> Any:
        return self._db.execute(query, values).fetchone()[0]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
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

    # What goes in.

    def describe(self, sinks: Mapping[str, Mapping[str, Any]]) -> None:
        """Note where the spans are to go, for whoever finds the file."""
        with self._transaction() as db:
            db.execute("insert or replace into meta values ('sinks', ?)", [orjson.dumps(dict(sinks)).decode()])

    def described(self) -> dict[str, dict[str, Any]]:
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
        """All of it or nothing.

        Args:
            fresh: spans that have ended.
            ready: parcels that may be sent, whose spans are in *fresh* or have been.
            opened: number, origin, root's id and whether it holds a GenAI span, of parcels that are still growing.
            dropped: numbers of parcels that no sink which takes parcels is to have.
            sampled: by number, whether what is held of a parcel is to be sent or deleted.
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
        """Under new ids, as couriers go on from the last one that they have seen."""
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

    # What goes out.

    def take(self, kind: Kind, after: int, most: int, most_bytes: int) -> Batch | None:
        """The next things for the sinks of this *kind*, at least one of them; None if there are none *after* that."""
        with self._lock:
            return self._parcels(after, most, most_bytes) if kind == "mlflow" else self._spans(after, most, most_bytes)

    def _parcels(self, after: int, most: int, most_bytes: int) -> Batch | None:
        rows = orjson.loads(self._one(_READY, after, most))
        rows = rows[: self._fitting([row[1] for row in rows], most_bytes)]
        found = self._loaded([row[1] for row in rows if row[1] not in self._recent])
        parcels: list[Parcel] = []
        last = 0
        for last, number, origin, root, whole in rows:  # noqa: B007  # the last one is the last
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
        """How many of these parcels, from the first on and at least one, take no more than that together."""
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
        if not numbers:
            return {}
        query = """select span.parcel, resource, scope, data from span join context on context.id = span.context
            where span.parcel in (select value from json_each(?)) and sinks & 1 order by span.id"""
        found: dict[int, list[Packed]] = {}
        for number, *packed in self._db.execute(query, [as_json(numbers)]):
            found.setdefault(number, []).append(Packed(*packed))
        return found

    def _spans(self, after: int, most: int, most_bytes: int) -> Batch | None:
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
        """What these *keys* stand for need not be sent to the sinks of this *kind* again."""
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

    # What there is.

    def waiting(self, kind: Kind) -> int:
        """How many parcels, or spans, wait for the sinks of this *kind*."""
        parcels, spans = (
            "select count(*) from parcel where ready is not null",
            "select count(*) from span where sinks & 2",
        )
        with self._lock:
            return int(self._one(parcels if kind == "mlflow" else spans))

    def spans(self) -> int:
        """How many spans there are."""
        with self._lock:
            return int(self._one("select count(*) from span"))

    def used(self) -> int:
        """Bytes."""
        with self._lock:
            pages = self._one("pragma page_count") - self._one("pragma freelist_count")
            return int(pages * self._one("pragma page_size"))

    def seen(self) -> set[int]:
        """The places in the journal of what is or was here."""
        with self._lock:
            return {row[0] for row in self._db.execute("select seq from seen")}

    def forget_seen(self, before: int) -> None:
        with self._transaction() as db:
            db.execute("delete from seen where seq < ?", [before])

    def finish_open(self) -> None:
        """Let everything go that its process has left unfinished; what holds no GenAI span is for OTLP alone.

        What it had not yet judged worth keeping is kept.
        """
        with self._transaction() as db:
            self._release([number for (number,) in db.execute("select distinct parcel from span where sinks & 4")])
            plain = [row[0] for row in db.execute("select number from parcel where ready is null and not genai")]
            self._cross_out("mlflow", plain)
            rows = db.execute("select number from parcel where ready is null order by number").fetchall()
            db.executemany("update parcel set ready = ? where number = ?", [(next(self._next), n) for (n,) in rows])

    def open_parcels(self) -> dict[str, int]:
        """The number of a parcel that is still growing, by its trace."""
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
        """Delete what was stored *before* (seconds since 1970); how many spans that was."""
        with self._transaction() as db:
            gone = db.execute("delete from span where stored < ?", [before]).rowcount
            if gone:
                db.execute("delete from parcel where number not in (select parcel from span)")
                self._recent.clear()
        return int(gone)

    def shrink(self) -> None:
        """Give the disk back what is not used."""
        with self._lock:
            self._db.execute("pragma incremental_vacuum").fetchall()
            self._db.execute("pragma wal_checkpoint(truncate)").fetchall()

    def close(self) -> None:
        """Where it is empty it is deleted with all that stands beside it, else left for whoever comes next."""
        with OPENING.closed(), self._lock:
            _spools.discard(self)
            empty = False
            with suppress(sqlite3.Error):
                empty = not self._one("select exists (select 1 from span)")
                if empty and self.path is not None:
                    self.shrink()
            if empty and self.path is not None:  # before the lock is given up, and last what says that it is there
                for beside in (*self.path.parent.glob(f"{self.path.name}-*"), self.path):
                    beside.unlink(missing_ok=True)
            self._db.close()

    def abandon(self) -> None:
        """In a forked child: what is open here is the parent's, and not even to be closed."""
        import ctypes

        _spools.discard(self)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._db))
        self._lock = threading.RLock()


def _unpacked(packed: Sequence[Packed]) -> Iterator[ReadableSpan]:
    for one in packed:
        try:
            yield unpack(one)
        except Exception as error:  # noqa: BLE001  # protobuf's own; what a torn page holds may be anything
            tell_once("mlspan: a span in the spool cannot be read and is lost: %s", error)


_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


class _Spools:
    """SQLite's own locks do not survive a fork in the middle of a statement; a disk that hangs holds nobody up."""

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
