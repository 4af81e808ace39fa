"""``mlspan list`` and ``mlspan tail``: list stored traces, and follow new ones."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from . import form, model
from .common import AsJson, Experiment, Failure, TrackingUri, command, note, out, write
from .places import place
from .reading import Traces, quoted

_LOOK_BACK: Final = 3600  # traces are searched by their start, and are stored at their end
_MOST_NEW: Final = 500

Run = Annotated[str | None, typer.Option("--run", metavar="NAME|ID", help="Traces of this MLflow run.")]
Session = Annotated[str | None, typer.Option("--session", metavar="ID", help="Traces of this conversation.")]
Status = Annotated[
    Literal["ok", "error", "in_progress"] | None,
    typer.Option("--status", case_sensitive=False, help="Traces with this status."),
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="AGO", help="Begun since then: 90s, 15m, 1h, 2d, 1w, or a date or time."),
]


@command
def list_(
    tracking_uri: TrackingUri = None,
    experiment: Experiment = None,
    run: Run = None,
    session: Session = None,
    status: Status = None,
    since: Since = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Maximum number of traces.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List traces, the newest first.

    mlspan list --since 1h --status error
    """
    since_ms = _since(since)
    traces = Traces(place(tracking_uri, experiment))
    found = list(traces.search(terms(traces, run, session, status, since_ms), limit=limit))
    if as_json:
        write(model.dumps([model.as_json(trace) for trace in found]))
        return
    console = out()
    table = Listing(console, found, traces)
    if found and console.is_terminal:
        console.print(table.header(), no_wrap=True, overflow="crop")
    for trace in found:
        console.print(table.line(trace), no_wrap=True, overflow="crop")
    if not found:
        note("no traces match" if run or session or status or since else "there are no traces yet")
    elif len(found) == limit:
        note(f"the newest {limit}; --limit shows more")


