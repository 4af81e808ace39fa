"""From the spools to one sink, on a thread of its own: what was taken is crossed out, the rest is asked again later."""

from __future__ import annotations

import random
import sqlite3
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import opentelemetry.context as otel

from ..._guard import guard, log, tell_once
from .dead import Letters
from .gate import IMPORTS, STORING
from .lanes import Lanes
from .parcel import Away, Kind, Packed, Parcel, Refused, Sink
from .spool import Batch, Spool

_LONGEST_BACKOFF: Final = 30.0
_LONGEST_WAIT: Final = 300.0  # seconds that a server's Retry-After is heeded; and until what was kept is asked again
_STUCK: Final = 3  # failures in a row after which a quick one may be the fault of what is sent
_QUICK: Final = 2.0  # seconds
_MOST: Final[dict[Kind, int]] = {"mlflow": 400, "otlp": 512}  # in one call of the sink
_MOST_BYTES: Final[dict[Kind, int]] = {"mlflow": 16 * 1024 * 1024, "otlp": 3 * 1024 * 1024}  # gRPC receivers take 4 MiB


@dataclass(frozen=True, slots=True)
class Taken:
    """A batch on its way."""

    batch: Batch
    after: int  # where it begins
    traces: set[int]


class Delivery:
    """Hands what a spool holds to a sink, batch by batch.

    Args:
        kind: of the sink.
        sink: where it goes.
        letters: where what will never be taken is set aside.
        sent: counts of spans that were taken, by kind.
        lost: counts of spans that were not, by reason.
    """

    def __init__(self, kind: Kind, sink: Sink, letters: Letters, sent: Counter[str], lost: Counter[str]) -> None:
        self._kind, self._sink, self._letters, self._sent, self._lost = kind, sink, letters, sent, lost
        self._after: weakref.WeakKeyDictionary[Spool, int] = weakref.WeakKeyDictionary()
        self._under_way: set[int] = set()  # traces of which something is being sent
        self._lock = threading.Lock()
        self._prepared = False
        self.kept = 0  # parcels or spans that the sink has refused and that stay
        self.reasons: Counter[str] = Counter()  # why spans were refused

    def step(self, spool: Spool) -> bool:
        """Send one batch; False if there is none. Raises Away and sqlite3.Error."""
        taken = self.take(spool)
        if taken is not None:
            self.send(spool, taken)
        return taken is not None

    def take(self, spool: Spool) -> Taken | None:
        """The next batch, if there is one, and nothing that is being sent is of the same traces."""
        with self._lock:
            after = self._after.get(spool, 0)
            batch = spool.take(self._kind, after, _MOST[self._kind], _MOST_BYTES[self._kind])
            traces = set() if batch is None else _traces(batch.items)
            if batch is None or not self._under_way.isdisjoint(traces):
                return None
            self._after[spool] = batch.last
            self._under_way |= traces
        return Taken(batch, after, traces)

    def send(self, spool: Spool, taken: Taken) -> None:
        """Send what was taken, and cross it out; where nothing can be sent now, it is what is taken next."""
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
        with self._lock:
            self._note(spool, batch, refused)

    def _note(self, spool: Spool, batch: Batch, refused: Sequence[Refused]) -> None:
        kept = {id(refusal.parcel) for refusal in refused if refusal.keep}
        done = [key for item, key in zip(batch.items, batch.keys, strict=True) if id(item) not in kept]
        for refusal in refused:
            self._refuse(refusal)
        self._sent[self._kind] += _spans(batch.items) - sum(_spans([refusal.parcel]) for refusal in refused)
        spool.done(self._kind, done)

    def probe(self, spool: Spool) -> bool:
        """Where a batch fails again and again: find the ones that make it fail, if the backend takes the others.

        Servers answer 500 to what they cannot digest. False if it takes nothing at all, and so is away.
        """
        batch = spool.take(self._kind, self._after.get(spool, 0), _MOST[self._kind], _MOST_BYTES[self._kind])
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
                return False  # it went away meanwhile
            self._after[spool] = batch.last
            self._settle(spool, batch, refused)
            return True
        return False

    def _search(self, items: Sequence[Any], refused: list[Refused]) -> bool:
        """Send *items*, in halves where they fail; those that fail alone are *refused*. Whether the last one passed."""
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
        if not self._prepared:
            self._prepared = True
            with guard("importing what sending needs"), IMPORTS.closed():
                self._sink.prepare()

    def again(self) -> None:
        """Ask once more for what was kept."""
        self._after.clear()
        self.kept = 0

    def _isolated(self, items: Sequence[Any]) -> list[Refused]:
        """Send *items*; an error of the sink's own is the fault of one of them, which is found and set aside."""
        if not items:
            return []
        try:
            with STORING.closed() if self._sink.local else nullcontext():
                return list(self._sink.send(items))
        except Away:
            raise
        except Exception as error:  # noqa: BLE001  # a sink's bug must not stop what comes after
            if len(items) == 1:
                tell_once("mlspan: a trace cannot be sent: %s: %s", type(error).__name__, error, error=error)
                return [Refused(items[0], f"{type(error).__name__}: {error}")]
            half = len(items) // 2
            return self._isolated(items[:half]) + self._isolated(items[half:])

    def _refuse(self, refusal: Refused) -> None:
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


