"""OpenAI's client, Azure's and those of compatible servers: chat completions, sync and async, streamed, parsed, raw.

Every public method of the client funnels into ``OpenAI.request``. Watching it there takes two patches instead of
dozens, and finds a body that is plain JSON already.

Option of ``autolog``: ``include_usage=True`` asks the server for the token counts of streams too (it adds
``stream_options.include_usage`` where the caller has not set it, and keeps the chunk that then comes to itself).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from .._shape import dig, get, is_a, items
from ..tracing import semconv as sc
from ..tracing.messages import (
    Choice,
    Draft,
    Message,
    Part,
    ToolDefinition,
    media,
    tool_call,
    tool_call_response,
)
from ..tracing.records import HIDE, Chat, Observe, Record
from ._hook import Call, Hook, methods

Body = dict[str, Any]

_PROVIDERS: Final = {  # host, or the end of it -> the conventions' name
    ".openai.azure.com": "azure.ai.openai",
    ".cognitiveservices.azure.com": "azure.ai.openai",
    "models.inference.ai.azure.com": "azure.ai.inference",
    "api.anthropic.com": "anthropic",
    "api.cohere.ai": "cohere",
    "api.deepseek.com": "deepseek",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.moonshot.ai": "moonshot_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
}


def _begin(call: Call) -> tuple[Record, Observe[Any]] | None:
    options = call.kwargs.get("options") or call.args[2]
    endpoint = _ENDPOINTS.get(options.url)
    body = options.json_data
    if endpoint is None or not isinstance(body, dict):
        return None
    return endpoint(call, options, {**body, **options.extra_json} if options.extra_json else body)


def _begin_chat(call: Call, options: Any, body: Body) -> tuple[Chat, Observe[Chat]]:
    host, port = _server(call.args[0].base_url)
    chat = Chat(
        provider=_provider(call.args[0], host),
        server_address=host,
        server_port=port,
        draft=Draft(kept=call.content),
        extra={sc.OPENAI_API_TYPE: "chat_completions"},
    )
    for name, value in body.items():
        field, kind = _FIELDS.get(name, _NO_FIELD)
        if kind is float and is_a(value, (int, float)):
            setattr(chat, field, float(value))
        elif kind is not float and is_a(value, kind):
            setattr(chat, field, value)
    if not _RARE.isdisjoint(body):
        _begin_rare(chat, body)
    if call.content:
        chat.input = [_message(message) for message in items(body, "messages")]
        chat.tools = [_tool(tool) for tool in items(body, "tools") or items(body, "functions")] or None
    if body.get("stream") is not True:
        return chat, _observe_chat
    chat.stream = True
    if call.options.get("include_usage") and dig(body, "stream_options.include_usage", bool) is None:
        asked = {**(body.get("stream_options") or {}), "include_usage": True}
        options.json_data = {**options.json_data, "stream_options": asked}
        return chat, _observe_chat_and_hide_usage
    return chat, _observe_chat


_NO_FIELD: Final = ("", ())  # nothing is an instance of no type
_FIELDS: Final[dict[str, tuple[str, Any]]] = {  # of the request's body -> field of the record, and its type
    "frequency_penalty": ("frequency_penalty", float),
    "max_completion_tokens": ("max_tokens", int),
    "max_tokens": ("max_tokens", int),
    "model": ("model", str),
    "presence_penalty": ("presence_penalty", float),
    "reasoning_effort": ("reasoning_level", str),
    "seed": ("seed", int),
    "temperature": ("temperature", float),
    "top_k": ("top_k", int),
    "top_p": ("top_p", float),
}
_RARE: Final = frozenset({"modalities", "n", "response_format", "service_tier", "stop"})


def _begin_rare(chat: Chat, body: Body) -> None:
    """What needs more than a look at its type."""
    if (count := dig(body, "n", int)) != 1:
        chat.choice_count = count
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else [text for text in items(body, "stop") if isinstance(text, str)]
    chat.stop_sequences = stops or None
    if (tier := dig(body, "service_tier", str)) not in {None, "auto"}:
        chat.extra[sc.OPENAI_REQUEST_SERVICE_TIER] = tier
    if "audio" in items(body, "modalities"):
        chat.output_type = "speech"
    else:
        kind = dig(body, "response_format.type", str)
        chat.output_type = {"json_object": "json", "json_schema": "json", "text": "text"}.get(kind or "")


def _observe_chat(chat: Chat, got: Any) -> None:
    """A ChatCompletion, one chunk of it, either of them as plain JSON, or the error that carries one."""
    if isinstance(got, BaseException):
        got = getattr(got, "completion", None)  # of LengthFinishReasonError and ContentFilterFinishReasonError
    if not chat.response_id:
        chat.response_id = dig(got, "id", str) or None
        chat.response_model = dig(got, "model", str) or None
        if tier := dig(got, "service_tier", str):
            chat.extra[sc.OPENAI_RESPONSE_SERVICE_TIER] = tier
        if fingerprint := dig(got, "system_fingerprint", str):
            chat.extra[sc.OPENAI_RESPONSE_SYSTEM_FINGERPRINT] = fingerprint
    choices = get(got, "choices")
    if isinstance(choices, list):
        for choice in choices:
            index = get(choice, "index")
            _observe_choice(chat.draft.choice(index if isinstance(index, int) else 0), choice)
    if (usage := get(got, "usage")) is not None:
        _observe_usage(chat, usage)


def _observe_chat_and_hide_usage(chat: Chat, got: Any) -> object:
    _observe_chat(chat, got)
    return HIDE if not get(got, "choices") and get(got, "usage") is not None else None


def _observe_choice(choice: Choice, got: Any) -> None:
    if isinstance(reason := get(got, "finish_reason"), str):
        choice.finish_reason = reason
    said = get(got, "delta")
    whole = said is None
    if whole and (said := get(got, "message")) is None:
        return
    # What compatible servers add (reasoning) is in pydantic's extra fields; asking for them by name is slow.
    if more := said if isinstance(said, dict) else getattr(said, "model_extra", None):
        for name in ("reasoning_content", "reasoning"):
            if isinstance(text := more.get(name), str) and text:
                choice.say(text, "reasoning")
                break
    for name in ("content", "refusal"):
        if isinstance(text := get(said, name), str) and text:
            choice.say(text)
    if calls := get(said, "tool_calls"):
        for slot, call in enumerate(calls if isinstance(calls, list) else ()):
            _observe_call(choice, slot, call)
    if called := get(said, "function_call"):
        choice.call(0, None, dig(called, "name", str), dig(called, "arguments", str))
    if audio := get(said, "audio"):
        _observe_audio(choice, audio, whole=whole)


def _observe_call(choice: Choice, slot: int, call: Any) -> None:
    function = get(call, "function") or get(call, "custom")
    index = dig(call, "index", int)
    choice.call(
        slot if index is None else index,
        dig(call, "id", str),
        dig(function, "name", str),
        dig(function, "arguments", str) or dig(function, "input", str),
    )


def _observe_audio(choice: Choice, audio: Any, *, whole: bool) -> None:
    if transcript := dig(audio, "transcript", str):
        choice.say(transcript)
    if whole and (data := dig(audio, "data", str)):  # the bytes of a stream come in pieces that are no audio alone
        choice.add({"type": "blob", "modality": "audio", "content": data})


def _observe_usage(chat: Chat, usage: Any) -> None:
    _count(chat, usage, _USAGE)
    if (details := get(usage, "prompt_tokens_details")) is not None:
        _count(chat, details, _INPUT_DETAILS)
    if (details := get(usage, "completion_tokens_details")) is not None:
        _count(chat, details, _OUTPUT_DETAILS)


def _count(chat: Chat, usage: Any, fields: dict[str, str]) -> None:
    for name, field in fields.items():
        if is_a(count := get(usage, name), int):
            setattr(chat, field, count)


_USAGE: Final = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}
_INPUT_DETAILS: Final = {
    "cached_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "audio_tokens": "audio_input_tokens",
}
_OUTPUT_DETAILS: Final = {"reasoning_tokens": "reasoning_tokens", "audio_tokens": "audio_output_tokens"}


def _message(raw: Any) -> Message:
    role, content = dig(raw, "role", str) or "user", get(raw, "content")
    if role in {"tool", "function"}:
        return {"role": "tool", "parts": [tool_call_response(_texts(content), dig(raw, "tool_call_id", str))]}
    parts: list[Part] = []
    if isinstance(content, str):
        parts.append({"type": "text", "content": content})
    elif isinstance(content, list):
        parts.extend(_part(part) for part in content)
    if refusal := dig(raw, "refusal", str):
        parts.append({"type": "text", "content": refusal})
    for call in items(raw, "tool_calls"):
        function = get(call, "function") or get(call, "custom")
        arguments = dig(function, "arguments", str) or dig(function, "input", str)
        parts.append(tool_call(dig(function, "name", str) or "", arguments, dig(call, "id", str)))
    if called := get(raw, "function_call"):
        parts.append(tool_call(dig(called, "name", str) or "", dig(called, "arguments", str)))
    if audio := dig(raw, "audio.id", str):
        parts.append({"type": "file", "modality": "audio", "file_id": audio})
    message: Message = {"role": role, "parts": parts}
    if name := dig(raw, "name", str):
        message["name"] = name
    return message


def _texts(content: Any) -> Any:
    """A tool's answer: text, also where it comes as a list of text parts."""
    if isinstance(content, list) and all(isinstance(dig(part, "text", str), str) for part in content):
        return "".join(part["text"] for part in content)
    return content


