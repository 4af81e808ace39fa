"""The spool directory: the spool of this process, spools of ended processes, and damaged files that were set aside."""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan

from ...._guard import log, tell_once
from ...operations.call_context import Origin
from ..otlp.codec import unpack
from ..trace_assembler import is_genai
from ..types import Kind
from .dead_letters import Letters
from .limits import Keeping, default_folder
from .queue import BITS, Fresh, Spool
from .schema import SUFFIX, Foreign
from .write_ahead import Journal, journals, read

ASIDE: Final = ".aside"
_LOOK: Final = 60.0  # seconds between two scans for spools of ended processes, expired spans and a usable disk
_NEW: Final = 10.0  # seconds during which an empty file may belong to a process that has just created it
_MEASURE: Final = 5.0  # seconds between two measurements of the other files


class Shelf:
    """The spools that this process sends from. Other threads may only use ``list_spools`` and the dead letters.

    Args:
        keeping: durability, folder and limits.
        sinks: descriptions of the destinations by kind, without credentials. Spools of ended processes with the same
            destinations are adopted.
        lost: counts dropped spans.
    """

    def __init__(self, keeping: Keeping, sinks: Mapping[Kind, Mapping[str, Any]], lost: Counter[str]) -> None:
        self._keeping, self._sinks, self._lost = keeping, sinks, lost
        self._folder = _folder(keeping)
        self.letters = Letters(self._folder)
        self.journal: Journal | None = None
        self._looked = self._measured = monotonic()
        self._others = 0
        self._adopted: tuple[Spool, ...] = ()
        self._own = self._open()
        if keeping.durability == "span" and self._own.path is not None:
            self.journal = Journal(self._own.path)

    def _open(self) -> Spool:
        """Create a spool on disk; if that fails, return one in memory and log a warning."""
        if self._folder is not None:
            try:
                own = create(self._folder)
                own.describe(self._sinks)  # type: ignore[arg-type]  # a SinkKind is a string
            except (OSError, sqlite3.Error) as error:
                _fell_back(self._folder, error)
            else:
                return own
        return Spool(None)

    @property
    def on_disk(self) -> bool:
        return self._own.path is not None

    @property
    def folder(self) -> Path | None:
        return self._folder

    def describe(self) -> None:
        """Write the description of the sinks to the spool again, after they have changed."""
        with suppress(sqlite3.Error):
            self._own.describe(self._sinks)  # type: ignore[arg-type]

    def spools(self) -> tuple[Spool, ...]:
        """Return the adopted spools, then the spool of this process."""
        return (*self._adopted, self._own)

    def room(self) -> int:
        """Return the bytes that may still be stored."""
        if not self.on_disk:
            return self._keeping.most_memory - self._own.used()
        if monotonic() - self._measured > _MEASURE or not self._others:
            self._measured, self._others = monotonic(), self._bytes_of_others()
        return self._keeping.most_bytes - self._others - self._own.used()

    def _bytes_of_others(self) -> int:
        total = 1
        own = self._own.path.name if self._own.path else ""
        with suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                if not entry.name.startswith(own) and entry.is_file():
                    with suppress(OSError):
                        total += entry.stat().st_size
        return total

    def add(self, *what: Any) -> None:
        """Add spans as ``Spool.add_spans`` does. If the disk is full or gone, continue in memory."""
        try:
            self._own.add(*what)
        except sqlite3.Error as error:
            if not self.on_disk:
                raise
            _fell_back(self._folder, error)
            self._adopted = (*self._adopted, self._own)  # its spans can still be sent
            self._own, self.journal = Spool(None), None
            self._looked = monotonic()
            self._own.add(*what)
        if self.journal is not None:
            with suppress(OSError, sqlite3.Error):
                self.journal.rotate()
                if before := self.journal.retire():
                    self._own.forget_seen(before)

    def look_around(self, *, now: bool = False) -> None:
        """Adopt spools of ended processes, drop expired spans, close empty spools, and try a failed disk again.

        It runs at most once a minute unless *now*.
        """
        self._let_go()
        if self._folder is None or (not now and monotonic() - self._looked < _LOOK):
            return
        self._looked = monotonic()
        for spool in self.spools():
            with suppress(sqlite3.Error):
                self._lost["expired"] += spool.expire(time.time() - self._keeping.most_age)
        mine = {spool.path for spool in self.spools()}
        for path in left_behind(self._folder):
            found = recover(path) if path not in mine else None
            if found is not None and found.described() == self._sinks:
                self._adopted = (found, *self._adopted)
            elif found is not None:
                found.close()
        if not self.on_disk and not now:
            self._return_to_disk()

    def _return_to_disk(self) -> None:
        again = self._open()
        if again.path is not None:
            log.warning("mlspan: traces are kept in %s again", self._folder)
            self._adopted = (*self._adopted, self._own)
        self._own = again if again.path is not None else self._own

    def _let_go(self) -> None:
        for spool in self._adopted:
            with suppress(sqlite3.Error):
                if not spool.spans():
                    self._adopted = tuple(one for one in self._adopted if one is not spool)
                    spool.close()

    def damaged(self, spool: Spool, error: Exception) -> None:
        """Set aside a spool that can no longer be read, and replace it if it is our own."""
        if spool is self._own:
            self._own, self.journal = self._open(), None
        self._adopted = tuple(one for one in self._adopted if one is not spool)
        path = spool.path
        with suppress(sqlite3.Error):
            spool._db.close()
        if path is not None:
            set_aside(path, error)

    def close(self) -> int:
        """Close all spools; return the number of spans left in them."""
        left = 0
        for spool in self.spools():
            with suppress(sqlite3.Error):
                left += spool.spans()
            if spool is self._own and self.journal is not None:
                self.journal.close()
            spool.close()
        return left


