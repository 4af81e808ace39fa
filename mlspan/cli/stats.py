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
from .common import AsJson, Experiment, TrackingUri, busy, command, note, out, write
from .listing import Run, Session, since_option, terms
from .places import place
from .reading import Traces

_MODELS: Final = {"CHAT_MODEL", "LLM", "EMBEDDING"}
_OPERATIONS: Final = ("invoke_agent ", "execute_tool ", "create_agent ")
_PERCENTILES: Final = (50, 95, 99)
Metric = Literal["cost", "tokens", "p95", "calls", "errors"]


@dataclass
class Row:
    """Totals of the calls of one model, agent or tool, or of all traces. The cost is in US dollars."""

    name: str
    calls: int = 0
    errors: int = 0
    input: int = 0
    output: int = 0
    cost: float = 0.0
    priced: int = 0  # calls whose cost is known
    took: list[float] = field(default_factory=list)  # milliseconds

    def add(self, span: model.Span, tokens: model.Tokens | None, cost: float | None) -> None:
        """Add one call. None stands for tokens or a cost that are not known, or belong elsewhere."""
        self.calls += 1
        self.errors += span.failed
        if tokens is not None:
            self.input += tokens.input
            self.output += tokens.output
        if cost is not None:
            self.cost += cost
            self.priced += 1
        if span.ms is not None:
            self.took.append(span.ms)

    def percentile(self, percent: float) -> float | None:
        """Return the percentile of the durations, in milliseconds."""
        return percentile(self.took, percent)

    def metric(self, name: Metric) -> float:
        """Return the value of the metric *name*, for charts and sorting."""
        if name == "p95":
            return self.percentile(95) or 0.0
        return float(
            {"cost": self.cost, "tokens": self.input + self.output, "calls": self.calls}.get(name, self.errors)
        )

    def as_json(self) -> dict[str, Any]:
        """Return the row as ``--json`` prints it."""
        return {
            "name": self.name,
            "calls": self.calls,
            "errors": self.errors,
            "input_tokens": self.input,
            "output_tokens": self.output,
            "cost_usd": self.cost if self.priced else None,
            **{f"p{percent}_ms": self.percentile(percent) for percent in _PERCENTILES},
        }


class Totals:
    """Totals of all traces, and of each model, agent and tool in them.

    If a span has tokens or a cost, those of the spans below it are not added, as in MLflow's totals of a trace.
    """

    def __init__(self) -> None:
        self.traces = Row("traces")
        self.models: dict[str, Row] = {}
        self.agents: dict[str, Row] = {}
        self.tools: dict[str, Row] = {}

    def add(self, trace: model.Trace) -> None:
        """Add a trace and its spans."""
        self.traces.calls += 1
        self.traces.errors += trace.failed
        if trace.ms is not None:
            self.traces.took.append(trace.ms)
        if trace.tokens:
            self.traces.input += trace.tokens.input
            self.traces.output += trace.tokens.output
        if trace.cost is not None:
            self.traces.cost += trace.cost
            self.traces.priced += 1
        rows = list(trace.tree())
        path: list[model.Span] = []
        for position, (span, is_last) in enumerate(rows):
            del path[len(is_last) - 1 :]
            name = _named(span)
            if span.kind in _MODELS and not any(above.kind in _MODELS for above in path):
                name = span.model or span.name
                _row(self.models, name).add(span, span.tokens, span.cost)
            elif span.kind == "AGENT":
                below = [found for found, levels in _below(rows, position)]
                _row(self.agents, name).add(span, _tokens(below), _cost(below))
            elif span.kind == "TOOL":
                _row(self.tools, name).add(span, None, None)
            path.append(span)

    @property
    def groups(self) -> dict[str, list[Row]]:
        """Return the rows by group (model, agent, tool), the most expensive first."""
        found = {"model": self.models, "agent": self.agents, "tool": self.tools}
        order = lambda row: (-row.cost, -(row.input + row.output), -row.calls, row.name)  # noqa: E731
        return {group: sorted(rows.values(), key=order) for group, rows in found.items() if rows}


def _row(rows: dict[str, Row], name: str) -> Row:
    return rows.setdefault(name, Row(name))


def _named(span: model.Span) -> str:
    """Return the span's name without its operation."""
    return next((span.name.removeprefix(known) for known in _OPERATIONS if span.name.startswith(known)), span.name)


_Rows = list[tuple[model.Span, tuple[bool, ...]]]


