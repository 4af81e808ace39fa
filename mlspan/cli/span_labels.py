"""Names of spans where others refer to them, and the links between spans in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from . import form, model


class LinkText(NamedTuple):
    """A link in words: ``asked by`` and ``chat gpt-4o #2``. The id is that of a span shown here; else it is None."""

    words: str
    target: str
    shown_id: str | None


class SpanLabels:
    """Names of the spans of some traces. A name that a trace has several times is numbered where a link leads to it."""

    def __init__(self, traces: Sequence[model.StoredTrace]) -> None:
        targets = {(link.trace_id, link.span_id) for trace in traces for span in trace.spans for link in span.links}
        self._labels: dict[tuple[str, str], str] = {}
        for trace in traces:
            names = Counter(span.name for span in trace.spans)
            numbers: Counter[str] = Counter()
            for span, _ in trace.walk_tree():
                numbers[span.name] += 1
                is_numbered = names[span.name] > 1 and (trace.id, span.id) in targets
                number = f" #{numbers[span.name]}" if is_numbered else ""
                self._labels[trace.id, span.id] = form.join_lines(span.name) + number

    def get_label(self, trace: model.StoredTrace, span: model.StoredSpan) -> str:
        """Return what a span is called."""
        return self._labels.get((trace.id, span.id)) or form.join_lines(span.name)

    def describe_links(self, trace: model.StoredTrace, span: model.StoredSpan) -> Iterator[LinkText]:
        """Yield the links of a span, each once."""
        seen = set()
        for link in span.links:
            if link in seen:
                continue
            seen.add(link)
            key = link.trace_id, link.span_id
            label = self._labels.get(key)
            there = form.shorten_trace_id(form.join_lines(link.trace_id))
            place = "" if link.trace_id == trace.id else f" in {there}"
            words = form.join_lines(link.words)
            yield LinkText(words, f"{label or 'a span'}{place}", None if label is None else link.span_id)
