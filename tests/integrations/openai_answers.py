"""Answers of chat completions as the tests of frameworks want them: a text, or calls of tools, whole or streamed."""

from __future__ import annotations

import json
from typing import Any

from openai_chunks import USAGE

Asked = tuple[str, str, dict[str, Any]]  # a tool call: its id, the tool and its arguments


def answer(text: str | None, *asked: Asked, usage: Any = USAGE, id: str = "c-1") -> dict[str, Any]:
    """A whole answer that says *text*, or asks for tools."""
    calls = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for call_id, name, arguments in asked
    ]
    message: dict[str, Any] = {"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
    head = {"id": id, "object": "chat.completion", "created": 1, "model": "m"}
    return {**head, "choices": [choice], "usage": usage}


def stream(text: str | None, *asked: Asked, usage: Any = USAGE) -> list[Any]:
    """The events of the same answer, streamed: each word of the text, each tool call in two pieces, the usage last."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    words = text.split(" ") if text else []
    deltas += [{"content": word if index == 0 else f" {word}"} for index, word in enumerate(words)]
    for index, (call_id, name, arguments) in enumerate(asked):
        function = {"name": name, "arguments": ""}
        deltas.append({"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]})
        deltas.append({"tool_calls": [{"index": index, "function": {"arguments": json.dumps(arguments)}}]})
    head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    finish = "tool_calls" if asked else "stop"
    end = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
    return [*chunks, end, {**head, "choices": [], "usage": usage}, "[DONE]"]


def count_tokens(spans: Any) -> tuple[int, int]:
    """Return the tokens of all calls to models, as the spans tell them."""
    calls = [dict(span.attributes or {}) for span in spans.all]
    counted = [one for one in calls if one.get("gen_ai.operation.name") in {"chat", "embeddings"}]
    given = sum(int(one.get("gen_ai.usage.input_tokens", 0)) for one in counted)
    return given, sum(int(one.get("gen_ai.usage.output_tokens", 0)) for one in counted)


def list_links(spans: Any, name: str) -> list[tuple[str, str]]:
    """Return the links of the spans of a name: what kind each is of, and the name of the span that it points to."""
    names = {span.context.span_id: span.name for span in spans.all}
    return [
        (str((link.attributes or {})["mlspan.link"]), names[link.context.span_id])
        for span in spans.named(name)
        for link in span.links
    ]
