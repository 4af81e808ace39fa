"""The drain: it sends what ended processes have left in their spools, from any process."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..sending.batch import Delivery
from ..types import Away, Kind, Parcel, Refused, Sink
from .dead_letters import Letters
from .directory import left_behind, recover, set_aside
from .limits import Keeping, default_folder
from .queue import Spool

_BETWEEN = 2.0  # seconds between two tries of an unavailable backend


@dataclass(frozen=True, slots=True)
class Drained:
    """The result of a drain so far. Counts are of spans, each counted once per backend."""

    sent: int = 0
    refused: int = 0  # now dead letters, which `dead()` returns
    expired: int = 0  # deleted, as they were older than the age limit
    stay: int = 0  # still in the folder, for the reasons below
    in_use: int = 0  # spools of running processes, which send them themselves
    reasons: Mapping[str, int] = field(default_factory=dict)  # why spans were refused or stay, and how many


@dataclass(slots=True)
class _Job:
    """One spool and one of the sinks that its spans are meant for."""

    spool: Spool
    delivery: Delivery
    sink: Sink
    away: str = ""


def drain(
    keeping: Keeping,
    open_sink: Callable[[Kind, Mapping[str, Any]], Sink],
    timeout: float,
    progress: Callable[[Drained], object] | None,
) -> Drained:
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
    for path in left_behind(folder):
        if (spool := recover(path)) is not None:
            lost["expired"] += spool.expire(time.time() - keeping.most_age)
            spools.append(spool)
        else:
            in_use += path.exists()
    jobs = [
        _Job(spool, Delivery(kind, sink, Letters(folder), sent, lost), sink)  # type: ignore[arg-type]  # the spool names valid kinds
        for spool in spools
        for kind, where in spool.described().items()
        for sink in [open_sink(kind, where)]  # type: ignore[arg-type]
    ]

    def count_so_far() -> Drained:
        reasons: Counter[str] = Counter()
        for job in jobs:
            reasons.update(job.delivery.reasons)
            if job.away:
                reasons[job.away] += job.spool.spans()
        stay = sum(spool.spans() for spool in spools)
        return Drained(sent.total(), lost["refused"], lost["expired"], stay, in_use, dict(reasons))

    def report_progress() -> None:
        if progress is not None:
            progress(count_so_far())

    until = time.monotonic() + timeout
    unfinished = list(jobs)
    while unfinished:
        unfinished = [job for job in unfinished if not _done(job, report_progress)]
        if not unfinished or time.monotonic() >= until:
            break
        time.sleep(min(_BETWEEN, max(until - time.monotonic(), 0)))
    done = count_so_far()
    for job in jobs:
        job.sink.close()
    for spool in spools:
        spool.close()
    return done


def _done(job: _Job, progress: Callable[[], object]) -> bool:
    """Send all batches of a job. Return False if the backend is unavailable and the job has to be tried again."""
    job.away = ""
    try:
        while job.delivery.step(job.spool):
            progress()
    except Away as away:
        job.away = away.reason
        return False
    except sqlite3.DatabaseError as error:
        if job.spool.path is not None and not isinstance(error, sqlite3.OperationalError):
            set_aside(job.spool.path, error)
    return True


class Redirected:
    """A sink that sends every trace segment to another tracking server or database than its origin names."""

    def __init__(self, sink: Sink, tracking_uri: str) -> None:
        self._sink, self._uri = sink, tracking_uri
        self.exit_grace, self.local, self.at_once = sink.exit_grace, sink.local, sink.at_once

    def prepare(self) -> None:
        self._sink.prepare()

    def send(self, parcels: Sequence[Parcel]) -> list[Refused]:
        sent = [replace(parcel, origin=replace(parcel.origin, tracking_uri=self._uri)) for parcel in parcels]
        meant = {id(new): old for new, old in zip(sent, parcels, strict=True)}
        return [replace(refusal, parcel=meant[id(refusal.parcel)]) for refusal in self._sink.send(sent)]

    def close(self) -> None:
        self._sink.close()
