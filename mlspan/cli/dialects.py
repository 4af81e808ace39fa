"""Attributes of other instrumentations in the names of the GenAI conventions, beside their own.

OpenInference (Arize), OpenLLMetry (Traceloop), and what the conventions were called and looked like before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from opentelemetry.sdk.trace import Event

from .._shape import get_field, get_nested, is_a
from ..tracing.export.mlflow.messages import parse_attribute
from ..tracing.operations import semconv as sc
from ..tracing.operations.content import to_json

Json = dict[str, Any]

_NAMES: Final = {  # theirs -> ours; the first that is there counts
    "gen_ai.system": sc.PROVIDER,
    "llm.provider": sc.PROVIDER,
    "llm.system": sc.PROVIDER,
    "llm.model_name": sc.REQUEST_MODEL,
    "llm.request.model": sc.REQUEST_MODEL,
    "embedding.model_name": sc.REQUEST_MODEL,
    "llm.response.model": sc.RESPONSE_MODEL,
    "gen_ai.usage.prompt_tokens": sc.USAGE_INPUT_TOKENS,
    "gen_ai.usage.completion_tokens": sc.USAGE_OUTPUT_TOKENS,
    "llm.token_count.prompt": sc.USAGE_INPUT_TOKENS,
    "llm.token_count.completion": sc.USAGE_OUTPUT_TOKENS,
    "llm.token_count.prompt_details.cache_read": sc.USAGE_CACHE_READ_INPUT_TOKENS,
    "llm.token_count.prompt_details.cache_write": sc.USAGE_CACHE_WRITE_INPUT_TOKENS,
    "llm.token_count.completion_details.reasoning": sc.USAGE_REASONING_OUTPUT_TOKENS,
    "gen_ai.usage.cache_read_input_tokens": sc.USAGE_CACHE_READ_INPUT_TOKENS,
    "gen_ai.usage.cache_creation_input_tokens": sc.USAGE_CACHE_WRITE_INPUT_TOKENS,
    "gen_ai.usage.cache_creation.input_tokens": sc.USAGE_CACHE_WRITE_INPUT_TOKENS,
    "gen_ai.usage.reasoning_tokens": sc.USAGE_REASONING_OUTPUT_TOKENS,
    "tool.name": sc.TOOL_NAME,
    "tool.description": sc.TOOL_DESCRIPTION,
    "agent.name": sc.AGENT_NAME,
    "traceloop.association.properties.session_id": sc.SESSION_ID,
    "traceloop.association.properties.user_id": sc.USER_ID,
}
_PARAMETERS: Final = {
    "model": sc.REQUEST_MODEL,
    "temperature": sc.REQUEST_TEMPERATURE,
    "top_p": sc.REQUEST_TOP_P,
    "max_tokens": sc.REQUEST_MAX_TOKENS,
}
_OPERATIONS: Final = {  # their kinds of spans -> operations
    "LLM": sc.CHAT,
    "CHAT": sc.CHAT,
    "COMPLETION": sc.TEXT_COMPLETION,
    "EMBEDDING": sc.EMBEDDINGS,
    "RETRIEVER": sc.RETRIEVAL,
    "TOOL": sc.EXECUTE_TOOL,
    "AGENT": sc.INVOKE_AGENT,
    "WORKFLOW": sc.INVOKE_WORKFLOW,
}
_KINDS: Final = ("openinference.span.kind", "llm.request.type", "traceloop.span.kind")
_ENTITY_NAMES: Final = {sc.EXECUTE_TOOL: sc.TOOL_NAME, sc.INVOKE_AGENT: sc.AGENT_NAME}
_PROVIDERS: Final = {
    "az.ai.openai": "azure.ai.openai",
    "az.ai.inference": "azure.ai.inference",
    "azure": "azure.ai.openai",
}
_ROLE_EVENTS: Final = re.compile(r"gen_ai\.(system|user|assistant|tool)\.message|gen_ai\.choice")
_LISTS: Final = (("gen_ai.prompt.", "gen_ai.completion."), ("llm.input_messages.", "llm.output_messages."))
_VALUES: Final = (("input.value", "output.value"), ("traceloop.entity.input", "traceloop.entity.output"))


def translated(attributes: Json, events: Sequence[Event]) -> Json:
    """*attributes*, and what they and *events* say in the conventions' names; what is there in these counts."""
    found = dict(_renamed(attributes))
    found.update(_of_events(events))
    found.update(attributes)
    found = {**_parameters(found), **found}
    if sc.OPERATION not in found:
        _put_operation(found)
    if isinstance(provider := found.get(sc.PROVIDER), str):
        found[sc.PROVIDER] = _PROVIDERS.get(provider.lower(), provider.lower())
    if sc.INPUT_MESSAGES not in found and sc.OUTPUT_MESSAGES not in found:
        _put_messages(found)
    if sc.INPUT_MESSAGES not in found and sc.OUTPUT_MESSAGES not in found:
        _put_values(found)
    return found


