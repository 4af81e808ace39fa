"""``mlspan drain``, and ``mlspan show --dead``: what waits on disk, and what no backend takes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Final

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from .. import tracing
from ..tracing.export.mlflow.messages import parse_attribute
from ..tracing.export.mlflow.spans import INPUTS, OUTPUTS, SPAN_TYPE, translate_span
from . import form, model
from .common import AsJson, Failure, TrackingUri, command, err, note, out, write

_core: Final[Any] = tracing
SpoolDir = Annotated[
    Path | None,
    typer.Option(
        "--spool-dir",
        metavar="DIR",
        help="Where spans wait. [dim]Default: MLSPAN_SPOOL_DIR, then ~/.local/state/mlspan/spool.[/dim]",
        show_default=False,
    ),
]


@command
def drain(
    spool_dir: SpoolDir = None,
    tracking_uri: TrackingUri = None,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, help="Ask a backend that is away again, for so long.")
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Send what ended programs have left on disk.

    After an outage, or from a timer. Each trace goes where its program meant it to go, or to --tracking-uri. Exit
    code 1 while something stays behind or was refused.
    """
    console = err()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        sending = progress.add_task("sending", total=None)

        def tell(done: Any) -> None:
            gone = done.sent + done.refused + done.expired
            progress.update(sending, description=f"{done.sent:,} sent", completed=gone, total=gone + done.stay)

        done = _core.drain(spool_dir=spool_dir, tracking_uri=tracking_uri, timeout=wait, progress=tell)
    if as_json:
        counts = {name: getattr(done, name) for name in ("sent", "refused", "expired", "stay", "in_use")}
        write(model.dumps({**counts, "reasons": dict(done.reasons)}))
    else:
        _report(done)
    if done.stay or done.refused:
        raise typer.Exit(1)


def _report(done: Any) -> None:
    console = out()
    console.print(f"{form.many(done.sent, 'span')} sent")
    for how_many, what, style in (
        (done.refused, "refused and set aside; mlspan show --dead has them", "red"),
        (done.expired, "dropped: older than MLSPAN_SPOOL_AGE", "yellow"),
        (done.stay, "still waiting", "yellow"),
    ):
        if how_many:
            console.print(f"{form.many(how_many, 'span')} {what}", style=style, soft_wrap=True)
    for reason, how_many in done.reasons.items():
        console.print(f"  {form.many(how_many, 'span')}: {form.one_line(reason)}", style="dim", soft_wrap=True)
    if done.in_use:
        note(f"{form.many(done.in_use, 'program')} still running: what they have waiting is theirs to send")


def letters(spool_dir: Path | None, begins: str | None) -> list[Any]:
    """What was set aside, the oldest first: of the traces whose ids begin with *begins*; None: all."""
    digits = None if begins is None else begins.lower().removeprefix("tr-")
    return [one for one in _core.dead(spool_dir=spool_dir) if digits is None or one.trace_id.startswith(digits)]


def show_letters(found: list[Any], *, as_json: bool) -> None:
    """Print a line for each, and why it was refused."""
    console = out()
    if as_json:
        write(model.dumps([_as_json(one) for one in found]))
    elif not found:
        note("nothing was set aside")
    for one in () if as_json else found:
        line = Text().append(one.trace_id[:12], "cyan").append(f"  {form.when(one.at * 1000)}  ", "dim")
        line.append(form.one_line(one.name), "bold").append(f"  for {one.sink}", "dim")
        console.print(line, no_wrap=True, overflow="crop")
        console.print(f"  {form.one_line(one.reason)}", style="red", soft_wrap=True)
    if found and not as_json:
        note("\nmlspan show --dead TRACE shows one; mlspan import takes its file in again:")
        console.print(str(found[0].path.parent), soft_wrap=True)


def _as_json(one: Any) -> dict[str, Any]:
    said = {name: getattr(one, name) for name in ("at", "sink", "reason", "trace_id", "name", "origin")}
    return {**said, "path": str(one.path)}


def as_trace(found: list[Any], begins: str) -> model.Trace:
    """The spans that were set aside of one trace. Raises Failure where there are none, or those of several."""
    ids = {one.trace_id for one in found}
    if len(ids) != 1:
        raise Failure(
            f"several traces that begin with {begins} were set aside; give more of it"
            if ids
            else f"no trace that begins with {begins} was set aside; mlspan show --dead lists what was"
        )
    spans = [_readable(span) for one in found for span in one.spans()]
    return model.from_spans(f"tr-{ids.pop()}", list({span.span_id: span for span in spans}.values()))


def _readable(span: Any) -> Any:
    """A span of OpenTelemetry's SDK as MLflow would give it back."""
    there = translate_span(span, span.attributes or {})
    said = {key: parse_attribute(value) for key, value in (there.attributes or {}).items()}
    return SimpleNamespace(
        span_id=f"{span.context.span_id:016x}",
        parent_id=f"{span.parent.span_id:016x}" if span.parent else None,
        name=span.name,
        span_type=said.get(SPAN_TYPE),
        start_time_ns=span.start_time,
        end_time_ns=span.end_time,
        status=SimpleNamespace(status_code=span.status.status_code.name, description=span.status.description),
        inputs=said.get(INPUTS),
        outputs=said.get(OUTPUTS),
        attributes=said,
        events=list(span.events),
    )
