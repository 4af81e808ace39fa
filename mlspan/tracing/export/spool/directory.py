"""The spool directory: the spool of this process, spools of ended processes, and damaged files that were set aside."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan

from ...._guard import log, warn_once
from ..otlp.codec import decode_span
from ..trace_assembler import is_genai
from ..types import SinkKind
from .damaged import ASIDE_SUFFIX, delete_old_files_aside, set_aside_spool
from .dead_letters import DeadLetters
from .limits import MAX_OPEN_SPOOLS, SPOOL_SUFFIX, SpoolSettings, default_folder, require_own
from .queue import Spool
from .rows import SINK_BITS, OpenSegment, SpoolRow
from .schema import UnknownSchemaVersion, require_content
from .write_ahead import LogFinder, WriteAheadLog, read_log

_SCAN_INTERVAL: Final = 60.0  # seconds between two scans for spools of ended processes, expired spans and a usable disk
_CREATION_GRACE: Final = 10.0  # seconds during which an empty file may belong to a process that has just created it
_CLOCK_TOLERANCE: Final = 60.0  # seconds by which a clock is set without anybody's notice
_MOST_OF_CHILDREN: Final = 500  # spools that are adopted from children of this process, which may be many at once
_MEASURE_INTERVAL: Final = 5.0  # seconds between two measurements of the other files


class SpoolDirectory:
    """The spools that this process sends from. Other threads may only use ``list_spools`` and the dead letters.

    Args:
        keeping: durability, folder and limits.
        sinks: descriptions of the destinations by kind, without credentials. Spools of ended processes with the same
            destinations are adopted.
        lost: counts dropped spans.
    """

    def __init__(self, keeping: SpoolSettings, sinks: Mapping[SinkKind, Mapping[str, Any]], lost: Counter[str]) -> None:
        self._keeping, self._sinks, self._lost = keeping, sinks, lost
        self._folder = _choose_folder(keeping)
        self._tag = _make_tag(sinks)
        self._overflow: Spool | None = None  # in memory: what no longer fits on disk, for those who take it
        self.letters = DeadLetters(self._folder)
        self.journal: WriteAheadLog | None = None
        self._looked = self._measured = monotonic()
        self._clock = time.time() - monotonic()
        self._others = 0
        self._adopted: tuple[Spool, ...] = ()
        self.expired_of_others = 0  # spans of other processes among the expired ones
        self._own = self._open_own_spool()
        if keeping.durability == "span" and self._own.path is not None:
            self.journal = WriteAheadLog(self._own.path)

    def _open_own_spool(self) -> Spool:
        """Create a spool on disk; if that fails, return one in memory and log a warning."""
        if self._folder is not None:
            try:
                own = create_spool(self._folder, self._tag)
                own.write_sinks(self._sinks)  # type: ignore[arg-type]  # a SinkKind is a string
            except (OSError, sqlite3.Error) as error:
                _warn_memory_only(self._folder, error)
            else:
                return own
        return Spool(None)

    @property
    def on_disk(self) -> bool:
        return self._own.path is not None

    @property
    def folder(self) -> Path | None:
        return self._folder

    def update_sinks(self) -> None:
        """Write the description of the sinks to the spool again, after they have changed."""
        with suppress(sqlite3.Error):
            self._own.write_sinks(self._sinks)  # type: ignore[arg-type]

    def list_spools(self) -> tuple[Spool, ...]:
        """Return the adopted spools, then those of this process."""
        own = (self._own,) if self._overflow is None else (self._own, self._overflow)
        return (*self._adopted, *own)

    def measure_ready(self, kind: SinkKind) -> tuple[int, float | None]:
        """Return the number of this process's spans that are ready for a sink, and when the oldest was stored."""
        found = []
        for spool in self.list_spools():
            with suppress(sqlite3.Error):
                found += [] if spool.inherited else [spool.measure_ready(kind)]
        return sum(count for count, _ in found), min((at for _, at in found if at is not None), default=None)

    def count_free_bytes(self) -> int:
        """Return the bytes that may still be stored.

        On disk the bound holds for all files with the same destinations. What waits for others does not count.
        """
        if not self.on_disk:
            return self._keeping.max_memory_bytes - self._own.count_used_bytes()
        if monotonic() - self._measured > _MEASURE_INTERVAL or not self._others:
            self._measured, self._others = monotonic(), self._count_bytes_of_others()
        return self._keeping.max_bytes - self._others - self._own.count_used_bytes()

    def count_free_memory(self) -> int:
        """Return the bytes that may still be stored in memory beside a full spool on disk."""
        if not self.on_disk:
            return 0
        used = 0 if self._overflow is None else self._overflow.count_used_bytes()
        return self._keeping.max_memory_bytes - used

    def _count_bytes_of_others(self) -> int:
        total = 1
        own = self._own.path.name if self._own.path else ""
        with suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                if not entry.name.startswith(own) and _read_tag(entry.name) == self._tag and entry.is_file():
                    with suppress(OSError):
                        total += entry.stat().st_size
        return total

    def add_spans(self, *what: Any) -> None:
        """Add spans as ``Spool.add_spans`` does. If the disk is full or gone, continue in memory."""
        try:
            self._own.add_spans(*what)
        except sqlite3.Error as error:
            if not self.on_disk:
                raise
            _warn_memory_only(self._folder, error)
            self._adopted = (*self._adopted, self._own)  # its spans can still be sent
            self._own, self.journal = Spool(None), None
            self._looked = monotonic()
            self._own.add_spans(*what)
        if self.journal is not None:
            with suppress(OSError, sqlite3.Error):
                self.journal.rotate_file()
                if before := self.journal.delete_old_files():
                    self._own.delete_log_positions(before)

    def add_to_memory(self, *what: Any) -> None:
        """Add spans as ``Spool.add_spans`` does, in memory beside the spool on disk."""
        if self._overflow is None:
            self._overflow = Spool(None)
        self._overflow.add_spans(*what)

    def drop_overflow(self) -> None:
        """Drop what is in memory beside a spool on disk, at the end of the process, and count it."""
        overflow, self._overflow = self._overflow, None
        if overflow is not None:
            self._lost["overflow"] += overflow.count_spans()
            overflow.close()

    def scan_directory(self, *, now: bool = False) -> None:
        """Adopt spools of ended processes, drop what is expired, close empty spools, and try a failed disk again.

        It runs at most once a minute unless *now*.
        """
        self._close_empty_spools()
        if self._folder is None or (not now and monotonic() - self._looked < _SCAN_INTERVAL):
            return
        self._looked = monotonic()
        self._follow_clock()
        for spool in self.list_spools():
            self._drop_expired(spool)
        delete_old_files_aside(self._folder, self._keeping)
        self._adopt_spools(MAX_OPEN_SPOOLS)
        if not self.on_disk and not now:
            self._return_to_disk()

    def _follow_clock(self) -> None:
        """Have spans keep their age if somebody has set the clock: nothing is older than it is for that."""
        set_by = time.time() - monotonic() - self._clock
        if abs(set_by) < _CLOCK_TOLERANCE:
            return
        self._clock += set_by
        for spool in self.list_spools():
            with suppress(sqlite3.Error):
                spool.move_times(set_by)

    def _adopt_spools(self, most: int, tag: str | None = None) -> bool:
        """Take over the spools of processes that have ended and sent to the same places, up to *most* in all.

        With a *tag*, only those whose names have it are looked at. Those beyond *most* wait until these are empty, and
        only what is too old in them is deleted.

        Returns:
            True if there is any.
        """
        if self._folder is None:
            return False
        mine = {spool.path for spool in self.list_spools()}
        before, logs = self._adopted, LogFinder(self._folder)
        for path in find_spools(self._folder):
            if path in mine or (tag is not None and _read_tag(path.name) != tag):
                continue
            has_room = len(self._adopted) < most
            if not (has_room or self._has_expired(path)):
                continue
            if (found := recover_spool(path, logs)) is None:
                continue
            try:
                sinks = found.read_sinks()
            except (sqlite3.DatabaseError, ValueError) as error:
                self.set_aside_damaged(found, error)
                continue
            if has_room and sinks == self._sinks:
                self._adopted = (found, *self._adopted)
            else:
                self._drop_expired(found)  # whoever it is for
                found.close()
        return self._adopted is not before

    def adopt_from_children(self) -> bool:
        """Take over what children of this process have left. Return True if there is any."""
        return self._adopt_spools(_MOST_OF_CHILDREN, self._tag)

    def _has_expired(self, path: Path) -> bool:
        """Return whether a spool has not been written to for so long that all in it is too old."""
        with suppress(OSError):
            return time.time() - path.stat().st_mtime > self._keeping.max_age
        return False

    def _drop_expired(self, spool: Spool) -> None:
        with suppress(sqlite3.Error):
            expired = spool.delete_older_than(time.time() - self._keeping.max_age)
            self._lost["expired"] += expired
            self.expired_of_others += expired if spool.inherited else 0

    def _return_to_disk(self) -> None:
        again = self._open_own_spool()
        if again.path is not None:
            log.warning("mlspan: traces are kept in %s again", self._folder)
            self._adopted = (*self._adopted, self._own)
        self._own = again if again.path is not None else self._own

    def _close_empty_spools(self) -> None:
        for spool in self._adopted:
            with suppress(sqlite3.Error):
                if not spool.count_spans():
                    self._adopted = tuple(one for one in self._adopted if one is not spool)
                    spool.close()

    def set_aside_damaged(self, spool: Spool, error: Exception) -> None:
        """Set aside a spool that can no longer be read, and replace it if it is our own."""
        self._overflow = None if spool is self._overflow else self._overflow
        if spool is self._own:
            self._own, self.journal = self._open_own_spool(), None
        self._adopted = tuple(one for one in self._adopted if one is not spool)
        path = spool.path
        with suppress(sqlite3.Error):
            spool._db.close()
        if path is not None:
            set_aside_spool(path, error)

    def close(self) -> int:
        """Close all spools; return the number of this process's spans that are left in them."""
        left = 0
        for spool in self.list_spools():
            with suppress(sqlite3.Error):
                left += 0 if spool.inherited else spool.count_spans()
            if spool is self._own and self.journal is not None:
                self.journal.close()
            spool.close()
        return left


