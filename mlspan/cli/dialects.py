"""Translation of span attributes of other instrumentations (dialects) into the names of the GenAI conventions.

The dialects are OpenInference (Arize), OpenLLMetry (Traceloop), and earlier versions of the conventions themselves.
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

JsonObject = dict[str, Any]

_ATTRIBUTE_NAMES: Final = {  # dialect's name -> conventions' name; if a span has several, the first one counts
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
_PARAMETER_NAMES: Final = {
    "model": sc.REQUEST_MODEL,
    "temperature": sc.REQUEST_TEMPERATURE,
    "top_p": sc.REQUEST_TOP_P,
    "max_tokens": sc.REQUEST_MAX_TOKENS,
}
_OPERATION_BY_KIND: Final = {  # span kind of a dialect -> operation of the conventions
    "LLM": sc.CHAT,
    "CHAT": sc.CHAT,
    "COMPLETION": sc.TEXT_COMPLETION,
    "EMBEDDING": sc.EMBEDDINGS,
    "RETRIEVER": sc.RETRIEVAL,
    "TOOL": sc.EXECUTE_TOOL,
    "AGENT": sc.INVOKE_AGENT,
    "WORKFLOW": sc.INVOKE_WORKFLOW,
}
_KIND_ATTRIBUTES: Final = ("openinference.span.kind", "llm.request.type", "traceloop.span.kind")
_ENTITY_NAME_ATTRIBUTES: Final = {sc.EXECUTE_TOOL: sc.TOOL_NAME, sc.INVOKE_AGENT: sc.AGENT_NAME}
_PROVIDER_NAMES: Final = {
    "az.ai.openai": "azure.ai.openai",
    "az.ai.inference": "azure.ai.inference",
    "azure": "azure.ai.openai",
}
_ROLE_EVENTS: Final = re.compile(r"gen_ai\.(system|user|assistant|tool)\.message|gen_ai\.choice")
_MESSAGE_PREFIXES: Final = (("gen_ai.prompt.", "gen_ai.completion."), ("llm.input_messages.", "llm.output_messages."))
_VALUE_ATTRIBUTES: Final = (("input.value", "output.value"), ("traceloop.entity.input", "traceloop.entity.output"))


def translate_dialect(attributes: JsonObject, events: Sequence[Event]) -> JsonObject:
    """Return *attributes* and, beside them, their translation and that of *events* into the conventions' names.

    An attribute that has a conventions' name already takes precedence over a translated one.
    """
    found = dict(_rename_attributes(attributes))
    found.update(_translate_events(events))
    found.update(attributes)
    found = {**_read_parameters(found), **found}
    if sc.OPERATION not in found:
        _put_operation(found)
    if isinstance(provider := found.get(sc.PROVIDER), str):
        found[sc.PROVIDER] = _PROVIDER_NAMES.get(provider.lower(), provider.lower())
    if sc.INPUT_MESSAGES not in found and sc.OUTPUT_MESSAGES not in found:
        _put_messages(found)
    if sc.INPUT_MESSAGES not in found and sc.OUTPUT_MESSAGES not in found:
        _put_values(found)
    return found


def _rename_attributes(attributes: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yield the name in the conventions and the value of each attribute that has a dialect's name."""
    for theirs, ours in reversed(
        _ATTRIBUTE_NAMES.items()
    ):  # dict() keeps the last value of a key, and the first name takes precedence
        if theirs in attributes:
            yield ours, attributes[theirs]


def _read_parameters(found: Mapping[str, object]) -> JsonObject:
    """Return the request parameters that OpenInference writes as one JSON text.

    The model of a failed call is recorded nowhere else.
    """
    parameters = parse_attribute(found.get("llm.invocation_parameters"))
    return {
        ours: parameters[name]
        for name, ours in _PARAMETER_NAMES.items()
        if is_a(get_field(parameters, name), (str, int, float))
    }


def _put_operation(found: JsonObject) -> None:
    """Set the operation and the name of a tool or agent from the dialect's span kind."""
    kind = next((str(found[name]).upper() for name in _KIND_ATTRIBUTES if found.get(name)), None)
    if kind is None:
        return
    operation = _OPERATION_BY_KIND.get(kind)
    if operation is None:
        found.setdefault(sc.KIND, kind.lower())
        return
    found[sc.OPERATION] = operation
    name_attribute = _ENTITY_NAME_ATTRIBUTES.get(operation)
    if name_attribute is not None and "traceloop.entity.name" in found:
        found.setdefault(name_attribute, found["traceloop.entity.name"])


