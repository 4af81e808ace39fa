"""LiveKit Agents: sessions, turns and nodes of a voice agent, under names of its own beside the conventions."""

from __future__ import annotations

from typing import Any, Final

from ...._shape import get_field
from ...operations import semconv as sc
from ...operations.content import to_json
from .dialect import Dialect, ForeignSpan, JsonObject, list_values, parse_attribute
from .messages import write_messages

_OPERATIONS: Final = {
    "agent_session": sc.INVOKE_WORKFLOW,
    "agent_turn": sc.INVOKE_AGENT,
    "llm_request": sc.CHAT,
    "function_tool": sc.EXECUTE_TOOL,
}


def _get(span: ForeignSpan, name: str) -> Any:
    """Return an attribute with content, which version 1.7 and later mark as personal; None if there is none."""
    marked = span.get(f"lk.pii.{name}")
    return span.get(f"lk.{name}") if marked is None else marked


def _read(span: ForeignSpan) -> JsonObject:
    operation = span.get(sc.OPERATION) or _OPERATIONS.get(span.name)
    found: JsonObject = {sc.KIND: "task"} if operation is None else {sc.OPERATION: operation}
    if _get(span, "chat_ctx") is not None or operation == sc.CHAT:
        found |= _read_chat(span)
    elif operation == sc.INVOKE_AGENT:
        asked, answered = _get(span, "user_input"), _get(span, "response.text")
        found |= {
            sc.INPUT_MESSAGES: None if asked is None else write_messages(str(asked), "user"),
            sc.OUTPUT_MESSAGES: None if answered is None else write_messages(str(answered), "assistant"),
        }
    elif operation == sc.EXECUTE_TOOL:
        found[sc.TOOL_CALL_ARGUMENTS] = _get(span, "function_tool.arguments")
        found[sc.TOOL_CALL_RESULT] = _get(span, "function_tool.output")
    else:
        texts = {sc.INPUT: _get(span, "input_text"), sc.OUTPUT: _get(span, "user_transcript")}
        found |= {name: to_json(text) for name, text in texts.items() if text is not None}
    return {name: value for name, value in found.items() if value is not None}


def _read_chat(span: ForeignSpan) -> JsonObject:
    context = parse_attribute(_get(span, "chat_ctx"))
    items = list_values(get_field(context, "items") or get_field(context, "messages") or context)
    answer = {
        "content": _get(span, "response.text"),
        "tool_calls": list_values(_get(span, "response.function_calls")),
    }
    return {
        sc.INPUT_MESSAGES: write_messages([_wrap_item(item) for item in items], "user") if items else None,
        sc.OUTPUT_MESSAGES: write_messages([answer], "assistant") if any(answer.values()) else None,
    }


def _correct_provider(span: ForeignSpan) -> JsonObject:
    """Return the plugin that has made a call, where LiveKit gives a host as the provider; prices need a provider.

    A server that speaks OpenAI's format keeps its host, if that is another provider's.
    """
    host, label = str(span.get(sc.PROVIDER) or ""), get_field(parse_attribute(span.get("lk.llm_metrics")), "label")
    _, _, plugin = str(label).partition("livekit.plugins.")
    plugin, name = plugin.partition(".")[0], host.partition(":")[0]
    if not plugin or not {".", ":"} & {*host}:
        return {}
    is_own = name.endswith(".openai.com") or name == "localhost" or name.replace(".", "").isdigit()
    return {sc.PROVIDER: plugin} if plugin != "openai" or is_own else {}


def _wrap_item(item: object) -> object:
    """Return an item of a chat context as a message: calls of functions and their answers stand beside messages."""
    kind, content = get_field(item, "type"), get_field(item, "content")
    if isinstance(item, dict) and isinstance(content, list):  # a mark for the provider's cache is no content
        item = {**item, "content": [part for part in content if get_field(part, "type") != "cache_breakpoint"]}
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
        "lk.pii.room_name": sc.SESSION_ID,
        "lk.function_tool.name": sc.TOOL_NAME,
        "lk.function_tool.id": sc.TOOL_CALL_ID,
    },
    read=_read,
    correct=_correct_provider,
    content=(
        "lk.pii.",
        *("lk.chat_ctx", "lk.response.", "lk.user_input", "lk.instructions", "lk.input_text", "lk.user_transcript"),
        *("lk.function_tool.arguments", "lk.function_tool.output", "lk.function_tools"),
    ),
)
