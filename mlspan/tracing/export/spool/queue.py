"""The spool: a queue of spans in one SQLite file for each process, which its owner keeps locked while it runs."""

from __future__ import annotations

import sqlite3
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

import orjson

from ..destination import origin_to_json
from ..fork_safety import FORK_HANDLERS, SPOOL_OPEN_LOCK
from ..types import EncodedSpan, SinkKind, TraceSegment
from .batch_reader import BatchReader
from .cache import SegmentCache
from .rows import SINK_BITS, OpenSegment, SpoolBatch, SpoolRow, encode_state
from .schema import insert_rows, numbers_to_json, open_database

_FIRST_YEAR: Final = 1_577_836_800.0  # 2020: a device that has no clock of its own begins in 1970 or so
_NO_DECISIONS: Final[Mapping[int, bool]] = {}
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


class Spool:
    """Spans and trace segments, each stored until every sink has taken it. Thread-safe.

    All methods raise sqlite3.Error, for example if the disk is full or the file damaged. ``Spool(None)`` is in memory.
    The tables call a segment ``parcel``: that is the format of files on disk.
    """

    def __init__(self, path: Path | None, *, cached_spans: int = 10_000) -> None:
        self.path = path
        self.inherited = False  # left by another process, or under other settings
        self.logs: Sequence[Path] | None = None  # the write-ahead log of an ended process; None: not looked for
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
        self._reader = BatchReader(self._db, self._recent)
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
        opened: Iterable[OpenSegment] = (),
        dropped: Sequence[int] = (),
        sampled: Mapping[int, bool] = _NO_DECISIONS,
    ) -> None:
        """Store everything in one transaction.

        Args:
            fresh: spans that have ended.
            ready: segments that may be sent. Their spans are in *fresh* or were stored before.
            opened: segments that are not complete.
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
                (p.number, next(self._next), origin_to_json(p.origin), f"{p.root_id:x}", encode_state(p), True)
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
            for segment in ready:
                if segment.number not in changed and segment.spans:
                    data = stored.get(segment.number, [])
                    whole = len(data) == len(segment.spans)
                    self._recent.add_segment(segment._replace(stored=data) if whole else segment, sum(map(len, data)))

    def _release_held(self, numbers: Sequence[int]) -> None:
        """Hand held spans to OTLP under new ids, because senders continue from the last id that they have seen."""
        query = "select id from span where sinks & 4 and parcel in (select value from json_each(?)) order by id"
        rows = self._db.execute(query, [numbers_to_json(numbers)]).fetchall()
        send = "update span set id = ?, sinks = sinks & ~4 | 2 where id = ?"
        self._db.executemany(send, [(next(self._next), id) for (id,) in rows])

    def _find_context_id(self, encoded: EncodedSpan) -> int:
        key = (encoded.resource, encoded.scope)
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
            if kind == "otlp":
                return self._reader.read_spans(after, most, most_bytes)
            return self._reader.read_segments(after, most, most_bytes, partial(self.mark_sent, "mlflow"))

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
        count_segments, count_spans = (
            "select count(*) from parcel where ready is not null",
            "select count(*) from span where sinks & 2",
        )
        with self._lock:
            return int(self._query_value(count_segments if kind == "mlflow" else count_spans))

    def measure_ready(self, kind: SinkKind) -> tuple[int, float | None]:
        """Return the number of spans that are ready for the sinks of this *kind*, and when the oldest was stored."""
        ready = " and parcel in (select number from parcel where ready is not null)" if kind == "mlflow" else ""
        query = f"select count(*), min(stored) from span where sinks & ?{ready}"  # noqa: S608  # nothing from outside
        with self._lock:
            count, oldest = self._db.execute(query, [SINK_BITS[kind]]).fetchone()
        return int(count), oldest

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
        """Delete spans stored *before* that time (seconds since 1970); return their number.

        Those of a clock that had not been set yet count from now.
        """
        with self._begin_transaction() as db:
            if before > _FIRST_YEAR:
                db.execute("update span set stored = ? where stored < ?", [time.time(), _FIRST_YEAR])
            gone = db.execute("delete from span where stored < ?", [before]).rowcount
            if gone:
                db.execute("delete from parcel where number not in (select parcel from span)")
                self._recent.remove_all()
        return int(gone)

    def move_times(self, set_by: float) -> None:
        """Correct when spans were stored by as many seconds as the clock was set by since.

        Spans that were stored after that are left as they are.
        """
        with self._begin_transaction() as db:
            before = "stored <= ?" if set_by > 0 else "stored > ?"
            bound = time.time() - max(set_by, 0)
            db.execute(f"update span set stored = stored + ? where {before}", [set_by, bound])  # noqa: S608  # nothing from outside

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
                for beside in (*self._list_files_beside(self.path), self.path):
                    beside.unlink(missing_ok=True)
            self._db.close()

    def _list_files_beside(self, path: Path) -> Iterable[Path]:
        """Return the files that belong to the spool at *path*, of which some may not be there."""
        if self.logs is None:
            return path.parent.glob(f"{path.name}-*")  # which reads the whole folder
        return [*self.logs, *(path.with_name(path.name + ending) for ending in ("-journal", "-wal", "-shm"))]

    def abandon_after_fork(self) -> None:
        """Forget the connection in a forked child without closing it, as it belongs to the parent."""
        import ctypes

        _open_spools.discard(self)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._db))
        self._lock = threading.RLock()
        self._db = sqlite3.connect(":memory:")  # closed: a thread of gevent's that goes on here is told so
        self._db.close()
        self._reader = BatchReader(self._db, self._recent)


_open_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


class _SpoolForkHandler:
    """Makes a fork wait for statements in progress, as SQLite's locks do not survive one.

    Waits at most 0.5 s for each spool.
    """

    def __init__(self) -> None:
        self._held = threading.local()  # has ``locks`` on a thread that forks

    def before(self) -> None:
        locks = self._held.locks = []
        for spool in list(_open_spools):
            if spool._lock.acquire(timeout=0.5):
                locks.append(spool._lock)  # noqa: PERF401  # one by one: Ctrl-C may end the waiting for each

    def in_parent(self) -> None:
        locks = getattr(self._held, "locks", [])
        while locks:
            lock = locks[-1]
            del locks[-1]  # no call, after which Ctrl-C could come, until the release
            lock.release()

    def in_child(self) -> None:
        self._held.locks = []
        for spool in list(_open_spools):
            spool.abandon_after_fork()


FORK_HANDLERS.append(_SpoolForkHandler())
