"""``mlspan stats``: add up cost, tokens, latency and errors by model, agent and tool."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from . import form, model
from .common import (
    ExperimentOption,
    JsonOption,
    TrackingUriOption,
    command,
    make_output_console,
    print_note,
    show_busy,
    write_line,
)
from .listing import RunOption, SessionOption, build_search_terms, parse_since
from .places import locate_store
from .reading import TraceReader

_MODEL_TYPES: Final = {"CHAT_MODEL", "LLM", "EMBEDDING"}
_OPERATION_PREFIXES: Final = ("invoke_agent ", "execute_tool ", "create_agent ")
_PERCENTILES: Final = (50, 95, 99)
Metric = Literal["cost", "tokens", "p95", "calls", "errors"]


@dataclass
class StatsRow:
    """Totals of the calls of one model, agent or tool, or of all traces. The cost is in US dollars."""

    name: str
    calls: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    priced_calls: int = 0  # calls whose cost is known
    durations_ms: list[float] = field(default_factory=list)  # milliseconds

    def add_call(self, span: model.StoredSpan, tokens: model.TokenCounts | None, cost: float | None) -> None:
        """Add one call. None stands for tokens or a cost that are not known, or belong elsewhere."""
        self.calls += 1
        self.errors += span.failed
        if tokens is not None:
            self.input_tokens += tokens.input
            self.output_tokens += tokens.output
        if cost is not None:
            self.cost += cost
            self.priced_calls += 1
        if span.duration_ms is not None:
            self.durations_ms.append(span.duration_ms)

    def compute_percentile(self, percent: float) -> float | None:
        """Return the percentile of the durations, in milliseconds."""
        return interpolate_percentile(self.durations_ms, percent)

    def get_metric(self, name: Metric) -> float:
        """Return the value of the metric *name*, for charts and sorting."""
        if name == "p95":
            return self.compute_percentile(95) or 0.0
        return float(
            {"cost": self.cost, "tokens": self.input_tokens + self.output_tokens, "calls": self.calls}.get(
                name, self.errors
            )
        )

    def to_json_object(self) -> dict[str, object]:
        """Return the row as ``--json`` prints it."""
        return {
            "name": self.name,
            "calls": self.calls,
            "errors": self.errors,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost_usd": self.cost if self.priced_calls else None,
            **{f"p{percent}_ms": self.compute_percentile(percent) for percent in _PERCENTILES},
        }


class TraceStats:
    """Totals of all traces, and of each model, agent and tool in them.

    If a span has tokens or a cost, those of the spans below it are not added, as in MLflow's totals of a trace.
    """

    def __init__(self) -> None:
        self.traces = StatsRow("traces")
        self.models: dict[str, StatsRow] = {}
        self.agents: dict[str, StatsRow] = {}
        self.tools: dict[str, StatsRow] = {}

    def add_trace(self, trace: model.StoredTrace) -> None:
        """Add a trace and its spans."""
        self.traces.calls += 1
        self.traces.errors += trace.failed
        if trace.duration_ms is not None:
            self.traces.durations_ms.append(trace.duration_ms)
        if trace.tokens:
            self.traces.input_tokens += trace.tokens.input
            self.traces.output_tokens += trace.tokens.output
        if trace.cost is not None:
            self.traces.cost += trace.cost
            self.traces.priced_calls += 1
        rows = list(trace.walk_tree())
        path: list[model.StoredSpan] = []
        for position, (span, is_last) in enumerate(rows):
            del path[len(is_last) - 1 :]
            name = _strip_operation(span)
            if span.span_type in _MODEL_TYPES and not any(above.span_type in _MODEL_TYPES for above in path):
                name = span.model or span.name
                _get_or_add_row(self.models, name).add_call(span, span.tokens, span.cost)
            elif span.span_type == "AGENT":
                below = [found for found, levels in _iterate_subtree(rows, position)]
                _get_or_add_row(self.agents, name).add_call(span, _sum_tokens(below), _sum_cost(below))
            elif span.span_type == "TOOL":
                _get_or_add_row(self.tools, name).add_call(span, None, None)
            path.append(span)

    @property
    def rows_by_group(self) -> dict[str, list[StatsRow]]:
        """Return the rows by group (model, agent, tool), the most expensive first."""
        found = {"model": self.models, "agent": self.agents, "tool": self.tools}
        order = lambda row: (-row.cost, -(row.input_tokens + row.output_tokens), -row.calls, row.name)  # noqa: E731
        return {group: sorted(rows.values(), key=order) for group, rows in found.items() if rows}


def _get_or_add_row(rows: dict[str, StatsRow], name: str) -> StatsRow:
    return rows.setdefault(name, StatsRow(name))


def _strip_operation(span: model.StoredSpan) -> str:
    """Return the span's name without its operation."""
    return next(
        (span.name.removeprefix(known) for known in _OPERATION_PREFIXES if span.name.startswith(known)), span.name
    )


_TreeRows = list[tuple[model.StoredSpan, tuple[bool, ...]]]