def _make_tag(sinks: Mapping[SinkKind, Mapping[str, Any]]) -> str:
    """Return what the names of all spools have in common that are for the same destinations."""
    described = [(kind, sorted(map(str, where.items()))) for kind, where in sorted(sinks.items())]
    return hashlib.sha256(repr(described).encode()).hexdigest()[:8]


def _read_tag(name: str) -> str:
    """Return the tag in the name of a spool or a file beside it; empty if it has none."""
    stem, _, rest = name.partition(SPOOL_SUFFIX)
    return "" if rest.startswith(ASIDE_SUFFIX) else stem.rpartition("-")[2]


def has_left_spools(keeping: SpoolSettings, sinks: Mapping[SinkKind, Mapping[str, Any]]) -> bool:
    """Return True if there is a spool for these destinations, of this process or another."""
    folder = _choose_folder(keeping)
    return folder is not None and any(_read_tag(path.name) == _make_tag(sinks) for path in find_spools(folder))


def create_spool(folder: Path, tag: str = "") -> Spool:
    """Create a spool in *folder* that only this user can read. Raise OSError and sqlite3.Error.

    *tag* tells what its destinations are, see :meth:`SpoolDirectory.count_free_bytes`.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    require_own(folder)
    path = folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}-{tag}{SPOOL_SUFFIX}"
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # SQLite gives its other files the same mode
    return Spool(path)


def find_spools(folder: Path) -> Iterator[Path]:
    """Yield the paths of all spools in *folder*, except those being created. Their owners may be running."""
    for path in sorted(folder.glob(f"*{SPOOL_SUFFIX}")):
        with suppress(FileNotFoundError):
            stat = path.stat()
            try:
                require_own(path)
            except PermissionError as error:
                warn_once("mlspan: %s: it is not sent", error, place=path)
                continue
            if stat.st_size or time.time() - stat.st_mtime > _CREATION_GRACE:
                yield path


def recover_spool(path: Path, logs: LogFinder) -> Spool | None:
    """Open the spool of an ended process for sending. Return None if its owner is running or it was set aside.

    *logs* finds its write-ahead log; who opens many spools of a folder has one for all.
    """
    try:
        require_content(path)
        spool = Spool(path)
    except FileNotFoundError:  # another process has sent it meanwhile
        return None
    except sqlite3.OperationalError as error:
        if path.exists() and "locked" not in str(error):
            warn_once("mlspan: cannot open the spool %s: %s", path, error, place=path)
        return None
    except (sqlite3.DatabaseError, UnknownSchemaVersion) as error:
        set_aside_spool(path, error)
        return None
    try:
        spool.logs = logs.find_logs(path)
        _recover_log(spool, spool.logs)
        spool.release_open_segments()
        spool.inherited = True
    except sqlite3.DatabaseError as error:
        spool.close()
        if not isinstance(error, sqlite3.OperationalError):
            set_aside_spool(path, error)
        return None
    return spool


def _recover_log(spool: Spool, logs: Iterable[Path]) -> None:
    """Store the spans that the files of the write-ahead log hold and the spool does not."""
    seen, growing = spool.read_log_positions(), spool.find_open_segments()
    bits = sum(SINK_BITS.get(kind, 0) for kind in spool.read_sinks())  # type: ignore[call-overload]  # any text
    number = spool.next_segment_number()
    fresh: list[SpoolRow] = []
    opened: dict[int, OpenSegment] = {}
    for place, origin, encoded in (record for one in logs for record in read_log(one)):
        if place in seen:
            continue
        seen.add(place)
        span = decode_span(encoded)
        trace, span_id, genai = _trace_id_hex(span), span.get_span_context().span_id, is_genai(span)  # type: ignore[union-attr]
        if trace not in growing:
            growing[trace], number = number, number + 1
            opened[growing[trace]] = OpenSegment(growing[trace], origin, span_id, genai)
        elif (known := opened.get(growing[trace])) is not None:
            root = span_id if span.parent is None or span.parent.is_remote else known.root_id
            opened[known.number] = OpenSegment(known.number, origin, root, known.has_genai or genai)
        elif genai:
            spool.mark_genai(growing[trace])
        fresh.append(SpoolRow(encoded, bits, growing[trace], trace, place))
    if fresh:
        spool.add_spans(fresh, (), list(opened.values()))


def _trace_id_hex(span: ReadableSpan) -> str:
    """Return the trace id as 32 hexadecimal digits."""
    context = span.get_span_context()
    return f"{context.trace_id:032x}" if context else ""


def _choose_folder(keeping: SpoolSettings) -> Path | None:
    """Return the folder of the spools; None if spans are kept in memory."""
    if keeping.durability == "none":
        return None
    folder = None
    try:
        folder = keeping.folder or default_folder()
        require_own(folder)
    except (RuntimeError, OSError) as error:
        _warn_memory_only(folder, error)
        return None
    return folder


def _warn_memory_only(folder: Path | None, error: Exception) -> None:
    where = f"in {folder}" if folder else "on disk"
    line = "mlspan: traces cannot be kept %s (%s): until they are sent they are in memory only"
    warn_once(line, where, error, place=where)
