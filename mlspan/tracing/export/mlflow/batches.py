"""Batches for one store: segments are translated and written in portions, several at once, and halved if rejected."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from ...._guard import warn_once
from ..types import BackendUnavailable, Refusal, TraceSegment
from .parents import merge_with_stored
from .spans import measure_spans
from .store import NO_LIMIT, StoreDenied, StoreRejected, TraceStore
from .traces import TranslatedTrace, translate_segment


@dataclass(frozen=True, slots=True)
class LocatedSegment:
    """A trace segment whose experiment and run are known."""

    segment: TraceSegment
    run_id: str | None
    extracts_attachments: bool  # True if pictures and sounds become files

    @property
    def trace_id(self) -> int:
        context = self.segment.spans[0].get_span_context()
        return context.trace_id if context else 0

    def translate_segment(self, *, links_run: bool = False, previews_apart: bool = False) -> TranslatedTrace:
        return translate_segment(
            self.segment,
            self.run_id,
            offload=self.extracts_attachments,
            links_run=links_run,
            previews_apart=previews_apart,
        )


# Traces in one batch, above which a server is told previews, or runs, of many at once. It then lacks the metadata that
# MLflow's columns "Source" and "Run" show: that takes a request for each trace, of which a server takes about a hundred
# a second.
_MANY: Final = 25

_SegmentOrTrace = TypeVar("_SegmentOrTrace", LocatedSegment, TranslatedTrace)


def write_segments(store: TraceStore, experiment_id: str, segments: Sequence[LocatedSegment]) -> list[Refusal]:
    """Store all segments and return those that the store rejects or denies.

    Raise BackendUnavailable, which names those that were stored before.
    """
    refused: list[Refusal] = []
    stored: list[TraceSegment] = []
    denied: list[StoreDenied] = []
    translating = threading.Lock()
    links_runs = sum(one.run_id is not None for one in segments) > _MANY
    is_many = len(segments) > _MANY

    def write_portion(portion: Sequence[LocatedSegment]) -> None:
        """Translate and write a portion.

        Only one thread translates at a time, so that the first portion is sent soon.
        """
        if not denied:
            with translating:
                traces = [one.translate_segment(links_run=links_runs, previews_apart=is_many) for one in portion]
            try:
                rejected = _write_or_bisect(store, experiment_id, traces)
            except StoreDenied as error:
                denied.append(error)
            else:
                refused.extend(rejected)
                gone = {id(refusal.item) for refusal in rejected}
                stored.extend(one.segment for one in portion if id(one.segment) not in gone)
                return
        refused.extend(Refusal(one.segment, denied[0].reason, keep=True) for one in portion)

    try:
        for distinct in _split_rounds(segments):
            store.executor.run_each(write_portion, split_portions(distinct, store), store.most_writers)
    except BackendUnavailable as away:
        away.taken = stored
        raise
    return refused


def _write_or_bisect(store: TraceStore, experiment_id: str, traces: Sequence[TranslatedTrace]) -> list[Refusal]:
    """Write *traces*, as many at a time as one request may hold, and return those that the store rejects."""
    if store.request_limit is NO_LIMIT:  # nothing to measure the spans for
        return _write_part(store, experiment_id, traces)
    parts = list(store.request_limit.split(traces, _measure_trace, len(traces)))
    return [refusal for part in parts for refusal in _write_part(store, experiment_id, part)]


def _measure_trace(trace: TranslatedTrace) -> int:
    return measure_spans(trace.spans)


def _write_part(store: TraceStore, experiment_id: str, traces: Sequence[TranslatedTrace]) -> list[Refusal]:
    """Write *traces*. If the store rejects them, write halves, to find the rejected ones and store the others."""
    try:
        refused = _write_merged(store, experiment_id, traces)
    except StoreRejected as rejected:
        if rejected.all_of_it or len(traces) == 1:
            if not (rejected.all_of_it or rejected.too_large):
                place = _find_stored_experiment(store, traces[0])
                if place not in {None, experiment_id}:
                    return _write_elsewhere(store, place, [traces[0]._replace(merges_stored=True)])
            return [Refusal(trace.segment, rejected.reason, keep=rejected.all_of_it) for trace in traces]
        half = len(traces) // 2
        return _write_or_bisect(store, experiment_id, traces[:half]) + _write_or_bisect(
            store, experiment_id, traces[half:]
        )
    gone = {id(refusal.item) for refusal in refused}
    for trace in traces:
        if trace.assessments and id(trace.segment) not in gone:
            try:
                store.write_assessments(trace.summary.trace_id, trace.assessments)
            except StoreRejected as rejected:
                warn_once("mlspan: %s; the trace itself is stored", rejected.reason)
    return refused


def _write_elsewhere(store: TraceStore, place: str, traces: Sequence[TranslatedTrace]) -> list[Refusal]:
    """Write *traces* into another experiment, *place*. That it refuses them says nothing of the experiment's own."""
    try:
        return _write_part(store, place, traces)
    except StoreDenied as denied:
        return [Refusal(trace.segment, denied.reason, keep=True) for trace in traces]


