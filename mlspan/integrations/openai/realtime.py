"""Realtime sessions over a websocket: one span for the session, and below it one for each response."""

from __future__ import annotations

import functools
from typing import Final
from urllib.parse import parse_qs

from ..._shape import get_field, get_list, get_nested
from ...hooks.hook import Hook
from ...hooks.openai_format import dump_model
from ...hooks.patching import Undo
from ...hooks.requests import read_usage
from ...tracing.operations import semconv as sc
from ...tracing.operations.message_drafts import OutputDraft
from ...tracing.operations.messages import Message, Part
from ...tracing.operations.operation import Operation, start_operation
from ...tracing.operations.records import Chat, ProviderRequest
from ...tracing.runtime import get_runtime
from ._connections import observe_connections, read_connection_url
from ._items import read_input_message, read_item_parts
from ._read import find_client_provider, read_error

# Private names that some versions or classes lack, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_connection": "the address of the server",
}

_CONNECTION_MODULES: Final = ("openai.resources.realtime.realtime", "openai.resources.beta.realtime.realtime")
_CONNECTION_CLASSES: Final = ("RealtimeConnection", "AsyncRealtimeConnection")
_LOST_SESSIONS: Final = "sessions of the realtime API"


def install(hook: Hook) -> Undo:
    """Observe the events that connections send and receive. A session starts with its connection's constructor."""
    return observe_connections(
        _CONNECTION_MODULES, _CONNECTION_CLASSES, functools.partial(_start_session, hook), _LOST_SESSIONS
    )


def _start_session(hook: Hook, connection: object) -> _RealtimeSession | None:
    """Start the span of a session when its connection has been constructed."""
    url = read_connection_url(connection)
    model = next(iter(parse_qs(url.query).get("model", [])), None)
    record = ProviderRequest(
        type="realtime",
        name="realtime.session",
        provider=find_client_provider(None, url.hostname or ""),
        server_address=url.hostname,
        server_port=url.port,
        model=model,
    )
    operation = hook.start_operation(lambda _call: (record, None), (connection,), {})
    if not isinstance(operation, Operation):
        return None
    operation.hand_over()
    return _RealtimeSession(operation, record)


class _RealtimeSession:
    """One connection, its open responses, and the messages since the last response, which are the next one's input."""

    def __init__(self, operation: Operation, record: ProviderRequest) -> None:
        self.operation, self.record = operation, record
        self._asked: list[Message] = []
        self._system: list[Part] | None = None
        self._open: dict[str, Operation] = {}  # by the id of the response
        self._own_inputs: list[object] = []  # what responses were asked for with, that have an input of their own

    def note_sent_event(self, event: object) -> None:
        """Note a message that the client adds to the conversation, or a response with an input of its own."""
        kind = get_field(event, "type")
        if kind == "conversation.item.create":
            self._asked.append(read_input_message(get_field(event, "item")))
        elif kind == "response.create":
            asked = get_field(event, "response")
            if get_field(asked, "conversation") == "none" or get_list(asked, "input"):
                self._own_inputs.append(asked)

    def read_received_event(self, event: object) -> None:
        """Read an event of the server: the session's description, a transcript, or a piece of a response."""
        kind = get_nested(event, "type", str) or ""
        if kind in {"session.created", "session.updated"}:
            self._read_description(get_field(event, "session"))
        elif kind.endswith("input_audio_transcription.completed"):
            text = get_nested(event, "transcript", str) or ""
            self._asked.append({"role": "user", "parts": [{"type": "text", "content": text}]})
        elif kind == "response.created":
            self._start_response(get_field(event, "response"))
        elif kind == "error":
            self._note_error(get_field(event, "error"))
        elif kind == "response.done":
            self._finish_response(get_field(event, "response"))
        elif kind.endswith(("text.delta", "audio_transcript.delta")) and (operation := self._find_open_response(event)):
            operation.observe(event)
            operation.note_first_chunk()

    def _find_open_response(self, event: object) -> Operation | None:
        """Return the open response that *event* belongs to."""
        return self._open.get(get_nested(event, "response_id", str) or "")

    def _read_description(self, session: object) -> None:
        """Read the model, the id and the instructions of the session."""
        self.record.model = get_nested(session, "model", str) or self.record.model
        if id := get_nested(session, "id", str):
            self.record.extra[sc.CONVERSATION_ID] = id
        if instructions := get_nested(session, "instructions", str):
            self._system = [{"type": "text", "content": instructions}]

    def _note_error(self, error: object) -> None:
        """Note an error of the session. It is what the session has failed of, unless a later response is completed."""
        if (now := get_runtime()) is None:
            return
        self.record.failure = kind, message = read_error(error)
        named = {"exception.type": kind, "exception.message": now.policy.describe_error(kind, message)}
        self.operation.span.add_event("exception", named)

    def _take_own_input(self, response: object) -> object:
        """Return what a response with an input of its own was asked for with; None for one of the conversation.

        Such a response belongs to no conversation, and has the metadata that it was asked for with.
        """
        metadata = get_field(response, "metadata") or None
        for place, asked in enumerate(self._own_inputs):
            same = metadata is not None and dump_model(get_field(asked, "metadata")) == dump_model(metadata)
            if same or (metadata is None and get_field(response, "conversation_id") is None):
                return self._own_inputs.pop(place)
        return None

    def _start_response(self, response: object) -> None:
        """Start the span of a response, below the session's; the messages gathered so far are its input.

        One that has an input of its own leaves them to the next.
        """
        if (now := get_runtime()) is None:
            return
        session, id = self.record, get_nested(response, "id", str) or ""
        chat = Chat(
            provider=session.provider,
            model=session.model,
            server_address=session.server_address,
            server_port=session.server_port,
            conversation=session.extra.get(sc.CONVERSATION_ID),
            stream=True,
            response_id=id,
            draft=OutputDraft(kept=now.policy.capture),
        )
        own, instructions = self._take_own_input(response), self._system
        if text := get_nested(own, "instructions", str):
            instructions = [{"type": "text", "content": text}]
        asked = self._asked if own is None else list(map(read_input_message, get_list(own, "input")))
        if own is None:
            self._asked = []
        if now.policy.capture:
            chat.system, chat.input = instructions, asked
        self._open[id] = start_operation(
            now,
            chat,
            _observe_realtime_response,
            sampling=now.get_span_starter().decide_sampling(self.operation.context),
        )

    def _finish_response(self, response: object) -> None:
        """Finish the span of a response; start it first if its start was not seen."""
        id = get_nested(response, "id", str) or ""
        if id not in self._open:
            self._start_response(response)
        if get_field(response, "status") == "completed":
            self.record.failure = None  # the session has gone on after an error
        if (operation := self._open.pop(id, None)) is not None:
            operation.observe(response)
            operation.finish()

    def close_session(self, error: BaseException | None) -> None:
        """Finish the session and its open responses, as the connection was closed, or lost with *error*."""
        for operation in self._open.values():
            operation.finish(error, stream_end=None if error else "closed")
        self._open.clear()
        self.operation.finish(error)

    def __del__(self) -> None:
        for operation in self._open.values():
            operation.finish(stream_end="abandoned", collecting=True)
        self.operation.finish(stream_end="abandoned", collecting=True)


