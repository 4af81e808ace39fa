"""Requests and answers of Anthropic's messages: parameters, whole answers, and the events of a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from .._shape import get_field, get_fields, get_integer, get_list, get_nested, get_text, list_items, list_texts
from ..tracing.operations import semconv as sc
from ..tracing.operations.content import to_json
from ..tracing.operations.message_drafts import ChoiceDraft
from ..tracing.operations.messages import parse_json
from ..tracing.operations.records import Chat
from .anthropic_format import (
    is_server_call,
    make_block_call,
    read_block,
    read_content,
    read_message,
    read_tool_definitions,
)
from .openai_format import FINISH_REASONS, dump_model
from .requests import read_provider_usage, set_parameters

_REQUEST_FIELDS: Final[dict[str, tuple[str, object]]] = {
    "max_tokens": ("max_tokens", int),
    "model": ("model", str),
    "temperature": ("temperature", float),
    "top_k": ("top_k", int),
    "top_p": ("top_p", float),
}


def set_message_request(chat: Chat, body: Mapping[str, object], *, capture_content: bool) -> None:
    """Read the body of a request for a message into *chat*."""
    set_parameters(chat, body, _REQUEST_FIELDS)
    chat.reasoning_level = get_nested(body, "output_config.effort", str)
    chat.stop_sequences = list_texts(body.get("stop_sequences")) or None
    if get_nested(body, "output_config.format.type", str) or get_nested(body, "output_format.type", str):
        chat.output_type = "json"
    if capture_content:
        chat.input = [read_message(raw) for raw in list_items(body.get("messages"))]
        chat.system = read_content(body.get("system")) or None
        chat.tools = read_tool_definitions(body)


def observe_message(chat: Chat, got: object) -> None:
    """Read a whole ``Message``, as an object of the client's or as plain JSON."""
    choice = chat.draft.get_choice()
    _read_message_fields(chat, choice, got)
    for block in get_list(got, "content"):
        _add_block(choice, block)


def _read_message_fields(chat: Chat, choice: ChoiceDraft, message: object) -> None:
    """Read all of a message but its content: the message that starts a stream has none yet."""
    chat.response_id = get_nested(message, "id", str) or chat.response_id
    chat.response_model = get_nested(message, "model", str) or chat.response_model
    _read_stop_reason(choice, message)
    _read_usage(chat, get_field(message, "usage"))


def _read_usage(chat: Chat, usage: object) -> None:
    """Read token counts, and how many of the tokens written to the cache are kept for an hour, which cost more."""
    read_provider_usage(chat, usage)
    if long := get_nested(usage, "cache_creation.ephemeral_1h_input_tokens", int):
        chat.extra[sc.USAGE_LONG_CACHE_WRITE_INPUT_TOKENS] = long


def _read_stop_reason(choice: ChoiceDraft, told: object) -> None:
    if reason := get_nested(told, "stop_reason", str):
        choice.finish_reason = FINISH_REASONS.get(reason, reason)


def _add_block(choice: ChoiceDraft, block: object) -> None:
    """Add a block that arrives whole."""
    part: Any = read_block(block)
    if part["type"] in {"text", "reasoning"} and isinstance(part["content"], str) and "annotations" not in part:
        choice.add_text(part["content"], part["type"])  # of an answer with citations, the pieces between them
    elif "annotations" in part or get_nested(block, "type", str) not in _TEXT_FIELDS:  # those have yet to say something
        choice.add_part(part)


_TEXT_FIELDS: Final[dict[str, tuple[str, Literal["text", "reasoning"]]]] = {
    "text": ("text", "text"),
    "thinking": ("thinking", "reasoning"),
}


def _append_text_delta(chat: Chat, event: Any) -> bool:
    """Append a piece of text, which nearly all events are; return False for any other event.

    Each model is asked once for all that it has, as the ``__getattr__`` of pydantic makes every attribute slow to read.
    """
    try:
        known = event if type(event) is dict else event.__dict__
        if known["type"] != "content_block_delta":
            return False
        delta, index = known["delta"], known["index"]
        text = (delta if type(delta) is dict else delta.__dict__)["text"]
    except (AttributeError, KeyError, TypeError):  # of another type, or of another shape
        return False
    if type(text) is not str or type(index) is not int:
        return False
    chat.draft.get_choice().add_block_text(index, text)
    return True


class EventReader:
    """The reader of one stream's events: the blocks that are open, by their index."""

    __slots__ = ("_server_calls",)

    def __init__(self) -> None:
        self._server_calls: dict[int, tuple[object, list[str]]] = {}  # the block, and the pieces of its input

    def observe(self, chat: Chat, event: object) -> None:
        """Read one event."""
        if _append_text_delta(chat, event):
            return
        known = get_fields(event)
        kind, choice = get_text(known, "type"), chat.draft.get_choice()
        if kind == "content_block_delta":
            self._observe_delta(choice, get_integer(known, "index") or 0, known.get("delta"))
        elif kind == "content_block_start":
            self._observe_start(choice, get_nested(event, "index", int) or 0, get_field(event, "content_block"))
        elif kind == "content_block_stop":
            self._observe_stop(choice, get_nested(event, "index", int) or 0)
        elif kind == "message_start":
            _read_message_fields(chat, choice, get_field(event, "message"))
        elif kind == "message_delta":
            _read_stop_reason(choice, get_field(event, "delta"))
            _read_usage(chat, get_field(event, "usage"))
        elif kind == "message" or (kind is None and get_field(event, "content") is not None):
            observe_message(chat, event)  # a server that answers whole where a stream was asked for

    def _observe_start(self, choice: ChoiceDraft, index: int, block: object) -> None:
        kind = get_nested(block, "type", str)
        if kind == "tool_use":
            given = get_field(block, "input")  # whole, from servers that do not stream it
            arguments = to_json(given) if given else None
            choice.add_tool_call(index, get_nested(block, "id", str), get_nested(block, "name", str), arguments)
        elif is_server_call(block):
            self._server_calls[index] = (block, [])
        elif kind in _TEXT_FIELDS:
            name, part_type = _TEXT_FIELDS[kind]
            choice.open_text(index, part_type)
            if text := get_nested(block, name, str):
                choice.add_block_text(index, text, part_type)
            for citation in get_list(block, "citations"):
                choice.add_block_annotation(index, dump_model(citation))
        else:
            _add_block(choice, block)

    def _observe_delta(self, choice: ChoiceDraft, index: int, delta: object) -> None:
        if isinstance(text := get_field(delta, "text"), str):
            choice.add_block_text(index, text)
        elif isinstance(piece := get_field(delta, "partial_json"), str):
            if index in self._server_calls:
                self._server_calls[index][1].append(piece)
            else:
                choice.add_tool_call(index, None, None, piece)
        elif isinstance(thought := get_field(delta, "thinking"), str):
            choice.add_block_text(index, thought, "reasoning")
        elif (citation := get_field(delta, "citation")) is not None:
            choice.add_block_annotation(index, dump_model(citation))

    def _observe_stop(self, choice: ChoiceDraft, index: int) -> None:
        block, pieces = self._server_calls.pop(index, (None, []))
        if block is not None:
            arguments = parse_json("".join(pieces)) if pieces else get_field(block, "input")
            choice.add_part(make_block_call(block, arguments))
