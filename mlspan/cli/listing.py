"""``mlspan list`` and ``mlspan tail``: list stored traces, and follow new ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Final, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from . import form, model
from .arguments import Option, UsageError
from .common import (
    CommandFailure,
    ExperimentOption,
    JsonOption,
    TrackingUriOption,
    make_output_console,
    print_note,
)
from .filters import Condition, parse_filter
from .opening import open_reader
from .pending import note_pending_spans, noting_pending_spans
from .places import locate_store
from .reading import TraceFilter, TraceReader

_LOOK_BACK_SECONDS: Final = 3600  # traces are searched by their start, and are stored at their end
_MAX_NEW_TRACES: Final = 500

RunOption = Annotated[str | None, Option("--run", metavar="NAME|ID", help="Traces of this MLflow run.")]
SessionOption = Annotated[str | None, Option("--session", metavar="ID", help="Traces of this conversation.")]
StatusOption = Annotated[
    Literal["ok", "error", "waiting", "in_progress"] | None,
    Option("--status", help="Traces with this status; waiting: for a person to answer."),
]
FilterOption = Annotated[
    str | None,
    Option(
        "--filter",
        metavar="TEXT",
        help="Traces that MLflow's search finds so: \"tag.team = 'ops' AND name LIKE 'a%'\".",
    ),
]
SinceOption = Annotated[
    str | None,
    Option("--since", metavar="AGO", help="Begun since then: 90s, 15m, 1h, 2d, 1w, or a date or time."),
]


def list_(
    tracking_uri: TrackingUriOption = None,
    experiment: ExperimentOption = None,
    run: RunOption = None,
    session: SessionOption = None,
    status: StatusOption = None,
    since: SinceOption = None,
    filter_: FilterOption = None,
    limit: Annotated[int, Option("--limit", "-n", lowest=1, help="Maximum number of traces.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List traces, the newest first.

    Examples:
        mlspan list --since 1h --status error
        mlspan list --status waiting
        mlspan list --session c-1729 --json
        mlspan list --filter "status = 'ERROR' AND tag.team = 'ops'"
        mlspan list --filter "execution_time_ms > 5000 AND span.type = 'TOOL'"
    """
    since_ms, conditions = parse_since(since), parse_filter(filter_)
    place = locate_store(tracking_uri, experiment)
    with noting_pending_spans(place):
        traces = open_reader(place)
        where = make_filter(traces, run, session, status, since_ms, conditions)
        found = list(traces.iterate_traces(where, limit=limit))
    if as_json:
        model.write_json([model.trace_to_json(trace) for trace in found])
        return
    console = make_output_console()
    table = TraceTable(console, found, traces)
    if found and console.is_terminal:
        console.print(table.make_header(), no_wrap=True, overflow="crop")
    for trace in found:
        console.print(table.make_line(trace), no_wrap=True, overflow="crop")
    if not found:
        print_note("no traces match" if run or session or status or since or filter_ else "there are no traces yet")
    elif len(found) == limit:
        print_note(f"the newest {limit}; --limit shows more")
    note_pending_spans(place)


def tail(
    tracking_uri: TrackingUriOption = None,
    experiment: ExperimentOption = None,
    run: RunOption = None,
    session: SessionOption = None,
    status: StatusOption = None,
    filter_: FilterOption = None,
    last: Annotated[int, Option("--last", "-n", lowest=0, help="Show so many existing traces first.")] = 0,
    interval: Annotated[float, Option(lowest=0.1, help="Seconds between two queries.")] = 1.0,
    as_json: Annotated[bool, Option("--json", help="Print each trace as one line of JSON.")] = False,
) -> None:
    """Show traces as they are stored, until Ctrl-C.

    Examples:
        mlspan tail --status error
        mlspan tail --filter "tag.team = 'ops' AND execution_time_ms > 5000"
    """
    conditions = parse_filter(filter_)

    def make_recent_filter() -> TraceFilter:
        since_ms = round((time.time() - _LOOK_BACK_SECONDS) * 1000)
        return make_filter(traces, run, session, status, since_ms, conditions)

    try:
        traces = open_reader(locate_store(tracking_uri, experiment))
        _follow_traces(traces, make_recent_filter, last, interval, as_json=as_json)
    except KeyboardInterrupt:
        raise SystemExit(0) from None


def _follow_traces(
    traces: TraceReader, make_recent_filter: Callable[[], TraceFilter], last: int, interval: float, *, as_json: bool
) -> None:
    """Print new traces forever, after the newest *last* existing ones. *interval* is in seconds."""
    before = list(traces.iterate_traces(make_recent_filter(), limit=max(_MAX_NEW_TRACES, last)))
    seen = {trace.id for trace in before if trace.state != "IN_PROGRESS"}
    console = make_output_console()
    table = TraceTable(console, before[:last], traces)
    if console.is_terminal and not as_json:
        console.print(table.make_header(), no_wrap=True, overflow="crop")
    _print_traces(reversed(before[:last]), table, console, as_json=as_json)
    print_note("waiting for traces; Ctrl-C ends it")
    is_unreachable = False
    while True:
        time.sleep(interval)
        try:
            traces.refresh_experiments()
            found = [
                trace
                for trace in traces.iterate_traces(make_recent_filter(), limit=_MAX_NEW_TRACES)
                if trace.id not in seen and trace.state != "IN_PROGRESS"
            ]
        except CommandFailure as failure:  # the server may only be restarting
            if not is_unreachable:
                print_note(f"{failure}; trying again")
            is_unreachable = True
            continue
        is_unreachable = False
        seen |= {trace.id for trace in found}
        _print_traces(
            sorted(found, key=lambda trace: trace.start_ms + (trace.duration_ms or 0)), table, console, as_json=as_json
        )


