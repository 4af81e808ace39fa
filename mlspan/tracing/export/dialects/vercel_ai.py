"""Vercel's AI SDK: a span for the whole and one for each request, under names of its own beside older conventions."""

from __future__ import annotations

from typing import Any, Final

from ...operations import semconv as sc
from ...operations.content import to_json
from .dialect import Dialect, ForeignSpan, JsonObject, list_values, parse_attribute
from .messages import convert_message, write_messages

_OPERATION: Final = "ai.operationId"
_REQUESTS: Final = ("doGenerate", "doStream")
_METADATA: Final = "ai.telemetry.metadata."
_CALLER: Final = {"sessionId": sc.SESSION_ID, "userId": sc.USER_ID}


def _read(span: ForeignSpan) -> JsonObject:
    operation = str(span.get(_OPERATION) or span.get("operation.name") or span.name).partition(" ")[0]
    if operation.startswith("ai.toolCall"):
        found = {sc.OPERATION: sc.EXECUTE_TOOL}
    elif operation.startswith("ai.embed"):
        found = _read_embedding(span, operation)
    else:
        found = {sc.OPERATION: sc.CHAT if operation.endswith(_REQUESTS) else sc.INVOKE_AGENT} | _read_chat(span)
        if name := span.get("ai.telemetry.functionId"):
            found |= {} if operation.endswith(_REQUESTS) else {sc.AGENT_NAME: name}
    for key, ours in _CALLER.items():
        if (value := span.get(_METADATA + key)) is not None:
            found[ours] = str(value)
    return found


def _read_embedding(span: ForeignSpan, operation: str) -> JsonObject:
    """Return the texts; the request's span has the operation, the whole is a step."""
    texts = [parse_attribute(text) for text in list_values(span.get("ai.values"))] or span.parse("ai.value")
    is_request = operation.endswith("doEmbed")
    found: JsonObject = {sc.OPERATION: sc.EMBEDDINGS} if is_request else {sc.KIND: "embedding"}
    if (tokens := span.get("ai.usage.tokens")) is not None:
        found[sc.USAGE_INPUT_TOKENS] = tokens
    return {**found, sc.INPUT: to_json(texts)} if texts is not None else found


def _read_chat(span: ForeignSpan) -> JsonObject:
    asked = span.parse("ai.prompt")
    inputs: list[Any] = list_values(span.get("ai.prompt.messages"))
    system = None
    if isinstance(asked, dict):
        system = asked.get("system")
        inputs = inputs or list_values(asked.get("messages")) or list_values(asked.get("prompt"))
    answer: JsonObject = {"content": span.get("ai.response.text") or span.get("ai.response.object")}
    answer["tool_calls"] = list_values(span.get("ai.response.toolCalls"))
    if (reasoning := span.get("ai.response.reasoning")) and isinstance(answer["content"], str):
        thought = {"type": "reasoning", "text": str(reasoning)}
        answer["content"] = [thought, {"type": "text", "text": answer["content"]}]
    reason = span.get("ai.response.finishReason")
    tools = [_describe_tool(parse_attribute(tool)) for tool in list_values(span.get("ai.prompt.tools"))]
    found = {
        sc.SYSTEM_INSTRUCTIONS: to_json([{"type": "text", "content": str(system)}]) if system else None,
        sc.INPUT_MESSAGES: write_messages(inputs, "user"),
        sc.OUTPUT_MESSAGES: write_messages([convert_message(answer, "assistant")], "assistant"),
        sc.TOOL_DEFINITIONS: to_json(tools) if tools else None,
        sc.RESPONSE_FINISH_REASONS: (str(reason),) if reason else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _describe_tool(tool: Any) -> Any:
    if not isinstance(tool, dict):
        return tool
    schema = tool.get("inputSchema", tool.get("parameters"))
    named = {key: tool[key] for key in ("type", "name", "description") if tool.get(key)}
    return {**named, **({"parameters": schema} if schema else {})}


VERCEL_AI: Final = Dialect(
    prefixes=("ai.operationId", "ai.model.", "ai.toolCall.", "ai.telemetry."),
    names={
        "ai.model.provider": sc.PROVIDER,
        "ai.model.id": sc.REQUEST_MODEL,
        "ai.response.model": sc.RESPONSE_MODEL,
        "ai.response.id": sc.RESPONSE_ID,
        "ai.usage.inputTokens": sc.USAGE_INPUT_TOKENS,
        "ai.usage.promptTokens": sc.USAGE_INPUT_TOKENS,
        "ai.usage.outputTokens": sc.USAGE_OUTPUT_TOKENS,
        "ai.usage.completionTokens": sc.USAGE_OUTPUT_TOKENS,
        "ai.usage.cachedInputTokens": sc.USAGE_CACHE_READ_INPUT_TOKENS,
        "ai.usage.reasoningTokens": sc.USAGE_REASONING_OUTPUT_TOKENS,
        "ai.toolCall.name": sc.TOOL_NAME,
        "ai.toolCall.id": sc.TOOL_CALL_ID,
        "ai.toolCall.args": sc.TOOL_CALL_ARGUMENTS,
        "ai.toolCall.result": sc.TOOL_CALL_RESULT,
    },
    read=_read,
    content=(
        *("ai.prompt", "ai.prompt.", "ai.response.text", "ai.response.toolCalls", "ai.response.object", "ai.value"),
        *("ai.values", "ai.embedding", "ai.embeddings", "ai.toolCall.args", "ai.toolCall.result"),
        *("ai.response.reasoning", "ai.schema"),
    ),
)