def _iterate_subtree(rows: _TreeRows, position: int) -> Iterable[tuple[model.StoredSpan, int]]:
    """Yield the span at *position* of a tree and all spans below it, with their depths."""
    top = len(rows[position][1])
    yield rows[position][0], top
    for span, is_last in rows[position + 1 :]:
        if len(is_last) <= top:
            return
        yield span, len(is_last)


def _select_topmost(spans: list[model.StoredSpan], get_value: Any) -> list[model.StoredSpan]:
    """Return the spans for which *get_value* is not None, unless a selected span is above them.

    *spans* must be in tree order.
    """
    counted: set[str | None] = set()
    found = []
    for span in spans:
        if span.parent_id in counted:
            counted.add(span.id)
        elif get_value(span) is not None:
            counted.add(span.id)
            found.append(span)
    return found


def _sum_tokens(spans: list[model.StoredSpan]) -> model.TokenCounts | None:
    """Return the sum of the topmost spans' tokens; None if none has any."""
    counts = [span.tokens for span in _select_topmost(spans, lambda span: span.tokens) if span.tokens]
    input_tokens, output_tokens = sum(count.input for count in counts), sum(count.output for count in counts)
    return model.TokenCounts(input_tokens, output_tokens, input_tokens + output_tokens) if counts else None


def _sum_cost(spans: list[model.StoredSpan]) -> float | None:
    """Return the sum of the topmost spans' costs; None if none is known."""
    costs = [span.cost for span in _select_topmost(spans, lambda span: span.cost) if span.cost is not None]
    return sum(costs) if costs else None