def _part(raw: Any) -> Part:
    if isinstance(raw, str):
        return {"type": "text", "content": raw}
    kind = dig(raw, "type", str) or "unknown"
    if kind in {"text", "refusal"} and isinstance(text := get(raw, kind), str):
        return {"type": "text", "content": text}
    if kind == "image_url" and (url := dig(raw, "image_url.url", str)):
        return media("image", url)
    if kind == "input_audio" and (data := dig(raw, "input_audio.data", str)):
        mime_type = f"audio/{dig(raw, 'input_audio.format', str) or 'wav'}"
        return {"type": "blob", "modality": "audio", "content": data, "mime_type": mime_type}
    if kind == "file" and (file_id := dig(raw, "file.file_id", str)):
        return {"type": "file", "modality": "document", "file_id": file_id}
    if kind == "file" and (data := dig(raw, "file.file_data", str)):
        return media("document", data)
    return {"type": kind, "content": {key: raw[key] for key in raw if key != "type"} if isinstance(raw, dict) else raw}


def _tool(raw: Any) -> ToolDefinition:
    kind = dig(raw, "type", str) or "function"
    function = get(raw, kind) or raw
    tool: ToolDefinition = {"type": kind, "name": dig(function, "name", str) or kind}
    if description := dig(function, "description", str):
        tool["description"] = description
    if parameters := dig(function, "parameters", dict):
        tool["parameters"] = parameters
    return tool


@lru_cache(maxsize=256)
def _server(url: Any) -> tuple[str, int | None]:
    return url.host, url.port or {"https": 443, "http": 80}.get(url.scheme)


def _provider(client: Any, host: str) -> str:
    if "Azure" in type(client).__name__:
        return "azure.ai.openai"
    return _provider_at(host)


@lru_cache(maxsize=256)
def _provider_at(host: str) -> str:
    return next((name for end, name in _PROVIDERS.items() if host.endswith(end)), "openai")


_ENDPOINTS: Final = {"/chat/completions": _begin_chat}

HOOK: Final = Hook(
    requires="openai>=1.66,<4",
    module="openai",
    install=methods({"openai:OpenAI.request": _begin, "openai:AsyncOpenAI.request": _begin}),
    options=frozenset({"include_usage"}),
)
autolog = HOOK.autolog
