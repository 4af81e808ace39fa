"""OpenLLMetry (Traceloop): the conventions of 2024, spans of workflows and tasks, and properties of the caller."""

from __future__ import annotations

from typing import Final

from ...operations import semconv as sc
from .dialect import Dialect, ForeignSpan, JsonObject

_NAME_BY_KIND: Final = {"tool": sc.TOOL_NAME, "agent": sc.AGENT_NAME, "workflow": sc.WORKFLOW_NAME}
_PROPERTIES: Final = "traceloop.association.properties."
_CALLER: Final = {"session_id": sc.SESSION_ID, "user_id": sc.USER_ID}


def _read(span: ForeignSpan) -> JsonObject:
    kind = str(span.get("traceloop.span.kind") or "").lower()
    asked, answered = span.get("traceloop.entity.input"), span.get("traceloop.entity.output")
    is_tool = kind == "tool" or span.get(sc.OPERATION) == sc.EXECUTE_TOOL
    names = (sc.TOOL_CALL_ARGUMENTS, sc.TOOL_CALL_RESULT) if is_tool else (sc.INPUT, sc.OUTPUT)
    found = {name: value for name, value in zip(names, (asked, answered), strict=True) if value is not None}
    if kind in _NAME_BY_KIND and (name := span.get("traceloop.entity.name")):
        found[_NAME_BY_KIND[kind]] = name
    for key, value in span.attributes.items():
        if key.startswith(_PROPERTIES) and (caller := _CALLER.get(key[len(_PROPERTIES) :])):
            found[caller] = str(value)
    if not kind and (request := _OPERATIONS.get(str(span.get("llm.request.type") or "").lower())):
        found[sc.OPERATION] = request
    return found


_OPERATIONS: Final = {"chat": sc.CHAT, "completion": sc.TEXT_COMPLETION, "embedding": sc.EMBEDDINGS, "rerank": "rerank"}

OPENLLMETRY: Final = Dialect(
    prefixes=("traceloop.", "llm.request.type", "llm.usage."),
    names={
        "llm.request.model": sc.REQUEST_MODEL,
        "llm.response.model": sc.RESPONSE_MODEL,
        "llm.usage.prompt_tokens": sc.USAGE_INPUT_TOKENS,
        "llm.usage.completion_tokens": sc.USAGE_OUTPUT_TOKENS,
    },
    kind="traceloop.span.kind",
    operations={
        "tool": sc.EXECUTE_TOOL,
        "agent": sc.INVOKE_AGENT,
        "workflow": sc.INVOKE_WORKFLOW,
    },
    read=_read,
    content=("traceloop.entity.input", "traceloop.entity.output"),
)
