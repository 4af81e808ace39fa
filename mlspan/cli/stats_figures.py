"""The figures of totals as text for a person, the same in a terminal and on a page."""

from __future__ import annotations

from collections.abc import Sequence

from . import form
from .trace_totals import GROUPS_OF_TRACES, PERCENTILES, Metric, StatsRow


def format_metric(row: StatsRow, metric: Metric) -> str:
    """Return the value of a metric as text."""
    formats = {"cost": form.format_cost, "p95": form.format_duration}
    return formats.get(metric, form.format_count)(row.get_metric(metric))


def title_column(name: str, group: str) -> str:
    """Return the title of a column, or of a chart. The count of some groups' rows is of whole traces, not of calls."""
    return "traces" if name == "calls" and (group in GROUPS_OF_TRACES or group == "begun") else name


def choose_columns(rows: Sequence[StatsRow]) -> list[str]:
    """Return the columns of a table of *rows*: those that have a value in any of them."""
    has_tokens = any(row.input_tokens or row.output_tokens for row in rows)
    has_cost = any(row.priced_calls for row in rows)
    percentiles = [f"p{percent}" for percent in PERCENTILES]
    return ["calls", "errors", *(["in", "out"] if has_tokens else []), *(["cost"] if has_cost else []), *percentiles]


def format_cell(row: StatsRow, column: str) -> str:
    """Return the text of a row in one of the columns above."""
    if column == "errors":
        return f"{row.errors} ({row.errors / row.calls:.0%})" if row.errors else "-"
    if column == "cost":
        return form.format_cost(row.cost) if row.priced_calls else "?"
    if column.startswith("p"):
        return form.format_duration(row.compute_percentile(int(column[1:])))
    return form.format_count({"calls": row.calls, "in": row.input_tokens, "out": row.output_tokens}[column])
