"""Calls to models as the Agents SDK's own spans tell of them: request, answer, tokens and errors, of any provider."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..._shape import get_field, get_fields, get_list, get_nested
from ...hooks.litellm_names import find_litellm_provider
from ...hooks.openai_format import FINISH_REASONS, dump_model
from ...hooks.requests import (
    UsageTable,
    find_provider_by_host,
    read_server_fields,
    read_usage,
    set_parameters,
)
from ...tracing.operations import semconv as sc
from ...tracing.operations.message_drafts import UNTOLD_REASON
from ...tracing.operations.records import Chat
from . import responses
from ._chat_messages import observe_message, read_request_messages
from ._items import read_input_messages

REDACTED_MESSAGE: Final = "Error details are redacted."  # the SDK's own, where the user wants no sensitive data
_ERROR_TYPES: Final = {  # the SDK's message -> the exception that whoever reads a streamed run gets
    "Max turns exceeded": "agents.exceptions.MaxTurnsExceeded",
    "Guardrail tripwire triggered": "agents.exceptions.InputGuardrailTripwireTriggered",
}
_USAGE: Final[tuple[UsageTable, ...]] = (
    {"input_tokens": "input_tokens", "output_tokens": "output_tokens"},
    {
        "in": "input_tokens_details",
        "cached_tokens": "cache_read_tokens",
        "cache_write_tokens": "cache_write_tokens",
    },
    {"in": "output_tokens_details", "reasoning_tokens": "reasoning_tokens"},
)


def make_model_record(data: Any) -> Chat:
    """Return the record of a call to a model, as the SDK's span data tell it at the start."""
    told = get_nested(data, "model", str)
    config: Mapping[str, Any] = get_nested(data, "model_config", dict) or {}
    server = read_server_fields(get_nested(config, "base_url", str))
    provider = find_provider_by_host(server.get("server_address", "")) or "openai"
    model = told
    if told is not None and config.get("model_impl") == "litellm" and "/" in told:
        prefix, _, model = told.removeprefix("litellm/").partition("/")
        provider = find_litellm_provider(prefix)
    record = Chat(provider=provider, model=model, outer=True, **server)
    set_parameters(record, config)
    return record


def is_content_withheld(span: Any) -> bool:
    """Return whether the SDK was asked to keep sensitive data out of its traces (``trace_include_sensitive_data``).

    It then tells neither input nor output of a call, and no text of its error.
    """
    data = span.span_data
    if span.error is not None:
        return is_redacted(span.error)
    if data.type == "response":
        return get_field(data, "response") is None
    return get_field(data, "input") is None and get_field(data, "output") is None


def is_redacted(error: object) -> bool:
    """Return whether an error of the SDK's hides the text of the exception."""
    return get_nested(get_field(error, "data"), "error", str) == REDACTED_MESSAGE


def read_span_error(error: object) -> tuple[str, str]:
    """Return error type and text of an error that an SDK span tells of, which is no exception."""
    message, data = str(get_field(error, "message")), get_fields(get_field(error, "data"))
    kind = data.get("error_type") or _ERROR_TYPES.get(message) or sc.ERROR_OTHER
    if kind == _ERROR_TYPES["Guardrail tripwire triggered"] and data.get("type") == "output_guardrail":
        kind = kind.replace("Input", "Output")
    said = get_nested(data, "error", str)
    return str(kind), message if not said or said == message else f"{message}: {said}"


def read_model_span(chat: Chat, data: Any, *, capture_content: bool) -> Iterator[object]:
    """Read the SDK's span data of a call that has ended.

    Args:
        chat: the record of the call.
        data: the span data, of the Responses API (``response``) or of chat completions (``generation``).
        capture_content: whether content is recorded.

    Yields:
        The tool calls that the answer asks for, each with ``call_id``, ``name`` and ``arguments``.
    """
    if data.type == "response":
        yield from _read_response(chat, data, capture_content=capture_content)
    elif data.type == "generation":
        yield from _read_generation(chat, data, capture_content=capture_content)


def _read_response(chat: Chat, data: Any, *, capture_content: bool) -> Iterator[object]:
    if data.response is None:
        _read_span_usage(chat, get_field(data, "usage"))
        return
    responses.observe_response(chat, data.response)
    chat.model = chat.model or chat.response_model
    if capture_content:
        chat.input = read_input_messages(data.input)
    yield from get_list(data.response, "output")


def _read_generation(chat: Chat, data: Any, *, capture_content: bool) -> Iterator[object]:
    _read_span_usage(chat, data.usage)
    if capture_content:
        chat.input = read_request_messages(list(data.input or ()))
    for index, message in enumerate(data.output or ()):
        if get_field(message, "object") == "response":  # the SDK reports a streamed chat in the Responses API's format
            told = {key: value for key, value in message.items() if value is not None and key != "usage"}
            responses.observe_response(chat, {"status": "completed", **told})
            yield from get_list(message, "output")
            continue
        choice = chat.draft.get_choice(index)
        observe_message(choice, message, whole=True)
        reason = get_nested(message, "finish_reason", str)
        calls = get_list(message, "tool_calls")
        choice.finish_reason = FINISH_REASONS.get(reason or "", reason) or ("tool_calls" if calls else UNTOLD_REASON)
        for call in calls:
            yield {"call_id": get_field(call, "id"), **(dump_model(get_field(call, "function")) or {})}


def _read_span_usage(chat: Chat, usage: object) -> None:
    """Read the usage that the SDK tells; it writes zeros where the provider has told none."""
    known = get_fields(usage)
    if any(known.get(name) for name in ("input_tokens", "output_tokens")):
        read_usage(chat, known, *_USAGE)
