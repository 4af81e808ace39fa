"""What clients and frameworks share: parts of messages and tools, mostly in OpenAI's words; who is at which host;
a request's parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from .._shape import dig, get, is_a
from ..tracing.messages import Part, ToolDefinition, media
from ..tracing.records import Chat


def part(raw: Any) -> Part:
    """A part of a message, in the words of chat completions or of responses."""
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
    """A tool that was offered, nested as in chat completions or flat as in responses."""
    kind = dig(raw, "type", str) or "function"
    function = get(raw, kind) or raw
    offered: ToolDefinition = {"type": kind, "name": dig(function, "name", str) or kind}
    if description := dig(function, "description", str):
        offered["description"] = description
    if parameters := dig(function, "parameters", dict):
        offered["parameters"] = parameters
    return offered


def plain(raw: Any) -> Any:
    """A client's object as plain data, without what is unset."""
    dump = getattr(raw, "model_dump", None)
    return dump(mode="json", exclude_none=True, warnings=False) if dump is not None else raw


_PROVIDERS: Final = {  # host, or the end of it -> the conventions' name
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
    """Who answers at *host*, by the conventions' name; None where that is not known."""
    return next((name for end, name in _PROVIDERS.items() if host.endswith(end)), None)


PARAMETERS: Final[Mapping[str, tuple[str, type]]] = {  # of a request -> field of Chat, and its type
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
    """Take over from *asked* what is *wanted*, where it has the type; of two names of one field, the later counts."""
    for name, (field, kind) in wanted.items():
        if is_a(value := asked.get(name), (int, float) if kind is float else kind):
            setattr(chat, field, kind(value))


REASONS: Final = {  # why a model stopped, in a provider's words -> OpenAI's
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "STOP": "stop",
    "MAX_TOKENS": "length",
}
