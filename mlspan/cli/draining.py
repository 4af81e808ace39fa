"""``mlspan drain`` and ``mlspan show --dead``: send the spans that wait on disk, and show those that were refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Final

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from .. import tracing
from ..tracing.destinations import make_spool_settings
from ..tracing.export.shown_addresses import hide_user_info
from ..tracing.export.spool.limits import default_folder
from ..tracing.export.spool.survey import survey_folder
from ..tracing.settings.resolution import resolve_config
from . import form, model
from .arguments import Option
from .common import (
    CommandFailure,
    JsonOption,
    SpoolDirOption,
    TrackingUriOption,
    make_error_console,
    make_output_console,
    print_note,
)
from .recorded import convert_recorded_span

_untyped_tracing: Final[Any] = tracing


def drain(
    spool_dir: SpoolDirOption = None,
    tracking_uri: TrackingUriOption = None,
    wait: Annotated[
        float,
        Option("--wait", metavar="SECONDS", lowest=0, help="Keep retrying an unreachable backend for so long."),
    ] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Send the spans that ended programs have left on disk.

    Run it after an outage, or from a timer. Each trace goes to the destination that its program had, or to
    --tracking-uri. A file that cannot be read is set aside. The exit code is 1 if spans are still waiting or were
    refused, or if a file could not be read.
    """
    waiting = _print_destinations(spool_dir, tracking_uri)
    console = make_error_console()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        sending = progress.add_task("sending", total=None)

        def show_progress(result: Any) -> None:
            finished = result.sent + result.refused + result.expired
            progress.update(
                sending,
                description=f"{result.sent:,} sent",
                completed=finished,
                total=max(waiting, finished + result.stay),
            )

        try:
            result = _untyped_tracing.drain(
                spool_dir=spool_dir, tracking_uri=tracking_uri, timeout=wait, progress=show_progress
            )
        except PermissionError as error:
            raise CommandFailure(str(error)) from error
    if as_json:
        counts = {name: getattr(result, name) for name in ("sent", "refused", "expired", "stay", "in_use", "damaged")}
        model.write_json({**counts, "reasons": dict(result.reasons)})
    else:
        _print_drain_result(result)
    if result.stay or result.refused or result.damaged:
        raise SystemExit(1)


def _print_destinations(spool_dir: Path | None, tracking_uri: str | None) -> int:
    """Print where the spans in the folder will be sent, before any is sent; return how many there are."""
    folder = make_spool_settings(resolve_config({"spool_dir": spool_dir})).folder
    counts: Counter[str] = Counter()
    for one in survey_folder(folder or default_folder()):
        if one.destination is not None:
            redirected = tracking_uri is not None and one.destination.startswith("mlflow ")
            counts[f"mlflow {hide_user_info(tracking_uri or '')}" if redirected else one.destination] += one.spans or 0
    for destination, spans in counts.items():
        print_note(f"sending {form.format_quantity(spans, 'span')} to {destination}")
    return counts.total()


def _print_drain_result(result: Any) -> None:
    """Print how many spans were sent, refused, dropped and left, and why."""
    console = make_output_console()
    console.print(f"{form.format_quantity(result.sent, 'span')} sent")
    for number, what, style in (
        (result.refused, "refused and set aside; mlspan show --dead has them", "red"),
        (result.expired, "dropped: older than MLSPAN_SPOOL_AGE", "yellow"),
        (result.stay, "still waiting", "yellow"),
    ):
        if number:
            console.print(f"{form.format_quantity(number, 'span')} {what}", style=style, soft_wrap=True)
    for reason, number in result.reasons.items():
        console.print(
            f"  {form.format_quantity(number, 'span')}: {form.join_lines(reason)}", style="dim", soft_wrap=True
        )
    if result.damaged:
        damaged = form.format_quantity(result.damaged, "file")
        names = f"mlspan doctor names {'it' if result.damaged == 1 else 'them'}"
        console.print(f"{damaged} damaged and set aside; {names}", style="red", soft_wrap=True)
    if result.in_use:
        print_note(
            f"{form.format_quantity(result.in_use, 'program')} still running: "
            "they send what they have waiting themselves"
        )


def find_dead_letters(spool_dir: Path | None, id_prefix: str | None) -> list[Any]:
    """Return the dead letters (refused spans) of the traces whose ids begin with *id_prefix*, or all. Oldest first."""
    digits = None if id_prefix is None else id_prefix.lower().removeprefix("tr-")
    return [
        letter
        for letter in _untyped_tracing.dead(spool_dir=spool_dir)
        if digits is None or letter.trace_id.startswith(digits)
    ]


def print_dead_letters(dead_letters: list[Any], *, as_json: bool) -> None:
    """Print a line for each dead letter, and the reason why it was refused."""
    console = make_output_console()
    if as_json:
        model.write_json([_letter_to_json(letter) for letter in dead_letters])
    elif not dead_letters:
        print_note("nothing was set aside")
    for letter in () if as_json else dead_letters:
        line = (
            Text().append(letter.trace_id[:12], "cyan").append(f"  {form.format_short_time(letter.at * 1000)}  ", "dim")
        )
        line.append(form.join_lines(letter.name), "bold").append(f"  for {letter.sink}", "dim")
        console.print(line, no_wrap=True, overflow="crop")
        console.print(f"  {form.join_lines(letter.reason)}", style="red", soft_wrap=True)
    if dead_letters and not as_json:
        print_note("\nmlspan show --dead TRACE shows one; mlspan import takes its file in again:")
        console.print(str(dead_letters[0].path.parent), soft_wrap=True)


def _letter_to_json(letter: Any) -> dict[str, object]:
    """Return a dead letter as ``--json`` prints it."""
    fields = {name: getattr(letter, name) for name in ("at", "sink", "reason", "trace_id", "name", "origin")}
    return {**fields, "path": str(letter.path)}


def build_refused_trace(dead_letters: list[Any], id_prefix: str) -> model.StoredTrace:
    """Return the trace that the refused spans form.

    Raises:
        CommandFailure: if there are no such spans, or if they belong to several traces.
    """
    ids = {letter.trace_id for letter in dead_letters}
    if len(ids) != 1:
        raise CommandFailure(
            f"several traces that begin with {id_prefix} were set aside; give more of it"
            if ids
            else f"no trace that begins with {id_prefix} was set aside; mlspan show --dead lists what was"
        )
    spans = [convert_recorded_span(span) for letter in dead_letters for span in letter.spans()]
    return model.build_trace(f"tr-{ids.pop()}", list({span.span_id: span for span in spans}.values()))
