"""The summary of a notebook cell: its MLflow runs and its traces, as text for a terminal and HTML for a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from ._training_notes import LoggedModel, describe_training, list_models
from .tracing.export.recent_spans import get_span_id
from .tracing.export.trace_assembler import is_genai
from .tracing.operations import semconv as sc

MAX_SPANS: Final = 5_000  # spans that are kept of one trace
_MAX_LINES: Final = 12  # spans that are shown of one trace
_MAX_TREES: Final = 5  # traces of a cell that are shown with their spans, and models
_MAX_NAME_CHARS: Final = 60  # characters that are shown of a span's name


@dataclass(frozen=True, slots=True)
class SpanLine:
    """One span of a trace, as it is shown; ``depth`` is 0 for a root."""

    depth: int
    name: str
    duration: str
    notes: str
    failed: bool
    training: tuple[str, ...] = ()  # of what is in the notes, what a training's root says as well


@dataclass(frozen=True, slots=True)
class SummaryItem:
    """A run or a trace, as it is shown. The first line is its root; ``more`` counts the lines that are left out."""

    label: str
    name: str
    details: str
    url: str | None
    failed: bool = False
    lines: Sequence[SpanLine] = field(default=())
    hidden_count: int = 0


@dataclass(frozen=True, slots=True)
class CellSummary:
    """The summary of one cell."""

    items: Sequence[SummaryItem]

    def render_text(self) -> str:
        return "\n".join(line for item in self.items for line in _render_item_text(item))

    def render_html(self) -> str:
        return f'<div style="{_BOX_STYLE}">{"".join(map(_render_item_html, self.items))}</div>'


def summarize_cell(
    runs: Sequence[Any], traces: Sequence[Sequence[ReadableSpan]], urls: Mapping[str, str]
) -> CellSummary:
    """Return the summary of a cell.

    Args:
        runs: MLflow's runs.
        traces: the ended spans of each trace.
        urls: URLs in MLflow's UI, by run id, by model id and by trace id (32 hex digits).
    """
    items = [
        SummaryItem("run", str(run.info.run_name or run.info.run_id), "", urls.get(run.info.run_id)) for run in runs
    ]
    items += _summarize_models(list(list_models(traces)), urls)
    for number, spans in enumerate(traces):
        items.append(_summarize_trace(spans, urls, tree=number < _MAX_TREES))
    return CellSummary(items)


def _summarize_models(models: Sequence[LoggedModel], urls: Mapping[str, str]) -> Iterator[SummaryItem]:
    for model in models[:_MAX_TREES]:
        yield SummaryItem("model", model.model_id, f"of {model.training}", urls.get(model.model_id))
    if (more := len(models) - _MAX_TREES) > 0:
        yield SummaryItem("models", f"{more} more", "", None)


def _summarize_trace(spans: Sequence[ReadableSpan], urls: Mapping[str, str], *, tree: bool) -> SummaryItem:
    lines = list(_walk_tree(spans))
    calls = [span for span in spans if _has_own_tokens(span.attributes or {})]
    given = sum(_read_token_count(span, sc.USAGE_INPUT_TOKENS) for span in calls)
    taken = sum(_read_token_count(span, sc.USAGE_OUTPUT_TOKENS) for span in calls)
    facts = [lines[0].duration, f"{len(spans)} span{'s' * (len(spans) != 1)}"]
    facts += [f"{given} in, {taken} out"] if calls else []
    facts += lines[0].training
    at = spans[0].get_span_context()
    shown = lines[:_MAX_LINES] if tree and len(lines) > 1 else ()
    return SummaryItem(
        "trace",
        lines[0].name,
        " · ".join(facts),
        urls.get(f"{at.trace_id:032x}" if at else ""),
        any(line.failed for line in lines),
        shown,
        len(lines) - len(shown) if shown else 0,
    )


def _walk_tree(spans: Sequence[ReadableSpan]) -> Iterator[SpanLine]:
    """Yield a line for each span, parents before their children, siblings by start time."""
    ids = {get_span_id(span): span for span in spans}
    below: dict[int | None, list[ReadableSpan]] = {}
    for span in sorted(spans, key=lambda span: span.start_time or 0):
        above = span.parent.span_id if span.parent and span.parent.span_id in ids else None
        below.setdefault(above, []).append(span)
    waiting = [(span, 0) for span in reversed(below.get(None, []))]
    while waiting:
        span, depth = waiting.pop()
        yield _summarize_span(span, depth)
        waiting += [(child, depth + 1) for child in reversed(below.get(get_span_id(span), []))]


def _summarize_span(span: ReadableSpan, depth: int) -> SpanLine:
    failed = span.status.status_code is StatusCode.ERROR
    marks = []
    if is_genai(span) and (span.attributes or {}).get(sc.USAGE_INPUT_TOKENS) is not None:
        taken, made = (_read_token_count(span, name) for name in (sc.USAGE_INPUT_TOKENS, sc.USAGE_OUTPUT_TOKENS))
        marks.append(f"{taken} in, {made} out")
    training = tuple(describe_training(span.attributes or {}))
    marks += training
    if failed:
        marks.append(str((span.attributes or {}).get(sc.ERROR_TYPE) or "error"))
    name = "".join(char if char.isprintable() else " " for char in span.name)
    name = name if len(name) <= _MAX_NAME_CHARS else name[: _MAX_NAME_CHARS - 1] + "…"
    return SpanLine(depth, name, _format_duration(span), ", ".join(marks), failed, training)


def _has_own_tokens(attributes: Mapping[str, Any]) -> bool:
    """Return whether a span tells tokens, and those of no other span, as an agent does that adds up its calls."""
    return attributes.get(sc.USAGE_INPUT_TOKENS) is not None and sc.COUNTED_BY not in attributes


def _read_token_count(span: ReadableSpan, name: str) -> int:
    value = (span.attributes or {}).get(name)
    return value if isinstance(value, int) else 0


def _format_duration(span: ReadableSpan) -> str:
    ms = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
    if ms < 999.5:
        return f"{ms:.0f} ms"
    return f"{ms / 1000:.2f} s" if ms < 60_000 else f"{ms / 60_000:.1f} min"


def _render_item_text(item: SummaryItem) -> Iterator[str]:
    facts = f"  {item.details}" if item.details else ""
    yield f"mlspan {item.label}: {item.name}{facts}{'  FAILED' if item.failed else ''}"
    for line in item.lines[1:]:
        marks = f"  {line.notes}" if line.notes else ""
        yield f"  {'  ' * line.depth}{line.name}  {line.duration}{marks}"
    if item.hidden_count:
        yield f"    … {item.hidden_count} more"
    if item.url:
        yield f"  {item.url}"


_BOX_STYLE: Final = (
    "font:13px/1.5 system-ui,sans-serif;border-left:3px solid #7c5cff;"
    "padding:4px 0 4px 12px;margin:6px 0;max-width:60em"
)
_MUTED_STYLE: Final = "opacity:.65"
_ERROR_STYLE: Final = "color:#e5484d"  # readable on white and on black
_MONOSPACE_STYLE: Final = "font:12px/1.55 ui-monospace,Menlo,Consolas,monospace"


def _render_item_html(item: SummaryItem) -> str:
    name = escape(item.name)
    if item.url:
        name = f'<a href="{escape(item.url)}" style="color:inherit" target="_blank" rel="noopener">{name}</a>'
    style = f' style="{_ERROR_STYLE}"' if item.failed else ""
    head = f'<span style="{_MUTED_STYLE}">{item.label}</span> <b{style}>{name}</b>'
    head += f' <span style="{_MUTED_STYLE}">{escape(item.details)}</span>'
    if not item.lines:
        return f"<div>{head}</div>"
    rows = "".join(map(_render_line_html, item.lines[1:]))
    if item.hidden_count:
        rows += f'<div style="{_MUTED_STYLE};padding-left:1.5em">… {item.hidden_count} more</div>'
    return f'<details open><summary>{head}</summary><div style="{_MONOSPACE_STYLE}">{rows}</div></details>'


def _render_line_html(line: SpanLine) -> str:
    style = f";{_ERROR_STYLE}" if line.failed else ""
    marks = f" · {escape(line.notes)}" if line.notes else ""
    html = f'{escape(line.name)} <span style="{_MUTED_STYLE}">{line.duration}{marks}</span>'
    return f'<div style="padding-left:{1.5 * line.depth}em{style}">{html}</div>'
