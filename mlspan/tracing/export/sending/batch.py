"""The batch sender: it sends one batch from a spool, deletes what the sink has taken, and isolates poison items.

A *poison item* is one that the backend can never take and that makes its whole batch fail.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final

from ...._guard import guard, tell_once
from ..fork_safety import IMPORTS, STORING
from ..spool.dead_letters import Letters
from ..spool.queue import Batch, Spool
from ..types import Away, Kind, Packed, Parcel, Refused, Sink

_MOST: Final[dict[Kind, int]] = {"mlflow": 400, "otlp": 512}  # items in one call of the sink
# gRPC receivers take 4 MiB by default.
_MOST_BYTES: Final[dict[Kind, int]] = {"mlflow": 16 * 1024 * 1024, "otlp": 3 * 1024 * 1024}


@dataclass(frozen=True, slots=True)
class Taken:
    """A batch that is being sent."""

    batch: Batch
    after: int  # the spool id after which the batch begins
    traces: set[int]


class Delivery:
    """Sends the contents of a spool to a sink, batch by batch.

    Args:
        kind: the kind of the sink.
        sink: the destination.
        letters: stores items that no backend will ever take.
        sent: counts the spans that were taken, by kind.
        lost: counts the spans that were lost, by reason.
    """

    def __init__(self, kind: Kind, sink: Sink, letters: Letters, sent: Counter[str], lost: Counter[str]) -> None:
        self._kind, self._sink, self._letters, self._sent, self._lost = kind, sink, letters, sent, lost
        self._after: weakref.WeakKeyDictionary[Spool, int] = weakref.WeakKeyDictionary()
        self._under_way: set[int] = set()  # ids of the traces that are being sent
        self._lock = threading.Lock()
        self._prepared = False
        self.kept = 0  # refused segments or spans that stay in the spool
        self.reasons: Counter[str] = Counter()  # number of refused spans by reason

    def step(self, spool: Spool) -> bool:
        """Send one batch; return False if there is none. Raise BackendUnavailable and sqlite3.Error."""
        taken = self.take(spool)
        if taken is not None:
            self.send(spool, taken)
        return taken is not None

    def take(self, spool: Spool) -> Taken | None:
        """Return the next batch, or None if there is none or a part of one of its traces is being sent."""
        with self._lock:
            after, batch = self._ahead(spool)
            traces = set() if batch is None else _traces(batch.items)
            if batch is None or not self._under_way.isdisjoint(traces):
                return None
            self._after[spool] = batch.last
            self._under_way |= traces
        return Taken(batch, after, traces)

    def _ahead(self, spool: Spool) -> tuple[int, Batch | None]:
        """Return the id after which the next batch begins, and the batch."""
        after = self._after.get(spool, 0)
        return after, spool.take(self._kind, after, _MOST[self._kind], _MOST_BYTES[self._kind])

    def send(self, spool: Spool, taken: Taken) -> None:
        """Send a batch and delete it from the spool. If nothing can be sent now, it is the next batch again."""
        try:
            self._prepare()
            refused = self._isolated(taken.batch.items)
        except BaseException:
            with self._lock:
                self._after[spool] = min(taken.after, self._after.get(spool, 0))
            raise
        finally:
            with self._lock:
                self._under_way -= taken.traces
        self._settle(spool, taken.batch, refused)

    def _settle(self, spool: Spool, batch: Batch, refused: Sequence[Refused]) -> None:
        """Delete a sent batch from the spool, except for refused items that are kept, and count it."""
        kept = {id(refusal.parcel) for refusal in refused if refusal.keep}
        done = [key for item, key in zip(batch.items, batch.keys, strict=True) if id(item) not in kept]
        with self._lock:
            for refusal in refused:
                self._refuse(refusal)
            self._sent[self._kind] += _spans(batch.items) - sum(_spans([refusal.parcel]) for refusal in refused)
            spool.done(self._kind, done)

    def probe(self, spool: Spool) -> bool:
        """Find the items that make a batch fail, if the backend takes the others. Return False if it takes nothing.

        Servers answer 500 to items that they cannot process, as they do in an outage. One item is sent alone first; if
        that succeeds, the backend is available and the batch holds poison.
        """
        _, batch = self._ahead(spool)
        if batch is None or len(batch.items) < 2:
            return False
        refused: list[Refused] = []
        first, *rest = batch.items
        *middle, last = rest
        for good, others in ((first, rest), (last, [first, *middle])):
            try:
                refused += self._isolated([good])
            except Away:
                continue
            if not self._search(others, refused) and not self._search([good], []):
                return False  # the backend has become unavailable meanwhile
            self._after[spool] = batch.last
            self._settle(spool, batch, refused)
            return True
        return False

    def _search(self, items: Sequence[Any], refused: list[Refused]) -> bool:
        """Send *items*, in halves if they fail, and add those that fail alone to *refused*.

        Return True if the last one passed.
        """
        if not items:
            return True
        try:
            refused += self._isolated(items)
        except Away as away:
            if len(items) == 1:
                refused.append(Refused(items[0], away.reason))
                return False
            half = len(items) // 2
            self._search(items[:half], refused)
            return self._search(items[half:], refused)
        return True

    def _prepare(self) -> None:
        """Prepare the sink once, with forks delayed."""
        if not self._prepared:
            self._prepared = True
            with guard("importing what sending needs"), IMPORTS.closed():
                self._sink.prepare()

    def again(self) -> None:
        """Start from the beginning of each spool, so that kept items are tried again."""
        self._after.clear()
        self.kept = 0

    def _isolated(self, items: Sequence[Any]) -> list[Refused]:
        """Send *items* and return the refused ones.

        After an error other than BackendUnavailable, send halves to find the cause.
        """
        if not items:
            return []
        try:
            with STORING.closed() if self._sink.local else nullcontext():
                return list(self._sink.send(items))
        except Away:
            raise
        except Exception as error:  # noqa: BLE001  # a bug in a sink must not stop later batches
            if len(items) == 1:
                tell_once("mlspan: a trace cannot be sent: %s: %s", type(error).__name__, error, error=error)
                return [Refused(items[0], f"{type(error).__name__}: {error}")]
            half = len(items) // 2
            return self._isolated(items[:half]) + self._isolated(items[half:])

    def _refuse(self, refusal: Refused) -> None:
        """Count and log a refusal. The item becomes a dead letter unless it is kept in the spool."""
        self.reasons[refusal.reason] += _spans([refusal.parcel])
        if refusal.keep:
            tell_once("mlspan: %s; what it has not taken is kept", refusal.reason)
            self.kept += 1
            return
        tell_once("mlspan: %s", refusal.reason)
        self._lost["refused"] += _spans([refusal.parcel])
        try:
            self._letters.put(self._kind, refusal.reason, refusal.parcel)
        except OSError as error:
            tell_once("mlspan: what was refused cannot be set aside: %s", error)


def _traces(items: Sequence[Parcel | Packed]) -> set[int]:
    contexts = [item.spans[0].get_span_context() for item in items if isinstance(item, Parcel)]
    return {context.trace_id for context in contexts if context is not None}


def _spans(items: Sequence[Parcel | Packed]) -> int:
    return sum(len(item.spans) if isinstance(item, Parcel) else 1 for item in items)
