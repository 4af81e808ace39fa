"""The segment writer: it encodes ended spans and stores them in the spool, with the segments that they complete.

All of it runs on the processor's thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan

from ..._guard import guard, warn_once
from ..operations.call_context import TraceOrigin
from .memory import drop_content
from .otlp.codec import UnencodableSpan, encode_each_span
from .sending.sender import Sender
from .spool.directory import SpoolDirectory
from .spool.rows import HELD_BIT, SINK_BITS, OpenSegment, SpoolRow
from .spool.spill import SpilledSpan
from .trace_assembler import OpenTrace
from .types import EncodedSpan, SinkKind, TraceSegment

_LET_GO_BYTES: Final = 256 * 1024  # bytes of spans stored at once, above which an open trace lets their content go


@dataclass(slots=True)
class EndedSpan:
    """A span that has ended and is not stored yet."""

    segment_number: int  # number of the segment that it belongs to
    open_trace: OpenTrace | None
    span: ReadableSpan
    encoded: EncodedSpan | UnencodableSpan | SpilledSpan | None  # None if nobody has encoded it yet
    log_position: int | None  # position in the write-ahead log
    brought_back: bool = False  # True if its trace had been dropped; the OTLP sink already has the span


class SegmentWriter:
    """Stores spans and segments, on disk or, for the sinks that take what they are given, in memory.

    Args:
        directory: the spools of this process.
        kinds: the kinds of the sinks.
        address: completes an origin.
        senders: those that exist, for whether they take what they are given; the worker adds to them.
        lost: counts the spans that find no room or cannot be encoded, by reason.
        held: True if OTLP gets no span before its trace is sampled.
    """

    def __init__(
        self,
        directory: SpoolDirectory,
        kinds: frozenset[SinkKind],
        address: Callable[[TraceOrigin], TraceOrigin],
        senders: Sequence[Sender],
        lost: Counter[str],
        *,
        held: bool,
    ) -> None:
        self._directory, self._kinds, self._address = directory, kinds, address
        self._senders, self._lost, self._held = senders, lost, held
        self.let_go: set[int] = set()  # numbers of segments whose content is no longer in memory
        self._stored_open: set[int] = set()  # numbers of incomplete segments in the spool
        self._in_memory: set[int] = set()  # those of them that are in memory, as the disk was full
        self.spared: Counter[SinkKind] = Counter()  # spans that count as overflow, but that these sinks get

    def store_spans(
        self, fresh: list[EndedSpan], ready: list[TraceSegment], dropped: list[int], sampled: dict[int, bool]
    ) -> None:
        """Store ended spans, ready segments, and which segments are dropped or sampled, in one transaction."""
        gone = set(dropped)
        rows = self._encode_rows(fresh, gone, sampled)
        rows, over, out = self._split_overflow(rows, self._directory.count_free_bytes())
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
            origins = self._complete_origins(ready)
            ready = [
                p._replace(origin=origins[id(p.origin)], spans=() if p.number in self.let_go else p.spans)
                for p in ready
            ]
        else:  # the segments were only built for sampling
            opened, ready = [], []
        stored = self._stored_open
        known = {number: kept for number, kept in sampled.items() if self._held and number in stored}
        memory = self._in_memory | {row.segment_number for row in over}
        dropped = [number for number in dropped if number in stored]
        self._add_to_spool(rows, over, memory, ready, opened, dropped, known)
        self._stored_open = (stored | growing.keys()) - left
        self._in_memory = memory & self._stored_open
        self.let_go &= self._stored_open
        self._let_content_go(rows, growing)

    def _complete_origins(self, segments: Iterable[TraceSegment]) -> dict[int, TraceOrigin]:
        """Return the completed origins of *segments*, each by the id of the origin that it was made from.

        Most traces share one.
        """
        return {id_: self._address(origin) for id_, origin in {id(p.origin): p.origin for p in segments}.items()}

    def _add_to_spool(
        self,
        rows: list[SpoolRow],
        over: list[SpoolRow],
        memory: set[int],
        ready: list[TraceSegment],
        opened: list[OpenSegment],
        dropped: list[int],
        known: dict[int, bool],
    ) -> None:
        """Add *rows* to the spool on disk, and *over* to the one in memory, which holds the segments *memory*."""
        numbers = {one.number for one in ready} | {one.number for one in opened} | {*dropped, *known}
        for add, some, chosen in (
            (self._directory.add_spans, rows, numbers - memory),
            (self._directory.add_to_memory, over, numbers & memory),
        ):
            if some or chosen or add == self._directory.add_spans:
                add(
                    some,
                    [segment for segment in ready if segment.number in chosen],
                    [segment for segment in opened if segment.number in chosen],
                    [number for number in dropped if number in chosen],
                    {number: kept for number, kept in known.items() if number in chosen},
                )

    def _let_content_go(self, rows: Iterable[SpoolRow], growing: Mapping[int, OpenTrace]) -> None:
        """Drop the content of large spans of open traces, which is read back from the spool when they are sent.

        That of a trace without a GenAI span is kept, as it may be stored again below a later one.
        """
        if not growing:
            return
        sizes: Counter[int] = Counter()
        for row in rows:
            sizes[row.segment_number] += len(row.encoded.span)
        for number, open_trace in growing.items():
            if sizes[number] > _LET_GO_BYTES and open_trace.has_genai and number in self._stored_open:
                open_trace.ended_spans = [drop_content(span) for span in open_trace.ended_spans]
                self.let_go.add(number)

    def _encode_rows(self, fresh: list[EndedSpan], gone: set[int], sampled: dict[int, bool]) -> list[SpoolRow]:
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

    def _choose_sink_bits(self, one: EndedSpan, gone: set[int], sampled: dict[int, bool]) -> int:
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
            self._directory.letters.write_letter(next(iter(self._kinds)), str(unfit), span)

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
        up = [sender.kind for sender in self._senders if sender.is_taking]
        every = sum(SINK_BITS[kind] for kind in self._kinds) | HELD_BIT
        bits = sum(SINK_BITS[kind] for kind in up) | (HELD_BIT if "otlp" in up else 0)
        room = self._directory.count_free_memory()
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


def _group_by_segment(rows: Iterable[SpoolRow]) -> dict[int, list[SpoolRow]]:
    """Return the rows of each segment by its number; a row without a segment is one by itself, by a negative number."""
    groups: dict[int, list[SpoolRow]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(row.segment_number or -place - 1, []).append(row)
    return groups
