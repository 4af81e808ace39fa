"""The export worker: it redacts ended spans, groups them into traces, has them stored and notifies the senders.

All of it runs on the processor's thread.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from time import monotonic
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan

from ..._guard import log, warn_once
from ..operations.call_context import TraceOrigin
from .flush_result import IN_MEMORY_NAME, NO_ANSWER, DeliveryTally, KeptSpans
from .otlp.codec import UnencodableSpan, encode_each_span
from .redaction import SpanRedactor
from .segment_writer import EndedSpan, SegmentWriter
from .sending.sender import Sender
from .span_queue import LateSpan, LoggedSpan, SpanEnded, SpanStarted
from .spool.directory import SpoolDirectory
from .spool.limits import SpoolSettings
from .spool.spill import SpilledSpan, SpillFile
from .trace_assembler import TraceAssembler, is_genai
from .types import EncodedSpan, Sink, SinkKind, TraceSegment

_REPORT_INTERVAL: Final = 30.0  # seconds between two log lines about lost spans
_STORE_AT_ONCE: Final = 500  # spans that are stored at once, even before the interval is over
_STORE_BYTES_AT_ONCE: Final = 8 * 1024 * 1024  # likewise, bytes of their content


class ExportWorker:
    """Processes spans that have left the caller's thread. Other threads may only call ``write_ahead`` and ``spill``.

    Args:
        sinks: by kind, the sink and the description of its destination (no credentials).
        keeping: durability, folder and limits of the spool.
        address: completes an origin.
        assembly: the trace assembler, used if a sink takes trace segments.
        sent: counts the spans that were taken, by the kind of the sink.
        refused: counts the spans that were refused for good, by the kind of the sink.
        lost: counts the spans that were lost before any backend was asked, by reason.
        interval: seconds until ended spans are stored.
        tallies: by kind, what counts what has become of this process's spans.
        held: True if OTLP gets no span before its trace is sampled.
        redact: redacts spans before they are stored.
    """

    def __init__(
        self,
        sinks: dict[SinkKind, tuple[Sink, dict[str, Any]]],
        keeping: SpoolSettings,
        address: Callable[[TraceOrigin], TraceOrigin],
        assembly: TraceAssembler,
        sent: Counter[str],
        refused: Counter[str],
        lost: Counter[str],
        interval: float,
        tallies: Mapping[SinkKind, DeliveryTally],
        *,
        held: bool = False,
        redact: SpanRedactor | None = None,
    ) -> None:
        self._kinds, self._address, self._lost, self._interval = frozenset(sinks), address, lost, interval
        self.assembly, self._held, self._redact = assembly, held, redact or SpanRedactor()
        self._fresh: list[EndedSpan] = []
        self._fresh_bytes = 0
        self._ready: list[TraceSegment] = []
        self._oldest = self._told_lost = self._looked = 0.0
        self._sent, self._refused, self._reported = sent, refused, 0
        self._tallies = tallies
        self._left: int | None = None  # spans that were unsent when the spool was closed
        self._left_ready: dict[SinkKind, tuple[int, float | None]] = {}  # likewise
        self._sinks = {kind: sink for kind, (sink, _) in sinks.items()}
        self._spill: SpillFile | None = None
        self._spill_bytes = keeping.max_bytes if hasattr(os, "pwrite") else 0
        self.directory = SpoolDirectory(keeping, {kind: where for kind, (_, where) in sinks.items()}, lost)
        self.senders: list[Sender] = []
        self.writer = SegmentWriter(self.directory, self._kinds, address, self.senders, lost, held=held)
        self._idle: list[Sender] = []  # those without a thread
        self.has_children = False  # whether this process has forked
        self._looked_for_children = 0.0

    def set_redactor(self, redact: SpanRedactor) -> None:
        self._redact = redact

    def start_senders(self, served: Container[SinkKind]) -> None:
        """Send what is there already, and what others have left; senders of the kinds *served* have a thread."""
        directory = self.directory
        for kind, sink in self._sinks.items():
            sender = Sender(
                kind,
                sink,
                directory.list_spools,
                directory.letters,
                directory.set_aside_damaged,
                self._sent,
                self._refused,
                self._tallies[kind],
            )
            self.senders.append(sender)
            if kind not in served:
                self._idle.append(sender)
        directory.scan_directory(now=True)
        self._notify_senders()

    def hold_local_senders(self, seconds: float) -> None:
        """Leave what is for a database to the parent of this forked process, unless this one lives for so long.

        Writing to it imports MLflow, which takes longer than many a child lives.
        """
        for sender in self.senders:
            if self._sinks[sender.kind].local and self.directory.on_disk:
                sender.hold(seconds)

    def adopt_from_children(self, *, now: bool = False) -> None:
        """Send what children have left that have ended. It looks at most once a second unless *now*."""
        if self.has_children and (now or monotonic() - self._looked_for_children > 1):
            self._looked_for_children = monotonic()
            if self.directory.adopt_from_children():
                self._notify_senders()

    def stand_in(self, sender: Sender) -> None:
        """Do the work of a sender whose thread has died."""
        if sender not in self._idle and not sender.finished.is_set():
            self._idle.append(sender)

    def turn(self) -> None:
        """Send what no thread sends."""
        for sender in self._idle:
            sender.turn()

    def write_ahead(self, span: ReadableSpan, origin: TraceOrigin) -> ReadableSpan | LoggedSpan:
        """Redact *span*, append it to the write-ahead log if there is one, and return the queue item."""
        log_file = self.directory.journal
        if log_file is None:
            return span
        try:
            span = self._redact(span)
            encoded, position = log_file.append_span(span, self._address(self._redact.redact_origin(origin)))
        except Exception as error:  # noqa: BLE001  # mostly a full disk; logged on the worker's thread
            return LoggedSpan(span, log_error=error)
        return LoggedSpan(span, encoded, position)

    def spill(self, ended: ReadableSpan | LoggedSpan) -> ReadableSpan | LoggedSpan | SpilledSpan:
        """Redact and encode a span and write it to the spill file. Return the queue item, as it was if that fails.

        A span that is not GenAI's keeps its content, as it may be stored again below a later one.
        """
        span, encoded, position, failed = ended if isinstance(ended, LoggedSpan) else (ended, None, None, None)
        folder = self.directory.folder if self.directory.on_disk else None
        if folder is None or not self._spill_bytes or failed is not None or not is_genai(span):
            return ended
        try:
            file = self._spill
            if file is None:
                file = self._spill = SpillFile(folder, self._spill_bytes)
            if encoded is None:
                span = self._redact(span)
                (encoded,) = encode_each_span([span])
            if isinstance(encoded, UnencodableSpan):
                return ended
            return file.write_span(span, encoded, position) or ended
        except Exception:  # noqa: BLE001  # a full disk: the queue holds it until its bound
            return ended

    def drop_spill_file(self) -> None:
        """Start a new spill file the next time. The disk has the room of this one again once its spans are stored."""
        self._spill = None

    def seconds_until_due(self) -> float:
        """Return the seconds until there is work, even if no span arrives."""
        if not self._fresh and not self._ready:
            return 1.0 if self.has_children else 5.0
        return max(0.01, self._oldest + self._interval - monotonic())

    def is_gathering(self) -> bool:
        """Return True if it is better to wait for more spans before storing."""
        return bool(self._fresh) and not self.is_full()

    def is_full(self) -> bool:
        """Return True if there are enough spans to store and send now, while more arrive."""
        return len(self._fresh) >= _STORE_AT_ONCE or self._fresh_bytes >= _STORE_BYTES_AT_ONCE

    def accept_start(self, started: SpanStarted) -> None:
        """Note a span that has started."""
        span, origin = started
        self.assembly.note_start(span, self._redact.redact_origin(origin))

    def accept_end(self, ended: SpanEnded, size: int) -> None:
        """Take a span that has ended, with about *size* bytes of text. It is stored later, with others."""
        origin: TraceOrigin | None = None
        if isinstance(ended, LateSpan):
            origin = self._redact.redact_origin(ended.origin)
            ended = ended.ended
        encoded: EncodedSpan | UnencodableSpan | SpilledSpan | None
        if isinstance(ended, SpilledSpan):
            span, encoded, position = ended.span, ended, ended.log_position
        elif isinstance(ended, LoggedSpan):
            span, encoded, position, error = ended
            if error is not None:
                warn_once("mlspan: a span could not be written down before its caller went on: %s", error)
                span = self._redact(span)
        else:
            span, encoded, position = self._redact(ended), None, None
        if not self._fresh and not self._ready:
            self._oldest = monotonic()
        together = self._held or "mlflow" in self._kinds
        number, open_trace, segment = self.assembly.note_end(span, origin) if together else (0, None, None)
        self._fresh.append(EndedSpan(number, open_trace, span, encoded, position))
        self._fresh_bytes += encoded.size if isinstance(encoded, SpilledSpan) else size
        if isinstance(encoded, SpilledSpan):
            self.writer.let_go.add(number)
        if segment is not None:
            self._ready.append(segment)

    def collect_overdue(self, segments: Iterable[TraceSegment] = ()) -> None:
        """Add overdue segments, and *segments* that a flush sends early, to those that are ready."""
        if monotonic() - self._looked > 1:
            self._looked = monotonic()
            self._ready += self.assembly.split_overdue()
        self._ready += segments

    def is_due(self) -> bool:
        """Return True if spans should be stored now: there are many, or the oldest has waited for the interval."""
        if self.is_full():
            return True
        return bool(self._fresh or self._ready) and monotonic() - self._oldest >= self._interval

    def store_ended(self) -> None:
        """Store ended spans and ready segments in one transaction, and notify the senders."""
        brought_back, self.assembly.brought_back = self.assembly.brought_back, []
        upper = [EndedSpan(number, open_trace, span, None, None, True) for open_trace, number, span in brought_back]
        fresh, self._fresh, self._fresh_bytes = upper + self._fresh, [], 0
        ready, self._ready = self._ready, []
        dropped, self.assembly.dropped = self.assembly.dropped, []
        sampled, self.assembly.sampled = self.assembly.sampled, {}
        if fresh or ready or dropped:
            try:
                self.writer.store_spans(fresh, ready, dropped, sampled)
            except BaseException:
                self._lost["failed"] += len(fresh)
                raise
            self._notify_senders()
        self.directory.scan_directory()

    def _notify_senders(self) -> None:
        for sender in self.senders:
            sender.notify_new_batch()

    def close(self) -> None:
        """Wait for the senders to finish, then close the spools."""
        for sender in self.senders:
            sender.finished.wait()
        self.directory.drop_overflow()
        self.drop_spill_file()
        self._left_ready = {kind: self.directory.measure_ready(kind) for kind in self._kinds}
        self._left = self.directory.close()

    def find_kept(self, kind: SinkKind) -> KeptSpans | None:
        """Return what waits for a sink of this process's own spans; None if nothing does."""
        spans, since = self._left_ready[kind] if self._left_ready else self.directory.measure_ready(kind)
        if not spans:
            return None
        where = str(self.directory.folder) if self.directory.on_disk else IN_MEMORY_NAME
        reason = next((sender.reason for sender in self.senders if sender.kind == kind), NO_ANSWER)
        return KeptSpans(spans, where, reason, since)

    def count_unsent(self) -> int:
        """Return the number of this process's stored spans that have not been sent to every backend."""
        if self._left is not None:
            return self._left
        try:
            return sum(spool.count_spans() for spool in self.directory.list_spools() if not spool.inherited)
        except Exception:  # noqa: BLE001  # the spool is closed, full or damaged, so it cannot be counted
            return 0

    def report_lost(self, *, at_once: bool) -> None:
        """Log how many spans were dropped, at most once in 30 seconds unless *at_once*."""
        lost = self._lost["overflow"]
        if lost > self._reported and (at_once or monotonic() - self._told_lost > _REPORT_INTERVAL):
            log.warning("mlspan: spans lost so far, as more came than could be kept: %d", lost)
            self._reported, self._told_lost = lost, monotonic()
