"""The endpoint for messages: its requests; its answers are read by :mod:`mlspan.hooks.anthropic_answers`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from ..._guard import guard
from ..._shape import get_nested, list_items
from ...hooks.anthropic_answers import EventReader, observe_message, set_message_request
from ...hooks.anthropic_format import read_block, read_message, read_tool
from ...tracing.operations.message_drafts import OutputDraft
from ...tracing.operations.messages import Message
from ...tracing.operations.records import Chat, Observe
from ._request import AnthropicRequest


def begin_message(ask: AnthropicRequest) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of ``POST /v1/messages``."""
    chat = Chat(
        **ask.read_server_fields(),
        draft=OutputDraft(kept=ask.capture_content),
        stream=True if ask.body.get("stream") is True else None,
        conversation=get_nested(ask.client, "open_telemetry.conversation_id", str),  # the client's own option
    )
    set_message_request(chat, ask.body, capture_content=ask.capture_content)
    if ask.capture_content:
        _note_iterators(chat, ask.options)
    return chat, EventReader().observe if chat.stream else observe_message


def _note_iterators(chat: Chat, options: Any) -> None:
    """Have what an iterator yields for the request recorded while the client reads it, which it can do only once."""
    sent = options.json_data
    if not isinstance(sent, dict):
        return
    for name, (field, note) in _ITERABLE_FIELDS.items():
        items, noted = sent.get(name), list[Any]()
        if isinstance(items, Iterator):
            sent = {**sent, name: _note_items(items, noted, note)}
            setattr(chat, field, noted)
    messages = list_items(sent.get("messages"))
    if any(map(_has_iterator, messages)):
        noted = []
        sent = {**sent, "messages": [*_note_items(messages, noted, _note_message)]}
        chat.input = noted
    if sent is not options.json_data:
        options.json_data = sent


def _has_iterator(message: object) -> bool:
    return isinstance(message, dict) and hasattr(message.get("content"), "__next__")


_Note = Callable[[Any], "tuple[object, object]"]  # reads an item into what is sent and what is recorded


def _note_items(items: Iterable[object], noted: list[Any], note: _Note) -> Iterator[object]:
    for item in items:
        sent = item
        with _reading_guard:
            sent, said = note(item)
            noted.append(said)
        yield sent


def _note_message(raw: Any) -> tuple[object, Message]:
    """Note a message; blocks that an iterator yields are noted while the client reads them."""
    if not _has_iterator(raw):
        return raw, read_message(raw)
    message = read_message({**raw, "content": []})
    return {**raw, "content": _note_items(raw["content"], message["parts"], _note_block)}, message


def _note_block(raw: object) -> tuple[object, object]:
    return raw, read_block(raw)


def _note_tool(raw: object) -> tuple[object, object]:
    return raw, read_tool(raw)


# Parameters that the client takes as any iterable -> the record's field, and what notes one item.
_ITERABLE_FIELDS: Final[dict[str, tuple[str, _Note]]] = {
    "messages": ("input", _note_message),
    "system": ("system", _note_block),
    "tools": ("tools", _note_tool),
}
_reading_guard: Final = guard("reading a request")
