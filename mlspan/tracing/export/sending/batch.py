"""The batch sender: it sends one batch from a spool, deletes what the sink has taken, and isolates poison items.

A *poison item* is one that the backend can never take and that makes its whole batch fail. ``isolation.py`` finds it,
and ``refusals.py`` decides what becomes of it, as of all that a backend refuses. ``sender.py`` decides when to send.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain
from time import monotonic
from typing import Any, Final

from ...._guard import guard, warn_once
from ..flush_result import DeliveryTally
from ..fork_safety import DATABASE_WRITE_LOCK, IMPORT_LOCK
from ..memory import MemoryReleaser
from ..spool.dead_letters import DeadLetters
from ..spool.queue import Spool
from ..spool.rows import SpoolBatch
from ..types import BackendUnavailable, EncodedSpan, Refusal, Sink, SinkKind, TraceSegment
from .isolation import Isolation
from .refusals import RefusalHandler, count_refused, count_spans

_FAILURES_BEFORE_ISOLATION: Final = 3  # failures in a row after which any quick failure may be caused by an item
_QUICK_FAILURE: Final = 2.0  # seconds
_MAX_ITEMS: Final[dict[SinkKind, int]] = {"mlflow": 400, "otlp": 512}  # items in one call of the sink
_LARGE_ITEM: Final = 128 * 1024  # bytes, in the mean of a batch
# Four batches are under way at once, each in several forms: spans, what is added to them, the body of a request. gRPC
# receivers take 4 MiB by default.
_MAX_BATCH_BYTES: Final[dict[SinkKind, int]] = {"mlflow": 4 * 1024 * 1024, "otlp": 3 * 1024 * 1024}


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
        refused: counts the spans that were refused for good, by kind.
        tally: counts what has become of this process's own spans.
    """

    def __init__(
        self,
        kind: SinkKind,
        sink: Sink,
        letters: DeadLetters,
        sent: Counter[str],
        refused: Counter[str],
        tally: DeliveryTally | None = None,
    ) -> None:
        self._tally = tally or DeliveryTally()
        self._kind, self._sink, self._sent = kind, sink, sent
        self.refusals = RefusalHandler(kind, letters, refused)
        self._after: weakref.WeakKeyDictionary[Spool, int] = weakref.WeakKeyDictionary()
        self._under_way: set[int] = set()  # ids of the traces that are being sent
        self._lock = threading.Lock()
        self._leader: int | None = None  # id of the thread that others help, while they do
        self._next_is_large = False
        self._prepared = False
        self._memory = MemoryReleaser()
        self.has_taken = False  # whether the backend has ever taken anything

    def send_spool(self, spool: Spool, *, failures: int, passed: Callable[[], object]) -> None:
        """Send everything in *spool*. Poison items are isolated and stepped over.

        Raise BackendUnavailable and sqlite3.Error. *failures* is how often the backend has failed in a row before: then
        one batch is sent at a time. *passed* is called whenever the backend has taken something, on any thread.
        """
        if not failures:
            try:
                self._send_side_by_side(spool, passed)
            except BackendUnavailable as away:
                if not (away.may_be_item and self.isolate_poison(spool)):
                    raise
                passed()
            else:
                return
        while True:
            began = monotonic()
            try:
                if not self.send_next_batch(spool):
                    return
            except BackendUnavailable as away:
                quick = away.retry_after is None and monotonic() - began < _QUICK_FAILURE
                may_be_item = away.may_be_item or (quick and failures >= _FAILURES_BEFORE_ISOLATION)
                if not (may_be_item and self.isolate_poison(spool)):
                    raise
            passed()

    def _send_side_by_side(self, spool: Spool, passed: Callable[[], object]) -> None:
        """Send everything in *spool*, as many batches at once as the sink allows."""

        def send_one(taken: BatchInFlight) -> None:
            self.send_batch(spool, taken)
            passed()

        self._leader = threading.get_ident()
        try:
            self._sink.executor.run_available(lambda: self.take_batch(spool), send_one, self._sink.at_once)
        finally:
            self._leader = None

    def send_next_batch(self, spool: Spool) -> bool:
        """Send one batch; return False if there is none. Raise BackendUnavailable and sqlite3.Error."""
        taken = self.take_batch(spool)
        if taken is not None:
            self.send_batch(spool, taken)
        return taken is not None

    def take_batch(self, spool: Spool) -> BatchInFlight | None:
        """Return the next batch, or None if there is none or a part of one of its traces is being sent.

        Large content is left to the thread that all others help: the C library gives little of what a thread has freed
        back to the system, so that should be one thread's.
        """
        with self._lock:
            helps = self._leader not in {None, threading.get_ident()}
            if helps and self._next_is_large:
                return None
            after, batch = self._peek_batch(spool)
            self._next_is_large = batch is not None and _measure_items(batch.items) > _LARGE_ITEM * len(batch.items)
            if helps and self._next_is_large:
                return None
            traces = set() if batch is None else _collect_trace_ids(batch.items)
            if batch is None or not self._under_way.isdisjoint(traces):
                return None
            self._after[spool] = batch.last_id
            self._under_way |= traces
        return BatchInFlight(batch, after, traces)

    def _peek_batch(self, spool: Spool, after: int | None = None) -> tuple[int, SpoolBatch | None]:
        """Return the id after which the next batch begins, or that after *after*, and the batch."""
        after = self._after.get(spool, 0) if after is None else after
        return after, spool.read_batch(self._kind, after, _MAX_ITEMS[self._kind], _MAX_BATCH_BYTES[self._kind])

    def send_batch(self, spool: Spool, taken: BatchInFlight) -> None:
        """Send a batch and delete it from the spool. If nothing can be sent now, it is the next batch again."""
        try:
            self._prepare_sink()
            refused = self._send_and_isolate(taken.batch.items)
        except BaseException as error:
            with self._lock:
                self._after[spool] = min(taken.after, self._after.get(spool, 0))
            if isinstance(error, BackendUnavailable) and error.taken:
                self._settle_batch(spool, _select_items(taken.batch, error.taken), ())
            raise
        finally:
            with self._lock:
                self._under_way -= taken.traces
        self._settle_batch(spool, taken.batch, refused)

    def _settle_batch(self, spool: Spool, batch: SpoolBatch, refused: Sequence[Refusal]) -> None:
        """Delete a sent batch from the spool, except for refused items that are kept, and count it."""
        tally = DeliveryTally() if spool.inherited else self._tally
        with self._lock:
            left = self.refusals.settle_refusals(batch.items, refused, tally, has_taken=self.has_taken)
            kept = set(map(id, left))
            done = [key for item, key in zip(batch.items, batch.keys, strict=True) if id(item) not in kept]
            self._memory.add(_measure_items(batch.items))
            taken = count_spans(batch.items) - sum(map(count_refused, refused))
            self.has_taken = self.has_taken or taken > 0
            self._sent[self._kind] += taken
            tally.add_stored(taken)
            spool.mark_sent(self._kind, done)

    def isolate_poison(self, spool: Spool) -> bool:
        """Find the items that make a batch fail, if the backend takes others. Return False if it takes nothing.

        What is found is refused. Items that fail, but not often enough yet, are stepped over until :meth:`retry_kept`.
        """
        after, batch = self._peek_batch(spool)
        if batch is not None and len(batch.items) < 2:  # what comes after it tells whether the backend takes anything
            _, following = self._peek_batch(spool, batch.last_id)
            batch = batch if following is None else _join_batches(batch, following)
        if batch is None or len(batch.items) < 2:
            return False
        found = Isolation(batch.items, self._send_and_isolate, takes_nothing=self._kind == "otlp").run()
        if not found.is_available:
            return False
        if len(found.taken) + len(found.suspects) == len(batch.items):
            after = batch.last_id
            self.refusals.keep_suspects(found.suspects, found.away)
        self._after[spool] = after
        self._settle_batch(spool, _select_items(batch, found.taken), found.refused)
        return True

    def release_memory(self) -> None:
        """Give the memory of what was sent back to the system, if it was much."""
        self._memory.release()

    def _prepare_sink(self) -> None:
        """Prepare the sink once, with forks delayed."""
        if not self._prepared:
            self._prepared = True
            with guard("importing what sending needs"), IMPORT_LOCK.delay_forks():
                self._sink.prepare()

    def retry_kept(self) -> None:
        """Start from the beginning of each spool, so that kept items are tried again."""
        self._after.clear()
        self.refusals.forget_kept()

    def _send_and_isolate(self, items: Sequence[Any]) -> list[Refusal]:
        return send_and_isolate(self._sink, items)


