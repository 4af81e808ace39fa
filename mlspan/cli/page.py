"""Rendering of a trace as one self-contained HTML page, without scripts, fonts or images."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any, Final

from .._shape import get_nested
from ..tracing.export.mlflow.messages import as_text
from . import form, model
from .html_document import render_document

_MAX_CONTENT_CHARS: Final = 100_000  # characters of one input or output
_AXIS_TICKS: Final = 4
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


def render_page(trace: model.StoredTrace, facts: dict[str, str]) -> str:
    """Return *trace* as an HTML page. *facts* are shown above its timeline, in their order."""
    title = form.join_lines(trace.name) or trace.id
    state = "bad" if trace.failed else "good"
    return render_document(
        title,
        f'{escape(title)} <small class="{state}">{escape(trace.state)}</small>',
        "".join(_render_fact(key, value) for key, value in facts.items()),
        "".join(_render_timeline(trace)),
        stylesheet="page.css",
    )


def _render_fact(key: str, value: str) -> str:
    """Return one fact as a term and its value. The trace's address in MLflow becomes a link."""
    shown = escape(value)
    if key == "link" and value.startswith(("http://", "https://")):
        shown = f'<a href="{shown}" rel="noreferrer">MLflow</a>'
    return f"<div><dt>{escape(key)}</dt><dd>{shown}</dd></div>"


def _render_timeline(trace: model.StoredTrace) -> Iterator[str]:
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
        yield _render_span(span, len(is_last) - 1, start_ns, total_ns)


def _render_span(span: model.StoredSpan, depth: int, start_ns: int, total_ns: int) -> str:
    """Return the row of a span, with details to unfold. *start_ns* and *total_ns* are those of the trace."""
    colour = "bad" if span.failed else _COLOUR_BY_SPAN_TYPE.get(span.span_type, "other")
    left = (span.start_ns - start_ns) / total_ns * 100
    width = ((span.end_ns or start_ns + total_ns) - span.start_ns) / total_ns * 100
    tokens = f"{form.format_count(span.tokens.input)} → {form.format_count(span.tokens.output)}" if span.tokens else ""
    request, answer = span.preview_lines
    preview = f"{request[:300]} → {answer[:300]}" if answer else request[:300]
    failed = f'<div class="said bad">✗ {escape(form.join_lines(span.error))}</div>' if span.error else ""
    return f"""<details style="--depth: {min(depth, 12)}; --colour: var(--{colour})"><summary class="row">
<span class="name"><i></i><b>{escape(form.join_lines(span.name))}</b></span>
<span class="lane"><span style="left: {left:.3f}%; width: {width:.3f}%"></span></span>
<span class="num">{form.format_duration(span.duration_ms) or "open"}</span><span class="num">{tokens}</span>
<span class="num cost">{form.format_cost(span.cost)}</span>
{failed}{f'<div class="said">{escape(preview)}</div>' if preview else ""}
</summary><div class="more">{"".join(_render_details(span))}</div></details>
"""


def _render_details(span: model.StoredSpan) -> Iterator[str]:
    """Yield the error, input, output and attributes of a span."""
    if span.error:
        yield f"<h2>error</h2><pre>{_escape_text(span.error)}</pre>"
    for title, value in (("input", span.inputs), ("output", span.outputs)):
        if value is not None:
            yield f"<h2>{title}</h2>{_render_content(value)}"
    plain = {key: value for key, value in span.attributes.items() if not key.startswith("mlflow.") and _is_short(value)}
    shown = {"type": span.span_type, "span": span.id, **plain}
    cells = "".join(
        f"<tr><td>{escape(str(key))}</td><td>{_escape_text(as_text(value))}</td></tr>" for key, value in shown.items()
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


def _escape_text(text: str) -> str:
    """Return *text* escaped and cut to the maximum length."""
    cut = f"\n[{len(text) - _MAX_CONTENT_CHARS:,} more characters]" if len(text) > _MAX_CONTENT_CHARS else ""
    return escape(text[:_MAX_CONTENT_CHARS]) + cut


def _is_short(value: object) -> bool:
    return len(as_text(value)) <= 500  # longer values are content, which the page shows as input or output