@command
def tail(
    tracking_uri: TrackingUri = None,
    experiment: Experiment = None,
    run: Run = None,
    session: Session = None,
    status: Status = None,
    last: Annotated[int, typer.Option("--last", "-n", min=0, help="Show so many existing traces first.")] = 0,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two queries.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print each trace as one line of JSON.")] = False,
) -> None:
    """Show traces as they are stored, until Ctrl-C."""
    try:
        _follow(Traces(place(tracking_uri, experiment)), (run, session, status), last, interval, as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _follow(
    traces: Traces, filters: tuple[str | None, str | None, str | None], last: int, interval: float, *, as_json: bool
) -> None:
    """Print new traces forever, after the newest *last* existing ones. *interval* is in seconds."""
    since_ms = round((time.time() - _LOOK_BACK) * 1000)
    before = list(traces.search(terms(traces, *filters, since_ms), limit=max(_MOST_NEW, last)))
    seen = {trace.id for trace in before if trace.state != "IN_PROGRESS"}
    console = out()
    table = Listing(console, before[:last], traces)
    if console.is_terminal and not as_json:
        console.print(table.header(), no_wrap=True, overflow="crop")
    _tell(reversed(before[:last]), table, console, as_json=as_json)
    note("waiting for traces; Ctrl-C ends it")
    is_unreachable = False
    while True:
        time.sleep(interval)
        try:
            traces.refresh()
            since_ms = round((time.time() - _LOOK_BACK) * 1000)
            found = [
                trace
                for trace in traces.search(terms(traces, *filters, since_ms), limit=_MOST_NEW)
                if trace.id not in seen and trace.state != "IN_PROGRESS"
            ]
        except Failure as failure:  # the server may only be restarting
            if not is_unreachable:
                note(f"{failure}; trying again")
            is_unreachable = True
            continue
        is_unreachable = False
        seen |= {trace.id for trace in found}
        _tell(sorted(found, key=lambda trace: trace.start + (trace.ms or 0)), table, console, as_json=as_json)


def _tell(found: Iterable[model.Trace], table: Listing, console: Console, *, as_json: bool) -> None:
    """Print traces, each as a line of the table or of JSON."""
    for trace in found:
        if as_json:
            write(model.one_line_json(model.as_json(trace)))
        else:
            console.print(table.line(trace), no_wrap=True, overflow="crop")


class Listing:
    """Table of traces, one line each. Columns that do not fit are left out, the least useful first."""

    def __init__(self, console: Console, shown: Sequence[model.Trace], traces: Traces) -> None:
        self._width, self._ascii = console.width, console.options.ascii_only
        self._experiments = traces.experiments
        has_several = len({trace.experiment for trace in shown}) > 1 or (not shown and len(traces.experiments) > 1)
        self._experiment = has_several and self._width >= 100
        self._cost, self._tokens = self._width >= 90, self._width >= 75
        self._digits = _digits([trace.id for trace in shown])
        self._at = max((len(form.when(trace.start)) for trace in shown), default=8)
        longest = max((cell_len(_named(trace)) for trace in shown), default=24)
        self._name = min(longest, 18 if self._width < 75 else 26 if self._width < 100 else 34)

    def header(self) -> Text:
        """Return the line with the columns' titles."""
        line = f"{'trace':<{self._digits}}  {'begun':<{self._at}}    {'name':<{self._name}}{'took':>9}"
        line += f"{'tokens':>8}" if self._tokens else ""
        line += f"{'cost':>11}" if self._cost else ""
        line += f"  {'experiment':<12}" if self._experiment else ""
        return Text(f"{line}  asked", style="dim")

    def line(self, trace: model.Trace) -> Text:
        """Return the line of a trace."""
        line = Text().append(trace.id.removeprefix("tr-")[: self._digits], "cyan")
        line.append(f"  {form.when(trace.start):<{self._at}} ", "dim")
        mark, style = _MARKS.get(trace.state, ("?", "yellow"))
        line.append(f" {mark[1] if self._ascii else mark[0]} ", style)
        line.append(self._cell(_named(trace), self._name), "red" if trace.failed else "bold")
        line.append(f"{form.duration(trace.ms):>9}")
        if self._tokens:
            line.append(f"{form.count(trace.tokens.total) if trace.tokens else '':>8}", "dim")
        if self._cost:
            line.append(f"{form.money(trace.cost):>11}", "green")
        if self._experiment:
            line.append("  " + self._cell(self._experiments.get(trace.experiment, trace.experiment), 12), "dim")
        line.append(
            "  " + form.fit(form.one_line(trace.request), self._width - line.cell_len - 2, ascii_only=self._ascii),
            "dim",
        )
        return line

    def _cell(self, text: str, width: int) -> str:
        """Return *text* cut or padded to *width* cells."""
        cut = form.fit(form.one_line(text), width, ascii_only=self._ascii)
        return cut + " " * (width - cell_len(cut))


_MARKS: Final = {"OK": ("✓+", "green"), "ERROR": ("✗x", "red"), "IN_PROGRESS": ("…~", "yellow")}


def _named(trace: model.Trace) -> str:
    """Return the name without the operation that the conventions put before it: `agent`, not `invoke_agent agent`."""
    operation, _, name = form.one_line(trace.name).partition(" ")
    return name if name and "_" in operation else form.one_line(trace.name)


def _digits(ids: Sequence[str]) -> int:
    """Return the number of digits (8 or more) that tell these ids apart."""
    digits = 8
    while digits < 32 and len({found[: 3 + digits] for found in ids}) < len(ids):
        digits += 2
    return digits


def terms(traces: Traces, run: str | None, session: str | None, status: str | None, since_ms: int | None) -> list[str]:
    """Return the terms of MLflow's search for these options. *since_ms* is in milliseconds since 1970.

    Raises:
        CommandFailure: if there is no such run, or if a text cannot be quoted.
    """
    search_terms = []
    if run is not None:
        search_terms.append(f"attributes.run_id = {quoted(traces.run_id(run))}")
    if session is not None:
        search_terms.append(f"metadata.`mlflow.trace.session` = {quoted(session)}")
    if status is not None:
        search_terms.append(f"attributes.status = '{status.upper()}'")
    if since_ms is not None:
        search_terms.append(f"attributes.timestamp_ms >= {since_ms}")
    return search_terms


def _since(text: str | None) -> int | None:
    return None if text is None else since_option(text)


def since_option(text: str) -> int:
    """Return the time that ``--since`` names, in milliseconds since 1970.

    Raises:
        typer.BadParameter: if it cannot be parsed; ends the command with exit code 2.
    """
    try:
        return form.since(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: {error}", param_hint="--since") from None
