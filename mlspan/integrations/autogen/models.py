"""Model calls of AutoGen's clients: requests and results, converted to the conventions' form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..._shape import get_field, get_nested
from ...hooks.call import Call
from ...hooks.requests import (
    CHAT_USAGE,
    REQUEST_PARAMETERS,
    count_tokens,
    find_base_url,
    find_provider_by_host,
    read_failed_completion,
    read_host_and_port,
    set_parameters,
)
from ...tracing.operations.message_drafts import OutputDraft
from ...tracing.operations.messages import Message, Part, ToolDefinition, make_tool_call, make_tool_call_response
from ...tracing.operations.records import Chat, Observe, sees_errors

# Private names that some versions or classes lack, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_model": "the model's name",
    "_model_name": "the model's name",
    "_create_args": "the parameters that the client adds to each request",
}

_PARAMETERS: Final = {**REQUEST_PARAMETERS, "num_predict": ("max_tokens", int)}


def begin_model_call(call: Call) -> tuple[Chat, Observe[Chat]]:
    """Begin a call of ``create`` of a model client."""
    client, kept = call.args[0], call.capture_content
    if hasattr(cached := get_field(client, "client"), "create_stream"):
        client = cached  # the outer client is a cache; the inner one knows the model
    host, port = read_host_and_port(find_base_url(get_field(client, "_client")))
    asked = _merge_create_args(client, call.kwargs.get("extra_create_args"))
    named = (
        asked.get("model"),
        *(get_field(client, name) for name in ("model", "_model", "model_name", "_model_name")),
    )
    chat = Chat(
        outer=True,
        provider=find_model_provider(client, host),
        model=next((name for name in named if name and isinstance(name, str)), None),
        server_address=host,
        server_port=port,
        draft=OutputDraft(kept=kept),
    )
    set_parameters(chat, asked, _PARAMETERS)
    if (stop := asked.get("stop")) is not None:
        chat.stop_sequences = [one for one in ([stop] if isinstance(stop, str) else stop) if isinstance(one, str)]
    if call.kwargs.get("json_output"):
        chat.output_type = "json"
    if kept:
        chat.input = [_convert_llm_message(message) for message in call.argument("messages") or ()]
        chat.tools = [_convert_tool_schema(tool) for tool in call.kwargs.get("tools") or ()] or None
    return chat, _observe_create_result


def begin_model_stream(call: Call) -> tuple[Chat, Observe[Chat]]:
    """Begin a call of ``create_stream`` of a model client."""
    chat, observe = begin_model_call(call)
    chat.stream = True
    return chat, observe


def _merge_create_args(client: object, more: Any) -> dict[str, Any]:
    """Return the request parameters: those of the client, overridden by those of this call."""
    asked = {**(get_nested(client, "_create_args", dict) or {}), **(more or {})}
    options = asked.get("options")  # Ollama's client keeps most parameters in here
    return {**options, **asked} if isinstance(options, Mapping) else asked


_PROVIDERS_BY_MODULE: Final = (  # (module of the client's class, a word in the class's name, provider)
    ("autogen_ext.models.openai", "Azure", "azure.ai.openai"),
    ("autogen_ext.models.anthropic", "Bedrock", "aws.bedrock"),
    ("autogen_ext.models.openai", "", "openai"),
    ("autogen_ext.models.azure", "", "azure.ai.inference"),
)
_PROVIDERS_BY_FAMILY: Final = {  # start of a model family's name -> provider
    "claude": "anthropic",
    "gemini": "gcp.gemini",
    "gpt-": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4": "openai",
}


def find_model_provider(client: object, host: str | None) -> str:
    """Return the conventions' name of the provider that *client* calls, or "unknown".

    The client's class decides, then its host, then the family of its model. Any other client of AutoGen's own is named
    after its module.
    """
    modules = [(cls.__module__, cls.__name__) for cls in type(client).__mro__]
    for start, word, name in _PROVIDERS_BY_MODULE:
        if any(module.startswith(start) and word in own for module, own in modules):
            return (find_provider_by_host(host or "") or name) if name == "openai" else name
    for module, _ in modules:
        if module.startswith("autogen_ext.models."):
            return module.split(".")[2]
    family = get_nested(client, "model_info.family", str) or ""
    return find_provider_by_host(host or "") or next(
        (who for start, who in _PROVIDERS_BY_FAMILY.items() if family.startswith(start)), "unknown"
    )


@sees_errors
def _observe_create_result(chat: Chat, got: object) -> None:
    """Read a CreateResult into the record, one of the text chunks that precede it in a stream, or an error."""
    if isinstance(got, BaseException):
        read_failed_completion(chat, got)
        return
    if isinstance(got, str):
        chat.draft.get_choice().add_text(got)
        return
    if (content := get_field(got, "content")) is None:
        return
    chat.draft = OutputDraft(kept=chat.draft.kept)  # the result repeats the text of all chunks
    choice = chat.draft.get_choice()
    reason = get_nested(got, "finish_reason", str)
    choice.finish_reason = {"function_calls": "tool_calls", "unknown": None}.get(reason or "unknown", reason)
    if thought := get_nested(got, "thought", str):
        choice.add_text(thought, "reasoning")
    for part in _convert_contents(content):
        choice.add_part(part)
    if get_field(got, "cached") is True:
        return  # an answer from a cache is not billed
    counts = count_tokens(get_field(got, "usage"), CHAT_USAGE[0])
    if any(counts.values()):  # both are 0 if the server has sent no counts
        chat.input_tokens, chat.output_tokens = counts.get("input_tokens"), counts.get("output_tokens")


def _convert_llm_message(raw: object) -> Message:
    content, kind = get_field(raw, "content"), get_nested(raw, "type", str)
    if kind == "FunctionExecutionResultMessage":
        return {"role": "tool", "parts": [make_tool_call_response(one.content, one.call_id or None) for one in content]}
    role = {"SystemMessage": "system", "AssistantMessage": "assistant"}.get(kind or "", "user")
    parts = _convert_contents(content)
    if thought := get_nested(raw, "thought", str):
        parts.insert(0, {"type": "reasoning", "content": thought})
    message: Message = {"role": role, "parts": parts}
    if source := get_nested(raw, "source", str):
        message["name"] = source
    return message


def _convert_contents(content: Any) -> list[Part]:
    """Convert a message's content to parts: a text, or a list of texts, images and function calls."""
    return [_convert_content_item(one) for one in ([content] if isinstance(content, str) else content)]


def _convert_content_item(raw: Any) -> Part:
    if isinstance(raw, str):
        return {"type": "text", "content": raw}
    if hasattr(raw, "arguments"):
        return make_tool_call(str(raw.name), raw.arguments, raw.id or None)
    return {"type": "blob", "modality": "image", "mime_type": "image/png", "content": raw.to_base64()}


def _convert_tool_schema(raw: Any) -> ToolDefinition:
    schema = raw if isinstance(raw, Mapping) else raw.schema
    tool: ToolDefinition = {"type": "function", "name": str(schema["name"])}
    if description := get_nested(schema, "description", str):
        tool["description"] = description
    if (parameters := get_field(schema, "parameters")) is not None:
        tool["parameters"] = parameters
    return tool
