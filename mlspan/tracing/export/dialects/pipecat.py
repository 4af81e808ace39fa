"""Pipecat: conversations, turns and services of a voice agent; messages under bare names."""

from __future__ import annotations

from typing import Final

from ...operations import semconv as sc
from ...operations.content import to_json
from .dialect import Dialect, ForeignSpan, JsonObject, list_values
from .messages import write_messages

_OPERATIONS: Final = {"conversation": sc.INVOKE_WORKFLOW, "turn": sc.INVOKE_AGENT}


def _read(span: ForeignSpan) -> JsonObject:
    operation = span.get(sc.OPERATION) or _OPERATIONS.get(span.name)
    if span.get("tool.function_name") is not None:
        operation = sc.EXECUTE_TOOL
    found: JsonObject = {sc.KIND: "task"} if operation is None else {sc.OPERATION: operation}
    if operation == sc.CHAT:
        tools = [tool for tool in list_values(span.get("tools")) if isinstance(tool, dict)]
        found |= {
            sc.INPUT_MESSAGES: write_messages(span.get("input"), "user"),
            sc.OUTPUT_MESSAGES: write_messages(span.get("output"), "assistant"),
            sc.TOOL_DEFINITIONS: to_json(tools) if tools else None,
        }
    else:
        texts = {sc.INPUT: span.get("text"), sc.OUTPUT: span.get("transcript")}
        found |= {name: to_json(text) for name, text in texts.items() if text is not None}
    return {name: value for name, value in found.items() if value is not None}


def _correct(span: ForeignSpan) -> JsonObject:
    """Return the instructions as parts: they are written as plain text."""
    system = span.get(sc.SYSTEM_INSTRUCTIONS)
    is_text = isinstance(system, str) and not system.startswith("[")
    return {sc.SYSTEM_INSTRUCTIONS: to_json([{"type": "text", "content": system}])} if is_text else {}


PIPECAT: Final = Dialect(
    scopes=("pipecat",),
    names={
        "conversation.id": sc.CONVERSATION_ID,
        "metrics.ttfb": sc.RESPONSE_TIME_TO_FIRST_CHUNK,
        "tool.function_name": sc.TOOL_NAME,
        "tool.call_id": sc.TOOL_CALL_ID,
        "tool.arguments": sc.TOOL_CALL_ARGUMENTS,
        "tool.result": sc.TOOL_CALL_RESULT,
    },
    read=_read,
    correct=_correct,
    content=(
        *("input", "output", "tools", "text", "transcript", "text_output", "tool.arguments", "tool.result"),
        *("tools.definitions", "context_messages", "function_calls"),
    ),
)
