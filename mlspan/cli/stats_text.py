"""Totals of traces as tables and bars in a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from . import form
from .stats_figures import choose_columns, format_cell, format_metric, title_column
from .trace_totals import PERCENTILES, Metric, StatsRow, TraceStats, choose_metric

_MOST_INTERVALS: Final = 48  # bars of intervals, the latest
_PRIORITIES: Final = {"calls": 0, "cost": 1, "p50": 2, "errors": 3, "p95": 4, "in": 5, "out": 5, "p99": 6}
_STYLES: Final = {"errors": "errors", "in": "dim", "out": "dim", "cost": "green"}  # of columns


def print_stats(totals: TraceStats, console: Console, period: str, metric: Metric | None) -> None:
    """Print a table and a chart for models, agents and tools."""
    everything = totals.traces
    errors = f"{everything.errors} failed" if everything.errors else "none failed"
    console.print(Text(f"{form.format_quantity(everything.calls, 'trace')} {period}", style="bold"))
    pieces = [
        errors,
        f"{form.format_count(everything.input_tokens)} tokens in, {form.format_count(everything.output_tokens)} out",
    ]
    pieces += [form.format_cost(everything.cost)] if everything.priced_calls else []
    pieces += [f"p{percent} {form.format_duration(everything.compute_percentile(percent))}" for percent in PERCENTILES]
    for piece in form.wrap_pieces(pieces, " | " if console.options.ascii_only else " · ", console.width):
        console.print(Text(piece))
    groups = dict(totals.rows_by_group)
    if totals.intervals:
        groups = {"begun": totals.list_intervals(), **groups}
    for group, rows in groups.items():
        console.print()
        for line in _draw_table(group, rows, console.width, ascii_only=console.options.ascii_only):
            console.print(line, no_wrap=True, overflow="crop")
        charted = metric or choose_metric(rows)
        if sum(row.get_metric(charted) > 0 for row in rows) > (metric is None):  # by default, a single bar is not drawn
            console.print()
            ordered = rows if group == "begun" else None
            console.print(Text(title_column(charted, group), style="dim"))
            for line in _draw_chart(rows, charted, console.width, ascii_only=console.options.ascii_only, kept=ordered):
                console.print(line, no_wrap=True, overflow="crop")


def _draw_table(group: str, rows: list[StatsRow], width: int, *, ascii_only: bool) -> Iterable[Text]:
    """Yield a header and a line for each row. Columns that do not fit in *width* are left out."""
    columns = _build_columns(group, rows)
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


def _build_columns(group: str, rows: list[StatsRow]) -> list[tuple[str, list[str], int, str]]:
    """Return title, cells, priority and style of each column that has a value in any row.

    Columns with a higher priority number are left out first.
    """
    return [
        (
            title_column(name, group),
            [format_cell(row, name) for row in rows],
            _PRIORITIES[name],
            _STYLES.get(name, ""),
        )
        for name in choose_columns(rows)
    ]


def _draw_chart(
    rows: list[StatsRow],
    metric: Metric,
    width: int,
    *,
    ascii_only: bool,
    kept: list[StatsRow] | None = None,
    max_rows: int = 12,
) -> Iterable[Text]:
    """Yield a line with a bar for each of the *max_rows* rows with the highest values, or for the last of *kept*."""
    ordered = sorted((row for row in rows if row.get_metric(metric)), key=lambda row: -row.get_metric(metric))
    if kept is not None:
        ordered = kept[-_MOST_INTERVALS:]
        max_rows = len(ordered)
    figures = [format_metric(row, metric) for row in ordered[:max_rows]]
    names = [
        form.truncate_to_width(form.join_lines(row.name), max(12, width // 3), ascii_only=ascii_only)
        for row in ordered[:max_rows]
    ]
    name_width, figure_width = max(map(cell_len, names)), max(map(len, figures))
    bar_width = max(4, width - name_width - figure_width - 4)
    longest = max(row.get_metric(metric) for row in ordered)
    for row, shown_name, shown in zip(ordered, names, figures, strict=False):
        line = Text().append(shown_name + " " * (name_width - cell_len(shown_name)) + "  ", "cyan")
        line.append(
            form.draw_bar(row.get_metric(metric) / longest, min(bar_width, 60), ascii_only=ascii_only),
            "red" if metric == "errors" else "blue",
        )
        yield line.append(f"  {shown}")
    if len(ordered) > max_rows:
        yield Text(f"and {len(ordered) - max_rows} more", style="dim")
