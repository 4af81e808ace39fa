"""The drain: it sends what ended processes have left in their spools, from any process."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from ..sending.batch import BatchSender
from ..sending.sender import choose_wait
from ..types import BackendUnavailable, Refusal, Sink, SinkKind, TraceSegment
from .damaged import delete_old_files_aside, is_set_aside, set_aside_spool
from .dead_letters import DeadLetters
from .directory import find_spools, recover_spool
from .limits import MAX_OPEN_SPOOLS, SpoolSettings, default_folder, require_own
from .queue import Spool
from .write_ahead import LogFinder


@dataclass(frozen=True, slots=True)
class DrainResult:
    """The result of a drain so far. Counts are of spans, each counted once per backend."""

    sent: int = 0
    refused: int = 0  # now dead letters, which `dead()` returns
    expired: int = 0  # deleted, as they were older than the age limit
    stay: int = 0  # still in the folder, for the reasons below
    in_use: int = 0  # spools of running processes, which send them themselves
    damaged: int = 0  # files that cannot be read, and were set aside: a warning has named each
    reasons: Mapping[str, int] = field(default_factory=dict)  # why spans were refused or stay, and how many


@dataclass(slots=True)
class _Destination:
    """A destination that some spools name, and what sends to it."""

    sink: Sink
    delivery: BatchSender
    report_damage: Callable[[Spool, Exception], object]
    spools: list[Spool] = field(default_factory=list)
    away: BackendUnavailable | None = None
    failures: int = 0
    left: int = 0  # spans in spools that were closed again, as it was unavailable

    def send_spools(self, report: Callable[[Spool], object]) -> None:
        """Send from every spool, unless the destination is unavailable."""
        if self.away is not None:
            return

        def note_passed() -> None:
            self.failures = 0
            report(spool)

        for spool in list(self.spools):
            try:
                self.delivery.send_spool(spool, failures=self.failures, passed=note_passed)
            except BackendUnavailable as away:
                self.away = away
                self.failures += 1
                return
            except sqlite3.DatabaseError as error:
                self.report_damage(spool, error)

    def forget_spools(self, counts: Mapping[Spool, int]) -> None:
        """Note how many spans stay in the spools, which are closed now."""
        if self.away is not None:
            self.left += sum(counts[spool] for spool in self.spools)
        self.spools = []


class _Drain:
    """One drain of a folder, by groups of files: each open one has descriptors and memory."""

    def __init__(self, keeping: SpoolSettings, open_sink: Callable[[SinkKind, Mapping[str, Any]], Sink]) -> None:
        self._folder = keeping.folder or default_folder()
        require_own(self._folder)
        self._keeping, self._open_sink = keeping, open_sink
        self._sent: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._expired = 0
        self._in_use = 0
        self._damaged = 0
        self._left = 0  # spans in files that were closed again
        self._waiting: dict[Spool, int] = {}  # spans in each open file, when it was last counted
        self._destinations: dict[tuple[str, str], _Destination] = {}
        self._logs = LogFinder(self._folder)
        delete_old_files_aside(self._folder, keeping)

    def _open_spools(self, paths: Iterable[Path]) -> None:
        """Open those of the spools whose processes have ended."""
        for path in paths:
            if (spool := recover_spool(path, self._logs)) is None:
                if path.exists():
                    self._in_use += 1
                else:
                    self._damaged += is_set_aside(path)
                continue
            self._waiting[spool] = 0
            try:
                self._expired += spool.delete_older_than(time.time() - self._keeping.max_age)
                sinks = spool.read_sinks()
                self._waiting[spool] = spool.count_spans()
            except (sqlite3.DatabaseError, ValueError) as error:
                self._drop_damaged(spool, error)
                continue
            self._add_spool(spool, sinks)

    def _add_spool(self, spool: Spool, sinks: Mapping[str, Mapping[str, Any]]) -> None:
        """Add a spool to the destinations that it names."""
        for kind, where in sinks.items():
            key = kind, repr(sorted(where.items()))
            if key not in self._destinations:
                sink = self._open_sink(kind, where)  # type: ignore[arg-type]  # the spool names valid kinds
                letters = DeadLetters(self._folder)
                sender = BatchSender(kind, sink, letters, self._sent, self._refused)  # type: ignore[arg-type]
                self._destinations[key] = _Destination(sink, sender, self._drop_damaged)
            self._destinations[key].spools.append(spool)

    def _drop_damaged(self, spool: Spool, error: Exception) -> None:
        """Set a damaged spool aside, and forget it."""
        if spool.path is None or isinstance(error, sqlite3.OperationalError):
            return
        set_aside_spool(spool.path, error)
        self._damaged += is_set_aside(spool.path)
        del self._waiting[spool]
        for one in self._destinations.values():
            one.spools = [other for other in one.spools if other is not spool]
        with suppress(sqlite3.Error):
            spool.close()

    def run(self, timeout: float, progress: Callable[[DrainResult], object] | None) -> DrainResult:
        """Send until all is sent or the time is over, and return the result."""
        reporting = threading.Lock()

        def report(spool: Spool) -> None:
            if progress is not None:
                with reporting:
                    self._waiting[spool] = self._count_waiting(spool)
                    progress(self._count_so_far())

        until = time.monotonic() + timeout
        while True:
            self._try_each_file(report)
            away = [one for one in self._destinations.values() if one.away is not None]
            if not away or (left := until - time.monotonic()) <= 0:
                return self._count_so_far()
            waits = [choose_wait(one.failures, one.away.retry_after if one.away else None) for one in away]
            time.sleep(min([*waits, left]))

    def _try_each_file(self, report: Callable[[Spool], object]) -> None:
        """Send from each file once, without waiting: another destination's may be the next ones."""
        self._in_use = self._left = 0
        for one in self._destinations.values():
            one.away, one.left = None, 0
        paths = find_spools(self._folder)
        while some := list(islice(paths, MAX_OPEN_SPOOLS)):
            self._open_spools(some)
            for one in self._destinations.values():
                one.send_spools(report)
            self._close_spools()

    def _close_spools(self) -> None:
        """Count what stays in the open spools, and close them."""
        counts = {spool: self._count_waiting(spool) for spool in self._waiting}
        for one in self._destinations.values():
            one.forget_spools(counts)
        self._left += sum(counts.values())
        self._waiting = {}
        for spool in counts:
            spool.close()

    def _count_waiting(self, spool: Spool) -> int:
        """Return the spans in a spool; what they were before if it can no longer be read."""
        with suppress(sqlite3.Error):
            return spool.count_spans()
        return self._waiting[spool]

    def _count_so_far(self) -> DrainResult:
        reasons: Counter[str] = Counter()
        for one in self._destinations.values():
            reasons.update(one.delivery.refusals.reasons)
            if one.away is not None:
                reasons[one.away.reason] += one.left + sum(self._waiting[spool] for spool in one.spools)
        stay = self._left + sum(self._waiting.values())
        sent, refused = self._sent.total(), self._refused.total()
        return DrainResult(sent, refused, self._expired, stay, self._in_use, self._damaged, dict(reasons))

    def close(self) -> None:
        for one in self._destinations.values():
            one.sink.close()
        for spool in self._waiting:
            spool.close()


