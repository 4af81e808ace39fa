"""Endpoints of the Responses API that make a response: whole answers, streams, compactions.

:mod:`.background` has those that fetch one.
"""

from __future__ import annotations

from typing import Final

from ..._shape import get_field, get_list, get_nested
from ...hooks.openai_format import dump_model
from ...hooks.requests import read_usage, set_parameters
from ...tracing.operations import semconv as sc
from ...tracing.operations.content import to_json
from ...tracing.operations.message_drafts import OutputDraft
from ...tracing.operations.records import Chat, Observe
from . import background
from ._items import read_input_messages
from ._read import OpenAIRequest, RequestBody, read_error, read_tool_definitions
from ._response_state import ENDED_STATUSES, RESPONSE_USAGE, add_item, draft_output, read_response_result


def begin_response(ask: OpenAIRequest) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of ``POST /responses``."""
    body = ask.body
    chat = Chat(**ask.read_server_fields(), draft=OutputDraft(kept=ask.capture_content))
    read_response_request(chat, body, capture_content=ask.capture_content)
    return chat, _observe_background_response if body.get("background") is True else observe_response


def read_response_request(chat: Chat, body: RequestBody, *, capture_content: bool) -> None:
    """Read the body of ``POST /responses``, or of the event that asks for a response over a websocket."""
    chat.conversation = get_nested(body, "conversation", str) or get_nested(body, "conversation.id", str)
    chat.reasoning_level = get_nested(body, "reasoning.effort", str)
    chat.output_type = _OUTPUT_TYPES.get(get_nested(body, "text.format.type", str) or "")
    chat.stream = True if body.get("stream") is True else None
    chat.extra[sc.OPENAI_API_TYPE] = "responses"
    set_parameters(chat, body, _REQUEST_FIELDS)
    if (tier := get_nested(body, "service_tier", str)) not in {None, "auto"}:
        chat.extra[sc.OPENAI_REQUEST_SERVICE_TIER] = tier
    if verbosity := get_nested(body, "text.verbosity", str):
        chat.extra[sc.REQUEST_VERBOSITY] = verbosity
    if (prompt := body.get("prompt")) is not None:
        _read_prompt_template(chat, prompt, capture_content=capture_content)
    if capture_content:
        chat.input = read_input_messages(body.get("input"))
        chat.tools = read_tool_definitions(body, "tools")
        if instructions := get_nested(body, "instructions", str):
            chat.system = [{"type": "text", "content": instructions}]


_OUTPUT_TYPES: Final = {"json_object": "json", "json_schema": "json", "text": "text"}
_REQUEST_FIELDS: Final[dict[str, tuple[str, object]]] = {
    "max_output_tokens": ("max_tokens", int),
    "model": ("model", str),
    "previous_response_id": ("previous_response", str),
    "temperature": ("temperature", float),
    "top_p": ("top_p", float),
}


def _read_prompt_template(chat: Chat, prompt: object, *, capture_content: bool) -> None:
    """Read the provider's prompt template that a request names, and the variables that are put into it."""
    if name := get_nested(prompt, "id", str):
        chat.extra[sc.PROMPT_NAME] = name
    if version := get_nested(prompt, "version", str):
        chat.extra[sc.PROMPT_VERSION] = version
    variables = get_nested(prompt, "variables", dict) if capture_content else None
    for key, value in (variables or {}).items():
        chat.extra[f"{sc.PROMPT_VARIABLE_PREFIX}{key}"] = (
            value if isinstance(value, str) else to_json(dump_model(value))
        )


def begin_compaction(ask: OpenAIRequest) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of ``POST /responses/compact``: a call of the model that makes a conversation shorter."""
    chat, _ = begin_response(ask)
    return chat, _observe_compaction


def _observe_compaction(chat: Chat, got: object) -> None:
    """Read a CompactedResponse: the items that are left of the conversation, and the tokens that this took."""
    chat.response_id = get_nested(got, "id", str)
    read_usage(chat, get_field(got, "usage"), *RESPONSE_USAGE)
    choice = chat.draft.get_choice()
    choice.finish_reason = "compaction"
    chat.extra[sc.CONVERSATION_COMPACTED] = True
    for item in get_list(got, "output"):
        if get_field(item, "type") != "message":  # messages are those of the input
            add_item(choice, item)


def _observe_background_response(chat: Chat, got: object) -> None:
    """Read a response that the server goes on making after the request; remember it until its end has been seen."""
    observe_response(chat, got)
    if chat.response_id is not None:
        background.note_state(chat, is_unfinished=sc.RESPONSE_STATUS in chat.extra)


def observe_response(chat: Chat, got: object) -> None:
    """Read a Response, one event of its stream, or either of them as plain JSON."""
    kind = get_nested(got, "type", str)
    if kind is None or kind == "response.create":
        _observe_response_state(chat, got)
    elif (response := get_field(got, "response")) is not None:
        _observe_response_state(chat, response)
    elif kind == "error":
        chat.failure = read_error(get_field(got, "error") or got)
    elif said := _TEXT_EVENTS.get(kind):
        if isinstance(text := get_field(got, "delta"), str):
            chat.draft.get_choice().add_text(text, said)  # type: ignore[arg-type]  # the table holds nothing but part types
    elif kind in _ARGUMENT_EVENTS:
        chat.draft.get_choice().add_tool_call(
            get_nested(got, "output_index", int) or 0, None, None, get_nested(got, "delta", str)
        )
    elif kind == "response.output_item.added":
        item = get_field(got, "item")
        if get_field(item, "type") in {"function_call", "custom_tool_call"}:
            slot = get_nested(got, "output_index", int) or 0
            chat.draft.get_choice().add_tool_call(
                slot, get_nested(item, "call_id", str), get_nested(item, "name", str), None
            )
    elif kind == "response.output_item.done":
        item = get_field(got, "item")
        if get_field(item, "type") not in _STREAMED_ITEM_TYPES:
            add_item(chat.draft.get_choice(), item)


_TEXT_EVENTS: Final = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "text",
    "response.audio.transcript.delta": "text",
    "response.reasoning_text.delta": "reasoning",
    "response.reasoning_summary_text.delta": "reasoning",
}
_ARGUMENT_EVENTS: Final = {"response.function_call_arguments.delta", "response.custom_tool_call_input.delta"}
_STREAMED_ITEM_TYPES: Final = {"message", "reasoning", "function_call", "custom_tool_call"}


def _observe_response_state(chat: Chat, response: object) -> None:
    """Read a response in its present state; one that has ended replaces what was read of its events."""
    chat.response_id = get_nested(response, "id", str) or chat.response_id
    if chat.conversation is None:
        chat.conversation = get_nested(response, "conversation.id", str)
    read_response_result(chat, response)
    status = get_nested(response, "status", str)
    if status in ENDED_STATUSES:
        chat.draft = draft_output(response, status, capture_content=chat.draft.kept)
        chat.extra.pop(sc.RESPONSE_STATUS, None)
        if any(get_field(item, "type") == "compaction" for item in get_list(response, "output")):
            chat.extra[sc.CONVERSATION_COMPACTED] = True
    elif status is not None:
        chat.extra[sc.RESPONSE_STATUS] = status  # queued or in progress: the answer has to be fetched later
