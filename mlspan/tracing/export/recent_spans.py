"""Recent spans: which have been sent, and those that were dropped with their trace, in case a later span needs them.

A web framework's spans end before the background task that they start. Without them, the task's trace would hang on a
parent that is nowhere.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan

from ..._bounded import BoundedDict

SpanKey = tuple[int, int]  # trace id, span id

# Ids of traces of which some spans were sent while a parent of theirs is still open in this process.
traces_in_parts: Final[BoundedDict[int, None]] = BoundedDict(1000)

_MAX_DROPPED: Final = 2_000  # spans that were dropped and are kept in memory; the oldest go first
_MAX_SENT: Final = 50_000  # ids of spans that were sent; at least half as many are known


class RecentSpans:
    """Spans that the trace assembler has dropped, and ids of those it has sent, within bounds. Not thread-safe."""

    def __init__(self, most_dropped: int = _MAX_DROPPED, most_sent: int = _MAX_SENT) -> None:
        self._most_dropped, self._most_sent = most_dropped, most_sent
        self._dropped: OrderedDict[SpanKey, tuple[ReadableSpan, ...]] = OrderedDict()  # by the key of their root
        self._roots: dict[SpanKey, SpanKey] = {}  # by the key of each dropped span: that of its root
        self._sent: set[int] = set()  # span ids
        self._sent_before: set[int] = set()

    def __contains__(self, key: SpanKey) -> bool:
        return key in self._roots or key[1] in self._sent or key[1] in self._sent_before

    def add_dropped(self, root: SpanKey, spans: Sequence[ReadableSpan]) -> None:
        """Keep the spans of a trace that was dropped; of very many those that ended last, which are the upper ones."""
        kept = tuple(spans[-self._most_dropped :])
        if not kept:
            return
        self._dropped[root] = kept
        self._roots.update(dict.fromkeys(map(get_span_key, kept), root))
        while len(self._roots) > self._most_dropped:
            self._remove_dropped(next(iter(self._dropped)))

    def add_sent(self, keys: Iterable[SpanKey]) -> None:
        """Remember that these spans are sent."""
        self._sent.update(span_id for _, span_id in keys)
        if len(self._sent) > self._most_sent // 2:
            self._sent_before, self._sent = self._sent, set()

    def take_above(self, key: SpanKey) -> list[ReadableSpan]:
        """Remove and return the dropped spans of the trace that *key* is in, and of those above it: upper ones first.

        The first is then the root of them all. Return nothing if *key* was sent or is unknown.
        """
        taken: list[ReadableSpan] = []
        root = self._roots.get(key)
        while root is not None:
            spans = self._remove_dropped(root)
            top = next((span for span in spans if get_span_key(span) == root), spans[-1])
            taken[:0] = [top, *(span for span in spans if span is not top)]
            root = self._roots.get(parent) if (parent := get_parent_key(top)) is not None else None
        return taken

    def _remove_dropped(self, root: SpanKey) -> tuple[ReadableSpan, ...]:
        spans = self._dropped.pop(root)
        for span in spans:
            self._roots.pop(get_span_key(span), None)
        return spans


def get_span_key(span: ReadableSpan) -> SpanKey:
    context = span.get_span_context()
    assert context is not None  # noqa: S101  # the SDK gives every span a context
    return context.trace_id, context.span_id


def get_span_id(span: ReadableSpan) -> int:
    """Return the id of a span; 0 of one that was made without."""
    context = span.get_span_context()
    return context.span_id if context else 0


def get_parent_key(span: ReadableSpan) -> SpanKey | None:
    return None if span.parent is None else (span.parent.trace_id, span.parent.span_id)