def _below(rows: _Rows, position: int) -> Iterable[tuple[model.Span, int]]:
    """Yield the span at *position* of a tree and all spans below it, with their depths."""
    top = len(rows[position][1])
    yield rows[position][0], top
    for span, is_last in rows[position + 1 :]:
        if len(is_last) <= top:
            return
        yield span, len(is_last)


def _counting(spans: list[model.Span], get_value: Any) -> list[model.Span]:
    """Return the spans for which *get_value* is not None, unless a selected span is above them.

    *spans* must be in tree order.
    """
    counted: set[str | None] = set()
    found = []
    for span in spans:
        if span.parent in counted:
            counted.add(span.id)
        elif get_value(span) is not None:
            counted.add(span.id)
            found.append(span)
    return found


def _tokens(spans: list[model.Span]) -> model.Tokens | None:
    """Return the sum of the topmost spans' tokens; None if none has any."""
    counts = [span.tokens for span in _counting(spans, lambda span: span.tokens) if span.tokens]
    input_tokens, output_tokens = sum(count.input for count in counts), sum(count.output for count in counts)
    return model.Tokens(input_tokens, output_tokens, input_tokens + output_tokens) if counts else None


def _cost(spans: list[model.Span]) -> float | None:
    """Return the sum of the topmost spans' costs; None if none is known."""
    costs = [span.cost for span in _counting(spans, lambda span: span.cost) if span.cost is not None]
    return sum(costs) if costs else None


