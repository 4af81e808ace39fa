"""The summary of a notebook cell: its MLflow runs and its traces, as text for a terminal and HTML for a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from .tracing.export.trace_assembler import is_genai
from .tracing.operations import semconv as sc

MOST_SPANS: Final = 5_000  # spans that are kept of one trace
_MOST_LINES: Final = 12  # spans that are shown of one trace
_MOST_TRACES: Final = 5  # traces of a cell that are shown with their spans
_LONGEST: Final = 60  # characters that are shown of a span's name


@dataclass(frozen=True, slots=True)
class Line:
    """One span of a trace, as it is shown; ``depth`` is 0 for a root."""

    depth: int
    name: str
    took: str
    marks: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Item:
    """A run or a trace, as it is shown. The first line is its root; ``more`` counts the lines that are left out."""

    kind: str
    name: str
    facts: str
    url: str | None
    failed: bool = False
    lines: Sequence[Line] = field(default=())
    more: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """The summary of one cell."""

    items: Sequence[Item]

    def text(self) -> str:
        return "\n".join(line for item in self.items for line in _text(item))

    def html(self) -> str:
        return f'<div style="{_BOX}">{"".join(map(_html, self.items))}</div>'


def told(runs: Sequence[Any], traces: Sequence[Sequence[ReadableSpan]], urls: Mapping[str, str]) -> Told:
    """Return the summary of a cell.

    Args:
        runs: MLflow's runs.
        traces: the ended spans of each trace.
        urls: URLs in MLflow's UI, by run id and by trace id (32 hex digits).
    """
    items = [Item("run", str(run.info.run_name or run.info.run_id), "", urls.get(run.info.run_id)) for run in runs]
    for number, spans in enumerate(traces):
        items.append(_trace(spans, urls, tree=number < _MOST_TRACES))
    return Told(items)


def _trace(spans: Sequence[ReadableSpan], urls: Mapping[str, str], *, tree: bool) -> Item:
    lines = list(_grown(spans))
    calls = [span for span in spans if (span.attributes or {}).get(sc.USAGE_INPUT_TOKENS) is not None]
    given = sum(_number(span, sc.USAGE_INPUT_TOKENS) for span in calls)
    taken = sum(_number(span, sc.USAGE_OUTPUT_TOKENS) for span in calls)
    facts = [lines[0].took, f"{len(spans)} span{'s' * (len(spans) != 1)}"]
    facts += [f"{given} in, {taken} out"] if calls else []
    at = spans[0].get_span_context()
    shown = lines[:_MOST_LINES] if tree and len(lines) > 1 else ()
    return Item(
        "trace",
        lines[0].name,
        " · ".join(facts),
        urls.get(f"{at.trace_id:032x}" if at else ""),
        any(line.failed for line in lines),
        shown,
        len(lines) - len(shown) if shown else 0,
    )


def _grown(spans: Sequence[ReadableSpan]) -> Iterator[Line]:
    """Yield a line for each span, parents before their children, siblings by start time."""
    ids = {_id(span): span for span in spans}
    below: dict[int | None, list[ReadableSpan]] = {}
    for span in sorted(spans, key=lambda span: span.start_time or 0):
        above = span.parent.span_id if span.parent and span.parent.span_id in ids else None
        below.setdefault(above, []).append(span)
    waiting = [(span, 0) for span in reversed(below.get(None, []))]
    while waiting:
        span, depth = waiting.pop()
        yield _line(span, depth)
        waiting += [(child, depth + 1) for child in reversed(below.get(_id(span), []))]


def _line(span: ReadableSpan, depth: int) -> Line:
    failed = span.status.status_code is StatusCode.ERROR
    marks = []
    if is_genai(span) and (span.attributes or {}).get(sc.USAGE_INPUT_TOKENS) is not None:
        marks.append(f"{_number(span, sc.USAGE_INPUT_TOKENS)} in, {_number(span, sc.USAGE_OUTPUT_TOKENS)} out")
    if failed:
        marks.append(str((span.attributes or {}).get(sc.ERROR_TYPE) or "error"))
    name = "".join(char if char.isprintable() else " " for char in span.name)
    name = name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
    return Line(depth, name, _took(span), ", ".join(marks), failed)


def _id(span: ReadableSpan) -> int:
    at = span.get_span_context()
    return at.span_id if at else 0


def _number(span: ReadableSpan, name: str) -> int:
    value = (span.attributes or {}).get(name)
    return value if isinstance(value, int) else 0


def _took(span: ReadableSpan) -> str:
    ms = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
    if ms < 999.5:
        return f"{ms:.0f} ms"
    return f"{ms / 1000:.2f} s" if ms < 60_000 else f"{ms / 60_000:.1f} min"


def _text(item: Item) -> Iterator[str]:
    facts = f"  {item.facts}" if item.facts else ""
    yield f"mlspan {item.kind}: {item.name}{facts}{'  FAILED' if item.failed else ''}"
    for line in item.lines[1:]:
        marks = f"  {line.marks}" if line.marks else ""
        yield f"  {'  ' * line.depth}{line.name}  {line.took}{marks}"
    if item.more:
        yield f"    … {item.more} more"
    if item.url:
        yield f"  {item.url}"


_BOX: Final = (
    "font:13px/1.5 system-ui,sans-serif;border-left:3px solid #7c5cff;"
    "padding:4px 0 4px 12px;margin:6px 0;max-width:60em"
)
_QUIET: Final = "opacity:.65"
_RED: Final = "color:#e5484d"  # readable on white and on black
_MONO: Final = "font:12px/1.55 ui-monospace,Menlo,Consolas,monospace"


def _html(item: Item) -> str:
    name = escape(item.name)
    if item.url:
        name = f'<a href="{escape(item.url)}" style="color:inherit" target="_blank" rel="noopener">{name}</a>'
    style = f' style="{_RED}"' if item.failed else ""
    head = f'<span style="{_QUIET}">{item.kind}</span> <b{style}>{name}</b>'
    head += f' <span style="{_QUIET}">{escape(item.facts)}</span>'
    if not item.lines:
        return f"<div>{head}</div>"
    rows = "".join(map(_row, item.lines[1:]))
    if item.more:
        rows += f'<div style="{_QUIET};padding-left:1.5em">… {item.more} more</div>'
    return f'<details open><summary>{head}</summary><div style="{_MONO}">{rows}</div></details>'


def _row(line: Line) -> str:
    style = f";{_RED}" if line.failed else ""
    marks = f" · {escape(line.marks)}" if line.marks else ""
    html = f'{escape(line.name)} <span style="{_QUIET}">{line.took}{marks}</span>'
    return f'<div style="padding-left:{1.5 * line.depth}em{style}">{html}</div>'
