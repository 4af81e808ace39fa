"""The model calls of AG2 0.x: one call of ``OpenAIWrapper.create`` is one chat, whatever client it uses."""

from __future__ import annotations

import functools
import importlib
from typing import Any, Final
from weakref import WeakKeyDictionary

from opentelemetry import trace
from opentelemetry.trace import Span

from ..._shape import dig, get, items
from ...hooks import openai_format as parts
from ...hooks.hook import Call
from ...tracing.operations.messages import Draft, Message, Part, tool_call, tool_call_response
from ...tracing.operations.records import Chat, Observe, Record

_PROVIDERS: Final = {  # api_type of a configuration -> the conventions' name of the provider
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "google": "gcp.gemini",
    "google_vertex": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "openai_v2": "openai",
    "responses": "openai",
    "responses_v2": "openai",
    "anthropic_v2": "anthropic",
    "bedrock_v2": "aws.bedrock",
}
_USAGE: Final = {
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "prompt_tokens_details.cached_tokens": "cache_read_tokens",
    "completion_tokens_details.reasoning_tokens": "reasoning_tokens",
}
# The usages of the running calls, by span. A call has several if a filter has refused an answer. A usage is None if a
# cache has answered, so that nothing is billed.
_usages: Final[WeakKeyDictionary[Span, list[Any]]] = WeakKeyDictionary()


def begin(call: Call) -> tuple[Record, Observe[Any]]:
    """Begin a call of ``OpenAIWrapper.create``, which tries its clients in turn until one answers."""
    configs = items(call.args[0], "_config_list") or [{}]
    request = {**configs[0], **call.kwargs}
    chat = Chat(outer=True, stream=True if request.get("stream") else None, draft=Draft(kept=call.content))
    _name_model(chat, request)
    parts.set_parameters(chat, request)
    if call.content:
        chat.input = [_message(message) for message in request.get("messages") or ()]
        chat.tools = [
            parts.tool(one) for one in (*(request.get("tools") or ()), *(request.get("functions") or ()))
        ] or None

    def observe(chat: Chat, got: Any) -> None:
        _observe(chat, got)
        # Newer wrappers remember which client has answered; older ones write it into the answer.
        metadata = (get(call.args[0], "_response_metadata") or {}).get(chat.response_id)
        answered = dig(metadata or got, "config_id", int) or 0
        if 0 < answered < len(configs):
            _name_model(chat, {**configs[answered], **call.kwargs})

    return chat, observe


def _name_model(chat: Chat, config: dict[str, Any]) -> None:
    client_class = dig(config, "model_client_cls", str)  # a client class of the application's client_class
    api = client_class.lower() if client_class is not None else dig(config, "api_type", str) or "openai"
    chat.provider, chat.model = _PROVIDERS.get(api, api), dig(config, "model", str)


def note_usage(args: tuple[Any, ...], kwargs: dict[str, Any], _: Any) -> None:
    """Note the usage that ``OpenAIWrapper._update_usage`` receives for each answer; None if a cache has answered."""
    actual = kwargs.get("actual_usage", args[1] if len(args) > 1 else None)
    if (span := trace.get_current_span()).get_span_context().is_valid:
        _usages.setdefault(span, []).append(actual)


def _observe(chat: Chat, got: Any) -> None:
    """Read an answer into the record: a ChatCompletion, or the UnifiedResponse of newer clients."""
    chat.response_id, chat.response_model = dig(got, "id", str) or None, dig(got, "model", str) or None
    for index, one in enumerate(items(got, "choices")):
        _observe_message(chat, index, get(one, "message") or get(one, "text"), dig(one, "finish_reason", str))
    for index, message in enumerate(items(got, "messages")):
        _observe_message(chat, index, message, dig(got, "finish_reason", str))
    billed = _usages.pop(trace.get_current_span(), [])
    usages = billed if len(billed) > 1 else [] if billed == [None] else [get(got, "usage")]
    if chat.stream and _estimates():
        return
    for path, field in _USAGE.items():
        counts = [count for usage in usages if (count := dig(usage, path, int))]
        if counts:  # AG2 writes 0 if the server has sent no count
            setattr(chat, field, sum(counts))


@functools.cache
def _estimates() -> bool:
    """Return True if this version of AG2 estimates the tokens of a stream instead of asking the server for them."""
    client = getattr(importlib.import_module("autogen.oai.client"), "OpenAIClient", None)
    return not hasattr(client, "_add_streaming_usage_to_params")


def _observe_message(chat: Chat, index: int, message: Any, reason: str | None) -> None:
    choice = chat.draft.choice(index)
    choice.finish_reason = reason
    content = message if isinstance(message, str) else get(message, "content")
    blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
    for block in blocks:  # a UnifiedMessage has a block for each text, reasoning and tool call
        if text := dig(block, "text", str):
            choice.say(text)
        elif text := dig(block, "reasoning", str):
            choice.say(text, "reasoning")
        elif dig(block, "type", str) == "tool_call":
            choice.add(asked_call(block))
    for one in [*(get(message, "tool_calls") or ()), get(message, "function_call")]:
        if one is not None:
            choice.add(asked_call(one))


def _message(raw: Any) -> Message:
    role, content = dig(raw, "role", str) or "user", get(raw, "content")
    if role in {"tool", "function"}:
        answers = items(raw, "tool_responses") or [raw]
        return {
            "role": "tool",
            "parts": [tool_call_response(get(one, "content"), dig(one, "tool_call_id", str)) for one in answers],
        }
    said: list[Part] = [parts.part(one) for one in (content if isinstance(content, list) else [content]) if one]
    calls = [*(get(raw, "tool_calls") or ()), get(raw, "function_call")]
    message: Message = {"role": role, "parts": [*said, *(asked_call(one) for one in calls if one is not None)]}
    if name := dig(raw, "name", str):
        message["name"] = name
    return message


def asked_call(raw: Any) -> Part:
    """Convert a tool call or a function call of OpenAI's format to a message part of the conventions."""
    function = get(raw, "function") or raw
    return tool_call(dig(function, "name", str) or "", dig(function, "arguments", str), dig(raw, "id", str))
