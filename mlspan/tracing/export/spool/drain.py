"""The drain: it sends what ended processes have left in their spools, from any process."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..sending.batch import BatchSender
from ..types import BackendUnavailable, Refusal, Sink, SinkKind, TraceSegment
from .dead_letters import DeadLetters
from .directory import find_spools, recover_spool, set_aside_spool
from .limits import SpoolSettings, default_folder
from .queue import Spool

_RETRY_INTERVAL = 2.0  # seconds between two tries of an unavailable backend


@dataclass(frozen=True, slots=True)
class DrainResult:
    """The result of a drain so far. Counts are of spans, each counted once per backend."""

    sent: int = 0
    refused: int = 0  # now dead letters, which `dead()` returns
    expired: int = 0  # deleted, as they were older than the age limit
    stay: int = 0  # still in the folder, for the reasons below
    in_use: int = 0  # spools of running processes, which send them themselves
    reasons: Mapping[str, int] = field(default_factory=dict)  # why spans were refused or stay, and how many


@dataclass(slots=True)
class _DrainJob:
    """One spool and one of the sinks that its spans are meant for."""

    spool: Spool
    delivery: BatchSender
    sink: Sink
    away: str = ""


def drain_folder(
    keeping: SpoolSettings,
    open_sink: Callable[[SinkKind, Mapping[str, Any]], Sink],
    timeout: float,
    progress: Callable[[DrainResult], object] | None,
) -> DrainResult:
    """Send from every spool whose process has ended, and return the result.

    Args:
        keeping: the folder and its limits.
        open_sink: makes a sink from the kind and the description in a spool.
        timeout: seconds during which an unavailable backend is tried again; 0: each is tried once.
        progress: called after each batch with the result so far.
    """
    folder = keeping.folder or default_folder()
    sent: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    spools, in_use = [], 0
    for path in find_spools(folder):
        if (spool := recover_spool(path)) is not None:
            lost["expired"] += spool.delete_older_than(time.time() - keeping.max_age)
            spools.append(spool)
        else:
            in_use += path.exists()
    jobs = [
        # The spool names valid kinds.
        _DrainJob(spool, BatchSender(kind, sink, DeadLetters(folder), sent, lost), sink)  # type: ignore[arg-type]
        for spool in spools
        for kind, where in spool.read_sinks().items()
        for sink in [open_sink(kind, where)]  # type: ignore[arg-type]
    ]

    def count_so_far() -> DrainResult:
        reasons: Counter[str] = Counter()
        for job in jobs:
            reasons.update(job.delivery.reasons)
            if job.away:
                reasons[job.away] += job.spool.count_spans()
        stay = sum(spool.count_spans() for spool in spools)
        return DrainResult(sent.total(), lost["refused"], lost["expired"], stay, in_use, dict(reasons))

    def report_progress() -> None:
        if progress is not None:
            progress(count_so_far())

    until = time.monotonic() + timeout
    unfinished = list(jobs)
    while unfinished:
        unfinished = [job for job in unfinished if not _send_job(job, report_progress)]
        if not unfinished or time.monotonic() >= until:
            break
        time.sleep(min(_RETRY_INTERVAL, max(until - time.monotonic(), 0)))
    done = count_so_far()
    for job in jobs:
        job.sink.close()
    for spool in spools:
        spool.close()
    return done


def _send_job(job: _DrainJob, progress: Callable[[], object]) -> bool:
    """Send all batches of a job. Return False if the backend is unavailable and the job has to be tried again."""
    job.away = ""
    try:
        while job.delivery.send_next_batch(job.spool):
            progress()
    except BackendUnavailable as away:
        job.away = away.reason
        return False
    except sqlite3.DatabaseError as error:
        if job.spool.path is not None and not isinstance(error, sqlite3.OperationalError):
            set_aside_spool(job.spool.path, error)
    return True


class RedirectingSink:
    """A sink that sends every trace segment to another tracking server or database than its origin names."""

    def __init__(self, sink: Sink, tracking_uri: str) -> None:
        self._sink, self._uri = sink, tracking_uri
        self.exit_grace, self.local, self.at_once = sink.exit_grace, sink.local, sink.at_once
        self.executor = sink.executor

    def prepare(self) -> None:
        self._sink.prepare()

    def send(self, parcels: Sequence[TraceSegment]) -> list[Refusal]:
        sent = [replace(parcel, origin=replace(parcel.origin, tracking_uri=self._uri)) for parcel in parcels]
        meant = {id(new): old for new, old in zip(sent, parcels, strict=True)}
        return [replace(refusal, item=meant[id(refusal.item)]) for refusal in self._sink.send(sent)]

    def close(self) -> None:
        self._sink.close()
