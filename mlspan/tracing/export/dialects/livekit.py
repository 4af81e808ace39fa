"""LiveKit Agents: sessions, turns and nodes of a voice agent, under names of its own beside the conventions."""

from __future__ import annotations

from typing import Final

from ...._shape import get_field
from ...operations import semconv as sc
from ...operations.content import to_json
from .dialect import Dialect, ForeignSpan, JsonObject, list_values
from .messages import write_messages

_OPERATIONS: Final = {
    "agent_session": sc.INVOKE_WORKFLOW,
    "agent_turn": sc.INVOKE_AGENT,
    "llm_request": sc.CHAT,
    "function_tool": sc.EXECUTE_TOOL,
}


def _read(span: ForeignSpan) -> JsonObject:
    operation = _OPERATIONS.get(span.name)
    found: JsonObject = {sc.KIND: "task"} if operation is None else {sc.OPERATION: operation}
    if span.get("lk.chat_ctx") is not None or operation == sc.CHAT:
        found |= _read_chat(span)
    elif (asked := span.get("lk.user_input")) is not None:
        found[sc.INPUT_MESSAGES] = write_messages(str(asked), "user")
        if (answered := span.get("lk.response.text")) is not None:
            found[sc.OUTPUT_MESSAGES] = write_messages(str(answered), "assistant")
    else:
        texts = {sc.INPUT: span.get("lk.input_text"), sc.OUTPUT: span.get("lk.user_transcript")}
        found |= {name: to_json(text) for name, text in texts.items() if text is not None}
    return {name: value for name, value in found.items() if value is not None}


def _read_chat(span: ForeignSpan) -> JsonObject:
    context = span.parse("lk.chat_ctx")
    items = list_values(get_field(context, "items") or get_field(context, "messages") or context)
    answer = {
        "content": span.get("lk.response.text"),
        "tool_calls": list_values(span.get("lk.response.function_calls")),
    }
    return {
        sc.INPUT_MESSAGES: write_messages([_wrap_item(item) for item in items], "user"),
        sc.OUTPUT_MESSAGES: write_messages([answer], "assistant"),
    }


def _wrap_item(item: object) -> object:
    """Return an item of a chat context as a message: calls of functions and their answers stand beside messages."""
    kind = get_field(item, "type")
    if kind == "function_call":
        return {"role": "assistant", "content": [item]}
    return {"role": "tool", "content": [item]} if kind == "function_call_output" else item


LIVEKIT: Final = Dialect(
    scopes=("livekit-agents",),
    prefixes=("lk.",),
    names={
        "lk.agent_name": sc.AGENT_NAME,
        "lk.agent_label": sc.AGENT_NAME,
        "lk.room_name": sc.SESSION_ID,
        "lk.function_tool.name": sc.TOOL_NAME,
        "lk.function_tool.id": sc.TOOL_CALL_ID,
        "lk.function_tool.arguments": sc.TOOL_CALL_ARGUMENTS,
        "lk.function_tool.output": sc.TOOL_CALL_RESULT,
    },
    read=_read,
    content=(
        *("lk.chat_ctx", "lk.response.", "lk.user_input", "lk.instructions", "lk.input_text", "lk.user_transcript"),
        *("lk.function_tool.arguments", "lk.function_tool.output", "lk.function_tools"),
    ),
)
