"""Earlier versions of the GenAI conventions: names that were replaced, and messages as events or one by one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from opentelemetry.sdk.trace import Event

from ...operations import semconv as sc
from ...operations.content import to_json
from .dialect import Dialect, ForeignSpan, JsonObject, collect_indexed, list_values, parse_attribute
from .messages import convert_message, write_messages

_DETAILS: Final = "gen_ai.client.inference.operation.details"
_ROLE_EVENTS: Final = re.compile(r"gen_ai\.(system|user|assistant|tool)\.message|gen_ai\.choice")
_CONTENT_EVENTS: Final = {
    "gen_ai.content.prompt": ("gen_ai.prompt", "user"),
    "gen_ai.content.completion": ("gen_ai.completion", "assistant"),
}


def _read(span: ForeignSpan) -> JsonObject:
    inputs = collect_indexed(span.attributes, "gen_ai.prompt.")
    outputs = collect_indexed(span.attributes, "gen_ai.completion.")
    found = _read_events(span, inputs, outputs)
    if span.get(sc.OPERATION) == sc.EXECUTE_TOOL:
        return _read_tool_messages(found) | _read_tool_events(span.events)
    for name, messages, role in ((sc.INPUT_MESSAGES, inputs, "user"), (sc.OUTPUT_MESSAGES, outputs, "assistant")):
        if (written := write_messages(messages, role)) is not None:
            found.setdefault(name, written)
    return found


def _read_events(span: ForeignSpan, inputs: list[Any], outputs: list[Any]) -> JsonObject:
    """Add the messages in events to *inputs* and *outputs*, and return the attributes in events."""
    found: JsonObject = {}
    for event in span.events:
        attributes = dict(event.attributes or {})
        if event.name == _DETAILS:
            found.update({key: value for key, value in attributes.items() if key.startswith("gen_ai.")})
        elif event.name in _CONTENT_EVENTS:
            key, role = _CONTENT_EVENTS[event.name]
            target = inputs if role == "user" else outputs
            target += [one if isinstance(one, dict) else {"content": one} for one in list_values(attributes.get(key))]
        elif match := _ROLE_EVENTS.fullmatch(event.name):
            message = {**attributes, "message": parse_attribute(attributes.get("message"))}
            if not isinstance(message["message"], dict):  # Strands': the content itself
                message["content"] = attributes.get("content", message.pop("message"))
            (inputs if match[1] else outputs).append({"role": match[1] or "assistant", **message})
    return found


def _read_tool_messages(found: JsonObject) -> JsonObject:
    """Return the arguments and the result of a tool, from messages that hold the call and the answer."""
    told: JsonObject = {}
    for name, ours, key, kind in (
        (sc.INPUT_MESSAGES, sc.TOOL_CALL_ARGUMENTS, "arguments", "tool_call"),
        (sc.OUTPUT_MESSAGES, sc.TOOL_CALL_RESULT, "response", "tool_call_response"),
    ):
        parts = [part for one in list_values(found.get(name)) for part in convert_message(one, "tool")["parts"]]
        values = [part.get(key) for part in parts if part.get("type") == kind]
        if values and values[0] is not None:
            told[ours] = values[0] if isinstance(values[0], str) else to_json(values[0])
    return told


def _read_tool_events(events: Sequence[Event]) -> JsonObject:
    """Return the arguments and the result of a tool, from events that bear the names of messages."""
    found: JsonObject = {}
    for event in events:
        attributes = event.attributes or {}
        if event.name == "gen_ai.tool.message":
            found[sc.TOOL_CALL_ARGUMENTS] = attributes.get("content")
        elif event.name == "gen_ai.choice":
            found[sc.TOOL_CALL_RESULT] = attributes.get("message", attributes.get("content"))
    return {name: value for name, value in found.items() if value is not None}


OLDER_CONVENTIONS: Final = Dialect(
    prefixes=("gen_ai.",),
    names={
        "gen_ai.system": sc.PROVIDER,
        "gen_ai.usage.prompt_tokens": sc.USAGE_INPUT_TOKENS,
        "gen_ai.usage.completion_tokens": sc.USAGE_OUTPUT_TOKENS,
        "gen_ai.usage.cache_read_input_tokens": sc.USAGE_CACHE_READ_INPUT_TOKENS,
        "gen_ai.usage.cache_creation_input_tokens": sc.USAGE_CACHE_WRITE_INPUT_TOKENS,
        "gen_ai.usage.cache_creation.input_tokens": sc.USAGE_CACHE_WRITE_INPUT_TOKENS,
        "gen_ai.usage.reasoning_tokens": sc.USAGE_REASONING_OUTPUT_TOKENS,
        "gen_ai.request.max_output_tokens": sc.REQUEST_MAX_TOKENS,
    },
    read=_read,
    content=(
        *(sc.INPUT_MESSAGES, sc.OUTPUT_MESSAGES, sc.SYSTEM_INSTRUCTIONS, sc.TOOL_DEFINITIONS, "gen_ai.prompt."),
        *("gen_ai.completion.", sc.TOOL_CALL_ARGUMENTS, sc.TOOL_CALL_RESULT, sc.RETRIEVAL_QUERY),
        *(sc.RETRIEVAL_DOCUMENTS, "gen_ai.prompt", "gen_ai.completion"),
    ),
)