def send_and_isolate(sink: Sink, items: Sequence[Any]) -> list[Refusal]:
    """Send *items* and return the refused ones.

    After an error other than BackendUnavailable, send halves to find the cause.
    """
    try:
        with DATABASE_WRITE_LOCK.delay_forks() if sink.local else nullcontext():
            return list(sink.send(items))
    except BackendUnavailable:
        raise
    except Exception as error:  # noqa: BLE001  # a bug in a sink must not stop later batches
        if len(items) <= 1:
            name = type(error).__name__
            warn_once("mlspan: a trace cannot be sent: %s: %s", name, error, place=name, error=error)
            return [Refusal(item, f"{name}: {error}") for item in items]
        half = len(items) // 2
        return send_and_isolate(sink, items[:half]) + send_and_isolate(sink, items[half:])


def send_all(sink: Sink, items: Sequence[Any]) -> list[Refusal]:
    """Send *items* that are in no spool, and return the refused ones. Poison items are isolated and refused.

    Raise BackendUnavailable if the backend takes none of them; ``taken`` then names what it has taken before.
    """
    try:
        return send_and_isolate(sink, items)
    except BackendUnavailable as away:
        gone = set(map(id, away.taken))
        left = [item for item in items if id(item) not in gone]
        if not away.may_be_item or len(items) < 2:
            raise
        found = Isolation(left, partial(send_and_isolate, sink)).run()
        done = {id(item) for item in (*found.taken, *found.suspects)}
        if not (found.is_available or away.taken) or any(id(item) not in done for item in left):
            raised = found.away or away
            raised.taken = [*away.taken, *found.taken]
            raise raised from away
        return found.refused + [Refusal(item, away.reason) for item in found.suspects]


def _collect_trace_ids(items: Sequence[TraceSegment | EncodedSpan]) -> set[int]:
    contexts = [item.spans[0].get_span_context() for item in items if isinstance(item, TraceSegment)]
    return {context.trace_id for context in contexts if context is not None}


def _measure_items(items: Sequence[TraceSegment | EncodedSpan]) -> int:
    """Return the bytes of the items' spans as OTLP."""
    stored = (item.stored if isinstance(item, TraceSegment) else (item.span,) for item in items)
    return sum(map(len, chain.from_iterable(stored)))


def _select_items(batch: SpoolBatch, chosen: Sequence[Any]) -> SpoolBatch:
    """Return the part of *batch* that holds the *chosen* items."""
    ids = set(map(id, chosen))
    pairs = [(item, key) for item, key in zip(batch.items, batch.keys, strict=True) if id(item) in ids]
    return SpoolBatch([item for item, _ in pairs], [key for _, key in pairs], batch.last_id)  # type: ignore[arg-type]


def _join_batches(first: SpoolBatch, second: SpoolBatch) -> SpoolBatch:
    return SpoolBatch([*first.items, *second.items], [*first.keys, *second.keys], second.last_id)
