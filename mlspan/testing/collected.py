"""Collected spans: found by name, shown as one readable tree, their content decoded."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from ..tracing.operations import semconv as sc
from ..tracing.operations.messages import parse_json


class Spans:
    """The spans that have ended since this object was made or cleared."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    @property
    def all(self) -> list[ReadableSpan]:
        """Return all ended spans, in the order in which they started."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def one(self) -> ReadableSpan:
        """Return the only span.

        Raises:
            AssertionError: there are none or several; the message shows the tree.
        """
        found = self.all
        assert len(found) == 1, f"one span expected, not {len(found)}:\n{self.tree()}"  # noqa: S101  # this module is for tests
        return found[0]

    def named(self, name: str) -> list[ReadableSpan]:
        """Return the spans with this name, in the order in which they started."""
        return [span for span in self.all if span.name == name]

    def clear(self) -> None:
        """Forget the spans that have ended."""
        self._exporter.clear()

    def tree(self, *attributes: str) -> str:
        """Return a line for each span, indented by two spaces more than its parent.

        A line reads ``name [tokens, error, stream end, attributes]``; what a span does not have is left out.

        Args:
            attributes: names of further span attributes to show.
        """
        found = self.all
        ids = {_read_span_id(span) for span in found}
        lines: list[str] = []

        def add_children(parent: int | None, depth: int) -> None:
            for span in found:
                above = span.parent.span_id if span.parent and span.parent.span_id in ids else None
                if above == parent:
                    lines.append("  " * depth + _format_span(span, attributes))
                    add_children(_read_span_id(span), depth + 1)

        add_children(None, 0)
        return "\n".join(lines)


def content(span: ReadableSpan, name: str) -> Any:
    """Return the value of a content attribute, decoded from JSON; None if the span lacks the attribute.

    Args:
        span: a span that has ended.
        name: the attribute, such as ``"gen_ai.output.messages"``.
    """
    text = (span.attributes or {}).get(name)
    return None if text is None else parse_json(str(text))


def _read_span_id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    return context.span_id if context else 0


def _format_span(span: ReadableSpan, names: tuple[str, ...]) -> str:
    attributes = span.attributes or {}
    marks = []
    given, taken = attributes.get(sc.USAGE_INPUT_TOKENS), attributes.get(sc.USAGE_OUTPUT_TOKENS)
    if given is not None or taken is not None:
        marks.append(f"{given or 0} in, {taken or 0} out")
    if span.status.status_code is StatusCode.ERROR:
        marks.append(f"ERROR {attributes.get(sc.ERROR_TYPE, '')}".rstrip())
    if (end := attributes.get(sc.STREAM_END)) is not None:
        marks.append(f"stream {end}")
    marks += [f"{name}={attributes[name]!s}" for name in names if name in attributes]
    return f"{span.name} [{', '.join(marks)}]" if marks else span.name
