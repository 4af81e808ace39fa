"""``mlspan show``: one trace as a tree, with a bar for when each span ran."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from . import form, model
from .common import AsJson, Experiment, Failure, TrackingUri, command, note, out, write
from .draining import SpoolDir, as_trace, letters, show_letters
from .places import is_server, place
from .reading import Traces

_STYLES: Final = {
    "CHAT_MODEL": "cyan",
    "LLM": "cyan",
    "EMBEDDING": "blue",
    "RETRIEVER": "blue",
    "TOOL": "yellow",
    "AGENT": "magenta",
    "WORKFLOW": "magenta",
}
_NARROW: Final = 80
_NUMBERS: Final = ("took", "tokens", "cost", "spans", "at")


@command
def show(
    trace: Annotated[
        str | None,
        typer.Argument(metavar="TRACE", help="Its id, its first digits, or: last. [dim]Default: last.[/dim]"),
    ] = None,
    as_json: AsJson = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page with the timeline, which needs nothing else."),
    ] = None,
    content: Annotated[bool, typer.Option(help="Show the first line of what was asked and answered.")] = True,
    dead: Annotated[
        bool, typer.Option("--dead", help="Show what its backend has refused: all of it, or of TRACE.")
    ] = False,
    spool_dir: SpoolDir = None,
    tracking_uri: TrackingUri = None,
    experiment: Experiment = None,
) -> None:
    """Show one trace as a tree with a timeline.

    Each span with when it ran, tokens, cost, what was said, and its error.

    mlspan show · mlspan show 3fa9 · mlspan show last --html trace.html
    """
    if dead and trace is None:
        show_letters(letters(spool_dir, None), as_json=as_json)
        return
    if dead:
        refused = letters(spool_dir, trace)
        found = as_trace(refused, str(trace))
        known = {"refused": "; ".join({form.one_line(one.reason) for one in refused}), "trace": found.id}
    else:
        traces = Traces(place(tracking_uri, experiment))
        found = traces.find(trace or "last")
        known = facts(found, traces)
    if html is not None:
        _write_page(html, found, known)
    if as_json:
        write(model.dumps({**model.as_json(found), "spans": model.spans_as_json(found)}))
    elif html is None:
        render(found, out(), known, content=content)


def _write_page(path: Path, trace: model.Trace, known: dict[str, str]) -> None:
    from .page import page

    try:
        path.write_text(page(trace, known), encoding="utf-8")
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}") from error
    note(f"{path} has it")


def facts(trace: model.Trace, traces: Traces) -> dict[str, str]:
    """What is known of a trace beside its spans: only what there is."""
    from ..tracing.export.mlflow.sink import trace_url

    tokens, uri = trace.tokens, traces.place.uri
    said = {
        "took": form.duration(trace.ms),
        "tokens": f"{form.count(tokens.total)} ({form.count(tokens.input)} in, {form.count(tokens.output)} out)"
        if tokens
        else "",
        "cost": form.money(trace.cost),
        "spans": str(len(trace.spans)),
        "at": form.moment(trace.start),
        "experiment": traces.experiments.get(trace.experiment, trace.experiment),
        "run": traces.run_name(trace.run) if trace.run else "",
        "session": trace.session or "",
        "user": trace.user or "",
        **trace.tags,
        "trace": trace.id,
        "link": trace_url(uri, trace.experiment, trace.id) if is_server(uri) else "",
    }
    return {key: form.one_line(value) for key, value in said.items() if value}


def render(trace: model.Trace, console: Console, known: dict[str, str], *, content: bool = True) -> None:
    """Print *trace*, in the width that *console* has."""
    ascii_only = console.options.ascii_only
    title = Text(form.one_line(trace.name) or trace.id, style="bold")
    title.append(f"  {trace.state}", style="bold red" if trace.failed else "green" if trace.state == "OK" else "yellow")
    console.print(title)
    separator = " | " if ascii_only else " · "
    numbers = [_number(key, known[key]) for key in _NUMBERS if key in known]
    named = [f"{key} {value}" for key, value in known.items() if key not in {*_NUMBERS, "trace", "link"}]
    for pieces, style in ((numbers, ""), (named, "dim")):
        for piece in form.flowed(pieces, separator, console.width):
            console.print(Text(form.fit(piece, console.width, ascii_only=ascii_only), style=style))
    for key in ("trace", "link"):  # each on a line that can be copied whole
        if key in known:
            console.print(Text(known[key], style="dim"), soft_wrap=True)
    console.print()
    for line in lines(trace, console.width, content=content, ascii_only=ascii_only):
        console.print(line, no_wrap=True, overflow="crop", crop=True)


def _number(key: str, value: str) -> str:
    if key == "tokens":
        return value.replace(" ", " tokens ", 1)
    return f"{value} span{'' if value == '1' else 's'}" if key == "spans" else value


def lines(trace: model.Trace, width: int, *, content: bool = True, ascii_only: bool = False) -> Iterator[Text]:
    """The tree and its timeline, none of whose lines is wider than *width*."""
    rows = [(span, _guides(last, ascii_only=ascii_only)) for span, last in trace.tree()]
    if not rows:
        yield Text("no span of this trace is stored (yet)", style="dim")
        return
    narrow = width < _NARROW
    cells = [_cells(span, narrow=narrow, ascii_only=ascii_only) for span, _ in rows]
    columns = [max(map(len, column)) for column in zip(*cells, strict=True)]
    free = width - sum(2 + column for column in columns if column) - 1
    longest = max(cell_len(guides[0]) + cell_len(span.name) for span, guides in rows)
    name = max(12, min(longest, free - 8 if narrow else max(free - 40, int(free * 0.65))))
    wide = max(4, min(free - name, 72))
    begin = min(span.start for span, _ in rows)
    whole = max(1, max(span.end or span.start for span, _ in rows) - begin)
    for (span, (guide, below)), figures in zip(rows, cells, strict=True):
        style = "red" if span.failed else _STYLES.get(span.kind, "")
        line = Text().append(guide, "dim")
        line.append(form.fit(form.one_line(span.name), name - cell_len(guide), ascii_only=ascii_only), style or "bold")
        line.append(" " * max(1, name + 1 - line.cell_len))
        length = ((span.end or begin + whole) - span.start) / whole
        drawn = form.span_bar((span.start - begin) / whole, length, wide, ascii_only=ascii_only)
        line.append(drawn + " " * (wide - cell_len(drawn)), style or "white")
        for figure, column, colour in zip(figures, columns, ("", "dim", "green"), strict=True):
            if column:
                line.append(f"  {figure:>{column}}", colour)
        line.rstrip()
        yield line
        if span.error:
            mark = "x" if ascii_only else "✗"
            yield _under(below, f"{mark} {form.one_line(span.error)}", "red", width, ascii_only=ascii_only)
        if content and (said := _said(span, ascii_only=ascii_only)):
            yield _under(below, said, "dim", width, ascii_only=ascii_only)


def _said(span: model.Span, *, ascii_only: bool) -> str:
    asked, answered = span.said
    if len(asked) > 60 and answered:
        asked = form.fit(asked, 60, ascii_only=ascii_only)
    return f"{asked} {'->' if ascii_only else '→'} {answered}" if answered else asked


def _under(guide: str, text: str, style: str, width: int, *, ascii_only: bool) -> Text:
    return Text().append(guide, "dim").append(form.fit(text, width - cell_len(guide), ascii_only=ascii_only), style)


def _cells(span: model.Span, *, narrow: bool, ascii_only: bool) -> tuple[str, str, str]:
    """How long, tokens, cost; where there is little room, what the trace cost stands at its top alone."""
    arrow, tokens = "->" if ascii_only else "→", span.tokens
    used = f"{form.count(tokens.input)}{arrow}{form.count(tokens.output)}" if tokens else ""
    return form.duration(span.ms) or "open", used, "" if narrow else form.money(span.cost)


def _guides(last: tuple[bool, ...], *, ascii_only: bool) -> tuple[str, str]:
    """What stands before a span's name, and before what is said below it."""
    pipe, tee, corner = ("|   ", "|-- ", "`-- ") if ascii_only else ("│  ", "├─ ", "└─ ")
    blank = " " * len(pipe)
    levels = last[1:][-12:]  # deeper ones would leave no room
    if not levels:
        return "", ""
    above = "".join(blank if done else pipe for done in levels[:-1])
    return above + (corner if levels[-1] else tee), above + (blank if levels[-1] else pipe)
