"""``mlspan stats``: cost, tokens, latency and errors by model, agent and tool."""

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
    """What the calls of one model, agent or tool add up to."""

    name: str
    calls: int = 0
    errors: int = 0
    input: int = 0
    output: int = 0
    cost: float = 0.0
    priced: int = 0  # calls whose cost is known
    took: list[float] = field(default_factory=list)  # milliseconds

    def add(self, span: model.Span, tokens: model.Tokens | None, cost: float | None) -> None:
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
        return percentile(self.took, percent)

    def metric(self, name: Metric) -> float:
        if name == "p95":
            return self.percentile(95) or 0.0
        return float(
            {"cost": self.cost, "tokens": self.input + self.output, "calls": self.calls}.get(name, self.errors)
        )

    def as_json(self) -> dict[str, Any]:
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
    """All that is counted. A span's tokens and cost count for all below it, as MLflow adds a trace up."""

    def __init__(self) -> None:
        self.traces = Row("traces")
        self.models: dict[str, Row] = {}
        self.agents: dict[str, Row] = {}
        self.tools: dict[str, Row] = {}

    def add(self, trace: model.Trace) -> None:
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
        for position, (span, last) in enumerate(rows):
            del path[len(last) - 1 :]
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
        """Rows by what they are of, the dearest first."""
        found = {"model": self.models, "agent": self.agents, "tool": self.tools}
        order = lambda row: (-row.cost, -(row.input + row.output), -row.calls, row.name)  # noqa: E731
        return {of: sorted(rows.values(), key=order) for of, rows in found.items() if rows}


def _row(rows: dict[str, Row], name: str) -> Row:
    return rows.setdefault(name, Row(name))


def _named(span: model.Span) -> str:
    return next((span.name.removeprefix(known) for known in _OPERATIONS if span.name.startswith(known)), span.name)


_Rows = list[tuple[model.Span, tuple[bool, ...]]]


def _below(rows: _Rows, position: int) -> Iterable[tuple[model.Span, int]]:
    """The span at *position* of a tree, and all below it, with their depths."""
    top = len(rows[position][1])
    yield rows[position][0], top
    for span, last in rows[position + 1 :]:
        if len(last) <= top:
            return
        yield span, len(last)


def _counting(spans: list[model.Span], has: Any) -> list[model.Span]:
    """Those of *spans*, which are in tree order, that have something and nothing above them that has it."""
    counted: set[str | None] = set()
    found = []
    for span in spans:
        if span.parent in counted:
            counted.add(span.id)
        elif has(span) is not None:
            counted.add(span.id)
            found.append(span)
    return found


def _tokens(spans: list[model.Span]) -> model.Tokens | None:
    counts = [span.tokens for span in _counting(spans, lambda span: span.tokens) if span.tokens]
    given, taken = sum(count.input for count in counts), sum(count.output for count in counts)
    return model.Tokens(given, taken, given + taken) if counts else None


def _cost(spans: list[model.Span]) -> float | None:
    costs = [span.cost for span in _counting(spans, lambda span: span.cost) if span.cost is not None]
    return sum(costs) if costs else None


def percentile(values: list[float], percent: float) -> float | None:
    """By linear interpolation between the closest ranks, as NumPy does; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    place_ = (len(ordered) - 1) * percent / 100
    low = int(place_)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place_ - low)


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
        Metric | None, typer.Option("--chart", help="What the bars say. [dim]Default: cost if any is known.[/dim]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add up cost, tokens, latency and errors.

    By model, agent and tool: mlspan stats --since 1w --chart p95
    """
    begun = None if since == "all" else since_option(since)
    ended = None if until is None else since_option(until)
    traces = Traces(place(tracking_uri, experiment))
    where = terms(traces, run, session, None, begun)
    if ended is not None:
        where.append(f"attributes.timestamp_ms < {ended}")
    totals = Totals()
    with busy("Reading traces"):
        for trace in traces.search(where, spans=True):
            totals.add(trace)
    if as_json:
        write(model.dumps(_json(totals, begun, ended)))
        return
    span = f"since {form.moment(begun)}" if begun else "of all time"
    span += f" until {form.moment(ended)}" if ended else ""
    if totals.traces.calls:
        render(totals, out(), span, metric)
    else:
        note(f"no traces {span}" + ("; --since all looks further back" if begun else ""))


def _json(totals: Totals, begun: int | None, ended: int | None) -> dict[str, Any]:
    return {
        "since_ms": begun,
        "until_ms": ended if ended is not None else round(time.time() * 1000),
        "traces": totals.traces.as_json(),
        **{
            f"{of}s": [row.as_json() for row in rows]
            for of, rows in {"model": [], "agent": [], "tool": [], **totals.groups}.items()
        },
    }