def percentile(values: list[float], percent: float) -> float | None:
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
    tracking_uri: TrackingUri = None,
    experiment: Experiment = None,
    since: Annotated[
        str, typer.Option("--since", metavar="AGO", help="Begun since then: 15m, 1h, 2d, 1w, a date or time, or: all.")
    ] = "1d",
    until: Annotated[str | None, typer.Option("--until", metavar="AGO", help="Begun before then.")] = None,
    run: Run = None,
    session: Session = None,
    metric: Annotated[
        Metric | None, typer.Option("--chart", help="Metric of the bars. [dim]Default: cost if any is known.[/dim]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add up cost, tokens, latency and errors.

    By model, agent and tool: mlspan stats --since 1w --chart p95
    """
    since_ms = None if since == "all" else since_option(since)
    until_ms = None if until is None else since_option(until)
    traces = Traces(place(tracking_uri, experiment))
    search_terms = terms(traces, run, session, None, since_ms)
    if until_ms is not None:
        search_terms.append(f"attributes.timestamp_ms < {until_ms}")
    totals = Totals()
    with busy("Reading traces"):
        for trace in traces.search(search_terms, spans=True):
            totals.add(trace)
    if as_json:
        write(model.dumps(_json(totals, since_ms, until_ms)))
        return
    period = f"since {form.moment(since_ms)}" if since_ms else "of all time"
    period += f" until {form.moment(until_ms)}" if until_ms else ""
    if totals.traces.calls:
        render(totals, out(), period, metric)
    else:
        note(f"no traces {period}" + ("; --since all looks further back" if since_ms else ""))


def _json(totals: Totals, since_ms: int | None, until_ms: int | None) -> dict[str, Any]:
    """Return all totals as ``--json`` prints them."""
    return {
        "since_ms": since_ms,
        "until_ms": until_ms if until_ms is not None else round(time.time() * 1000),
        "traces": totals.traces.as_json(),
        **{
            f"{group}s": [row.as_json() for row in rows]
            for group, rows in {"model": [], "agent": [], "tool": [], **totals.groups}.items()
        },
    }


def render(totals: Totals, console: Console, period: str, metric: Metric | None) -> None:
    """Print a table and a chart for models, agents and tools."""
    everything = totals.traces
    errors = f"{everything.errors} failed" if everything.errors else "none failed"
    console.print(Text(f"{everything.calls:,} trace{'s' * (everything.calls != 1)} {period}", style="bold"))
    pieces = [errors, f"{form.count(everything.input)} tokens in, {form.count(everything.output)} out"]
    pieces += [form.money(everything.cost)] if everything.priced else []
    pieces += [f"p{percent} {form.duration(everything.percentile(percent))}" for percent in _PERCENTILES]
    for piece in form.flowed(pieces, " | " if console.options.ascii_only else " · ", console.width):
        console.print(Text(piece))
    for group, rows in totals.groups.items():
        console.print()
        for line in _table(group, rows, console.width, ascii_only=console.options.ascii_only):
            console.print(line, no_wrap=True, overflow="crop")
        charted = metric or _telling(rows)
        if sum(row.metric(charted) > 0 for row in rows) > (metric is None):  # by default, a single bar is not drawn
            console.print()
            for line in _chart(rows, charted, console.width, ascii_only=console.options.ascii_only):
                console.print(line, no_wrap=True, overflow="crop")


def _telling(rows: list[Row]) -> Metric:
    """Return the first metric that any row has: cost, tokens, or else p95."""
    if any(row.cost for row in rows):
        return "cost"
    return "tokens" if any(row.input or row.output for row in rows) else "p95"


def _table(group: str, rows: list[Row], width: int, *, ascii_only: bool) -> Iterable[Text]:
    """Yield a header and a line for each row. Columns that do not fit in *width* are left out."""
    columns = _columns(rows)
    keep = [True] * len(columns)
    widths = [max(len(title), *map(len, cells)) + 2 for title, cells, _, _ in columns]
    for position in sorted(range(len(columns)), key=lambda at: columns[at][2], reverse=True):
        if sum(column_width for column_width, kept in zip(widths, keep, strict=True) if kept) > width - 18:
            keep[position] = False
    used = sum(column_width for column_width, kept in zip(widths, keep, strict=True) if kept)
    name_width = min(max(len(group), *(cell_len(form.one_line(row.name)) for row in rows)), max(12, width - used))
    header = f"{group:<{name_width}}" + "".join(
        f"{title:>{column_width}}"
        for (title, *_), column_width, kept in zip(columns, widths, keep, strict=True)
        if kept
    )
    yield Text(header, style="bold")
    for index, row in enumerate(rows):
        shown_name = form.fit(form.one_line(row.name), name_width, ascii_only=ascii_only)
        line = Text().append(shown_name + " " * (name_width - cell_len(shown_name)), "cyan")
        for (_, cells, _, style), column_width, kept in zip(columns, widths, keep, strict=True):
            if kept:
                line.append(
                    f"{cells[index]:>{column_width}}",
                    "red" if style == "errors" and row.errors else style.replace("errors", ""),
                )
        yield line


def _columns(rows: list[Row]) -> list[tuple[str, list[str], int, str]]:
    """Return title, cells, priority and style of each column that has a value in any row.

    Columns with a higher priority number are left out first.
    """
    columns = [
        ("calls", [form.count(row.calls) for row in rows], 0, ""),
        ("errors", [_errors(row) for row in rows], 3, "errors"),
    ]
    if any(row.input or row.output for row in rows):
        columns.append(("in", [form.count(row.input) for row in rows], 5, "dim"))
        columns.append(("out", [form.count(row.output) for row in rows], 5, "dim"))
    if any(row.priced for row in rows):
        columns.append(("cost", [form.money(row.cost) if row.priced else "?" for row in rows], 1, "green"))
    for percent, priority in ((50, 2), (95, 4), (99, 6)):
        columns.append((f"p{percent}", [form.duration(row.percentile(percent)) for row in rows], priority, ""))
    return columns


def _errors(row: Row) -> str:
    return f"{row.errors} ({row.errors / row.calls:.0%})" if row.errors else "-"


def _chart(rows: list[Row], metric: Metric, width: int, *, ascii_only: bool, max_rows: int = 12) -> Iterable[Text]:
    """Yield a line with a bar for each of the *max_rows* rows with the highest values."""
    ordered = sorted((row for row in rows if row.metric(metric)), key=lambda row: -row.metric(metric))
    format_value = {"cost": form.money, "p95": form.duration}.get(metric, form.count)
    figures = [format_value(row.metric(metric)) for row in ordered[:max_rows]]
    names = [
        form.fit(form.one_line(row.name), max(12, width // 3), ascii_only=ascii_only) for row in ordered[:max_rows]
    ]
    name_width, figure_width = max(map(cell_len, names)), max(map(len, figures))
    bar_width = max(4, width - name_width - figure_width - 4)
    longest = ordered[0].metric(metric)
    yield Text(f"{metric}", style="dim")
    for row, shown_name, shown in zip(ordered, names, figures, strict=False):
        line = Text().append(shown_name + " " * (name_width - cell_len(shown_name)) + "  ", "cyan")
        line.append(
            form.bar(row.metric(metric) / longest, min(bar_width, 60), ascii_only=ascii_only),
            "red" if metric == "errors" else "blue",
        )
        yield line.append(f"  {shown}")
    if len(ordered) > max_rows:
        yield Text(f"and {len(ordered) - max_rows} more", style="dim")
