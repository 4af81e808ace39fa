"""OpenAI's message format, as many clients and frameworks use it: readers of message parts, tools and parameters.

They return the message parts and tool definitions of the GenAI semantic conventions. Besides, providers are found by
their host names.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from .._shape import dig, get, is_a
from ..tracing.operations.messages import Part, ToolDefinition, media
from ..tracing.operations.records import Chat


def part(raw: Any) -> Part:
    """Read a part of a message as chat completions or the Responses API write it: text, a picture, a sound or a file.

    A part of an unknown type keeps its type, with its other fields as the content.
    """
    if isinstance(raw, str):
        return {"type": "text", "content": raw}
    kind = dig(raw, "type", str) or "unknown"
    if kind in _TEXTS and isinstance(text := get(raw, _TEXTS[kind]), str):
        return {"type": "text", "content": text}
    if url := dig(raw, "image_url.url", str) or dig(raw, "image_url", str):
        return media("image", url)
    if data := dig(raw, "input_audio.data", str):
        mime_type = f"audio/{dig(raw, 'input_audio.format', str) or 'wav'}"
        return {"type": "blob", "modality": "audio", "content": data, "mime_type": mime_type}
    file = get(raw, "file") or raw
    if file_id := dig(file, "file_id", str):
        return {"type": "file", "modality": "image" if kind == "input_image" else "document", "file_id": file_id}
    if data := dig(file, "file_data", str) or dig(file, "file_url", str):
        return media("document", data)
    return {"type": kind, "content": {key: raw[key] for key in raw if key != "type"} if isinstance(raw, dict) else raw}


_TEXTS: Final = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "summary_text": "text",
    "reasoning_text": "text",
    "refusal": "refusal",
}


def tool(raw: Any) -> ToolDefinition:
    """Read the definition of a tool, nested as in chat completions or flat as in the Responses API."""
    kind = dig(raw, "type", str) or "function"
    function = get(raw, kind) or raw
    offered: ToolDefinition = {"type": kind, "name": dig(function, "name", str) or kind}
    if description := dig(function, "description", str):
        offered["description"] = description
    if parameters := dig(function, "parameters", dict):
        offered["parameters"] = parameters
    return offered


def plain(raw: Any) -> Any:
    """Return a pydantic model as plain data without its None values, and any other object as it is."""
    dump = getattr(raw, "model_dump", None)
    return dump(mode="json", exclude_none=True, warnings=False) if dump is not None else raw


_PROVIDERS: Final = {  # host name or its end -> value of gen_ai.provider.name
    ".openai.azure.com": "azure.ai.openai",
    ".cognitiveservices.azure.com": "azure.ai.openai",
    "models.inference.ai.azure.com": "azure.ai.inference",
    ".services.ai.azure.com": "azure.ai.inference",
    "api.anthropic.com": "anthropic",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.moonshot.ai": "moonshot_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
}


@lru_cache(maxsize=256)
def provider_at(host: str) -> str | None:
    """Return the provider at *host*, as the conventions' ``gen_ai.provider.name``; None if the host is not known."""
    return next((name for end, name in _PROVIDERS.items() if host.endswith(end)), None)


PARAMETERS: Final[Mapping[str, tuple[str, type]]] = {  # parameter of a request -> field of Chat, and its type
    "frequency_penalty": ("frequency_penalty", float),
    "max_completion_tokens": ("max_tokens", int),
    "max_tokens": ("max_tokens", int),
    "presence_penalty": ("presence_penalty", float),
    "reasoning_effort": ("reasoning_level", str),
    "seed": ("seed", int),
    "temperature": ("temperature", float),
    "top_k": ("top_k", int),
    "top_p": ("top_p", float),
}


def set_parameters(chat: Chat, asked: Mapping[str, Any], wanted: Mapping[str, tuple[str, type]] = PARAMETERS) -> None:
    """Copy the parameters of a request into the fields of *chat*; a value of another type is left out.

    Args:
        chat: the record.
        asked: the parameters of the request.
        wanted: by a parameter's name, the field and its type. Integers are accepted for floats. If two parameters
            stand for one field, the later one in *wanted* counts.
    """
    for name, (field, kind) in wanted.items():
        if is_a(value := asked.get(name), (int, float) if kind is float else kind):
            setattr(chat, field, kind(value))


REASONS: Final = {  # finish reason of another provider -> finish reason of OpenAI
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "STOP": "stop",
    "MAX_TOKENS": "length",
}