class Courier:
    """A thread with a Delivery. ``hurry`` and ``ask`` are for other threads.

    Args:
        kind: of the sink.
        sink: where it goes.
        spools: those to send from, the oldest first.
        letters: see Delivery.
        damaged: told of a spool that cannot be read.
        sent, lost: see Delivery.
    """

    def __init__(
        self,
        kind: Kind,
        sink: Sink,
        spools: Callable[[], Sequence[Spool]],
        letters: Letters,
        damaged: Callable[[Spool, Exception], None],
        sent: Counter[str],
        lost: Counter[str],
    ) -> None:
        self.kind, self._spools, self._damaged = kind, spools, damaged
        self._sink = sink
        self.delivery = Delivery(kind, sink, letters, sent, lost)
        self._asked: deque[tuple[Callable[[bool], None], bool]] = deque()
        self._wake = threading.Event()
        self._lanes = Lanes(sink.at_once)
        self._things = "traces" if kind == "mlflow" else "spans"
        self._failures = 0
        self._retry_at = self._again_at = 0.0
        self.finished = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"mlspan-{kind}", daemon=True)
        self._thread.start()

    def hurry(self) -> None:
        """There is something to send."""
        self._wake.set()
        self._lanes.more()

    def ask(self, answer: Callable[[bool], None], *, last: bool) -> None:
        """Send all there is, then *answer* whether what is ours of it was taken."""
        self._asked.append((answer, last))
        self._wake.set()

    def _run(self) -> None:
        otel.attach(otel.set_value(otel._SUPPRESS_INSTRUMENTATION_KEY, True))  # nobody traces our sending
        last = False
        while not last:
            self._wake.wait(self._patience())
            self._wake.clear()
            asked = [self._asked.popleft() for _ in range(len(self._asked))]
            with guard("sending traces"):
                self._deliver(at_once=bool(asked))
            for answer, last in asked:  # noqa: B007  # the last one is the last
                answer(not self._waiting(inherited=False))
        with guard("closing the exporter"):
            self._sink.close()
        self.finished.set()

    def _patience(self) -> float | None:
        """Seconds until there is something to do even if nobody says so."""
        until = [at for at in (self._retry_at, self._again_at) if at]
        return max(0.01, min(until) - monotonic()) if until else None

    def _waiting(self, *, inherited: bool = True) -> int:
        waiting = 0
        for spool in self._spools():
            if spool.inherited and not inherited:
                continue
            try:
                waiting += spool.waiting(self.kind)
            except sqlite3.Error:
                continue
        return waiting

    def _deliver(self, *, at_once: bool) -> None:
        now = monotonic()
        if self._again_at and (at_once or now >= self._again_at):
            self.delivery.again()
            self._again_at = 0.0
        if now < self._retry_at and not at_once:
            return
        for spool in self._spools():
            try:
                self._empty(spool)
            except Away as away:
                self._back_off(away)
                return
            except sqlite3.OperationalError as error:  # a full disk: what was sent is crossed out later
                tell_once("mlspan: the spool %s cannot be written: %s", spool.path, error)
            except sqlite3.ProgrammingError:  # closed meanwhile, as it was empty
                continue
            except sqlite3.DatabaseError as error:
                self._damaged(spool, error)
        if self.delivery.kept:
            self._again_at = self._again_at or monotonic() + _LONGEST_WAIT

    def _empty(self, spool: Spool) -> None:
        """Send all that is there; batch by batch, where the last try has failed."""
        if not self._failures:
            self._lanes.empty(lambda: self.delivery.take(spool), lambda taken: self.delivery.send(spool, taken))
            return
        while True:
            began = monotonic()
            try:
                if not self.delivery.step(spool):
                    return
            except Away as away:
                answers = away.retry_after is None and monotonic() - began < _QUICK
                if self._failures < _STUCK or not answers or not self.delivery.probe(spool):
                    raise
            self._is_back()

    def _is_back(self) -> None:
        if self._failures:
            log.warning("mlspan: the trace store is back; %d %s are on their way", self._waiting(), self._things)
        self._failures, self._retry_at = 0, 0.0

    def _back_off(self, away: Away) -> None:
        if not self._failures:
            log.warning("mlspan: %s; %d %s wait for it", away.reason, self._waiting(), self._things)
        self._failures += 1
        wait = min(2.0 ** (self._failures - 1), _LONGEST_BACKOFF) * random.uniform(0.8, 1.2)  # noqa: S311  # no secret
        self._retry_at = monotonic() + (wait if away.retry_after is None else min(away.retry_after, _LONGEST_WAIT))