def _observe_realtime_response(chat: Chat, got: object) -> None:
    """Read a piece of text, or a response that has ended, which replaces the pieces."""
    if isinstance(delta := get_field(got, "delta"), str):
        chat.draft.get_choice().add_text(delta)
        return
    chat.draft = OutputDraft(kept=chat.draft.kept)
    choice, status = chat.draft.get_choice(), get_nested(got, "status", str)
    for item in get_list(got, "output"):
        for part in _read_output_item(item):
            choice.add_part(part)
    reason = get_nested(got, "status_details.reason", str)
    if status == "completed":
        choice.finish_reason = "tool_calls" if chat.draft.call_ids else "stop"
    elif status == "incomplete":
        choice.finish_reason = {"max_output_tokens": "length"}.get(reason or "", reason)
    elif status == "cancelled":
        chat.stream_end = "closed"
    elif status == "failed":
        chat.failure = read_error(get_field(get_field(got, "status_details"), "error"))
    usage = get_field(got, "usage")
    read_usage(chat, usage, _USAGE, _INPUT_DETAILS, _OUTPUT_DETAILS)
    read_usage(chat, get_field(usage, "input_token_details"), _CACHED_DETAILS)


def _read_output_item(item: object) -> list[Part]:
    """Read an item of a response's output; sounds are read by their transcripts."""
    if get_field(item, "type") != "message":
        return read_item_parts(item, get_nested(item, "type", str) or "unknown")
    texts = [
        get_nested(piece, "text", str) or get_nested(piece, "transcript", str) for piece in get_list(item, "content")
    ]
    return [{"type": "text", "content": text} for text in texts if text]


_USAGE: Final = {"input_tokens": "input_tokens", "output_tokens": "output_tokens"}
_INPUT_DETAILS: Final = {
    "in": "input_token_details",
    "cached_tokens": "cache_read_tokens",
    "text_tokens": "text_input_tokens",
    "audio_tokens": "audio_input_tokens",
    "image_tokens": "image_input_tokens",
}
_OUTPUT_DETAILS: Final = {
    "in": "output_token_details",
    "text_tokens": "text_output_tokens",
    "audio_tokens": "audio_output_tokens",
}
_CACHED_DETAILS: Final = {
    "in": "cached_tokens_details",
    "text_tokens": "text_cache_read_tokens",
    "image_tokens": "image_cache_read_tokens",
    "audio_tokens": "audio_cache_read_tokens",
}