def render(totals: Totals, console: Console, span: str, metric: Metric | None) -> None:
    """Print a table and a chart for models, agents and tools."""
    everything = totals.traces
    errors = f"{everything.errors} failed" if everything.errors else "none failed"
    console.print(Text(f"{everything.calls:,} trace{'s' * (everything.calls != 1)} {span}", style="bold"))
    pieces = [errors, f"{form.count(everything.input)} tokens in, {form.count(everything.output)} out"]
    pieces += [form.money(everything.cost)] if everything.priced else []
    pieces += [f"p{percent} {form.duration(everything.percentile(percent))}" for percent in _PERCENTILES]
    for piece in form.flowed(pieces, " | " if console.options.ascii_only else " · ", console.width):
        console.print(Text(piece))
    for of, rows in totals.groups.items():
        console.print()
        for line in _table(of, rows, console.width, ascii_only=console.options.ascii_only):
            console.print(line, no_wrap=True, overflow="crop")
        by = metric or _telling(rows)
        if sum(row.metric(by) > 0 for row in rows) > (metric is None):  # one bar alone compares nothing
            console.print()
            for line in _chart(rows, by, console.width, ascii_only=console.options.ascii_only):
                console.print(line, no_wrap=True, overflow="crop")


def _telling(rows: list[Row]) -> Metric:
    if any(row.cost for row in rows):
        return "cost"
    return "tokens" if any(row.input or row.output for row in rows) else "p95"


def _table(of: str, rows: list[Row], width: int, *, ascii_only: bool) -> Iterable[Text]:
    """A header, and a line for each row; the columns for which there is no room are left out."""
    columns = _columns(rows)
    keep = [True] * len(columns)
    wide = [max(len(title), *map(len, cells)) + 2 for title, cells, _, _ in columns]
    for position in sorted(range(len(columns)), key=lambda at: columns[at][2], reverse=True):
        if sum(w for w, kept in zip(wide, keep, strict=True) if kept) > width - 18:
            keep[position] = False
    used = sum(w for w, kept in zip(wide, keep, strict=True) if kept)
    name = min(max(len(of), *(cell_len(form.one_line(row.name)) for row in rows)), max(12, width - used))
    header = f"{of:<{name}}" + "".join(
        f"{title:>{w}}" for (title, *_), w, kept in zip(columns, wide, keep, strict=True) if kept
    )
    yield Text(header, style="bold")
    for index, row in enumerate(rows):
        said = form.fit(form.one_line(row.name), name, ascii_only=ascii_only)
        line = Text().append(said + " " * (name - cell_len(said)), "cyan")
        for (_, cells, _, style), w, kept in zip(columns, wide, keep, strict=True):
            if kept:
                line.append(
                    f"{cells[index]:>{w}}", "red" if style == "errors" and row.errors else style.replace("errors", "")
                )
        yield line


def _columns(rows: list[Row]) -> list[tuple[str, list[str], int, str]]:
    """Title, cells, how soon it is left out (higher is sooner), style; of what any row has."""
    found = [
        ("calls", [form.count(row.calls) for row in rows], 0, ""),
        ("errors", [_errors(row) for row in rows], 3, "errors"),
    ]
    if any(row.input or row.output for row in rows):
        found.append(("in", [form.count(row.input) for row in rows], 5, "dim"))
        found.append(("out", [form.count(row.output) for row in rows], 5, "dim"))
    if any(row.priced for row in rows):
        found.append(("cost", [form.money(row.cost) if row.priced else "?" for row in rows], 1, "green"))
    for percent, soon in ((50, 2), (95, 4), (99, 6)):
        found.append((f"p{percent}", [form.duration(row.percentile(percent)) for row in rows], soon, ""))
    return found


def _errors(row: Row) -> str:
    return f"{row.errors} ({row.errors / row.calls:.0%})" if row.errors else "-"


def _chart(rows: list[Row], by: Metric, width: int, *, ascii_only: bool, most: int = 12) -> Iterable[Text]:
    ordered = sorted((row for row in rows if row.metric(by)), key=lambda row: -row.metric(by))
    say = {"cost": form.money, "p95": form.duration}.get(by, form.count)
    figures = [say(row.metric(by)) for row in ordered[:most]]
    names = [form.fit(form.one_line(row.name), max(12, width // 3), ascii_only=ascii_only) for row in ordered[:most]]
    name, figure = max(map(cell_len, names)), max(map(len, figures))
    room = max(4, width - name - figure - 4)
    longest = ordered[0].metric(by)
    yield Text(f"{by}", style="dim")
    for row, said, shown in zip(ordered, names, figures, strict=False):
        line = Text().append(said + " " * (name - cell_len(said)) + "  ", "cyan")
        line.append(
            form.bar(row.metric(by) / longest, min(room, 60), ascii_only=ascii_only),
            "red" if by == "errors" else "blue",
        )
        yield line.append(f"  {shown}")
    if len(ordered) > most:
        yield Text(f"and {len(ordered) - most} more", style="dim")
