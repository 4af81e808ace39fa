"""``mlspan stats``: add up cost, tokens, latency and errors by model, agent, tool, user, ..., and by time."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

from . import form, model
from .arguments import Option, UsageError, join_words
from .common import (
    CommandFailure,
    ExperimentOption,
    JsonOption,
    TrackingUriOption,
    make_output_console,
    print_note,
    show_busy,
    write_file,
    write_line,
)
from .filters import parse_filter
from .listing import FilterOption, RunOption, SessionOption, make_filter, parse_since
from .opening import open_reader
from .outlines import TraceOutline
from .places import locate_store
from .reading import TraceFilter, TraceReader
from .trace_totals import ALL_GROUPS, DEFAULT_GROUPS, Group, Metric, StatsRow, TraceStats

_MOST_INTERVALS: Final = 10_000


def stats(
    tracking_uri: TrackingUriOption = None,
    experiment: ExperimentOption = None,
    since: Annotated[
        str, Option("--since", metavar="AGO", help="Begun since then: 15m, 1h, 2d, 1w, a date or time, or: all.")
    ] = "1d",
    until: Annotated[str | None, Option("--until", metavar="AGO", help="Begun before then.")] = None,
    by: Annotated[
        str | None,
        Option(
            "--by",
            metavar="WHAT",
            help=f"{join_words(ALL_GROUPS).capitalize()}; several with commas.",
            default=",".join(DEFAULT_GROUPS),
        ),
    ] = None,
    every: Annotated[
        str | None, Option("--every", metavar="SPAN", help="Also by intervals of time: 15m, 1h, 1d, 1w.")
    ] = None,
    run: RunOption = None,
    session: SessionOption = None,
    filter_: FilterOption = None,
    metric: Annotated[
        Metric | None, Option("--chart", help="Metric of the bars.", default="cost if any is known")
    ] = None,
    html: Annotated[
        Path | None, Option("--html", metavar="FILE", help="Write a self-contained page with charts.")
    ] = None,
    as_csv: Annotated[bool, Option("--csv", help="Print CSV, for spreadsheets.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Add up cost, tokens, latency and errors.

    What an agent or a workflow cost is what all below it cost. Errors are counted where they began.

    Examples:
        mlspan stats --since 1w --chart p95
        mlspan stats --by user,tag --since 1w
        mlspan stats --by model --every 1d --since 1w --html week.html
        mlspan stats --run nightly --json
        mlspan stats --filter "tag.team = 'ops'" --by tool
    """
    groups, every_ms = _parse_groups(by), None if every is None else _parse_interval(every)
    since_ms, until_ms = parse_since(since), parse_since(until, "--until")
    conditions = parse_filter(filter_)
    traces = open_reader(locate_store(tracking_uri, experiment))
    now_ms = round(time.time() * 1000)  # what begins later is not read, so that the window stands still
    where = replace(
        make_filter(traces, run, session, None, since_ms, conditions),
        until_ms=now_ms if until_ms is None else until_ms,
    )
    totals = TraceStats(groups, every_ms, traces.experiments)
    _add_up(totals, traces, where, groups)
    if as_json:
        model.write_json(_build_stats_json(totals, groups, since_ms, until_ms or now_ms))
        return
    if as_csv:
        write_line(_format_csv(totals).rstrip("\n"))
        return
    period = f"since {form.format_full_time(since_ms)}" if since_ms else "of all time"
    period += f" until {form.format_full_time(until_ms)}" if until_ms else ""
    if not totals.traces.calls:
        print_note(f"no traces {period}" + ("; --since all looks further back" if since_ms else ""))
    elif html is not None:
        from .stats_page import render_stats_page

        write_file(html, render_stats_page(totals, period, metric))
    else:
        from .stats_text import print_stats

        print_stats(totals, make_output_console(), period, metric)


def _parse_groups(by: str | None) -> tuple[Group, ...]:
    """Return the groups that ``--by`` names.

    Raises:
        UsageError: if one is none.
    """
    if by is None:
        return DEFAULT_GROUPS
    named = [one.strip().lower() for one in by.split(",") if one.strip()]
    found = tuple(group for name in named for group in ALL_GROUPS if group == name)
    if len(found) != len(named) or not found:
        raise UsageError(f"--by takes {join_words(ALL_GROUPS)}, several with commas, not {by!r}")
    return found


def _parse_interval(text: str) -> int:
    """Return an interval in milliseconds.

    Raises:
        UsageError: if it is none, or none at all.
    """
    try:
        found = form.parse_span(text)
    except ValueError:
        found = 0
    if found < 1000:
        raise UsageError(f"--every takes 15m, 1h, 1d or 1w, not {text!r}")
    return found


def _add_up(totals: TraceStats, traces: TraceReader, where: TraceFilter, groups: tuple[Group, ...]) -> None:
    """Read the traces and add them. Ctrl-C ends the reading, and what was read so far counts.

    Raises:
        CommandFailure: if there would be too many intervals.
    """
    with show_busy("Reading traces"):
        try:
            for found in traces.iterate_outlines(where, groups):
                if isinstance(found, TraceOutline):
                    totals.add_trace(found)
                else:
                    totals.add_alike(found)
                if len(totals.intervals) > _MOST_INTERVALS:
                    raise CommandFailure(f"more than {_MOST_INTERVALS:,} intervals: give a longer --every")
        except KeyboardInterrupt:
            print_note(f"cut off: these are the newest {totals.traces.calls:,} traces")


def _build_stats_json(
    totals: TraceStats, groups: tuple[Group, ...], since_ms: int | None, until_ms: int
) -> dict[str, object]:
    """Return all totals as ``--json`` prints them."""
    rows: dict[str, list[StatsRow]] = {**{group: [] for group in groups}, **totals.rows_by_group}
    found: dict[str, object] = {
        "since_ms": since_ms,
        "until_ms": until_ms,
        "traces": totals.traces.to_json_object(),
        **{f"{group}s": [row.to_json_object() for row in some] for group, some in rows.items()},
    }
    if totals.intervals:
        found["intervals"] = [
            {"start_ms": start, **row.to_json_object()} for start, row in sorted(totals.intervals.items())
        ]
    return found


def _format_csv(totals: TraceStats) -> str:
    """Return all totals as lines of CSV with a header. Text that a spreadsheet takes for a formula is made text."""
    written = io.StringIO()
    lines = csv.writer(written, lineterminator="\n")
    lines.writerow(["group", *totals.traces.to_json_object()])
    for group, row in _list_rows(totals):
        values = row.to_json_object()
        name = form.strip_control_characters(row.name)
        values["name"] = f"'{name}" if name.startswith(("=", "+", "-", "@")) and name != "-" else name
        lines.writerow([group, *("" if value is None else value for value in values.values())])
    return written.getvalue()


def _list_rows(totals: TraceStats) -> Iterator[tuple[str, StatsRow]]:
    """Yield all rows, each with the name of its group."""
    yield "all", totals.traces
    yield from (("begun", row) for row in totals.list_intervals())
    for group, rows in totals.rows_by_group.items():
        yield from ((group, row) for row in rows)
