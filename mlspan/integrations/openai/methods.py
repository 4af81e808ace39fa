"""Clients of other providers whose methods take the body of OpenAI's requests as their arguments.

They answer in OpenAI's format too, so a chat or embeddings of theirs are read as OpenAI's are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..._shape import list_items
from ...hooks.requests import read_server_fields
from ...tracing.operations.message_drafts import OutputDraft
from ...tracing.operations.records import Chat, Embeddings
from ._chat_messages import observe_message, read_request_messages
from .chat import append_text_chunk, append_told_text, observe_chat, set_chat_request
from .media import observe_embeddings
from .responses import observe_response, read_response_request

__all__ = [
    "append_text_chunk",
    "append_told_text",
    "make_chat",
    "make_embeddings",
    "make_response",
    "observe_chat",
    "observe_embeddings",
    "observe_message",
    "observe_response",
    "read_request_messages",
]


def make_chat(provider: str, url: object, body: Mapping[str, Any], *, capture_content: bool) -> Chat:
    """Return the record of a chat: *body* holds the arguments, by OpenAI's names, and *url* is the server's."""
    chat = Chat(provider=provider, draft=OutputDraft(kept=capture_content), **read_server_fields(url))
    messages = list_items(body.get("messages"))
    set_chat_request(chat, {**body, "messages": messages}, capture_content=capture_content)
    chat.stream = True if body.get("stream") is True else None
    return chat


def make_embeddings(provider: str, url: object, body: Mapping[str, Any], *, capture_content: bool) -> Embeddings:
    """Return the record of embeddings of what *body* has as ``input``."""
    model, inputs = body.get("model"), body.get("input")
    record = Embeddings(provider=provider, model=model if isinstance(model, str) else None, **read_server_fields(url))
    if capture_content:
        record.input = inputs
    return record


def make_response(provider: str, url: object, body: Mapping[str, Any], *, capture_content: bool) -> Chat:
    """Return the record of a response: *body* holds the arguments, by the names of OpenAI's Responses API."""
    chat = Chat(provider=provider, draft=OutputDraft(kept=capture_content), **read_server_fields(url))
    read_response_request(chat, body, capture_content=capture_content)
    return chat
