"""Calls of smolagents' models."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from ..._shape import find_known, get_field, get_fields, get_list, get_nested, list_items, list_texts
from ...hooks.call import Call
from ...hooks.hook import Hook
from ...hooks.litellm_names import find_litellm_provider
from ...hooks.openai_format import FINISH_REASONS, read_openai_part
from ...hooks.requests import find_provider_by_host, read_chat_usage, read_host_and_port, set_parameters
from ...tracing.operations.content import to_plain_data
from ...tracing.operations.message_drafts import UNTOLD_REASON, OutputDraft
from ...tracing.operations.messages import Message, Part, ToolDefinition, make_tool_call
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import Chat
from .wrappers import find_running

_PROVIDERS: Final = {  # how the name of a model's class begins -> value of gen_ai.provider.name
    "AmazonBedrock": "aws.bedrock",
    "AzureOpenAI": "azure.ai.openai",
    "HfApi": "huggingface",
    "InferenceClient": "huggingface",
    "MLX": "mlx",
    "OpenAI": "openai",
    "Transformers": "transformers",
    "VLLM": "vllm",
}
_ROLES: Final = {"tool-call": "assistant", "tool-response": "tool"}


def start_generate(hook: Hook, args: Any, kwargs: Any, *, function: Any = None) -> Any:
    """Start the operation of ``generate`` of a model, and tell the step that it is a part of."""
    return _tell_step(hook.start_operation(partial(_begin_chat, stream=None), args, kwargs, function=function))


def start_stream(hook: Hook, args: Any, kwargs: Any, *, function: Any = None) -> Any:
    """Start the operation of ``generate_stream`` of a model, likewise."""
    return _tell_step(hook.start_operation(partial(_begin_chat, stream=True), args, kwargs, function=function))


def _tell_step(operation: Any) -> Any:
    if isinstance(operation, Operation) and (running := find_running()) is not None:
        running.chats.append(operation)
    return operation


def _begin_chat(call: Call, *, stream: bool | None) -> tuple[Chat, Any]:
    model = call.args[0]
    record = Chat(draft=OutputDraft(kept=call.capture_content), outer=True, stream=stream)
    _read_model(record, model)
    set_parameters(record, {**get_fields(get_field(model, "kwargs")), **call.kwargs})
    record.stop_sequences = list_texts(call.argument("stop_sequences")) or None
    wanted = call.argument("response_format")
    if "json" in (get_nested(wanted, "type", str) or ""):
        record.output_type = "json"
    if call.capture_content:
        record.output_schema = get_nested(wanted, "json_schema.schema", dict)
        record.input = [_read_message(one) for one in list_items(call.argument("messages"))]
        record.tools = [_read_tool_definition(one) for one in list_items(call.argument("tools_to_call_from"))] or None
    return record, _observe


def _read_model(record: Chat, model: object) -> None:
    """Read which model it is, whose, and where."""
    kind, name = type(model).__name__, get_nested(model, "model_id", str)
    given = get_fields(get_field(model, "client_kwargs"))
    address = find_known(get_nested(given, key, str) for key in ("base_url", "azure_endpoint"))
    url = address or get_nested(model, "api_base", str)
    record.server_address, record.server_port = read_host_and_port(url)
    provider = next((one for start, one in _PROVIDERS.items() if kind.startswith(start)), None)
    if kind.startswith("LiteLLM") and name and "/" in name:
        provider, _, name = name.partition("/")
        provider = find_litellm_provider(provider)
    record.model = name
    record.provider = find_provider_by_host(record.server_address or "") or provider or "unknown"


def _read_message(raw: object) -> Message:
    """Read a ChatMessage, or a dict in place of one: a text, or parts."""
    role = get_nested(raw, "role.value", str) or get_nested(raw, "role", str) or "user"
    return {"role": _ROLES.get(role, role), "parts": _read_parts(raw)}


def _read_parts(raw: object) -> list[Part]:
    content = get_field(raw, "content")
    found: list[Part] = [
        _read_content_part(one) for one in ([content] if isinstance(content, str) and content else list_items(content))
    ]
    for asked in list_items(get_field(raw, "tool_calls")):
        name = get_nested(asked, "function.name", str) or ""
        arguments = to_plain_data(get_field(get_field(asked, "function"), "arguments"))
        found.append(make_tool_call(name, arguments, get_nested(asked, "id", str)))
    return found


def _read_content_part(raw: object) -> Part:
    """Read a part of a message; a picture of Pillow's is named, and not kept."""
    if get_nested(raw, "type", str) == "image" and not isinstance(get_field(raw, "image"), str):
        return {"type": "image", "content": f"[{type(get_field(raw, 'image')).__name__}]"}
    return read_openai_part(raw)


def _read_tool_definition(raw: object) -> ToolDefinition:
    tool: ToolDefinition = {"type": "function", "name": get_nested(raw, "name", str) or ""}
    if description := get_nested(raw, "description", str):
        tool["description"] = description
    if inputs := get_nested(raw, "inputs", dict):
        properties = {name: dict(one) if isinstance(one, Mapping) else one for name, one in inputs.items()}
        tool["parameters"] = to_plain_data({"type": "object", "properties": properties})
    return tool


def _observe(record: Chat, got: object) -> None:
    """Read a whole ChatMessage, or a piece of one."""
    choice = record.draft.get_choice()
    if type(got).__name__ == "ChatMessageStreamDelta":
        _read_stream_delta(record, choice, got)
    else:
        for part in _read_parts(got):
            choice.add_part(part)
        raw = get_field(got, "raw")
        reason = get_nested(next(iter(get_list(raw, "choices")), None), "finish_reason", str)
        reason = FINISH_REASONS.get(reason or "", reason)
        choice.finish_reason = reason or ("tool_calls" if record.draft.call_ids else UNTOLD_REASON)
        record.response_id = get_nested(raw, "id", str)
        record.response_model = get_nested(raw, "model", str)
        if (usage := get_field(raw, "usage")) is not None:
            read_chat_usage(record, usage)
    if (told := get_field(got, "token_usage")) is not None and record.input_tokens is None:
        record.input_tokens = get_nested(told, "input_tokens", int)
        record.output_tokens = get_nested(told, "output_tokens", int)


def _read_stream_delta(record: Chat, choice: Any, piece: object) -> None:
    """Read a piece of a streamed answer. smolagents does not tell why the answer has ended."""
    choice.finish_reason = "tool_calls" if record.draft.call_ids else UNTOLD_REASON
    if text := get_nested(piece, "content", str):
        choice.add_text(text)
    for asked in list_items(get_field(piece, "tool_calls")):
        function = get_field(asked, "function")
        arguments = get_nested(function, "arguments", str)
        slot, id = get_nested(asked, "index", int), get_nested(asked, "id", str)
        choice.add_tool_call(slot, id, get_nested(function, "name", str), arguments)
        choice.finish_reason = "tool_calls"
