"""``mlspan show``: print a trace as a tree, with a bar for the time in which each span ran."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Final

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from . import form, model
from .arguments import Argument, Option, UsageError
from .common import (
    ExperimentOption,
    JsonOption,
    SpoolDirOption,
    TrackingUriOption,
    make_output_console,
    write_file,
)
from .filters import parse_filter
from .opening import open_reader
from .pending import note_pending_spans, noting_pending_spans
from .places import is_tracking_server, locate_store
from .reading import TraceFilter, TraceReader
from .span_labels import SpanLabels
from .story import describe_wait, summarize_story

_STYLE_BY_SPAN_TYPE: Final = {
    "CHAT_MODEL": "cyan",
    "LLM": "cyan",
    "EMBEDDING": "blue",
    "RETRIEVER": "blue",
    "TOOL": "yellow",
    "AGENT": "magenta",
    "WORKFLOW": "magenta",
}
_NARROW_WIDTH: Final = 80
_LINES_AT_ONCE: Final = 100
_NUMERIC_FACTS: Final = ("took", "tokens", "cost", "spans", "at")


def show(
    trace: Annotated[
        str | None,
        Argument(metavar="TRACE", help="Trace id, its first digits, or: last.", default="last"),
    ] = None,
    as_json: JsonOption = False,
    html: Annotated[
        Path | None,
        Option("--html", metavar="FILE", help="Write a self-contained page with the timeline."),
    ] = None,
    content: Annotated[bool, Option(help="Show the first line of each request and answer.")] = True,
    dead: Annotated[
        bool, Option("--dead", help="Show spans that a backend has refused: all, or those of TRACE.")
    ] = False,
    spool_dir: SpoolDirOption = None,
    tracking_uri: TrackingUriOption = None,
    experiment: ExperimentOption = None,
    filter_: Annotated[
        str | None, Option("--filter", metavar="TEXT", help="The newest trace that mlspan list --filter finds.")
    ] = None,
) -> None:
    """Show one trace as a tree with a timeline.

    Each span has its time, tokens, cost, the first line of request and answer, its error, and what it is linked to.
    A trace that waited for a person is shown with those that go on with it.

    Examples:
        mlspan show
        mlspan show 3fa9
        mlspan show last --html trace.html
        mlspan show --filter "status = 'ERROR' AND name = 'support'"
    """
    conditions = parse_filter(filter_)
    if conditions and (dead or trace not in {None, "last"}):
        raise UsageError("--filter chooses the newest trace that it finds: give no other, and not --dead")
    if dead:
        from .draining import build_refused_trace, find_dead_letters, print_dead_letters
    if dead and trace is None:
        print_dead_letters(find_dead_letters(spool_dir, None), as_json=as_json)
        return
    if dead:
        refused = find_dead_letters(spool_dir, trace)
        found = build_refused_trace(refused, str(trace))
        shown_facts = {"refused": "; ".join({form.join_lines(one.reason) for one in refused}), "trace": found.id}
        story = [found]
    else:
        place = locate_store(tracking_uri, experiment)
        with noting_pending_spans(place):
            traces = open_reader(place)
            found = traces.find_trace(trace or "last", TraceFilter(conditions=conditions))
            story = traces.read_story(found)
        shown_facts = {**collect_facts(found, traces), **summarize_story(story)}
    if html is not None:
        from .page import render_page

        write_file(html, render_page(found, shown_facts, story))
    if as_json:
        told = [model.trace_to_json(one) for one in story] if len(story) > 1 else []
        model.write_json({**model.trace_to_json(found), "spans": model.spans_to_json(found), "story": told})
    elif html is None:
        print_trace(found, make_output_console(), shown_facts, content=content, story=story)
        if not dead:
            note_pending_spans(locate_store(tracking_uri, experiment))


def collect_facts(trace: model.StoredTrace, traces: TraceReader) -> dict[str, str]:
    """Return the facts about a trace as a whole, by title. Those that are not known are left out."""
    from ..tracing.export.mlflow.addresses import trace_url

    uri = traces.place.uri
    return collect_facts_of_trace(
        trace,
        experiment=traces.experiments.get(trace.experiment_id, trace.experiment_id),
        run=traces.find_run_name(trace.run_id) if trace.run_id else "",
        link=trace_url(uri, trace.experiment_id, trace.id) if is_tracking_server(uri) else "",
    )


def collect_facts_of_trace(
    trace: model.StoredTrace, *, experiment: str = "", run: str = "", link: str = ""
) -> dict[str, str]:
    """Return the facts about a trace that it says itself, and those that only its store knows, by title."""
    tokens = trace.tokens
    values = {
        "took": form.format_duration(trace.duration_ms),
        "tokens": _format_tokens(tokens) if tokens else "",
        "cost": form.format_cost(trace.cost),
        "spans": str(len(trace.spans)),
        "at": form.format_full_time(trace.start_ms),
        "experiment": experiment,
        "run": run,
        "session": trace.session or "",
        "user": trace.user or "",
        "trace": trace.id,
        "link": link,
    }
    tags = {f"tag {key}" if key in {*values, "experiment", "run"} else key: value for key, value in trace.tags.items()}
    ends = ("trace", "link")  # below all others
    facts = {**{key: values[key] for key in values if key not in ends}, **tags, **{key: values[key] for key in ends}}
    return {form.join_lines(key): form.join_lines(value) for key, value in facts.items() if value}


def _format_tokens(tokens: model.TokenCounts) -> str:
    """Return the total, and how many went in and came out."""
    total, sent, received = map(form.format_count, (tokens.total, tokens.input, tokens.output))
    return f"{total} ({sent} in, {received} out)"


def print_trace(
    trace: model.StoredTrace,
    console: Console,
    shown_facts: dict[str, str],
    *,
    content: bool = True,
    story: Sequence[model.StoredTrace] = (),
) -> None:
    """Print *trace* in the width of *console*.

    *shown_facts* are printed above the tree. If it is one of a *story* of several, the trees of all are printed.
    """
    ascii_only = console.options.ascii_only
    console.print(_make_title(trace))
    separator = " | " if ascii_only else " · "
    numbers = [_format_fact(key, shown_facts[key]) for key in _NUMERIC_FACTS if key in shown_facts]
    texts = [f"{key} {value}" for key, value in shown_facts.items() if key not in {*_NUMERIC_FACTS, "trace", "link"}]
    for pieces, style in ((numbers, ""), (texts, "dim")):
        for piece in form.wrap_pieces(pieces, separator, console.width):
            console.print(Text(form.truncate_to_width(piece, console.width, ascii_only=ascii_only), style=style))
    for key in ("trace", "link"):  # each on its own unbroken line, to be copied
        if key in shown_facts:
            console.print(Text(shown_facts[key], style="dim"), soft_wrap=True)
    story = story or [trace]
    labels = SpanLabels(story)
    for number, part in enumerate(story, start=1):
        console.print()
        if len(story) > 1:
            console.print(_make_part_title(part, number, len(story), is_shown=part is trace, ascii_only=ascii_only))
        lines = draw_tree(part, console.width, labels, content=content, ascii_only=ascii_only)
        while portion := list(islice(lines, _LINES_AT_ONCE)):  # each print costs more than its lines
            console.print(Text("\n").join(portion), no_wrap=True, overflow="crop", crop=True)
        if part.waited:
            asked = f"? {form.join_lines(part.question or '')}"
            console.print(Text(form.truncate_to_width(asked, console.width, ascii_only=ascii_only), style="yellow"))
            console.print(Text(f"  {describe_wait(part, story)}", style="dim"))


def _make_title(trace: model.StoredTrace) -> Text:
    """Return the name of a trace and its state."""
    style = "bold red" if trace.failed else "green" if trace.state == "OK" else "yellow"
    return Text(form.join_lines(trace.name) or trace.id, style="bold").append(f"  {trace.state}", style=style)


def _make_part_title(part: model.StoredTrace, number: int, parts: int, *, is_shown: bool, ascii_only: bool) -> Text:
    """Return the line above one trace of a story."""
    line = Text(f"{number} of {parts}  ", style="bold").append(_make_title(part))
    line.append(f"  {form.shorten_trace_id(part.id)}", "cyan")
    line.append(f"  {form.format_full_time(part.start_ms)}", "dim")
    return line.append("  <- this trace" if ascii_only else "  ← this trace", "dim") if is_shown else line


def _format_fact(key: str, value: str) -> str:
    """Return a fact as text with its unit."""
    if key == "tokens":
        return value.replace(" ", " tokens ", 1)
    return f"{value} span{'' if value == '1' else 's'}" if key == "spans" else value


def draw_tree(
    trace: model.StoredTrace,
    width: int,
    labels: SpanLabels | None = None,
    *,
    content: bool = True,
    ascii_only: bool = False,
) -> Iterator[Text]:
    """Yield the lines of the tree with its timeline, none wider than *width* cells. *labels* are names for spans."""
    labels = labels or SpanLabels([trace])
    rows = [(span, _draw_guides(is_last, ascii_only=ascii_only)) for span, is_last in trace.walk_tree()]
    if not rows:
        yield Text("no span of this trace is stored (yet)", style="dim")
        return
    narrow = width < _NARROW_WIDTH
    cells = [_format_figures(span, narrow=narrow, ascii_only=ascii_only) for span, _ in rows]
    columns = [max(map(len, column)) for column in zip(*cells, strict=True)]
    free_width = width - sum(2 + column for column in columns if column) - 1
    longest = max(cell_len(guides[0]) + cell_len(labels.get_label(trace, span)) for span, guides in rows)
    name_width = max(12, min(longest, free_width - 8 if narrow else max(free_width - 40, int(free_width * 0.65))))
    bar_width = max(4, min(free_width - name_width, 72))
    start_ns = min(span.start_ns for span, _ in rows)
    total_ns = max(1, max(span.end_ns or span.start_ns for span, _ in rows) - start_ns)
    for (span, (guide, detail_guide)), figures in zip(rows, cells, strict=True):
        style = "red" if span.failed else _STYLE_BY_SPAN_TYPE.get(span.span_type, "")
        line = Text().append(guide, "dim")
        line.append(
            form.truncate_to_width(labels.get_label(trace, span), name_width - cell_len(guide), ascii_only=ascii_only),
            style or "bold",
        )
        line.append(" " * max(1, name_width + 1 - line.cell_len))
        length = ((span.end_ns or start_ns + total_ns) - span.start_ns) / total_ns
        bar = form.draw_span_bar((span.start_ns - start_ns) / total_ns, length, bar_width, ascii_only=ascii_only)
        line.append(bar + " " * (bar_width - cell_len(bar)), style or "white")
        for figure, column, colour in zip(figures, columns, ("", "dim", "green"), strict=True):
            if column:
                line.append(f"  {figure:>{column}}", colour)
        line.rstrip()
        yield line
        if linked := [f"{words} {target}" for words, target, _ in labels.describe_links(trace, span)]:
            text = f"{'^' if ascii_only else '↰'} {', '.join(linked)}"
            yield _make_detail_line(detail_guide, text, "blue", width, ascii_only=ascii_only)
        if span.error:
            mark = "x" if ascii_only else "✗"
            yield _make_detail_line(
                detail_guide, f"{mark} {form.join_lines(span.error)}", "red", width, ascii_only=ascii_only
            )
        if content and (preview := _format_preview(span, ascii_only=ascii_only)):
            yield _make_detail_line(detail_guide, preview, "dim", width, ascii_only=ascii_only)


def _format_preview(span: model.StoredSpan, *, ascii_only: bool) -> str:
    """Return the first line of the request and of the answer, as ``request → answer``."""
    request, answer = span.preview_lines
    if len(request) > 60 and answer:
        request = form.truncate_to_width(request, 60, ascii_only=ascii_only)
    return f"{request} {'->' if ascii_only else '→'} {answer}".lstrip() if answer else request


def _make_detail_line(guide: str, text: str, style: str, width: int, *, ascii_only: bool) -> Text:
    """Return a line of text below a span."""
    return (
        Text()
        .append(guide, "dim")
        .append(form.truncate_to_width(text, width - cell_len(guide), ascii_only=ascii_only), style)
    )


def _format_figures(span: model.StoredSpan, *, narrow: bool, ascii_only: bool) -> tuple[str, str, str]:
    """Return the duration, tokens and cost of a span. In narrow output the cost is left out."""
    arrow, tokens = "->" if ascii_only else "→", span.tokens
    used = f"{form.format_count(tokens.input)}{arrow}{form.format_count(tokens.output)}" if tokens else ""
    return form.format_duration(span.duration_ms) or "open", used, "" if narrow else form.format_cost(span.cost)


def _draw_guides(is_last: tuple[bool, ...], *, ascii_only: bool) -> tuple[str, str]:
    """Return the lines of the tree before a span's name, and those before the texts below it."""
    pipe, tee, corner = ("|   ", "|-- ", "`-- ") if ascii_only else ("│  ", "├─ ", "└─ ")
    blank = " " * len(pipe)
    levels = is_last[1:][-12:]  # deeper levels would leave no room for names
    if not levels:
        return "", ""
    above = "".join(blank if done else pipe for done in levels[:-1])
    return above + (corner if levels[-1] else tee), above + (blank if levels[-1] else pipe)
