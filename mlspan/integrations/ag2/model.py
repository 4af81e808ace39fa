"""The model calls of AG2 0.x: one call of ``OpenAIWrapper.create`` is one chat, whatever client it uses."""

from __future__ import annotations

import functools
import importlib
from collections import Counter
from contextvars import ContextVar
from typing import Any, Final

from ..._shape import get_field, get_list, get_nested
from ...hooks import openai_format as parts
from ...hooks.call import BegunCall, Call
from ...hooks.requests import CHAT_USAGE, count_tokens, read_failed_completion, set_parameters
from ...tracing.operations import semconv as sc
from ...tracing.operations.message_drafts import OutputDraft
from ...tracing.operations.messages import Message, Part, make_tool_call, make_tool_call_response
from ...tracing.operations.records import Chat, sees_errors

# Private names that some versions or classes lack, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_config_list": "the model and the server, where the call does not name them",
    "_response_metadata": "which of several configurations has answered",
    "_add_streaming_usage_to_params": "nothing: versions without it leave out the counts of streams themselves",
}

_PROVIDERS_BY_API_TYPE: Final = {  # api_type of a configuration -> the conventions' name of the provider
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
# The usages of the running call. A call has several if a filter has refused an answer. A usage is None if a cache has
# answered, so that nothing is billed.
_usages: Final[ContextVar[list[object] | None]] = ContextVar("mlspan-ag2-usages", default=None)


def begin_model_call(call: Call) -> BegunCall:
    """Begin a call of ``OpenAIWrapper.create``, which tries its clients in turn until one answers."""
    configs = get_list(call.args[0], "_config_list") or [{}]
    request = {**configs[0], **call.kwargs}
    chat = Chat(
        outer=True, stream=True if request.get("stream") else None, draft=OutputDraft(kept=call.capture_content)
    )
    _set_model(chat, request)
    set_parameters(chat, request)
    if call.capture_content:
        chat.input = [_convert_chat_message(message) for message in request.get("messages") or ()]
        chat.tools = [
            parts.read_openai_tool(one) for one in (*(request.get("tools") or ()), *(request.get("functions") or ()))
        ] or None

    usages: list[object] = []
    around = _usages.get()  # a filter may ask a model itself
    _usages.set(usages)

    @sees_errors
    def observe(chat: Chat, got: Any) -> None:
        _usages.set(around)
        if isinstance(got, BaseException):
            _add_usages(chat, [*usages, get_field(get_field(got, "completion"), "usage")])
            read_failed_completion(chat, got)
            return
        _read_completion(chat, got, usages)
        # Newer wrappers remember which client has answered; older ones write it into the answer.
        metadata = (get_field(call.args[0], "_response_metadata") or {}).get(chat.response_id)
        answered = get_nested(metadata or got, "config_id", int) or 0
        if 0 < answered < len(configs):
            _set_model(chat, {**configs[answered], **call.kwargs})

    return chat, observe


def _set_model(chat: Chat, config: dict[str, object]) -> None:
    client_class = get_nested(config, "model_client_cls", str)  # a client class of the application's client_class
    api = client_class.lower() if client_class is not None else get_nested(config, "api_type", str) or "openai"
    chat.provider, chat.model = _PROVIDERS_BY_API_TYPE.get(api, api), get_nested(config, "model", str)


def note_usage(args: tuple[object, ...], kwargs: dict[str, object], _: object) -> None:
    """Note the usage that ``OpenAIWrapper._update_usage`` receives for each answer; None if a cache has answered."""
    actual = kwargs.get("actual_usage", args[1] if len(args) > 1 else None)
    if (usages := _usages.get()) is not None:
        usages.append(actual)


def _read_completion(chat: Chat, got: object, billed: list[object]) -> None:
    """Read an answer into the record: a ChatCompletion, or the UnifiedResponse of newer clients.

    *billed* are the usages that were noted.
    """
    chat.response_id, chat.response_model = get_nested(got, "id", str) or None, get_nested(got, "model", str) or None
    if tier := get_nested(got, "service_tier", str):
        chat.extra[sc.OPENAI_RESPONSE_SERVICE_TIER] = tier
    for index, one in enumerate(get_list(got, "choices")):
        _add_choice_message(
            chat, index, get_field(one, "message") or get_field(one, "text"), get_nested(one, "finish_reason", str)
        )
    for index, message in enumerate(get_list(got, "messages")):
        _add_choice_message(chat, index, message, get_nested(got, "finish_reason", str))
    usages = billed if len(billed) > 1 else [] if billed == [None] else [get_field(got, "usage")]
    if not (chat.stream and _estimates_stream_usage()):
        _add_usages(chat, usages)


def _add_usages(chat: Chat, usages: list[object]) -> None:
    """Add up the *usages* of all answers to a call; None is an answer from a cache."""
    billed_tokens: Counter[str] = Counter()
    for usage in usages:
        billed_tokens.update(count_tokens(usage, *CHAT_USAGE))
    for field, tokens in billed_tokens.items():
        if tokens:  # AG2 writes 0 if the server has sent no count
            setattr(chat, field, tokens)


@functools.cache
def _estimates_stream_usage() -> bool:
    """Return True if this version of AG2 estimates the tokens of a stream instead of asking the server for them."""
    client = getattr(importlib.import_module("autogen.oai.client"), "OpenAIClient", None)
    return not hasattr(client, "_add_streaming_usage_to_params")


def _add_choice_message(chat: Chat, index: int, message: object, reason: str | None) -> None:
    choice = chat.draft.get_choice(index)
    choice.finish_reason = parts.FINISH_REASONS.get(reason or "", reason)  # newer clients tell the provider's own
    content = message if isinstance(message, str) else get_field(message, "content")
    blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
    for block in blocks:  # a UnifiedMessage has a block for each text, reasoning and tool call
        if text := get_nested(block, "text", str):
            choice.add_text(text)
        elif text := get_nested(block, "reasoning", str):
            choice.add_text(text, "reasoning")
        elif get_nested(block, "type", str) == "tool_call":
            choice.add_part(convert_tool_call(block))
    for one in [*(get_field(message, "tool_calls") or ()), get_field(message, "function_call")]:
        if one is not None:
            choice.add_part(convert_tool_call(one))


def _convert_chat_message(raw: object) -> Message:
    role, content = get_nested(raw, "role", str) or "user", get_field(raw, "content")
    if role in {"tool", "function"}:
        answers = get_list(raw, "tool_responses") or [raw]
        return {
            "role": "tool",
            "parts": [
                make_tool_call_response(get_field(one, "content"), get_nested(one, "tool_call_id", str))
                for one in answers
            ],
        }
    said: list[Part] = [
        parts.read_openai_part(one) for one in (content if isinstance(content, list) else [content]) if one
    ]
    calls = [*(get_field(raw, "tool_calls") or ()), get_field(raw, "function_call")]
    message: Message = {"role": role, "parts": [*said, *(convert_tool_call(one) for one in calls if one is not None)]}
    if name := get_nested(raw, "name", str):
        message["name"] = name
    return message


def convert_tool_call(raw: object) -> Part:
    """Convert a tool call or a function call of OpenAI's format to a message part of the conventions."""
    function = get_field(raw, "function") or raw
    return make_tool_call(
        get_nested(function, "name", str) or "", get_nested(function, "arguments", str), get_nested(raw, "id", str)
    )