def create(folder: Path) -> Spool:
    """Create a spool in *folder* that only this user can read. Raise OSError and sqlite3.Error."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}{SUFFIX}"
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # SQLite gives its other files the same mode
    return Spool(path)


def left_behind(folder: Path) -> Iterator[Path]:
    """Yield the paths of all spools in *folder*, except those being created. Their owners may be running."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with suppress(OSError):
            stat = path.stat()
            if stat.st_size or time.time() - stat.st_mtime > _NEW:
                yield path


def recover(path: Path) -> Spool | None:
    """Open the spool of an ended process for sending. Return None if its owner is running or it was set aside."""
    try:
        spool = Spool(path)
    except sqlite3.OperationalError as error:
        if path.exists() and "locked" not in str(error):
            tell_once("mlspan: cannot open the spool %s: %s", path, error)
        return None
    except (sqlite3.DatabaseError, Foreign) as error:
        set_aside(path, error)
        return None
    try:
        _take_over_journal(spool, path)
        spool.finish_open()
        spool.inherited = True
    except sqlite3.DatabaseError as error:
        spool.close()
        if not isinstance(error, sqlite3.OperationalError):
            set_aside(path, error)
        return None
    return spool


def _take_over_journal(spool: Spool, path: Path) -> None:
    """Store the spans that the write-ahead log holds and the spool does not."""
    seen, growing, bits = spool.seen(), spool.open_parcels(), sum(BITS.get(kind, 0) for kind in spool.described())  # type: ignore[call-overload]
    number = spool.new_number()
    fresh: list[Fresh] = []
    opened: dict[int, tuple[int, Origin, int, bool]] = {}
    for place, origin, packed in (record for one in journals(path) for record in read(one)):
        if place in seen:
            continue
        seen.add(place)
        span = unpack(packed)
        trace, span_id, genai = _ids(span), span.get_span_context().span_id, is_genai(span)  # type: ignore[union-attr]
        if trace not in growing:
            growing[trace], number = number, number + 1
            opened[growing[trace]] = (growing[trace], origin, span_id, genai)
        elif (known := opened.get(growing[trace])) is not None:
            root = span_id if span.parent is None or span.parent.is_remote else known[2]
            opened[known[0]] = (known[0], origin, root, known[3] or genai)
        elif genai:
            spool.mark_genai(growing[trace])
        fresh.append(Fresh(packed, bits, growing[trace], trace, place))
    if fresh:
        spool.add(fresh, (), list(opened.values()))


def _ids(span: ReadableSpan) -> str:
    """Return the trace id as 32 hexadecimal digits."""
    context = span.get_span_context()
    return f"{context.trace_id:032x}" if context else ""


def set_aside(path: Path, error: Exception) -> None:
    """Rename a damaged spool, so that a person can look at it, and log a warning."""
    aside = path.with_name(path.name + ASIDE)
    with suppress(OSError):
        for extra in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + extra).rename(aside.with_name(aside.name + extra))
        path.rename(aside)
        log.warning("mlspan: the spool %s cannot be read (%s): set aside as %s", path, error, aside.name)


def _folder(keeping: Keeping) -> Path | None:
    """Return the folder of the spools; None if spans are kept in memory."""
    if keeping.durability == "none":
        return None
    try:
        return keeping.folder or default_folder()
    except RuntimeError as error:
        _fell_back(None, error)
        return None


def _fell_back(folder: Path | None, error: Exception) -> None:
    where = f"in {folder}" if folder else "on disk"
    tell_once("mlspan: traces cannot be kept %s (%s): until they are sent they are in memory only", where, error)


def aside(folder: Path) -> Sequence[Path]:
    """Return the damaged spools in *folder* that were set aside."""
    return sorted(folder.glob(f"*{SUFFIX}{ASIDE}"))
