"""The result of a flush: what has become of this process's spans at each destination."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .types import SinkKind

_MAX_REASONS: Final = 100  # reasons told apart; a server may put a number of its own into each
_OTHER_REASONS: Final = "other reasons"
IN_MEMORY_NAME: Final = "memory"  # where spans are that are on no disk
NO_ANSWER: Final = "no answer yet"
DROP_REASONS: Final = {  # by the name that the metrics have
    "overflow": "more came than may be kept",
    "failed": "an error of mlspan's own, see the log",
    "expired": "older than spool_age",
    "unfit": "cannot be encoded",
}


@dataclass(frozen=True, slots=True)
class KeptSpans:
    """Spans that wait to be sent."""

    spans: int
    where: str  # a folder, or "memory"
    reason: str  # why they are not sent yet, as one line
    since: float | None = None  # when the oldest was stored, in seconds since 1970; None if it is not stored yet

    def __str__(self) -> str:
        since = "" if self.since is None else time.strftime(" since %Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"{self.spans} kept in {self.where}{since} ({self.reason})"


@dataclass(frozen=True, slots=True)
class DestinationResult:
    """Counts of the spans that a destination has and has not taken since the last flush; true if it has taken all."""

    destination: str  # such as "mlflow http://127.0.0.1:5000", without credentials
    stored: int = 0  # spans that it has taken
    kept: KeptSpans | None = None  # what waits for it
    set_aside: Mapping[str, int] = field(default_factory=dict)  # spans that it refuses, by reason; see dead()
    dropped: Mapping[str, int] = field(default_factory=dict)  # spans that are lost, by reason

    def __bool__(self) -> bool:
        return not (self.kept or self.set_aside or self.dropped)

    def __str__(self) -> str:
        parts = [f"{self.stored} stored"]
        parts += [] if self.kept is None else [str(self.kept)]
        for what, reasons in (("set aside", self.set_aside), ("dropped", self.dropped)):
            parts += [f"{count} {what} ({reason})" for reason, count in reasons.items()]
        return f"{self.destination}: {', '.join(parts)}"


@dataclass(frozen=True, slots=True)
class FlushResult:
    """The result of a flush: this process's spans since the last one, by destination; true only if all are stored."""

    destinations: tuple[DestinationResult, ...] = ()
    in_time: bool = True  # False if some destination has not answered within the timeout

    @classmethod
    def combine(cls, results: Iterable[DestinationResult], *, in_time: bool) -> FlushResult:
        """Return the result of several exporters, with those of one destination added up."""
        found: dict[str, DestinationResult] = {}
        for one in results:
            found[one.destination] = _add_results(found[one.destination], one) if one.destination in found else one
        return cls(tuple(found.values()), in_time)

    def __bool__(self) -> bool:
        return self.in_time and all(self.destinations)

    @property
    def stored(self) -> int:
        """Return how many spans were taken, each counted once for each destination. So are the others."""
        return sum(one.stored for one in self.destinations)

    @property
    def kept(self) -> int:
        return sum(one.kept.spans for one in self.destinations if one.kept is not None)

    @property
    def set_aside(self) -> int:
        return sum(sum(one.set_aside.values()) for one in self.destinations)

    @property
    def dropped(self) -> int:
        return sum(sum(one.dropped.values()) for one in self.destinations)

    def __str__(self) -> str:
        return "\n".join(map(str, self.destinations)) or "nothing to send"


def _add_results(one: DestinationResult, other: DestinationResult) -> DestinationResult:
    kept = one.kept or other.kept
    if one.kept is not None and other.kept is not None:
        since = [time for time in (one.kept.since, other.kept.since) if time is not None]
        spans, first = one.kept.spans + other.kept.spans, min(since, default=None)
        kept = KeptSpans(spans, one.kept.where, one.kept.reason, first)
    set_aside = dict(Counter(one.set_aside) + Counter(other.set_aside))
    dropped = dict(Counter(one.dropped) + Counter(other.dropped))
    return DestinationResult(one.destination, one.stored + other.stored, kept, set_aside, dropped)


class DeliveryTally:
    """Counts of what has become of this process's spans at one destination, until they are told. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stored = 0
        self._set_aside: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()

    def add_stored(self, spans: int) -> None:
        with self._lock:
            self._stored += spans

    def add_set_aside(self, reason: str, spans: int) -> None:
        with self._lock:
            count_reason(self._set_aside, reason, spans)

    def add_dropped(self, reason: str, spans: int) -> None:
        with self._lock:
            count_reason(self._dropped, reason, spans)

    def take_result(self, destination: str, kept: KeptSpans | None) -> DestinationResult:
        """Return the counts and begin anew."""
        with self._lock:
            result = DestinationResult(destination, self._stored, kept, dict(self._set_aside), dict(self._dropped))
            self._stored = 0
            self._set_aside.clear()
            self._dropped.clear()
        return result

    @property
    def has_losses(self) -> bool:
        """Return whether there is something to tell that is no success."""
        return bool(self._set_aside or self._dropped)


def count_reason(counts: Counter[str], reason: str, spans: int) -> None:
    """Add *spans* to those of *reason*, or to those of other reasons where there are many already."""
    counts[reason if reason in counts or len(counts) < _MAX_REASONS else _OTHER_REASONS] += spans


def name_destination(kind: SinkKind, where: Mapping[str, Any]) -> str:
    """Return the name of a destination from the description that a spool has of it."""
    address = where.get("tracking_uri") or where.get("endpoint") or ""
    return f"{kind} {address}".rstrip()
