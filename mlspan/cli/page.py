"""Rendering of a trace as one self-contained HTML page, without scripts, fonts or images."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from importlib.resources import files
from typing import Any, Final

from .._shape import get_nested
from ..tracing.export.mlflow.messages import as_text
from . import form, model

_MOST: Final = 100_000  # characters of one input or output
_TICKS: Final = 4
_COLOURS: Final = {
    "CHAT_MODEL": "model",
    "LLM": "model",
    "EMBEDDING": "data",
    "RETRIEVER": "data",
    "RERANKER": "data",
    "TOOL": "tool",
    "AGENT": "agent",
    "WORKFLOW": "agent",
}

_STYLE: Final = files(__package__).joinpath("page.css").read_text(encoding="utf-8")


def page(trace: model.Trace, facts: dict[str, str]) -> str:
    """Return *trace* as an HTML page. *facts* are shown above its timeline, in their order."""
    title = escape(form.one_line(trace.name) or trace.id)
    state = "bad" if trace.failed else "good"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{title} <small class="{state}">{escape(trace.state)}</small></h1>
<dl>{"".join(_fact(key, value) for key, value in facts.items())}</dl>
<main>
{"".join(_rows(trace))}
</main>
</body>
</html>
"""


def _fact(key: str, value: str) -> str:
    """Return one fact as a term and its value. The trace's address in MLflow becomes a link."""
    shown = escape(value)
    if key == "link" and value.startswith(("http://", "https://")):
        shown = f'<a href="{shown}" rel="noreferrer">MLflow</a>'
    return f"<div><dt>{escape(key)}</dt><dd>{shown}</dd></div>"


def _rows(trace: model.Trace) -> Iterator[str]:
    """Yield the axis of the timeline and one row for each span."""
    rows = list(trace.tree())
    if not rows:
        yield '<p class="dim">No span of this trace is stored (yet).</p>'
        return
    start_ns = min(span.start for span, _ in rows)
    total_ns = max(1, max(span.end or span.start for span, _ in rows) - start_ns)
    ticks = "".join(
        f"<span>{form.duration(total_ns / 1e6 * tick / _TICKS) if tick else 0}</span>" for tick in range(_TICKS + 1)
    )
    yield (
        f'<div class="axis"><span>span</span><div>{ticks}</div><span class="num">took</span>'
        '<span class="num">tokens</span><span class="num">cost</span></div>\n'
    )
    for span, is_last in rows:
        yield _row(span, len(is_last) - 1, start_ns, total_ns)


def _row(span: model.Span, depth: int, start_ns: int, total_ns: int) -> str:
    """Return the row of a span, with details to unfold. *start_ns* and *total_ns* are those of the trace."""
    colour = "bad" if span.failed else _COLOURS.get(span.kind, "other")
    left = (span.start - start_ns) / total_ns * 100
    width = ((span.end or start_ns + total_ns) - span.start) / total_ns * 100
    tokens = f"{form.count(span.tokens.input)} → {form.count(span.tokens.output)}" if span.tokens else ""
    request, answer = span.said
    preview = f"{request[:300]} → {answer[:300]}" if answer else request[:300]
    failed = f'<div class="said bad">✗ {escape(form.one_line(span.error))}</div>' if span.error else ""
    return f"""<details style="--depth: {min(depth, 12)}; --colour: var(--{colour})"><summary class="row">
<span class="name"><i></i><b>{escape(form.one_line(span.name))}</b></span>
<span class="lane"><span style="left: {left:.3f}%; width: {width:.3f}%"></span></span>
<span class="num">{form.duration(span.ms) or "open"}</span><span class="num">{tokens}</span>
<span class="num cost">{form.money(span.cost)}</span>
{failed}{f'<div class="said">{escape(preview)}</div>' if preview else ""}
</summary><div class="more">{"".join(_details(span))}</div></details>
"""


def _details(span: model.Span) -> Iterator[str]:
    """Yield the error, input, output and attributes of a span."""
    if span.error:
        yield f"<h2>error</h2><pre>{_text(span.error)}</pre>"
    for title, value in (("input", span.inputs), ("output", span.outputs)):
        if value is not None:
            yield f"<h2>{title}</h2>{_content(value)}"
    plain = {key: value for key, value in span.attributes.items() if not key.startswith("mlflow.") and _short(value)}
    shown = {"type": span.kind, "span": span.id, **plain}
    cells = "".join(
        f"<tr><td>{escape(str(key))}</td><td>{_text(as_text(value))}</td></tr>" for key, value in shown.items()
    )
    yield f"<h2>attributes</h2><table>{cells}</table>"


def _content(value: Any) -> str:
    """Return *value* as a table if it is a list of messages, else as preformatted text."""
    messages = value.get("messages") if isinstance(value, dict) else None
    choices = value.get("choices") if isinstance(value, dict) else None
    if isinstance(choices, list):
        messages = [choice.get("message") for choice in choices if isinstance(choice, dict)]
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return f"<pre>{_text(value if isinstance(value, str) else model.dumps(value))}</pre>"
    cells = "".join(
        f"<tr><td>{escape(str(message.get('role', '')))}</td><td><pre>{_text(_message(message))}</pre></td></tr>"
        for message in messages
    )
    return f'<table class="messages">{cells}</table>'


def _message(message: dict[str, Any]) -> str:
    """Return the content and the tool calls of a message as text."""
    content, calls = message.get("content"), message.get("tool_calls")
    lines = [content if isinstance(content, str) else model.dumps(content)] if content else []
    return "\n".join([*lines, *(_call(call) for call in (calls if isinstance(calls, list) else ()))])


def _call(call: Any) -> str:
    """Return a tool call as ``name(arguments)``, or as JSON if it has no name."""
    name, arguments = get_nested(call, "function.name", str), get_nested(call, "function.arguments", str)
    return model.dumps(call) if name is None else f"{name}({arguments or ''})"


def _text(text: str) -> str:
    """Return *text* escaped and cut to the maximum length."""
    cut = f"\n[{len(text) - _MOST:,} more characters]" if len(text) > _MOST else ""
    return escape(text[:_MOST]) + cut


def _short(value: Any) -> bool:
    return len(as_text(value)) <= 500  # longer values are content, which the page shows as input or output
