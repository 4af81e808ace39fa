"""Collected spans: found by name, shown as one readable tree, and held against what a test expects."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from ..tracing.export.dialects.catalog import translate_foreign_span
from ..tracing.export.recent_spans import get_span_id
from ..tracing.operations import semconv as sc
from .call_totals import CallTotals, list_calls, read_tokens, sum_calls
from .golden_trees import check_golden, locate_file
from .tool_calls import Match, ToolCall, ToolNames, decode_content, list_requested_tools, match_tools, read_tool_call


class Spans:
    """The spans that have ended since this object was made or cleared."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter
        self._golden: set[Path] = set()

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
        self._golden.clear()

    @property
    def tools(self) -> ToolNames:
        """Return the names of the tools that ran, a list in the order in which they started."""
        return ToolNames((call.name for call in self.tool_calls), self._explain_tools)

    @property
    def tool_calls(self) -> list[ToolCall]:
        """Return the calls of tools with arguments and results, in the order in which they started."""
        return [read_tool_call(span) for span in self._select_operations(sc.EXECUTE_TOOL)]

    @property
    def requested_tools(self) -> list[ToolCall]:
        """Return the calls of tools that models have asked for, whether they ran or not.

        A call with several spans is listed once, by the rule by which :attr:`totals` counts it once.
        """
        calls = list_calls([translate_foreign_span(span) for span in self.all])
        return [call for span in calls for call in list_requested_tools(span)]

    @property
    def agents(self) -> list[str]:
        """Return the names of the agents that ran, in the order in which they started."""
        return [_read_name(span, sc.AGENT_NAME, sc.INVOKE_AGENT) for span in self._select_operations(sc.INVOKE_AGENT)]

    @property
    def totals(self) -> CallTotals:
        """Return calls, tokens, cost and time of all spans; each call counts once."""
        return sum_calls([translate_foreign_span(span) for span in self.all])

    def assert_tools(self, *expected: str, match: Match = "exact") -> None:
        """Check which tools ran.

        Args:
            expected: names of tools.
            match: ``exact``: these in this order; ``unordered``: these in any order; ``in_order``: these in this order,
                with others before, between and after; ``superset``: at least these; ``subset``: at most these.

        Raises:
            AssertionError: others ran; the message shows the tree.
            ValueError: there is no such way to match.
        """
        __tracebackhide__ = True
        if (problem := match_tools(expected, self.tools, match)) is not None:
            raise AssertionError(f"{problem}\n{self._explain_tools()}")

    def assert_within(self, **limits: float) -> None:
        """Check that nothing used more than it may.

        A limit of tokens or cost fails as well where they cannot be known: a call reports no tokens, or has no price.

        Args:
            limits: the greatest value allowed of ``calls``, ``tool_calls``, ``errors``, ``tokens``, ``input_tokens``,
                ``output_tokens``, ``cost`` (in US dollars) and ``seconds``, as in :class:`CallTotals`.

        Raises:
            AssertionError: a total is greater; the message lists all that are, and shows the tree.
            TypeError: there is no such total.
        """
        __tracebackhide__ = True
        if exceeded := self.totals.find_exceeded(limits):
            raise AssertionError("\n".join(["more than the test allows:", *exceeded, self.tree()]))

    def assert_golden(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        attributes: Sequence[str] = (),
        tokens: bool = False,
        ordered: bool = True,
        replace: Mapping[str, str] | None = None,
        update: bool | None = None,
    ) -> None:
        r"""Compare the tree with a golden one in a file. ``pytest --update-golden`` writes the file.

        Args:
            path: the file; by default ``golden/<file of the test>/<name of the test>.txt`` beside the test.
            name: tells several golden trees of one test apart.
            attributes: names of further span attributes to compare, such as ``"gen_ai.tool.call.arguments"``.
            tokens: whether to compare the tokens of each call.
            ordered: whether the order of spans below one span counts; False for those that run side by side.
            replace: regular expressions and what to put in the place of what they match, such as ``{r"\d+": "N"}``.
            update: whether to write the file; by default what the command line of pytest says.

        Raises:
            AssertionError: the tree is another one, or there is no golden tree; the message shows the difference.
            RuntimeError: no test of pytest runs, and *path* is not given.
        """
        __tracebackhide__ = True
        place = locate_file("golden", ".txt", name) if path is None else Path(path)
        if place in self._golden:
            raise RuntimeError(f"{place} is another golden tree of this test: give each a name=")
        self._golden.add(place)
        tree = self._render(attributes, tokens=tokens, ordered=ordered)
        for pattern, text in (replace or {}).items():
            tree = re.sub(pattern, text, tree)
        check_golden(tree, place, update=update)

    def tree(self, *attributes: str) -> str:
        """Return a line for each span, indented by two spaces more than its parent.

        A line reads ``name [tokens, error, stream end, attributes]``; what a span does not have is left out.

        Args:
            attributes: names of further span attributes to show.
        """
        return self._render(attributes)

    def _explain_tools(self) -> str:
        """Return the tree, and the tools that models have asked for if no span tells that these ran."""
        ran = [call.name for call in self.tool_calls]
        asked = [call.name for call in self.requested_tools]
        hint = f"\nmodels asked for {asked}, of which no span of a tool tells" if asked and not ran else ""
        return f"the spans:\n{self.tree() or '(none)'}{hint}"

    def _select_operations(self, *operations: str) -> Iterator[ReadableSpan]:
        """Yield the spans of these operations, in the conventions' names."""
        for span in map(translate_foreign_span, self.all):
            if (span.attributes or {}).get(sc.OPERATION) in operations:
                yield span

    def _render(self, attributes: Sequence[str], *, tokens: bool = True, ordered: bool = True) -> str:
        below: dict[int | None, list[ReadableSpan]] = {}
        found = self.all
        ids = {get_span_id(span) for span in found}
        for span in found:
            above = span.parent.span_id if span.parent and span.parent.span_id in ids else None
            below.setdefault(above, []).append(span)

        def list_blocks(parent: int | None, depth: int) -> Iterator[str]:
            for span in below.get(parent, ()):
                line = "  " * depth + _format_span(span, attributes, tokens=tokens)
                yield "\n".join([line, *arrange(get_span_id(span), depth + 1)])

        def arrange(parent: int | None, depth: int) -> Iterator[str] | list[str]:
            blocks = list_blocks(parent, depth)
            return blocks if ordered else sorted(blocks)

        return "\n".join(arrange(None, 0))


def content(span: ReadableSpan, name: str) -> Any:
    """Return the value of a content attribute, decoded from JSON; None if the span lacks the attribute.

    Args:
        span: a span that has ended.
        name: the attribute, such as ``"gen_ai.output.messages"``.
    """
    return decode_content(span, name)


def _read_name(span: ReadableSpan, attribute: str, operation: str) -> str:
    return str((span.attributes or {}).get(attribute) or span.name.removeprefix(f"{operation} "))


def _format_span(span: ReadableSpan, names: Sequence[str], *, tokens: bool) -> str:
    attributes = span.attributes or {}
    marks = []
    given, taken = read_tokens(span)
    if tokens and (given is not None or taken is not None):
        marks.append(f"{given or 0} in, {taken or 0} out")
    if span.status.status_code is StatusCode.ERROR:
        marks.append(f"ERROR {attributes.get(sc.ERROR_TYPE, '')}".rstrip())
    if (end := attributes.get(sc.STREAM_END)) is not None:
        marks.append(f"stream {end}")
    marks += [f"{name}={attributes[name]!s}" for name in names if name in attributes]
    return f"{span.name} [{', '.join(marks)}]" if marks else span.name