def interpolate_percentile(values: list[float], percent: float) -> float | None:
    """Return the percentile by linear interpolation between the closest ranks, as NumPy does; None without values."""
    if not values:
        return None
    ordered = sorted(values)
    rank = (len(ordered) - 1) * percent / 100
    low = int(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


@command
def stats(
    tracking_uri: TrackingUriOption = None,
    experiment: ExperimentOption = None,
    since: Annotated[
        str, typer.Option("--since", metavar="AGO", help="Begun since then: 15m, 1h, 2d, 1w, a date or time, or: all.")
    ] = "1d",
    until: Annotated[str | None, typer.Option("--until", metavar="AGO", help="Begun before then.")] = None,
    run: RunOption = None,
    session: SessionOption = None,
    metric: Annotated[
        Metric | None, typer.Option("--chart", help="Metric of the bars. [dim]Default: cost if any is known.[/dim]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add up cost, tokens, latency and errors.

    By model, agent and tool: mlspan stats --since 1w --chart p95
    """
    since_ms = None if since == "all" else parse_since(since)
    until_ms = None if until is None else parse_since(until)
    traces = TraceReader(locate_store(tracking_uri, experiment))
    search_terms = build_search_terms(traces, run, session, None, since_ms)
    if until_ms is not None:
        search_terms.append(f"attributes.timestamp_ms < {until_ms}")
    totals = TraceStats()
    with show_busy("Reading traces"):
        for trace in traces.iterate_traces(search_terms, spans=True):
            totals.add_trace(trace)
    if as_json:
        write_line(model.dump_json(_build_stats_json(totals, since_ms, until_ms)))
        return
    period = f"since {form.format_full_time(since_ms)}" if since_ms else "of all time"
    period += f" until {form.format_full_time(until_ms)}" if until_ms else ""
    if totals.traces.calls:
        print_stats(totals, make_output_console(), period, metric)
    else:
        print_note(f"no traces {period}" + ("; --since all looks further back" if since_ms else ""))


def _build_stats_json(totals: TraceStats, since_ms: int | None, until_ms: int | None) -> dict[str, object]:
    """Return all totals as ``--json`` prints them."""
    return {
        "since_ms": since_ms,
        "until_ms": until_ms if until_ms is not None else round(time.time() * 1000),
        "traces": totals.traces.to_json_object(),
        **{
            f"{group}s": [row.to_json_object() for row in rows]
            for group, rows in {"model": [], "agent": [], "tool": [], **totals.rows_by_group}.items()
        },
    }


def print_stats(totals: TraceStats, console: Console, period: str, metric: Metric | None) -> None:
    """Print a table and a chart for models, agents and tools."""
    everything = totals.traces
    errors = f"{everything.errors} failed" if everything.errors else "none failed"
    console.print(Text(f"{everything.calls:,} trace{'s' * (everything.calls != 1)} {period}", style="bold"))
    pieces = [
        errors,
        f"{form.format_count(everything.input_tokens)} tokens in, {form.format_count(everything.output_tokens)} out",
    ]
    pieces += [form.format_cost(everything.cost)] if everything.priced_calls else []
    pieces += [f"p{percent} {form.format_duration(everything.compute_percentile(percent))}" for percent in _PERCENTILES]
    for piece in form.wrap_pieces(pieces, " | " if console.options.ascii_only else " · ", console.width):
        console.print(Text(piece))
    for group, rows in totals.rows_by_group.items():
        console.print()
        for line in _draw_table(group, rows, console.width, ascii_only=console.options.ascii_only):
            console.print(line, no_wrap=True, overflow="crop")
        charted = metric or _choose_metric(rows)
        if sum(row.get_metric(charted) > 0 for row in rows) > (metric is None):  # by default, a single bar is not drawn
            console.print()
            for line in _draw_chart(rows, charted, console.width, ascii_only=console.options.ascii_only):
                console.print(line, no_wrap=True, overflow="crop")


def _choose_metric(rows: list[StatsRow]) -> Metric:
    """Return the first metric that any row has: cost, tokens, or else p95."""
    if any(row.cost for row in rows):
        return "cost"
    return "tokens" if any(row.input_tokens or row.output_tokens for row in rows) else "p95"


def _draw_table(group: str, rows: list[StatsRow], width: int, *, ascii_only: bool) -> Iterable[Text]:
    """Yield a header and a line for each row. Columns that do not fit in *width* are left out."""
    columns = _build_columns(rows)
    keep = [True] * len(columns)
    widths = [max(len(title), *map(len, cells)) + 2 for title, cells, _, _ in columns]
    for position in sorted(range(len(columns)), key=lambda at: columns[at][2], reverse=True):
        if sum(column_width for column_width, kept in zip(widths, keep, strict=True) if kept) > width - 18:
            keep[position] = False
    used = sum(column_width for column_width, kept in zip(widths, keep, strict=True) if kept)
    name_width = min(max(len(group), *(cell_len(form.join_lines(row.name)) for row in rows)), max(12, width - used))
    header = f"{group:<{name_width}}" + "".join(
        f"{title:>{column_width}}"
        for (title, *_), column_width, kept in zip(columns, widths, keep, strict=True)
        if kept
    )
    yield Text(header, style="bold")
    for index, row in enumerate(rows):
        shown_name = form.truncate_to_width(form.join_lines(row.name), name_width, ascii_only=ascii_only)
        line = Text().append(shown_name + " " * (name_width - cell_len(shown_name)), "cyan")
        for (_, cells, _, style), column_width, kept in zip(columns, widths, keep, strict=True):
            if kept:
                line.append(
                    f"{cells[index]:>{column_width}}",
                    "red" if style == "errors" and row.errors else style.replace("errors", ""),
                )
        yield line


def _build_columns(rows: list[StatsRow]) -> list[tuple[str, list[str], int, str]]:
    """Return title, cells, priority and style of each column that has a value in any row.

    Columns with a higher priority number are left out first.
    """
    columns = [
        ("calls", [form.format_count(row.calls) for row in rows], 0, ""),
        ("errors", [_format_errors(row) for row in rows], 3, "errors"),
    ]
    if any(row.input_tokens or row.output_tokens for row in rows):
        columns.append(("in", [form.format_count(row.input_tokens) for row in rows], 5, "dim"))
        columns.append(("out", [form.format_count(row.output_tokens) for row in rows], 5, "dim"))
    if any(row.priced_calls for row in rows):
        columns.append(("cost", [form.format_cost(row.cost) if row.priced_calls else "?" for row in rows], 1, "green"))
    for percent, priority in ((50, 2), (95, 4), (99, 6)):
        columns.append(
            (f"p{percent}", [form.format_duration(row.compute_percentile(percent)) for row in rows], priority, "")
        )
    return columns


def _format_errors(row: StatsRow) -> str:
    return f"{row.errors} ({row.errors / row.calls:.0%})" if row.errors else "-"


def _draw_chart(
    rows: list[StatsRow], metric: Metric, width: int, *, ascii_only: bool, max_rows: int = 12
) -> Iterable[Text]:
    """Yield a line with a bar for each of the *max_rows* rows with the highest values."""
    ordered = sorted((row for row in rows if row.get_metric(metric)), key=lambda row: -row.get_metric(metric))
    format_value = {"cost": form.format_cost, "p95": form.format_duration}.get(metric, form.format_count)
    figures = [format_value(row.get_metric(metric)) for row in ordered[:max_rows]]
    names = [
        form.truncate_to_width(form.join_lines(row.name), max(12, width // 3), ascii_only=ascii_only)
        for row in ordered[:max_rows]
    ]
    name_width, figure_width = max(map(cell_len, names)), max(map(len, figures))
    bar_width = max(4, width - name_width - figure_width - 4)
    longest = ordered[0].get_metric(metric)
    yield Text(f"{metric}", style="dim")
    for row, shown_name, shown in zip(ordered, names, figures, strict=False):
        line = Text().append(shown_name + " " * (name_width - cell_len(shown_name)) + "  ", "cyan")
        line.append(
            form.draw_bar(row.get_metric(metric) / longest, min(bar_width, 60), ascii_only=ascii_only),
            "red" if metric == "errors" else "blue",
        )
        yield line.append(f"  {shown}")
    if len(ordered) > max_rows:
        yield Text(f"and {len(ordered) - max_rows} more", style="dim")
