"""Rendering of a trace as one self-contained HTML page, which loads nothing.

Its one script opens all rows at once. The page allows no other, whatever the traced texts hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, Final

from .._shape import get_nested
from ..tracing.export.mlflow.messages import as_text
from ..tracing.operations import semconv as sc
from . import form, model
from .html_document import render_document
from .span_labels import SpanLabels
from .story import describe_wait

_MAX_CONTENT_CHARS: Final = 100_000  # characters of one input or output
_AXIS_TICKS: Final = 4
_MOST_SPANS: Final = 500  # of larger pages the script makes what a row holds when it is opened
_SHOWN_AS_CONTENT: Final = frozenset({sc.INPUT, sc.OUTPUT, sc.INPUT_MESSAGES, sc.OUTPUT_MESSAGES})
_COLOUR_BY_SPAN_TYPE: Final = {
    "CHAT_MODEL": "model",
    "LLM": "model",
    "EMBEDDING": "data",
    "RETRIEVER": "data",
    "RERANKER": "data",
    "TOOL": "tool",
    "AGENT": "agent",
    "WORKFLOW": "agent",
}


def render_page(trace: model.StoredTrace, facts: dict[str, str], story: Sequence[model.StoredTrace] = ()) -> str:
    """Return *trace* as an HTML page.

    *facts* are shown above its timeline, in their order. If it is one of a *story* of several, all are shown.
    """
    title = form.join_lines(trace.name) or trace.id
    story = story or [trace]
    labels = SpanLabels(story)
    apart: list[str] | None = [] if sum(len(one.spans) for one in story) > _MOST_SPANS else None
    parts = "".join(_render_part(part, story, labels, apart, is_shown=part is trace) for part in story)
    hint = (
        '<p class="hint dim"><span>A click on a row opens it.</span> </p>\n' if any(one.spans for one in story) else ""
    )
    return render_document(
        title,
        _render_title(trace),
        "".join(_render_fact(key, value) for key, value in facts.items()),
        hint + parts + ("" if apart is None else _render_apart(apart)),
        stylesheet="page.css",
        script="page.js",
    )


def _render_apart(apart: list[str]) -> str:
    """Return what the rows hold, as data for the script."""
    data = model.dump_json(apart, indent=None).replace("</", "<\\/").replace("<!", "\\u003c!")
    note = "This page has so many rows that a script makes what they hold, and scripts are off here."
    return f'<script type="application/json" id="held">{data}</script><noscript>{note}</noscript>'


def _render_title(trace: model.StoredTrace) -> str:
    """Return the name of a trace and its state."""
    state = "bad" if trace.failed else "good" if trace.state == "OK" else "open"
    title = form.join_lines(trace.name) or trace.id
    return f'{escape(title)} <small class="{state}">{escape(trace.state)}</small>'


def _render_part(
    part: model.StoredTrace,
    story: Sequence[model.StoredTrace],
    labels: SpanLabels,
    apart: list[str] | None,
    *,
    is_shown: bool,
) -> str:
    """Return the timeline of one trace of a story, and what it asks. What its rows hold goes to *apart*, if given."""
    title = ""
    if len(story) > 1:
        about = f"{form.shorten_trace_id(part.id)} · {form.format_full_time(part.start_ms)}"
        here = " · this trace" if is_shown else ""
        place = f"{story.index(part) + 1} of {len(story)}"
        title = f'<h2 class="part">{place} {_render_title(part)} <span class="dim">{about}{here}</span></h2>\n'
    asked = ""
    if part.waited:
        wait = describe_wait(part, story)
        asked = f'<p class="asked">{escape(part.question or "")} <span class="dim">{escape(wait)}</span></p>\n'
    return title + "".join(_render_timeline(part, labels, apart)) + asked


def _render_fact(key: str, value: str) -> str:
    """Return one fact as a term and its value. The trace's address in MLflow becomes a link."""
    shown = escape(value)
    if key == "link" and value.startswith(("http://", "https://")):
        shown = f'<a href="{shown}" rel="noreferrer">MLflow</a>'
    return f"<div><dt>{escape(key)}</dt><dd>{shown}</dd></div>"


def _render_timeline(trace: model.StoredTrace, labels: SpanLabels, apart: list[str] | None) -> Iterator[str]:
    """Yield the axis of the timeline and one row for each span."""
    rows = list(trace.walk_tree())
    if not rows:
        yield '<p class="dim">No span of this trace is stored (yet).</p>'
        return
    start_ns = min(span.start_ns for span, _ in rows)
    total_ns = max(1, max(span.end_ns or span.start_ns for span, _ in rows) - start_ns)
    ticks = "".join(
        f"<span>{form.format_duration(total_ns / 1e6 * tick / _AXIS_TICKS) if tick else 0}</span>"
        for tick in range(_AXIS_TICKS + 1)
    )
    yield (
        f'<div class="axis"><span>span</span><div>{ticks}</div><span class="num">took</span>'
        '<span class="num">tokens</span><span class="num">cost</span></div>\n'
    )
    for span, is_last in rows:
        name, links = escape(labels.get_label(trace, span)), _render_links(trace, span, labels)
        details = "".join(_render_details(span))
        if apart is not None:
            apart.append(details)
            details = ""
        held = f'<div class="more">{details}</div>'
        yield _render_span(span, (name, links, held), len(is_last) - 1, start_ns, total_ns)


