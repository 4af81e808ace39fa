"""Calls of Agno's models."""

from __future__ import annotations

from typing import Final

from ..._shape import get_field, get_fields, get_list, get_nested, list_items
from ...hooks.call import BegunCall, Call
from ...hooks.openai_format import read_openai_part, read_openai_tool
from ...hooks.requests import find_provider_by_host, read_host_and_port, set_parameters
from ...tracing.operations.content import to_plain_data
from ...tracing.operations.message_drafts import UNTOLD_REASON, OutputDraft
from ...tracing.operations.messages import Message, Part, make_tool_call, make_tool_call_response
from ...tracing.operations.records import Chat

_PROVIDERS: Final = {  # Agno's name of a provider, in lower case and without spaces -> value of gen_ai.provider.name
    "awsbedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "google": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertexai": "gcp.vertex_ai",
    "xai": "x_ai",
    "ibm": "ibm.watsonx.ai",
}
_SEPARATE: Final = frozenset({"anthropic", "aws.bedrock"})  # whose input tokens leave out what is cached
_COUNTS: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


def begin_invoke(call: Call) -> BegunCall:
    """Begin a call of ``invoke``, ``ainvoke``, ``invoke_stream`` or ``ainvoke_stream`` of a model."""
    model = call.args[0]
    is_stream = call.function is not None and call.function.__name__.endswith("stream")
    record = Chat(draft=OutputDraft(kept=call.capture_content), outer=True, stream=True if is_stream else None)
    record.model = get_nested(model, "id", str)
    url = next((str(one) for key in ("base_url", "azure_endpoint", "host") if (one := get_field(model, key))), None)
    record.server_address, record.server_port = read_host_and_port(url)
    told = (get_nested(model, "provider", str) or "").lower().replace(" ", "")
    record.provider = find_provider_by_host(record.server_address or "") or _PROVIDERS.get(told, told) or "unknown"
    set_parameters(record, get_fields(model))
    if call.capture_content:
        record.input = [_read_message(one) for one in list_items(call.argument("messages"))]
        record.tools = [read_openai_tool(one) for one in list_items(call.argument("tools"))] or None
    return record, _observe


def _read_message(raw: object) -> Message:
    """Read one of Agno's messages: a text or parts, calls of tools, or the result of one."""
    role = get_nested(raw, "role", str) or "user"
    if role == "tool":
        response = to_plain_data(get_field(raw, "content"))
        return {"role": "tool", "parts": [make_tool_call_response(response, get_nested(raw, "tool_call_id", str))]}
    content = get_field(raw, "content")
    parts: list[Part] = []
    if thought := get_nested(raw, "reasoning_content", str):
        parts.append({"type": "reasoning", "content": thought})
    parts += [read_openai_part(one) for one in ([content] if isinstance(content, str) else list_items(content)) if one]
    for one in get_list(raw, "tool_calls"):
        name, arguments = get_nested(one, "function.name", str), get_field(get_field(one, "function"), "arguments")
        parts.append(make_tool_call(name or "", arguments, get_nested(one, "id", str)))
    return {"role": "system" if role == "developer" else role, "parts": parts}


def _observe(record: Chat, got: object) -> None:
    """Read a ModelResponse: a whole answer, or a piece of one."""
    choice = record.draft.get_choice()
    if thought := get_nested(got, "reasoning_content", str):
        choice.add_text(thought, "reasoning")
    if text := get_nested(got, "content", str):
        choice.add_text(text)
    for one in get_list(got, "tool_calls"):
        function = get_field(one, "function")
        slot = get_nested(one, "index", int) if record.stream else None
        arguments = get_nested(function, "arguments", str)
        choice.add_tool_call(slot, get_nested(one, "id", str), get_nested(function, "name", str), arguments)
    choice.finish_reason = "tool_calls" if record.draft.call_ids else UNTOLD_REASON
    record.response_id = get_nested(got, "provider_data.id", str) or record.response_id
    if (usage := get_field(got, "response_usage")) is not None:
        for name in _COUNTS:
            if (tokens := get_nested(usage, name, int)) or name in {"input_tokens", "output_tokens"}:
                setattr(record, name, tokens)
        if record.provider in _SEPARATE and record.input_tokens is not None:
            record.input_tokens += (record.cache_read_tokens or 0) + (record.cache_write_tokens or 0)