def _renamed(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for theirs, ours in reversed(_NAMES.items()):  # a dict keeps the last, and the first shall count
        if theirs in attributes:
            yield ours, attributes[theirs]


def _parameters(found: Mapping[str, Any]) -> Json:
    """What OpenInference keeps as one JSON text: of a call that failed, the model is nowhere else."""
    said = parse_attribute(found.get("llm.invocation_parameters"))
    return {ours: said[name] for name, ours in _PARAMETERS.items() if is_a(get_field(said, name), (str, int, float))}


def _put_operation(found: Json) -> None:
    kind = next((str(found[name]).upper() for name in _KINDS if found.get(name)), None)
    if kind is None:
        return
    operation = _OPERATIONS.get(kind)
    if operation is None:
        found.setdefault(sc.KIND, kind.lower())
        return
    found[sc.OPERATION] = operation
    named = _ENTITY_NAMES.get(operation)
    if named is not None and "traceloop.entity.name" in found:
        found.setdefault(named, found["traceloop.entity.name"])


def _put_messages(found: Json) -> None:
    for given, taken in _LISTS:
        asked, answered = _unflattened(found, given), _unflattened(found, taken)
        if asked or answered:
            found[sc.INPUT_MESSAGES] = to_json([_message(message, "user") for message in asked])
            found[sc.OUTPUT_MESSAGES] = to_json([_message(message, "assistant") for message in answered])
            return


def _put_values(found: Json) -> None:
    """What went in and came out of a span that is no chat."""
    is_tool = found.get(sc.OPERATION) == sc.EXECUTE_TOOL
    ours = (sc.TOOL_CALL_ARGUMENTS, sc.TOOL_CALL_RESULT) if is_tool else (sc.INPUT, sc.OUTPUT)
    for pair in _VALUES:
        for theirs, name in zip(pair, ours, strict=True):
            if theirs in found:
                found.setdefault(name, found[theirs])


def _unflattened(found: Mapping[str, Any], prefix: str) -> list[Json]:
    """``prefix.0.role=user`` and the like as a list of nested dicts."""
    tree: Json = {}
    for key, value in found.items():
        if key.startswith(prefix):
            *path, last = key[len(prefix) :].split(".")
            node = tree
            for name in path:
                node = node.setdefault(name, {})
                if not isinstance(node, dict):
                    break
            else:
                node[last] = value
    return [message for message in _ordered(tree) if isinstance(message, dict)]


def _ordered(tree: Any) -> list[Any]:
    numbered = [(int(key), value) for key, value in tree.items() if key.isdigit()] if isinstance(tree, dict) else []
    return [value for _, value in sorted(numbered, key=lambda pair: pair[0])]


def _message(message: Json, role: str) -> Json:
    """One message of either dialect, flattened or an event's, as the conventions have it."""
    message = {**message, **message.get("message", {})} if isinstance(message.get("message"), dict) else message
    role = str(message.get("role") or role)
    content, parts = parse_attribute(message.get("content")), []
    texts = [get_nested(part, "message_content.text", str) for part in _ordered(message.get("contents"))]
    if isinstance(content, list):
        texts += [get_field(part, "text") if isinstance(part, dict) else str(part) for part in content]
    elif message.get("content") is not None:
        texts.append(str(message["content"]))
    call_id = message.get("tool_call_id") or (message.get("id") if role == "tool" else None)
    if role == "tool" and call_id:
        parts.append({"type": "tool_call_response", "id": str(call_id), "response": "\n".join(filter(None, texts))})
    else:
        parts += [{"type": "text", "content": text} for text in texts if text]
    calls = parse_attribute(message.get("tool_calls"))
    for call in calls if isinstance(calls, list) else _ordered(calls):
        parts.append(_call(call if isinstance(call, dict) else {}))
    reason = message.get("finish_reason")
    return {"role": role, "parts": parts, **({"finish_reason": str(reason)} if reason else {})}


def _call(call: Json) -> Json:
    call = call.get("tool_call", call) if isinstance(call.get("tool_call", call), dict) else call
    function = call.get("function", call)
    name, arguments = get_field(function, "name"), get_field(function, "arguments")
    return {"type": "tool_call", "id": call.get("id"), "name": str(name or ""), "arguments": parse_attribute(arguments)}


def _of_events(events: Sequence[Event]) -> Json:
    """What the conventions put into events at one time or another."""
    found: Json = {}
    asked: list[Json] = []
    answered: list[Json] = []
    for event in events:
        said = dict(event.attributes or {})
        if event.name == "gen_ai.client.inference.operation.details":
            found.update({key: value for key, value in said.items() if key.startswith("gen_ai.")})
        elif event.name in {"gen_ai.content.prompt", "gen_ai.content.completion"}:
            of, role = (asked, "user") if event.name.endswith("prompt") else (answered, "assistant")
            whole = parse_attribute(said.get("gen_ai.prompt", said.get("gen_ai.completion")))
            of += [
                _message(message if isinstance(message, dict) else {"content": message}, role)
                for message in (whole if isinstance(whole, list) else [whole])
            ]
        elif match := _ROLE_EVENTS.fullmatch(event.name):
            message = {**said, "message": parse_attribute(said.get("message"))}
            (asked if match[1] else answered).append(_message(message, match[1] or "assistant"))
    if asked:
        found.setdefault(sc.INPUT_MESSAGES, to_json(asked))
    if answered:
        found.setdefault(sc.OUTPUT_MESSAGES, to_json(answered))
    return found
