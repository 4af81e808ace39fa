"""Calls that LiteLLM tries on several models: by its Router, or with ``fallbacks``. Each try is a span below."""

from __future__ import annotations

from ..._shape import get_field, get_list, get_nested
from ...hooks.call import BegunCall, Call
from ...tracing.operations.message_drafts import TextPieces
from ...tracing.operations.records import Step


def begin_routed(call: Call) -> BegunCall:
    """Begin the record of a call of the Router, named by the group of models that is asked for."""
    asked = call.kwargs
    model = call.argument("model", want=str) or next((one for one in call.args[:2] if isinstance(one, str)), None)
    step = Step(type="router", name=f"route {model}" if model else "route")
    if call.capture_content:
        given = (asked[name] for name in ("messages", "input", "prompt", "query") if name in asked)
        step.input = next(given, call.args[-1] if len(call.args) > 1 else None)
    return step, _observe if call.capture_content else None


def _observe(step: Step, got: object) -> None:
    """Read the text of an answer, or a chunk of it; the tries have everything else."""
    for choice in get_list(got, "choices"):
        said = get_field(choice, "message") or get_field(choice, "delta") or choice
        text = get_nested(said, "content", str) or get_nested(said, "text", str)
        if text and not get_nested(choice, "index", int):
            _append_output(step, text)
    if get_nested(got, "type", str) == "response.output_text.delta" and (text := get_nested(got, "delta", str)):
        _append_output(step, text)


def _append_output(step: Step, text: str) -> None:
    if type(step.output) is not TextPieces:
        step.output = TextPieces()
    step.output.append(text)