def _put_messages(found: JsonObject) -> None:
    """Set the input and output messages from flattened attributes."""
    for input_prefix, output_prefix in _MESSAGE_PREFIXES:
        inputs, outputs = _unflatten_messages(found, input_prefix), _unflatten_messages(found, output_prefix)
        if inputs or outputs:
            found[sc.INPUT_MESSAGES] = to_json([_translate_message(message, "user") for message in inputs])
            found[sc.OUTPUT_MESSAGES] = to_json([_translate_message(message, "assistant") for message in outputs])
            return


def _put_values(found: JsonObject) -> None:
    """Set the input and output of a span that is no chat."""
    is_tool = found.get(sc.OPERATION) == sc.EXECUTE_TOOL
    ours = (sc.TOOL_CALL_ARGUMENTS, sc.TOOL_CALL_RESULT) if is_tool else (sc.INPUT, sc.OUTPUT)
    for pair in _VALUE_ATTRIBUTES:
        for theirs, name in zip(pair, ours, strict=True):
            if theirs in found:
                found.setdefault(name, found[theirs])


def _unflatten_messages(found: Mapping[str, object], prefix: str) -> list[JsonObject]:
    """Return attributes such as ``prefix.0.role=user`` as a list of nested dicts, in the order of their index."""
    tree: JsonObject = {}
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
    return [message for message in _sort_by_index(tree) if isinstance(message, dict)]


def _sort_by_index(tree: object) -> list[object]:
    """Return the values of a dict whose keys are numbers as text, in the order of the numbers; else an empty list."""
    numbered = [(int(key), value) for key, value in tree.items() if key.isdigit()] if isinstance(tree, dict) else []
    return [value for _, value in sorted(numbered, key=lambda pair: pair[0])]


def _translate_message(message: JsonObject, role: str) -> JsonObject:
    """Return a message of any dialect, from flattened attributes or from an event, in the conventions' format.

    *role* applies if the message names none.
    """
    message = {**message, **message.get("message", {})} if isinstance(message.get("message"), dict) else message
    role = str(message.get("role") or role)
    content, parts = parse_attribute(message.get("content")), []
    texts = [get_nested(part, "message_content.text", str) for part in _sort_by_index(message.get("contents"))]
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
    for call in calls if isinstance(calls, list) else _sort_by_index(calls):
        parts.append(_translate_tool_call(call if isinstance(call, dict) else {}))
    reason = message.get("finish_reason")
    return {"role": role, "parts": parts, **({"finish_reason": str(reason)} if reason else {})}


def _translate_tool_call(call: JsonObject) -> JsonObject:
    """Return a tool call of any dialect as a message part of the conventions."""
    call = call.get("tool_call", call) if isinstance(call.get("tool_call", call), dict) else call
    function = call.get("function", call)
    name, arguments = get_field(function, "name"), get_field(function, "arguments")
    return {"type": "tool_call", "id": call.get("id"), "name": str(name or ""), "arguments": parse_attribute(arguments)}


def _translate_events(events: Sequence[Event]) -> JsonObject:
    """Return the attributes that earlier versions of the conventions put into events."""
    found: JsonObject = {}
    inputs: list[JsonObject] = []
    outputs: list[JsonObject] = []
    for event in events:
        attributes = dict(event.attributes or {})
        if event.name == "gen_ai.client.inference.operation.details":
            found.update({key: value for key, value in attributes.items() if key.startswith("gen_ai.")})
        elif event.name in {"gen_ai.content.prompt", "gen_ai.content.completion"}:
            target, role = (inputs, "user") if event.name.endswith("prompt") else (outputs, "assistant")
            messages = parse_attribute(attributes.get("gen_ai.prompt", attributes.get("gen_ai.completion")))
            target += [
                _translate_message(message if isinstance(message, dict) else {"content": message}, role)
                for message in (messages if isinstance(messages, list) else [messages])
            ]
        elif match := _ROLE_EVENTS.fullmatch(event.name):
            message = {**attributes, "message": parse_attribute(attributes.get("message"))}
            (inputs if match[1] else outputs).append(_translate_message(message, match[1] or "assistant"))
    if inputs:
        found.setdefault(sc.INPUT_MESSAGES, to_json(inputs))
    if outputs:
        found.setdefault(sc.OUTPUT_MESSAGES, to_json(outputs))
    return found
