"""Model calls of AutoGen's clients: requests and results, converted to the conventions' form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..._shape import dig, get
from ...hooks.hook import Call
from ...hooks.openai_format import PARAMETERS, provider_at, set_parameters
from ...tracing.operations.messages import Draft, Message, Part, ToolDefinition, tool_call, tool_call_response
from ...tracing.operations.records import Chat, Observe
from .wrappers import argument

_FIELDS: Final = {**PARAMETERS, "num_predict": ("max_tokens", int)}


def begin(call: Call) -> tuple[Chat, Observe[Any]]:
    """Begin a call of ``create`` of a model client."""
    client, kept = call.args[0], call.content
    if hasattr(cached := get(client, "client"), "create_stream"):
        client = cached  # the outer client is a cache; the inner one knows the model
    host, port = _server(client)
    asked = _asked(client, call.kwargs.get("extra_create_args"))
    named = (asked.get("model"), *(get(client, name) for name in ("model", "_model", "model_name", "_model_name")))
    chat = Chat(
        outer=True,
        provider=provider(client, host),
        model=next((name for name in named if name and isinstance(name, str)), None),
        server_address=host,
        server_port=port,
        draft=Draft(kept=kept),
    )
    set_parameters(chat, asked, _FIELDS)
    if (stop := asked.get("stop")) is not None:
        chat.stop_sequences = [one for one in ([stop] if isinstance(stop, str) else stop) if isinstance(one, str)]
    if call.kwargs.get("json_output"):
        chat.output_type = "json"
    if kept:
        chat.input = [_message(message) for message in argument(call, 1, "messages") or ()]
        chat.tools = [_tool(tool) for tool in call.kwargs.get("tools") or ()] or None
    return chat, _observe


def begin_stream(call: Call) -> tuple[Chat, Observe[Any]]:
    """Begin a call of ``create_stream`` of a model client."""
    chat, observe = begin(call)
    chat.stream = True
    return chat, observe


def _asked(client: Any, more: Any) -> dict[str, Any]:
    """Return the request parameters: those of the client, overridden by those of this call."""
    asked = {**(dig(client, "_create_args", dict) or {}), **(more or {})}
    options = asked.get("options")  # Ollama's client keeps most parameters in here
    return {**options, **asked} if isinstance(options, Mapping) else asked


def _server(client: Any) -> tuple[str | None, int | None]:
    """Return host and port of the provider's SDK, or of the HTTP client below it; None if they are unknown."""
    sdk = get(client, "_client")
    url = get(sdk, "base_url") or get(get(sdk, "_client"), "base_url")
    host = dig(url, "host", str) or None
    return host, (dig(url, "port", int) or {"https": 443, "http": 80}.get(get(url, "scheme"))) if host else None


_PROVIDERS: Final = (  # (module of the client's class, a word in the class's name, provider)
    ("autogen_ext.models.openai", "Azure", "azure.ai.openai"),
    ("autogen_ext.models.anthropic", "Bedrock", "aws.bedrock"),
    ("autogen_ext.models.openai", "", "openai"),
    ("autogen_ext.models.azure", "", "azure.ai.inference"),
)
_FAMILIES: Final = {  # start of a model family's name -> provider
    "claude": "anthropic",
    "gemini": "gcp.gemini",
    "gpt-": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4": "openai",
}


def provider(client: Any, host: str | None) -> str:
    """Return the conventions' name of the provider that *client* calls, or "unknown".

    The client's class decides, then its host, then the family of its model. Any other client of AutoGen's own is named
    after its module.
    """
    modules = [(cls.__module__, cls.__name__) for cls in type(client).__mro__]
    for start, word, name in _PROVIDERS:
        if any(module.startswith(start) and word in own for module, own in modules):
            return (provider_at(host or "") or name) if name == "openai" else name
    for module, _ in modules:
        if module.startswith("autogen_ext.models."):
            return module.split(".")[2]
    family = dig(client, "model_info.family", str) or ""
    return provider_at(host or "") or next(
        (who for start, who in _FAMILIES.items() if family.startswith(start)), "unknown"
    )


def _observe(chat: Chat, got: Any) -> None:
    """Read a CreateResult into the record, or one of the text chunks that precede it in a stream."""
    if isinstance(got, str):
        chat.draft.choice().say(got)
        return
    if (content := get(got, "content")) is None:
        return
    chat.draft = Draft(kept=chat.draft.kept)  # the result repeats the text of all chunks
    choice = chat.draft.choice()
    reason = dig(got, "finish_reason", str)
    choice.finish_reason = {"function_calls": "tool_calls", "unknown": None}.get(reason or "unknown", reason)
    if thought := dig(got, "thought", str):
        choice.say(thought, "reasoning")
    for part in _contents(content):
        choice.add(part)
    if get(got, "cached") is True:
        return  # an answer from a cache is not billed
    given, taken = dig(got, "usage.prompt_tokens", int), dig(got, "usage.completion_tokens", int)
    if given or taken:  # both are 0 if the server has sent no counts
        chat.input_tokens, chat.output_tokens = given, taken


def _message(raw: Any) -> Message:
    content, kind = get(raw, "content"), dig(raw, "type", str)
    if kind == "FunctionExecutionResultMessage":
        return {"role": "tool", "parts": [tool_call_response(one.content, one.call_id or None) for one in content]}
    role = {"SystemMessage": "system", "AssistantMessage": "assistant"}.get(kind or "", "user")
    parts = _contents(content)
    if thought := dig(raw, "thought", str):
        parts.insert(0, {"type": "reasoning", "content": thought})
    message: Message = {"role": role, "parts": parts}
    if source := dig(raw, "source", str):
        message["name"] = source
    return message


def _contents(content: Any) -> list[Part]:
    """Convert a message's content to parts: a text, or a list of texts, images and function calls."""
    return [_part(one) for one in ([content] if isinstance(content, str) else content)]


def _part(raw: Any) -> Part:
    if isinstance(raw, str):
        return {"type": "text", "content": raw}
    if hasattr(raw, "arguments"):
        return tool_call(str(raw.name), raw.arguments, raw.id or None)
    return {"type": "blob", "modality": "image", "mime_type": "image/png", "content": raw.to_base64()}


def _tool(raw: Any) -> ToolDefinition:
    schema = raw if isinstance(raw, Mapping) else raw.schema
    tool: ToolDefinition = {"type": "function", "name": str(schema["name"])}
    if description := dig(schema, "description", str):
        tool["description"] = description
    if (parameters := get(schema, "parameters")) is not None:
        tool["parameters"] = parameters
    return tool
