"""OpenInference (Arize), as its instrumentors write it: one attribute for each field of a message."""

from __future__ import annotations

from typing import Any, Final

from ...._shape import get_field, get_nested, is_a
from ...operations import semconv as sc
from ...operations.content import to_json
from .dialect import Dialect, ForeignSpan, JsonObject, collect_indexed, parse_attribute
from .messages import write_messages

_PARAMETER_NAMES: Final = {
    "model": sc.REQUEST_MODEL,
    "temperature": sc.REQUEST_TEMPERATURE,
    "top_p": sc.REQUEST_TOP_P,
    "max_tokens": sc.REQUEST_MAX_TOKENS,
    "seed": sc.REQUEST_SEED,
}
_MODEL_CALLS: Final = {"LLM", "EMBEDDING"}


def _read(span: ForeignSpan) -> JsonObject:
    kind = str(span.get("openinference.span.kind") or "").upper()
    found = {**_read_parameters(span), **_read_tags(span)}
    if kind in _MODEL_CALLS:
        found |= _read_answer_id(span)
    if isinstance(reason := span.get("llm.finish_reason"), str):
        found[sc.RESPONSE_FINISH_REASONS] = (reason,)
    messages = {
        sc.INPUT_MESSAGES: write_messages(collect_indexed(span.attributes, "llm.input_messages."), "user"),
        sc.OUTPUT_MESSAGES: write_messages(collect_indexed(span.attributes, "llm.output_messages."), "assistant"),
    }
    tools = [
        _describe_tool(get_nested(tool, "tool.json_schema", str))
        for tool in collect_indexed(span.attributes, "llm.tools.")
    ]
    found |= {name: value for name, value in messages.items() if value is not None}
    found |= {sc.TOOL_DEFINITIONS: to_json(tools)} if tools else {}
    if not any(messages.values()):
        found |= _read_values(span, kind)
    return found


def _read_parameters(span: ForeignSpan) -> JsonObject:
    """Return the request's parameters, which are one JSON text.

    The model of a failed call is recorded nowhere else.
    """
    parameters = span.parse("llm.invocation_parameters")
    return {
        ours: parameters[name]
        for name, ours in _PARAMETER_NAMES.items()
        if is_a(get_field(parameters, name), (str, int, float))
    }


def _read_tags(span: ForeignSpan) -> JsonObject:
    """Return what the caller has said of the trace as tags."""
    metadata = span.parse("metadata")
    pairs = metadata.items() if isinstance(metadata, dict) else ()
    return {f"{sc.TAG_PREFIX}{key}": str(value) for key, value in pairs if is_a(value, (str, int, float))}


def _read_answer_id(span: ForeignSpan) -> JsonObject:
    """Return the id of the answer, which only the provider's own JSON says."""
    response_id = get_field(span.parse("output.value"), "id")
    return {sc.RESPONSE_ID: response_id} if isinstance(response_id, str) else {}


def _describe_tool(schema: object) -> Any:
    """Return a tool as the conventions do, from the form of OpenAI's or Anthropic's client."""
    tool = parse_attribute(schema)
    if isinstance(tool, dict) and "name" in tool and "input_schema" in tool:
        named = {key: tool[key] for key in ("name", "description") if key in tool}
        return {"type": "function", **named, "parameters": tool["input_schema"]}
    return tool


def _read_values(span: ForeignSpan, kind: str) -> JsonObject:
    """Return the input and output of a span that is no chat."""
    asked, answered = span.get("input.value"), span.get("output.value")
    if kind == "TOOL":
        names = sc.TOOL_CALL_ARGUMENTS, sc.TOOL_CALL_RESULT
        asked = span.get("tool.parameters") if asked is None else asked
    elif kind == "RETRIEVER":
        names = sc.RETRIEVAL_QUERY, sc.RETRIEVAL_DOCUMENTS
        documents = [_read_document(one) for one in collect_indexed(span.attributes, "retrieval.documents.")]
        answered = to_json(documents) if documents else answered
    else:
        names = sc.INPUT, sc.OUTPUT
        texts = [get_nested(one, "embedding.text", str) for one in collect_indexed(span.attributes, _EMBEDDINGS)]
        if kind == "EMBEDDING" and any(texts):
            asked, answered = to_json(texts), None
    return {name: value for name, value in zip(names, (asked, answered), strict=True) if value is not None}


_EMBEDDINGS: Final = "embedding.embeddings."


def _read_document(found: object) -> JsonObject:
    document = get_field(found, "document")
    fields = {key: get_field(document, key) for key in ("id", "score", "content")}
    fields["metadata"] = parse_attribute(get_field(document, "metadata"))
    return {key: value for key, value in fields.items() if value is not None}


OPENINFERENCE: Final = Dialect(
    prefixes=("openinference.", "llm.model_name", "llm.token_count.", "llm.input_messages.", "llm.output_messages."),
    names={
        "llm.provider": sc.PROVIDER,
        "llm.system": sc.PROVIDER,
        "llm.request.model_name": sc.REQUEST_MODEL,
        "llm.model_name": sc.REQUEST_MODEL,
        "embedding.model_name": sc.REQUEST_MODEL,
        "llm.response.model_name": sc.RESPONSE_MODEL,
        "llm.token_count.prompt": sc.USAGE_INPUT_TOKENS,
        "llm.token_count.completion": sc.USAGE_OUTPUT_TOKENS,
        "llm.token_count.prompt_details.cache_read": sc.USAGE_CACHE_READ_INPUT_TOKENS,
        "llm.token_count.prompt_details.cache_write": sc.USAGE_CACHE_WRITE_INPUT_TOKENS,
        "llm.token_count.completion_details.reasoning": sc.USAGE_REASONING_OUTPUT_TOKENS,
        "tool.name": sc.TOOL_NAME,
        "tool.description": sc.TOOL_DESCRIPTION,
        "tool_call.id": sc.TOOL_CALL_ID,
        "agent.name": sc.AGENT_NAME,
    },
    kind="openinference.span.kind",
    operations={
        "llm": sc.CHAT,
        "embedding": sc.EMBEDDINGS,
        "retriever": sc.RETRIEVAL,
        "tool": sc.EXECUTE_TOOL,
        "agent": sc.INVOKE_AGENT,
    },
    read=_read,
    content=(
        *("input.value", "output.value", "llm.input_messages.", "llm.output_messages.", "llm.prompts", "llm.tools."),
        *("tool.parameters", "retrieval.documents.", "reranker.", "embedding.embeddings.", "llm.prompt_template."),
    ),
)
