"""Claude Code, also as the Claude Agent SDK runs it: bare names, told apart by the name of the span."""

from __future__ import annotations

from typing import Any, Final

from ...operations import semconv as sc
from .dialect import Dialect, ForeignSpan, JsonObject
from .messages import write_messages

_REDACTED: Final = "<REDACTED>"  # stands where its user has not asked for content
_OPERATIONS: Final = {"interaction": sc.INVOKE_AGENT, "llm_request": sc.CHAT, "tool": sc.EXECUTE_TOOL}
_TOOL_DETAILS: Final = ("full_command", "file_path", "skill_name", "subagent_type")
_TOOL_OUTPUT: Final = ("output", "content", "diff")


def _read(span: ForeignSpan) -> JsonObject:
    kind = str(span.get("span.type") or span.name).removeprefix("claude_code.")
    operation = _OPERATIONS.get(kind)
    if operation is None:
        return {sc.KIND: "task"}
    read = {sc.INVOKE_AGENT: _read_interaction, sc.CHAT: _read_request, sc.EXECUTE_TOOL: _read_tool}[operation]
    found = {sc.OPERATION: operation, **read(span)}
    return {name: value for name, value in found.items() if value is not None}


def _read_content(span: ForeignSpan, name: str) -> Any:
    value = span.get(name)
    return None if value == _REDACTED else value


def _read_interaction(span: ForeignSpan) -> JsonObject:
    asked = _read_content(span, "user_prompt") or _read_content(span, "new_context")
    return {sc.INPUT_MESSAGES: write_messages(asked, "user"), sc.AGENT_NAME: "claude_code"}


def _read_request(span: ForeignSpan) -> JsonObject:
    counts = {name: span.get(name) for name in ("input_tokens", "cache_read_tokens", "cache_creation_tokens")}
    known = [count for count in counts.values() if isinstance(count, int)]
    reason = span.get("stop_reason")
    return {
        sc.PROVIDER: "anthropic",
        sc.REQUEST_MODEL: span.get("model"),
        sc.RESPONSE_ID: span.get("response_id"),
        sc.RESPONSE_FINISH_REASONS: (str(reason),) if reason else None,
        sc.USAGE_INPUT_TOKENS: sum(known) if isinstance(counts["input_tokens"], int) else None,  # it counts no cached
        sc.USAGE_OUTPUT_TOKENS: span.get("output_tokens"),
        sc.USAGE_CACHE_READ_INPUT_TOKENS: counts["cache_read_tokens"],
        sc.USAGE_CACHE_WRITE_INPUT_TOKENS: counts["cache_creation_tokens"],
        sc.INPUT_MESSAGES: write_messages(_read_content(span, "new_context"), "user"),
        sc.OUTPUT_MESSAGES: write_messages(_read_content(span, "response.model_output"), "assistant"),
    }


def _read_tool(span: ForeignSpan) -> JsonObject:
    details = {name: value for name in _TOOL_DETAILS if (value := _read_content(span, name)) is not None}
    told = [dict(event.attributes or {}) for event in span.events if event.name == "tool.output"]
    results = [one[name] for one in told for name in _TOOL_OUTPUT if one.get(name) not in (None, _REDACTED)]
    return {
        sc.TOOL_NAME: span.get("tool_name") or span.get("tool.name"),
        sc.TOOL_CALL_ID: span.get("tool_use_id"),
        sc.TOOL_CALL_ARGUMENTS: _read_content(span, "tool_input") or (details or None),
        sc.TOOL_CALL_RESULT: results[0] if results else _read_content(span, "new_context"),
    }


CLAUDE_CODE: Final = Dialect(
    scopes=("com.anthropic.claude_code",),
    span_names=("claude_code.",),
    read=_read,
    content=(
        *("user_prompt", "new_context", "response.model_output", "tool_input", "full_command", "system_prompt_preview"),
        *("system_prompt", "tools"),
    ),
)
