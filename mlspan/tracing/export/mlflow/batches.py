"""Batches for one store: segments are translated and written in portions, several at once, and halved if rejected."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ...._guard import tell_once
from ..types import Parcel, Refused
from .store import Denied, Rejected, Store
from .traces import Trace, trace_of


@dataclass(frozen=True, slots=True)
class Addressed:
    """A trace segment whose experiment and run are known."""

    parcel: Parcel
    run_id: str | None
    offload: bool  # True if pictures and sounds become files

    @property
    def trace_id(self) -> int:
        context = self.parcel.spans[0].get_span_context()
        return context.trace_id if context else 0

    def trace(self) -> Trace:
        return trace_of(self.parcel, self.run_id, offload=self.offload)


_T = TypeVar("_T", Addressed, Trace)


def write_all(store: Store, experiment_id: str, parcels: Sequence[Addressed]) -> list[Refused]:
    """Store all segments and return those that the store rejects or denies. Raise BackendUnavailable."""
    refused: list[Refused] = []
    denied: list[Denied] = []
    translating = threading.Lock()

    def write_portion(portion: Sequence[Addressed]) -> None:
        """Translate and write a portion.

        Only one thread translates at a time, so that the first portion is sent soon.
        """
        if not denied:
            with translating:
                traces = [one.trace() for one in portion]
            try:
                refused.extend(_write(store, experiment_id, traces))
            except Denied as error:
                denied.append(error)
            else:
                return
        refused.extend(Refused(one.parcel, denied[0].reason, keep=True) for one in portion)

    for distinct in _rounds(parcels):
        store.crew.each(write_portion, portions(distinct, store))
    return refused


def _write(store: Store, experiment_id: str, traces: Sequence[Trace]) -> list[Refused]:
    """Write *traces*. If the store rejects them, write halves, to find the rejected ones and store the others."""
    try:
        store.write(experiment_id, [_summed(store, trace) for trace in traces])
    except Rejected as rejected:
        if rejected.all_of_it or len(traces) == 1:
            return [Refused(trace.parcel, rejected.reason, keep=rejected.all_of_it) for trace in traces]
        half = len(traces) // 2
        return _write(store, experiment_id, traces[:half]) + _write(store, experiment_id, traces[half:])
    for trace in traces:
        if trace.assessments:
            try:
                store.assess(trace.info.trace_id, trace.assessments)
            except Rejected as rejected:
                tell_once("mlspan: %s; the trace itself is stored", rejected.reason)
    return []


def _rounds(parcels: Sequence[Addressed]) -> Iterator[list[Addressed]]:
    """Yield *parcels* in parts with no trace twice, as a later segment of a trace adds to what is stored by then."""
    remaining = list(parcels)
    while remaining:
        first = {one.trace_id: one for one in reversed(remaining)}
        yield [one for one in remaining if first[one.trace_id] is one]
        remaining = [one for one in remaining if first[one.trace_id] is not one]


def portions(traces: Sequence[_T], store: Store) -> Iterator[Sequence[_T]]:
    """Yield *traces* in portions for one write each.

    If there are several, their number is a multiple of the writers'.
    """
    whole = store.most_traces * store.most_spans
    weights = [max(len(trace.parcel.spans) * store.most_traces, store.most_spans) for trace in traces]
    in_all = sum(weights)
    parts = -(-in_all // whole)
    if parts > 1:
        parts += -parts % store.crew.most
    begin = part = so_far = 0
    for end, weight in enumerate(weights, 1):
        so_far += weight
        if (reached := so_far * parts // in_all) > part:
            yield traces[begin:end]
            begin, part = end, reached


def _summed(store: Store, trace: Trace) -> Trace:
    """Return *trace* with its totals, and merged with what the store has of it."""
    counted, info = trace.counted(), trace.info
    if trace.merge and (before := store.info(info.trace_id)) is not None:
        info = info.merged(before)
        counted = {**store.counted(info.trace_id), **counted}
    return replace(trace, info=info.with_totals(counted.values()))
