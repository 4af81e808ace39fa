"""Rows of a spool, as they go in and as they come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from ...operations.call_context import TraceOrigin
from ..types import EncodedSpan, SinkKind, TraceSegment

SINK_BITS: Final[Mapping[SinkKind, int]] = {"mlflow": 1, "otlp": 2}
HELD_BIT: Final = 4  # held back from OTLP until its trace is sampled
WHOLE_BIT: Final = 1  # bits of the column `whole`
PARENT_MISSING_BIT: Final = 2


class SpoolRow(NamedTuple):
    """A span that has ended, and its segment."""

    encoded: EncodedSpan
    sinks: int  # bits of the sinks that still have to take it
    segment_number: int = 0  # number of its segment; 0 if no sink takes segments
    trace: str = ""
    log_position: int | None = None  # its position in the write-ahead log, if it is there


class OpenSegment(NamedTuple):
    """A segment that is not complete yet."""

    number: int
    origin: TraceOrigin
    root_id: int
    has_genai: bool  # True if it holds a GenAI span


@dataclass(frozen=True, slots=True)
class SpoolBatch:
    """Items to send, and the keys that delete them once they are sent."""

    items: Sequence[TraceSegment] | Sequence[EncodedSpan]
    keys: Sequence[int]
    last_id: int  # the id after which the next batch begins


def encode_state(segment: TraceSegment) -> int:
    """Return the bits that the column `whole` holds for *segment*."""
    return WHOLE_BIT * segment.whole | PARENT_MISSING_BIT * segment.parent_missing
