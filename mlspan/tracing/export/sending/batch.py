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

from ...._guard import guard, warn_once
from ..flush_result import DeliveryTally
from ..fork_safety import DATABASE_WRITE_LOCK, IMPORT_LOCK
from ..spool.dead_letters import DeadLetters
from ..spool.queue import Spool
from ..spool.rows import SpoolBatch
from ..types import BackendUnavailable, EncodedSpan, Refusal, Sink, SinkKind, TraceSegment

_MAX_ITEMS: Final[dict[SinkKind, int]] = {"mlflow": 400, "otlp": 512}  # items in one call of the sink
# gRPC receivers take 4 MiB by default.
_MAX_BATCH_BYTES: Final[dict[SinkKind, int]] = {"mlflow": 16 * 1024 * 1024, "otlp": 3 * 1024 * 1024}


@dataclass(frozen=True, slots=True)
class BatchInFlight:
    """A batch that is being sent."""

    batch: SpoolBatch
    after: int  # the spool id after which the batch begins
    traces: set[int]


class BatchSender:
    """Sends the contents of a spool to a sink, batch by batch.

    Args:
        kind: the kind of the sink.
        sink: the destination.
        letters: stores items that no backend will ever take.
        sent: counts the spans that were taken, by kind.
        lost: counts the spans that were lost, by reason.
        tally: counts what has become of this process's own spans.
    """

    def __init__(
        self,
        kind: SinkKind,
        sink: Sink,
        letters: DeadLetters,
        sent: Counter[str],
        lost: Counter[str],
        tally: DeliveryTally | None = None,
    ) -> None:
        self._tally = tally or DeliveryTally()
        self._kind, self._sink, self._letters, self._sent, self._lost = kind, sink, letters, sent, lost
        self._after: weakref.WeakKeyDictionary[Spool, int] = weakref.WeakKeyDictionary()
        self._under_way: set[int] = set()  # ids of the traces that are being sent
        self._lock = threading.Lock()
        self._prepared = False
        self.kept = 0  # refused segments or spans that stay in the spool
        self.kept_reason = ""  # why
        self.reasons: Counter[str] = Counter()  # number of refused spans by reason

    def send_next_batch(self, spool: Spool) -> bool:
        """Send one batch; return False if there is none. Raise BackendUnavailable and sqlite3.Error."""
        taken = self.take_batch(spool)
        if taken is not None:
            self.send_batch(spool, taken)
        return taken is not None

    def take_batch(self, spool: Spool) -> BatchInFlight | None:
        """Return the next batch, or None if there is none or a part of one of its traces is being sent."""
        with self._lock:
            after, batch = self._peek_batch(spool)
            traces = set() if batch is None else _collect_trace_ids(batch.items)
            if batch is None or not self._under_way.isdisjoint(traces):
                return None
            self._after[spool] = batch.last_id
            self._under_way |= traces
        return BatchInFlight(batch, after, traces)

    def _peek_batch(self, spool: Spool) -> tuple[int, SpoolBatch | None]:
        """Return the id after which the next batch begins, and the batch."""
        after = self._after.get(spool, 0)
        return after, spool.read_batch(self._kind, after, _MAX_ITEMS[self._kind], _MAX_BATCH_BYTES[self._kind])

    def send_batch(self, spool: Spool, taken: BatchInFlight) -> None:
        """Send a batch and delete it from the spool. If nothing can be sent now, it is the next batch again."""
        try:
            self._prepare_sink()
            refused = self._send_and_isolate(taken.batch.items)
        except BaseException:
            with self._lock:
                self._after[spool] = min(taken.after, self._after.get(spool, 0))
            raise
        finally:
            with self._lock:
                self._under_way -= taken.traces
        self._settle_batch(spool, taken.batch, refused)

    def _settle_batch(self, spool: Spool, batch: SpoolBatch, refused: Sequence[Refusal]) -> None:
        """Delete a sent batch from the spool, except for refused items that are kept, and count it."""
        kept = {id(refusal.item) for refusal in refused if refusal.keep}
        done = [key for item, key in zip(batch.items, batch.keys, strict=True) if id(item) not in kept]
        with self._lock:
            for refusal in refused:
                self._record_refusal(refusal, None if spool.inherited else self._tally)
            taken = _count_spans(batch.items) - sum(_count_spans([refusal.item]) for refusal in refused)
            self._sent[self._kind] += taken
            if not spool.inherited:
                self._tally.add_stored(taken)
            spool.mark_sent(self._kind, done)

    def isolate_poison(self, spool: Spool) -> bool:
        """Find the items that make a batch fail, if the backend takes the others. Return False if it takes nothing.

        Servers answer 500 to items that they cannot process, as they do in an outage. One item is sent alone first; if
        that succeeds, the backend is available and the batch holds poison.
        """
        _, batch = self._peek_batch(spool)
        if batch is None or len(batch.items) < 2:
            return False
        refused: list[Refusal] = []
        first, *rest = batch.items
        *middle, last = rest
        for good, others in ((first, rest), (last, [first, *middle])):
            try:
                refused += self._send_and_isolate([good])
            except BackendUnavailable:
                continue
            if not self._find_poison(others, refused) and not self._find_poison([good], []):
                return False  # the backend has become unavailable meanwhile
            self._after[spool] = batch.last_id
            self._settle_batch(spool, batch, refused)
            return True
        return False

    def _find_poison(self, items: Sequence[Any], refused: list[Refusal]) -> bool:
        """Send *items*, in halves if they fail, and add those that fail alone to *refused*.

        Return True if the last one passed.
        """
        if not items:
            return True
        try:
            refused += self._send_and_isolate(items)
        except BackendUnavailable as away:
            if len(items) == 1:
                refused.append(Refusal(items[0], away.reason))
                return False
            half = len(items) // 2
            self._find_poison(items[:half], refused)
            return self._find_poison(items[half:], refused)
        return True

    def _prepare_sink(self) -> None:
        """Prepare the sink once, with forks delayed."""
        if not self._prepared:
            self._prepared = True
            with guard("importing what sending needs"), IMPORT_LOCK.delay_forks():
                self._sink.prepare()

    def retry_kept(self) -> None:
        """Start from the beginning of each spool, so that kept items are tried again."""
        self._after.clear()
        self.kept, self.kept_reason = 0, ""

    def _send_and_isolate(self, items: Sequence[Any]) -> list[Refusal]:
        """Send *items* and return the refused ones.

        After an error other than BackendUnavailable, send halves to find the cause.
        """
        if not items:
            return []
        try:
            with DATABASE_WRITE_LOCK.delay_forks() if self._sink.local else nullcontext():
                return list(self._sink.send(items))
        except BackendUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  # a bug in a sink must not stop later batches
            if len(items) == 1:
                name = type(error).__name__
                warn_once("mlspan: a trace cannot be sent: %s: %s", name, error, place=name, error=error)
                return [Refusal(items[0], f"{type(error).__name__}: {error}")]
            half = len(items) // 2
            return self._send_and_isolate(items[:half]) + self._send_and_isolate(items[half:])

    def _record_refusal(self, refusal: Refusal, tally: DeliveryTally | None) -> None:
        """Count and log a refusal. The item becomes a dead letter unless it is kept in the spool."""
        spans, tally = _count_spans([refusal.item]), tally or DeliveryTally()
        self.reasons[refusal.reason] += spans
        place = refusal.reason.partition(": ")[0]  # what follows are the server's own words, with ids of requests
        if refusal.keep:
            warn_once("mlspan: %s; what it has not taken is kept", refusal.reason, place=place)
            self.kept += 1
            self.kept_reason = refusal.reason
            return
        warn_once("mlspan: %s", refusal.reason, place=place)
        self._lost["refused"] += spans
        try:
            if self._letters.write_letter(self._kind, refusal.reason, refusal.item):
                tally.add_set_aside(refusal.reason, spans)
                return
        except OSError as error:
            warn_once("mlspan: what was refused cannot be set aside: %s", error)
        tally.add_dropped(f"refused, and nowhere to set it aside: {refusal.reason}", spans)


def _collect_trace_ids(items: Sequence[TraceSegment | EncodedSpan]) -> set[int]:
    contexts = [item.spans[0].get_span_context() for item in items if isinstance(item, TraceSegment)]
    return {context.trace_id for context in contexts if context is not None}


def _count_spans(items: Sequence[TraceSegment | EncodedSpan]) -> int:
    return sum(len(item.spans) if isinstance(item, TraceSegment) else 1 for item in items)