def _render_links(trace: model.StoredTrace, span: model.StoredSpan, labels: SpanLabels) -> str:
    """Return the links of a span; those to spans of this page lead there."""
    shown = [
        f"{escape(words)} " + (escape(target) if there is None else f'<a href="#s{escape(there)}">{escape(target)}</a>')
        for words, target, there in labels.describe_links(trace, span)
    ]
    return f'<div class="said linked">↰ {", ".join(shown)}</div>' if shown else ""


def _render_span(span: model.StoredSpan, texts: tuple[str, str, str], depth: int, start_ns: int, total_ns: int) -> str:
    """Return the row of a span, with details to unfold.

    *texts* are its name, its links and what it holds, as HTML; *start_ns* and *total_ns* are those of the trace.
    """
    name, links, held = texts
    colour = "bad" if span.failed else _COLOUR_BY_SPAN_TYPE.get(span.span_type, "other")
    left = (span.start_ns - start_ns) / total_ns * 100
    width = ((span.end_ns or start_ns + total_ns) - span.start_ns) / total_ns * 100
    tokens = f"{form.format_count(span.tokens.input)} → {form.format_count(span.tokens.output)}" if span.tokens else ""
    request, answer = span.preview_lines
    preview = f"{request[:300]} → {answer[:300]}" if answer else request[:300]
    failed = f'<div class="said bad">✗ {escape(form.join_lines(span.error))}</div>' if span.error else ""
    style = f"--depth: {min(depth, 12)}; --colour: var(--{colour})"
    return f"""<details id="s{escape(span.id)}" style="{style}"><summary class="row">
<span class="name"><i></i><b>{name}</b></span>
<span class="lane"><span style="left: {left:.3f}%; width: {width:.3f}%"></span></span>
<span class="num">{form.format_duration(span.duration_ms) or "open"}</span><span class="num">{tokens}</span>
<span class="num cost">{form.format_cost(span.cost)}</span>
{links}{failed}{f'<div class="said">{escape(preview)}</div>' if preview else ""}
</summary>{held}</details>
"""


def _render_details(span: model.StoredSpan) -> Iterator[str]:
    """Yield the error, input, output and attributes of a span."""
    if span.error:
        yield f"<h2>error</h2><pre>{_escape_text(span.error)}</pre>"
    for title, value in (("input", span.inputs), ("output", span.outputs)):
        if value is not None:
            yield f"<h2>{title}</h2>{_render_content(value)}"
    plain = {key: value for key, value in span.attributes.items() if _is_shown(key, value)}
    shown = {"type": span.span_type, "span": span.id, **plain}
    cells = "".join(
        f"<tr><td>{_break_name(str(key))}</td><td>{_escape_text(as_text(value))}</td></tr>"
        for key, value in shown.items()
    )
    yield f"<h2>attributes</h2><table>{cells}</table>"


def _render_content(value: object) -> str:
    """Return *value* as a table if it is a list of messages, else as preformatted text."""
    messages = value.get("messages") if isinstance(value, dict) else None
    choices = value.get("choices") if isinstance(value, dict) else None
    if isinstance(choices, list):
        messages = [choice.get("message") for choice in choices if isinstance(choice, dict)]
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return f"<pre>{_escape_text(value if isinstance(value, str) else model.dump_json(value))}</pre>"
    cells = "".join(
        f"<tr><td>{escape(str(message.get('role', '')))}</td>"
        f"<td><pre>{_escape_text(_format_message(message))}</pre></td></tr>"
        for message in messages
    )
    return f'<table class="messages">{cells}</table>'


def _format_message(message: dict[str, object]) -> str:
    """Return the content and the tool calls of a message as text."""
    content, calls = message.get("content"), message.get("tool_calls")
    lines = [content if isinstance(content, str) else model.dump_json(content)] if content else []
    return "\n".join([*lines, *(_format_tool_call(call) for call in (calls if isinstance(calls, list) else ()))])


def _format_tool_call(call: Any) -> str:
    """Return a tool call as ``name(arguments)``, or as JSON if it has no name."""
    name, arguments = get_nested(call, "function.name", str), get_nested(call, "function.arguments", str)
    return model.dump_json(call) if name is None else f"{name}({arguments or ''})"


def _break_name(name: str) -> str:
    """Return the name of an attribute, which may be broken between its words."""
    return "<wbr>".join(escape(word) for word in re.split(r"(?<=[._/-])", name))


def _escape_text(text: str) -> str:
    """Return *text* escaped and cut to the maximum length."""
    cut = f"\n[{len(text) - _MAX_CONTENT_CHARS:,} more characters]" if len(text) > _MAX_CONTENT_CHARS else ""
    return escape(text[:_MAX_CONTENT_CHARS]) + cut


def _is_shown(name: str, value: object) -> bool:
    """Return whether an attribute is in the table: longer values are content, which is shown as input or output."""
    return not name.startswith("mlflow.") and name not in _SHOWN_AS_CONTENT and len(as_text(value)) <= 500
