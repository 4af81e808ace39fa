"""The export worker: it groups ended spans into traces, redacts, encodes and stores them, and notifies the senders.

All of it runs on the processor's thread.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan

from ..._guard import guard, log, warn_once
from ..operations.call_context import TraceOrigin
from .flush_result import IN_MEMORY_NAME, NO_ANSWER, DeliveryTally, KeptSpans
from .memory import drop_content, estimate_size
from .otlp.codec import UnencodableSpan, encode_each_span
from .redaction import SpanRedactor
from .sending.sender import Sender
from .span_queue import LateSpan, LoggedSpan, SpanEnded, SpanStarted
from .spool.directory import SpoolDirectory
from .spool.limits import SpoolSettings
from .spool.rows import HELD_BIT, SINK_BITS, OpenSegment, SpoolRow
from .spool.spill import SpilledSpan, SpillFile
from .trace_assembler import OpenTrace, TraceAssembler, is_genai
from .types import EncodedSpan, Sink, SinkKind, TraceSegment

_REPORT_INTERVAL: Final = 30.0  # seconds between two log lines about lost spans
_STORE_AT_ONCE: Final = 500  # spans that are stored at once, even before the interval is over
_STORE_BYTES_AT_ONCE: Final = 8 * 1024 * 1024  # likewise, bytes of their content
_LET_GO_BYTES: Final = 256 * 1024  # bytes of spans stored at once, above which an open trace lets their content go


@dataclass(slots=True)
class _EndedSpan:
    """A span that has ended and is not stored yet."""

    segment_number: int  # number of the segment that it belongs to
    open_trace: OpenTrace | None
    span: ReadableSpan
    encoded: EncodedSpan | UnencodableSpan | SpilledSpan | None  # None if nobody has encoded it yet
    log_position: int | None  # position in the write-ahead log
    brought_back: bool = False  # True if its trace had been dropped; the OTLP sink already has the span


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
        self._fresh: list[_EndedSpan] = []
        self._fresh_bytes = 0
        self._let_go: set[int] = set()  # numbers of segments whose content is no longer in memory
        self._ready: list[TraceSegment] = []
        self._stored_open: set[int] = set()  # numbers of incomplete segments in the spool
        self._in_memory: set[int] = set()  # those of them that are in memory, as the disk was full
        self.spared: Counter[SinkKind] = Counter()  # spans that count as overflow, but that these sinks get
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

    def accept_end(self, ended: SpanEnded) -> None:
        """Take a span that has ended. It is stored later, with others."""
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
        self._fresh.append(_EndedSpan(number, open_trace, span, encoded, position))
        self._fresh_bytes += encoded.size if isinstance(encoded, SpilledSpan) else estimate_size(span)
        if isinstance(encoded, SpilledSpan):
            self._let_go.add(number)
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
        upper = [_EndedSpan(number, open_trace, span, None, None, True) for open_trace, number, span in brought_back]
        fresh, self._fresh, self._fresh_bytes = upper + self._fresh, [], 0
        ready, self._ready = self._ready, []
        dropped, self.assembly.dropped = self.assembly.dropped, []
        sampled, self.assembly.sampled = self.assembly.sampled, {}
        if fresh or ready or dropped:
            try:
                self._store(fresh, ready, dropped, sampled)
            except BaseException:
                self._lost["failed"] += len(fresh)
                raise
            self._notify_senders()
        self.directory.scan_directory()

    def _store(
        self, fresh: list[_EndedSpan], ready: list[TraceSegment], dropped: list[int], sampled: dict[int, bool]
    ) -> None:
        """Store these in one transaction."""
        gone = set(dropped)
        rows = self._encode_rows(fresh, gone, sampled)
        rows, over, out = self._split_overflow(rows, self.directory.count_free_bytes())
        over, lost = self._select_for_memory(over)
        out = (out | lost) - self._stored_open
        ready = [segment for segment in ready if segment.number not in out]
        left = {segment.number for segment in ready} | gone | out
        growing = {
            one.segment_number: one.open_trace
            for one in fresh
            if one.open_trace is not None and one.segment_number not in left
        }
        if "mlflow" in self._kinds:
            opened = [
                OpenSegment(number, self._address(one.origin), one.root[1], one.has_genai)
                for number, one in growing.items()
            ]
            ready = [
                replace(p, origin=self._address(p.origin), spans=() if p.number in self._let_go else p.spans)
                for p in ready
            ]
        else:  # the segments were only built for sampling
            opened, ready = [], []
        stored = self._stored_open
        dropped = [number for number in dropped if number in stored]
        known = {number: kept for number, kept in sampled.items() if self._held and number in stored}
        memory = self._in_memory | {row.segment_number for row in over}
        numbers = {one.number for one in ready} | {one.number for one in opened} | {*dropped, *known}
        for add, some, chosen in (
            (self.directory.add_spans, rows, numbers - memory),
            (self.directory.add_to_memory, over, numbers & memory),
        ):
            if some or chosen or add == self.directory.add_spans:
                add(
                    some,
                    [segment for segment in ready if segment.number in chosen],
                    [segment for segment in opened if segment.number in chosen],
                    [number for number in dropped if number in chosen],
                    {number: kept for number, kept in known.items() if number in chosen},
                )
        self._stored_open = (stored | growing.keys()) - left
        self._in_memory = memory & self._stored_open
        self._let_go &= self._stored_open
        self._let_content_go(rows, growing)

    def _let_content_go(self, rows: Iterable[SpoolRow], growing: Mapping[int, OpenTrace]) -> None:
        """Drop the content of large spans of open traces, which is read back from the spool when they are sent.

        That of a trace without a GenAI span is kept, as it may be stored again below a later one.
        """
        sizes: Counter[int] = Counter()
        for row in rows:
            sizes[row.segment_number] += len(row.encoded.span)
        for number, open_trace in growing.items():
            if sizes[number] > _LET_GO_BYTES and open_trace.has_genai and number in self._stored_open:
                open_trace.ended_spans = [drop_content(span) for span in open_trace.ended_spans]
                self._let_go.add(number)

    def _encode_rows(self, fresh: list[_EndedSpan], gone: set[int], sampled: dict[int, bool]) -> list[SpoolRow]:
        """Encode ended spans and return their spool rows. Spans that cannot be encoded are set aside."""
        bits = [self._choose_sink_bits(one, gone, sampled) for one in fresh]
        fresh = [one for one, sinks in zip(fresh, bits, strict=True) if sinks]
        made = iter(encode_each_span([one.span for one in fresh if one.encoded is None]))
        rows = []
        for one, sinks in zip(fresh, filter(None, bits), strict=True):
            encoded = next(made) if one.encoded is None else one.encoded
            if isinstance(encoded, SpilledSpan):
                try:
                    encoded = encoded.read_encoded()
                except OSError as error:
                    encoded = UnencodableSpan(f"a span cannot be read back from the disk ({error})")
            if isinstance(encoded, EncodedSpan):
                trace = f"{one.open_trace.root[0]:032x}" if one.open_trace is not None else ""
                rows.append(SpoolRow(encoded, sinks, one.segment_number, trace, one.log_position))
            else:
                self._set_aside_unencodable(one.span, encoded)
        return rows

    def _choose_sink_bits(self, one: _EndedSpan, gone: set[int], sampled: dict[int, bool]) -> int:
        """Return the bits of the sinks that are to get a span, as far as sampling has decided."""
        number = one.segment_number
        mlflow = SINK_BITS["mlflow"] if "mlflow" in self._kinds and number not in gone else 0
        if "otlp" not in self._kinds or one.brought_back:
            return mlflow
        if not self._held:
            return mlflow | SINK_BITS["otlp"]
        return mlflow | {None: HELD_BIT, True: SINK_BITS["otlp"], False: 0}[sampled.get(number)]

    def _set_aside_unencodable(self, span: ReadableSpan, unfit: UnencodableSpan) -> None:
        """Count a span that cannot be encoded, and write it to the dead letters."""
        self._lost["unfit"] += 1
        warn_once("mlspan: %s; it is left out, the rest of its trace is not", unfit)
        with guard("setting a span aside"):
            self.directory.letters.write_letter(next(iter(self._kinds)), str(unfit), span)

    def _split_overflow(self, rows: list[SpoolRow], room: int) -> tuple[list[SpoolRow], list[SpoolRow], set[int]]:
        """Return the rows that fit into *room* bytes of the spool, those that do not, and the numbers of lost segments.

        A segment is never split: what does not fit of one that the spool has begun with is lost.
        """
        over = [row for row in rows if row.segment_number in self._in_memory] if self._in_memory else []
        rows = [row for row in rows if row.segment_number not in self._in_memory] if self._in_memory else rows
        if sum(len(row.encoded.span) for row in rows) <= room:
            return rows, over, set()
        kept: list[SpoolRow] = []
        out: set[int] = set()
        for number, group in _group_by_segment(rows).items():
            size = sum(len(row.encoded.span) for row in group)
            if size <= room:
                room -= size
                kept += group
            elif number in self._stored_open:
                self._lost["overflow"] += len(group)
                out.add(number)
            else:
                over += group
        return kept, over, out

    def _select_for_memory(self, rows: list[SpoolRow]) -> tuple[list[SpoolRow], set[int]]:
        """Return the rows that are kept in memory, for the sinks that take what they are given, and lost segments.

        What can be delivered is not lost because the disk is full of what cannot.
        """
        if not rows:
            return [], set()
        up = [sender.kind for sender in self.senders if sender.is_taking]
        every = sum(SINK_BITS[kind] for kind in self._kinds) | HELD_BIT
        bits = sum(SINK_BITS[kind] for kind in up) | (HELD_BIT if "otlp" in up else 0)
        room = self.directory.count_free_memory()
        kept: list[SpoolRow] = []
        out: set[int] = set()
        for number, group in _group_by_segment(rows).items():
            for_sinks = every if number in self._in_memory else bits
            wanted = [row._replace(sinks=row.sinks & for_sinks) for row in group if row.sinks & for_sinks]
            size = sum(len(row.encoded.span) for row in wanted)
            if not wanted or size > room:
                self._lost["overflow"] += len(group)
                out.add(number)
                continue
            room -= size
            kept += wanted
            if for_sinks != every and len(up) < len(self._kinds):
                self._lost["overflow"] += len(group)
                self.spared.update(dict.fromkeys(up, len(group)))
                out |= set() if "mlflow" in up else {number}  # its spans are kept, but for OTLP alone
        return kept, out

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


def _group_by_segment(rows: Iterable[SpoolRow]) -> dict[int, list[SpoolRow]]:
    """Return the rows of each segment by its number; a row without a segment is one by itself, by a negative number."""
    groups: dict[int, list[SpoolRow]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(row.segment_number or -place - 1, []).append(row)
    return groups
