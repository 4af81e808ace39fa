"""A trace as one HTML page with nothing outside of it: no script, no font, no picture."""

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


def page(trace: model.Trace, known: dict[str, str]) -> str:
    """*trace* as HTML; *known* is what stands above its timeline."""
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
<dl>{"".join(_fact(key, value) for key, value in known.items())}</dl>
<main>
{"".join(_rows(trace))}
</main>
</body>
</html>
"""


def _fact(key: str, value: str) -> str:
    said = escape(value)
    if key == "link" and value.startswith(("http://", "https://")):
        said = f'<a href="{said}" rel="noreferrer">MLflow</a>'
    return f"<div><dt>{escape(key)}</dt><dd>{said}</dd></div>"


def _rows(trace: model.Trace) -> Iterator[str]:
    rows = list(trace.tree())
    if not rows:
        yield '<p class="dim">No span of this trace is stored (yet).</p>'
        return
    begin = min(span.start for span, _ in rows)
    whole = max(1, max(span.end or span.start for span, _ in rows) - begin)
    ticks = "".join(
        f"<span>{form.duration(whole / 1e6 * tick / _TICKS) if tick else 0}</span>" for tick in range(_TICKS + 1)
    )
    yield (
        f'<div class="axis"><span>span</span><div>{ticks}</div><span class="num">took</span>'
        '<span class="num">tokens</span><span class="num">cost</span></div>\n'
    )
    for span, last in rows:
        yield _row(span, len(last) - 1, begin, whole)


def _row(span: model.Span, depth: int, begin: int, whole: int) -> str:
    colour = "bad" if span.failed else _COLOURS.get(span.kind, "other")
    left = (span.start - begin) / whole * 100
    wide = ((span.end or begin + whole) - span.start) / whole * 100
    tokens = f"{form.count(span.tokens.input)} → {form.count(span.tokens.output)}" if span.tokens else ""
    asked, answered = span.said
    said = f"{asked[:300]} → {answered[:300]}" if answered else asked[:300]
    failed = f'<div class="said bad">✗ {escape(form.one_line(span.error))}</div>' if span.error else ""
    return f"""<details style="--depth: {min(depth, 12)}; --colour: var(--{colour})"><summary class="row">
<span class="name"><i></i><b>{escape(form.one_line(span.name))}</b></span>
<span class="lane"><span style="left: {left:.3f}%; width: {wide:.3f}%"></span></span>
<span class="num">{form.duration(span.ms) or "open"}</span><span class="num">{tokens}</span>
<span class="num cost">{form.money(span.cost)}</span>
{failed}{f'<div class="said">{escape(said)}</div>' if said else ""}
</summary><div class="more">{"".join(_details(span))}</div></details>
"""


def _details(span: model.Span) -> Iterator[str]:
    if span.error:
        yield f"<h2>error</h2><pre>{_text(span.error)}</pre>"
    for title, value in (("input", span.inputs), ("output", span.outputs)):
        if value is not None:
            yield f"<h2>{title}</h2>{_content(value)}"
    plain = {key: value for key, value in span.attributes.items() if not key.startswith("mlflow.") and _short(value)}
    about = {"type": span.kind, "span": span.id, **plain}
    cells = "".join(
        f"<tr><td>{escape(str(key))}</td><td>{_text(as_text(value))}</td></tr>" for key, value in about.items()
    )
    yield f"<h2>attributes</h2><table>{cells}</table>"


def _content(value: Any) -> str:
    """A chat as its messages, anything else as it is."""
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
    content, calls = message.get("content"), message.get("tool_calls")
    said = [content if isinstance(content, str) else model.dumps(content)] if content else []
    return "\n".join([*said, *(_call(call) for call in (calls if isinstance(calls, list) else ()))])


def _call(call: Any) -> str:
    name, arguments = get_nested(call, "function.name", str), get_nested(call, "function.arguments", str)
    return model.dumps(call) if name is None else f"{name}({arguments or ''})"


def _text(text: str) -> str:
    cut = f"\n[{len(text) - _MOST:,} more characters]" if len(text) > _MOST else ""
    return escape(text[:_MOST]) + cut


def _short(value: Any) -> bool:
    return len(as_text(value)) <= 500  # what is longer is content, which stands above
