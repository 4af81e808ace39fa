"""The report of one exporter to a flush: the fate of its spans at each destination since the last flush."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .flush_request import FlushRequest
from .flush_result import DROP_REASONS, IN_MEMORY_NAME, DeliveryTally, DestinationResult, KeptSpans, name_destination
from .types import SinkKind

if TYPE_CHECKING:
    from .worker import ExportWorker


class DeliveryReport:
    """Counts of what has become of spans, and how much of that has been told.

    Args:
        sinks: by kind, the description of the destination (no credentials).
        lost: the spans that were lost before any destination was asked, by reason.
    """

    def __init__(self, sinks: Mapping[SinkKind, dict[str, Any]], lost: Counter[str]) -> None:
        self._sinks, self._lost = sinks, lost
        self.tallies = {kind: DeliveryTally() for kind in sinks}
        self._told_lost: Counter[str] = Counter()
        self._told_expired = 0
        self._told_spared: Counter[SinkKind] = Counter()

    @property
    def has_losses(self) -> bool:
        """Return whether there are set aside or dropped spans that no flush has told of."""
        return any(tally.has_losses for tally in self.tallies.values())

    def list_results(self, asked: FlushRequest, worker: ExportWorker | None, ends: int) -> list[DestinationResult]:
        """Return what has become of the spans at each destination since the last call.

        Without a *worker*, which could not be opened, all the *ends* spans that have ended are in the queue.
        """
        lost, self._told_lost = self._lost - self._told_lost, self._lost.copy()
        if worker is not None:
            lost["expired"] -= worker.directory.expired_of_others - self._told_expired
            self._told_expired = worker.directory.expired_of_others
        results = []
        for kind, tally in self.tallies.items():
            spared = 0 if worker is None else worker.writer.spared[kind] - self._told_spared[kind]
            self._told_spared[kind] += spared
            for name, count in (+(lost - Counter(overflow=spared))).items():
                if name in DROP_REASONS:
                    tally.add_dropped(DROP_REASONS[name], count)
            kept = None
            if not asked.has_sent_all(kind):
                kept = worker.find_kept(kind) if worker is not None else _describe_queue(ends)
            results.append(tally.take_result(name_destination(kind, self._sinks[kind]), kept))
        return results


def _describe_queue(ends: int) -> KeptSpans | None:
    """Return the spans in the queue, of an exporter that has not been opened."""
    return KeptSpans(ends, IN_MEMORY_NAME, "the exporter could not be opened, see the log") if ends else None
