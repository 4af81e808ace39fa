"""Converse and ConverseStream: one form of requests and answers for every model, which Amazon's own models have too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ..._shape import get_count, get_nested, get_text, list_items, list_texts
from ...hooks.call import Call
from ...hooks.openai_format import FINISH_REASONS
from ...hooks.requests import FieldMapping, set_parameters
from ...tracing.operations import semconv as sc
from ...tracing.operations.content import to_json
from ...tracing.operations.message_drafts import OutputDraft
from ...tracing.operations.messages import make_server_tool_call, parse_json
from ...tracing.operations.records import Chat, Observe, sees_errors
from ._request import BedrockRequest, read_metadata, read_service_error, set_counts
from .contents import make_plain, read_block, read_blocks, read_message, read_reasoning, read_tool_definitions

_PARAMETERS: Final[FieldMapping] = {
    "maxTokens": ("max_tokens", int),
    "max_new_tokens": ("max_tokens", int),  # of Amazon's models
    "temperature": ("temperature", float),
    "topK": ("top_k", int),
    "top_k": ("top_k", int),
    "topP": ("top_p", float),
    "effort": ("reasoning_level", str),
    "reasoning_effort": ("reasoning_level", str),
}
_USAGE: Final = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
_REASONS: Final = {**FINISH_REASONS, **dict.fromkeys(("malformed_model_output", "malformed_tool_use"), "error")}


def begin_converse(call: Call, *, stream: bool | None = None) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of a conversation's next message."""
    ask = BedrockRequest.from_call(call)
    chat = Chat(
        model=get_text(ask.params, "modelId"),
        stream=stream,
        draft=OutputDraft(kept=ask.capture_content),
        **ask.read_server_fields(),
    )
    set_converse_request(chat, ask.params, capture_content=ask.capture_content)
    ask.set_texts(chat, guardrail="guardrailConfig.guardrailIdentifier")
    return chat, observe_converse


def begin_converse_stream(call: Call) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of a conversation's next message, which is streamed."""
    return begin_converse(call, stream=True)


def set_converse_request(chat: Chat, params: Mapping[str, object], *, capture_content: bool) -> None:
    """Read the parameters and the content of a request into *chat*."""
    for name in ("inferenceConfig", "additionalModelRequestFields", "outputConfig"):
        if isinstance(config := params.get(name), dict):
            set_parameters(chat, config, _PARAMETERS)
            if "stopSequences" in config:
                chat.stop_sequences = list_texts(config["stopSequences"]) or None
    if "outputConfig" in params and get_nested(params, "outputConfig.textFormat.type", str) == "json_schema":
        chat.output_type = "json"
        schema = get_nested(params, "outputConfig.textFormat.structure.jsonSchema.schema", str)
        chat.output_schema = parse_json(schema) if capture_content and schema else None
    if capture_content:
        chat.input = [read_message(raw) for raw in list_items(params.get("messages"))]
        if "system" in params:
            chat.system = read_blocks(params["system"]) or None
        if "toolConfig" in params:
            chat.tools = read_tool_definitions(params["toolConfig"])


@sees_errors
def observe_converse(chat: Chat, got: object) -> None:
    """Read a whole answer, or one event of a stream: each of their fields has its reader."""
    if isinstance(got, dict):
        for name, value in got.items():
            if (read := _READERS.get(name)) is not None:
                read(chat, value)
    elif isinstance(got, Exception):
        read_service_error(chat, got)


def _read_output_message(chat: Chat, output: object) -> None:
    choice = chat.draft.get_choice()
    for block in list_items(get_nested(output, "message.content", list)):
        part: Any = read_block(block)
        if part["type"] in {"text", "reasoning"} and "annotations" not in part:
            choice.add_text(part["content"], part["type"])
        else:
            choice.add_part(part)


def _read_reason(chat: Chat, reason: object) -> None:
    if isinstance(reason, str):
        chat.draft.get_choice().finish_reason = _REASONS.get(reason, reason)


def _read_usage(chat: Chat, usage: object) -> None:
    """Read token counts, and how many of the tokens written to the cache are kept for an hour, which cost more."""
    if not isinstance(usage, dict):
        return
    set_counts(chat, usage, _USAGE)
    for detail in list_items(usage["cacheDetails"]) if "cacheDetails" in usage else ():
        long = get_count(detail, "inputTokens") if get_nested(detail, "ttl", str) == "1h" else None
        if long and chat.cache_write_tokens:
            chat.extra[sc.USAGE_LONG_CACHE_WRITE_INPUT_TOKENS] = long


def _read_trace(chat: Chat, trace: object) -> None:
    """Read the model that a prompt router has chosen."""
    chat.response_model = get_nested(trace, "promptRouter.invokedModelId", str) or chat.response_model


def _read_tier(chat: Chat, tier: object) -> None:
    if kind := get_nested(tier, "type", str):
        chat.extra[sc.RESPONSE_SERVICE_TIER] = kind


def _read_start(chat: Chat, event: object) -> None:
    index, call = get_nested(event, "contentBlockIndex", int), get_nested(event, "start.toolUse", dict)
    if call is None:
        return
    name, id = get_nested(call, "name", str), get_nested(call, "toolUseId", str)
    if call.get("type") == "server_tool_use":  # its arguments follow, and are not kept
        chat.draft.get_choice().add_part(make_server_tool_call(name or "", {}, id))
    else:
        given = call.get("input")  # whole, from servers that do not stream it
        arguments = given if isinstance(given, str) else to_json(make_plain(given)) if given else None
        chat.draft.get_choice().add_tool_call(index or 0, id, name, arguments)


def _read_delta(chat: Chat, event: Any) -> None:
    try:  # a piece of text, as nearly all are
        text = event["delta"]["text"]
    except (KeyError, TypeError):
        text = None
    if isinstance(text, str):
        chat.draft.append_text(text)
    else:
        _read_other_delta(chat, event)


def _read_other_delta(chat: Chat, event: object) -> None:
    delta = get_nested(event, "delta", dict) or {}
    choice = chat.draft.get_choice()
    if (piece := get_nested(delta, "toolUse.input", str)) is not None:
        choice.add_tool_call(get_nested(event, "contentBlockIndex", int) or 0, None, None, piece)
    elif thought := read_reasoning(delta.get("reasoningContent")):
        choice.add_text(thought, "reasoning")
    elif (citation := delta.get("citation")) is not None:
        choice.add_annotations([make_plain(citation)])


def _read_stop(chat: Chat, event: object) -> None:
    _read_reason(chat, get_nested(event, "stopReason", str))


_READERS: Final[Mapping[str, Callable[[Chat, Any], object]]] = {  # field of an answer or an event -> its reader
    "contentBlockDelta": _read_delta,
    "contentBlockStart": _read_start,
    "messageStop": _read_stop,
    "metadata": observe_converse,  # the last event, with fields of a whole answer
    "output": _read_output_message,
    "stopReason": _read_reason,
    "usage": _read_usage,
    "trace": _read_trace,
    "serviceTier": _read_tier,
    "ResponseMetadata": read_metadata,
}