def _print_traces(found: Iterable[model.StoredTrace], table: TraceTable, console: Console, *, as_json: bool) -> None:
    """Print traces, each as a line of the table or of JSON."""
    for trace in found:
        if as_json:
            model.write_json(model.trace_to_json(trace), indent=None)
        else:
            console.print(table.make_line(trace), no_wrap=True, overflow="crop")


class TraceTable:
    """Table of traces, one line each. Columns that do not fit are left out, the least useful first."""

    def __init__(self, console: Console, shown: Sequence[model.StoredTrace], traces: TraceReader) -> None:
        self._width, self._ascii = console.width, console.options.ascii_only
        self._experiments = traces.experiments
        has_several = len({trace.experiment_id for trace in shown}) > 1 or (not shown and len(traces.experiments) > 1)
        self._experiment = has_several and self._width >= 100
        self._cost, self._tokens = self._width >= 90, self._width >= 75
        self._digits = _count_id_digits([trace.id for trace in shown])
        self._at = max((len(form.format_short_time(trace.start_ms)) for trace in shown), default=8)
        longest = max((cell_len(_shorten_trace_name(trace)) for trace in shown), default=24)
        self._name = min(longest, 18 if self._width < 75 else 26 if self._width < 100 else 34)

    def make_header(self) -> Text:
        """Return the line with the columns' titles."""
        line = f"{'trace':<{self._digits}}  {'begun':<{self._at}}    {'name':<{self._name}}{'took':>9}"
        line += f"{'tokens':>8}" if self._tokens else ""
        line += f"{'cost':>11}" if self._cost else ""
        line += f"  {'experiment':<12}" if self._experiment else ""
        return Text(f"{line}  asked", style="dim")

    def make_line(self, trace: model.StoredTrace) -> Text:
        """Return the line of a trace."""
        line = Text().append(trace.id.removeprefix("tr-")[: self._digits], "cyan")
        line.append(f"  {form.format_short_time(trace.start_ms):<{self._at}} ", "dim")
        mark, style = _STATE_MARKS.get(trace.state, ("?", "yellow"))
        line.append(f" {mark[1] if self._ascii else mark[0]} ", style)
        line.append(self._pad_cell(_shorten_trace_name(trace), self._name), "red" if trace.failed else "bold")
        line.append(f"{form.format_whole_duration(trace.duration_ms):>9}")
        if self._tokens:
            line.append(f"{form.format_count(trace.tokens.total) if trace.tokens else '':>8}", "dim")
        if self._cost:
            line.append(f"{form.format_cost(trace.cost):>11}", "green")
        if self._experiment:
            line.append(
                "  " + self._pad_cell(self._experiments.get(trace.experiment_id, trace.experiment_id), 12), "dim"
            )
        is_waiting = trace.state == model.WAITING
        said = f"waits: {trace.question}" if is_waiting else trace.request
        space = self._width - line.cell_len - 2
        shown = form.truncate_to_width(form.join_lines(said), space, ascii_only=self._ascii)
        return line.append(f"  {shown}", "yellow" if is_waiting else "dim")

    def _pad_cell(self, text: str, width: int) -> str:
        """Return *text* cut or padded to *width* cells."""
        cut = form.truncate_to_width(form.join_lines(text), width, ascii_only=self._ascii)
        return cut + " " * (width - cell_len(cut))


_STATE_MARKS: Final = {
    "OK": ("✓+", "green"),
    "ERROR": ("✗x", "red"),
    "IN_PROGRESS": ("…~", "yellow"),
    model.WAITING: ("??", "yellow"),
}


def _shorten_trace_name(trace: model.StoredTrace) -> str:
    """Return the name without the operation that the conventions put before it: `agent`, not `invoke_agent agent`."""
    operation, _, name = form.join_lines(trace.name).partition(" ")
    return name if name and "_" in operation else form.join_lines(trace.name)


def _count_id_digits(ids: Sequence[str]) -> int:
    """Return the number of digits (8 or more) that tell these ids apart."""
    digits = 8
    while digits < 32 and len({found[: 3 + digits] for found in ids}) < len(ids):
        digits += 2
    return digits


def make_filter(
    traces: TraceReader,
    run: str | None,
    session: str | None,
    status: str | None,
    since_ms: int | None,
    conditions: tuple[Condition, ...] = (),
) -> TraceFilter:
    """Return the filter for these options. *since_ms* is in milliseconds since 1970.

    Raises:
        CommandFailure: if there is no such run.
    """
    run_id = None if run is None else traces.find_run_id(run)
    state = None if status is None else status.upper()
    return TraceFilter(run_id, session, state, since_ms, conditions=conditions)


def parse_since(text: str | None, option: str = "--since") -> int | None:
    """Return the time that an option names, in milliseconds since 1970; None for none, and for ``all`` time.

    Raises:
        UsageError: if it cannot be parsed; ends the command with exit code 2.
    """
    if text is None or text == "all":
        return None
    try:
        return form.parse_time(text)
    except ValueError as error:
        raise UsageError(f"{option} {error}, not {text!r}") from None