def drain_folder(
    keeping: SpoolSettings,
    open_sink: Callable[[SinkKind, Mapping[str, Any]], Sink],
    timeout: float,
    progress: Callable[[DrainResult], object] | None,
) -> DrainResult:
    """Send from every spool whose process has ended, and return the result.

    Raise PermissionError if the folder belongs to another user.

    Args:
        keeping: the folder and its limits.
        open_sink: makes a sink from the kind and the description in a spool.
        timeout: seconds during which an unavailable backend is tried again; 0: each is tried once.
        progress: called after each batch with the result so far, of the files that were opened until then.
    """
    drain = _Drain(keeping, open_sink)
    try:
        return drain.run(timeout, progress)
    finally:
        drain.close()


class RedirectingSink:
    """A sink that sends every trace segment to another tracking server or database than its origin names."""

    def __init__(self, sink: Sink, tracking_uri: str) -> None:
        self._sink, self._uri = sink, tracking_uri
        self.exit_grace, self.local, self.at_once = sink.exit_grace, sink.local, sink.at_once
        self.executor = sink.executor

    def prepare(self) -> None:
        self._sink.prepare()

    def send(self, segments: Sequence[TraceSegment]) -> list[Refusal]:
        sent = [segment._replace(origin=replace(segment.origin, tracking_uri=self._uri)) for segment in segments]
        meant = {id(new): old for new, old in zip(sent, segments, strict=True)}
        return [replace(refusal, item=meant[id(refusal.item)]) for refusal in self._sink.send(sent)]

    def close(self) -> None:
        self._sink.close()
