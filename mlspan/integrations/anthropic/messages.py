"""The endpoint for messages: its requests; its answers are read by :mod:`mlspan.hooks.anthropic_answers`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from ..._guard import guard
from ..._shape import get_nested
from ...hooks.anthropic_answers import EventReader, observe_message, set_message_request
from ...hooks.anthropic_format import read_block, read_message, read_tool
from ...tracing.operations.message_drafts import OutputDraft
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
    for name, (field, read) in _ITERABLE_FIELDS.items():
        if isinstance(sent, dict) and isinstance(items := sent.get(name), Iterator):
            noted: list[Any] = []
            setattr(chat, field, noted)
            sent = {**sent, name: _note_items(items, noted, read)}
    if sent is not options.json_data:
        options.json_data = sent


def _note_items(items: Iterator[object], noted: list[Any], read: Callable[[object], object]) -> Iterator[object]:
    for item in items:
        with _reading_guard:
            noted.append(read(item))
        yield item


# Parameters that the client takes as any iterable -> the record's field, and what reads one item.
_ITERABLE_FIELDS: Final[dict[str, tuple[str, Callable[[object], object]]]] = {
    "messages": ("input", read_message),
    "system": ("system", read_block),
    "tools": ("tools", read_tool),
}
_reading_guard: Final = guard("reading a request")