def _write_merged(store: TraceStore, experiment_id: str, traces: Sequence[TranslatedTrace]) -> list[Refusal]:
    """Write *traces*, those that are added to with what is stored of them, and into the experiment that has them.

    Return those that another experiment refuses as a whole; they stay in the spool.

    A trace has one experiment, that of its first part, though each service names its own: MLflow takes no part of it
    for another, since 3.18.
    """
    places: dict[str, list[tuple[TranslatedTrace, Mapping[int, int]]]] = {}
    for trace in traces:
        merged = merge_with_stored(store, trace, merges=trace.merges_stored)
        places.setdefault(merged[0].summary.experiment_id or experiment_id, []).append(merged)
    _write_to_place(store, experiment_id, places.pop(experiment_id, []))
    refused: list[Refusal] = []
    for place, found in places.items():
        try:
            _write_to_place(store, place, found)
        except (StoreDenied, StoreRejected) as error:
            if isinstance(error, StoreRejected) and not error.all_of_it:
                raise
            refused += [Refusal(trace.segment, error.reason, keep=True) for trace, _ in found]
    return refused


def _write_to_place(store: TraceStore, place: str, found: Sequence[tuple[TranslatedTrace, Mapping[int, int]]]) -> None:
    """Write traces into the experiment *place*, each with the stored spans that get a parent by it."""
    if not found:
        return
    store.write_traces(place, [trace for trace, _ in found])
    for trace, attachable in found:
        if attachable:
            store.attach_spans(place, trace.summary.trace_id, attachable)


def _find_stored_experiment(store: TraceStore, trace: TranslatedTrace) -> str | None:
    """Return the experiment that has *trace* by now, as another process was faster; None if the store tells none."""
    try:
        stored = store.read_trace_summary(trace.summary.trace_id)
    except (StoreDenied, StoreRejected):
        return None
    return None if stored is None else stored.experiment_id


def _split_rounds(segments: Sequence[LocatedSegment]) -> Iterator[list[LocatedSegment]]:
    """Yield *segments* in parts with no trace twice, as a later segment of a trace adds to what is stored by then."""
    remaining = list(segments)
    while remaining:
        first = {one.trace_id: one for one in reversed(remaining)}
        yield [one for one in remaining if first[one.trace_id] is one]
        remaining = [one for one in remaining if first[one.trace_id] is not one]


def split_portions(traces: Sequence[_SegmentOrTrace], store: TraceStore) -> Iterator[Sequence[_SegmentOrTrace]]:
    """Yield *traces* in portions for one write each.

    If there are several, their number is a multiple of the writers'.
    """
    whole = store.most_traces * store.most_spans
    weights = [max(len(trace.segment.spans) * store.most_traces, store.most_spans) for trace in traces]
    in_all = sum(weights)
    parts = -(-in_all // whole)
    if parts > 1:
        parts += -parts % store.most_writers
    begin = part = so_far = 0
    for end, weight in enumerate(weights, 1):
        so_far += weight
        if (reached := so_far * parts // in_all) > part:
            yield traces[begin:end]
            begin, part = end, reached
