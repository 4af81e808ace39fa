"""Reading of the queue on the export worker's thread: each item goes to the worker, up to a flush request."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import ReadableSpan

from .flush_request import FlushRequest
from .memory import estimate_size
from .span_queue import LateSpan, SpanEnded, SpanQueue, SpanStarted

if TYPE_CHECKING:
    from .worker import ExportWorker


def read_queue(queue: SpanQueue, worker: ExportWorker, lost: Counter[str]) -> FlushRequest | None:
    """Pass the items of *queue* to *worker*, at most as many as are stored at once; wait for the first.

    Return a flush request if one is met. An ended span that *worker* fails to take is counted in *lost*.
    """
    item = queue.take_next(worker.seconds_until_due())
    while item is not None and not isinstance(item, FlushRequest):
        if isinstance(item, SpanStarted):
            worker.accept_start(item)
        else:
            size = measure_ended(item)
            queue.bytes_out += size
            try:
                worker.accept_end(item, size)
            except BaseException:
                lost["failed"] += 1
                raise
        item = None if worker.is_full() else queue.take_next(0)
    if not isinstance(item, FlushRequest):
        if not queue.qsize():
            worker.drop_spill_file()
        worker.collect_overdue()
        if worker.is_gathering():
            queue.wait_for_more()
        return None
    assembly = worker.assembly
    worker.collect_overdue(assembly.complete_all() if item.last else assembly.complete_settled() if item.send else ())
    queue.stop_hurrying()
    return item


def measure_ended(ended: SpanEnded) -> int:
    """Return about how many bytes of content an ended span in the queue holds."""
    if isinstance(ended, ReadableSpan):
        return estimate_size(ended)
    if isinstance(ended, LateSpan):
        return measure_ended(ended.ended)
    held = len(ended.encoded.span) if isinstance(ended.encoded, tuple) else 0
    return estimate_size(ended.span) + held
