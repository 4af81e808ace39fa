"""Realtime sessions over a websocket: one span for the session, and below it one for each response."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from ..._shape import get_field, get_list, get_nested
from ...hooks.hook import Hook
from ...hooks.patching import Patch, ResultCallback, Undo, apply_patches, install_when_imported, observe_method
from ...hooks.requests import read_usage
from ...tracing.operations import semconv as sc
from ...tracing.operations.messages import Message, OutputDraft, Part
from ...tracing.operations.operation import Operation, start_operation
from ...tracing.operations.records import Chat, ProviderRequest
from ...tracing.runtime import get_runtime
from ._read import find_client_provider
from .responses import read_input_message, read_item_parts

# Private names that some versions or classes lack, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_connection": "the address of the server",
}

_CONNECTION_MODULES: Final = ("openai.resources.realtime.realtime", "openai.resources.beta.realtime.realtime")
_CONNECTION_CLASSES: Final = ("RealtimeConnection", "AsyncRealtimeConnection")
_LOST_SESSIONS: Final = "sessions of the realtime API"


def install(hook: Hook) -> Undo:
    """Observe the events that connections send and receive.

    A session starts with the connection's constructor and ends with ``close``. Importing the modules of connections
    takes longer than importing the rest of the client, so the patches wait until the application imports them.
    """
    callbacks: dict[str, ResultCallback] = {
        "__init__": functools.partial(_start_session, hook),
        "send": lambda args, kwargs, _: _pass_to_session(
            args[0], _RealtimeSession.note_sent_event, get_field(kwargs, "event") or args[-1]
        ),
        "parse_event": lambda args, _, event: _pass_to_session(args[0], _RealtimeSession.read_received_event, event),
        "close": lambda args, _, __: _pass_to_session(args[0], _RealtimeSession.close_session, None),
    }

    def observe_connections(module: str) -> Undo:
        targets = {
            f"{module}:{cls}.{name}": callback for cls in _CONNECTION_CLASSES for name, callback in callbacks.items()
        }
        return apply_patches(
            Patch(target, functools.partial(observe_method, callback=callback), _LOST_SESSIONS)
            for target, callback in targets.items()
        )

    with ExitStack() as undo:
        for module in _CONNECTION_MODULES:
            install_connections = functools.partial(observe_connections, module)
            undo.callback(install_when_imported(module, install_connections, loss=_LOST_SESSIONS))
        return undo.pop_all().close


def _start_session(hook: Hook, args: tuple[Any, ...], _: object, __: object) -> None:
    """Start the span of a session when its connection has been constructed."""
    request = get_field(getattr(args[0], "_connection", None), "request")
    headers: Any = get_field(request, "headers") or {}
    url = urlsplit(f"//{headers.get('Host') or ''}{get_field(request, 'path') or ''}")
    model = next(iter(parse_qs(url.query).get("model", [])), None)
    record = ProviderRequest(
        type="realtime",
        name="realtime.session",
        provider=find_client_provider(None, url.hostname or ""),
        server_address=url.hostname,
        server_port=url.port,
        model=model,
    )
    operation = hook.start_operation(lambda _call: (record, None), args, {})
    if isinstance(operation, Operation):
        operation.hand_over()
        args[0]._mlspan = _RealtimeSession(operation, record)


def _pass_to_session(connection: object, handle: Callable[[_RealtimeSession, object], None], event: object) -> None:
    """Call *handle* with the session of *connection*, if it is recorded, and the event."""
    session = getattr(connection, "_mlspan", None)
    if isinstance(session, _RealtimeSession):
        handle(session, event)


class _RealtimeSession:
    """One connection, its open responses, and the messages since the last response, which are the next one's input."""

    def __init__(self, operation: Operation, record: ProviderRequest) -> None:
        self.operation, self.record = operation, record
        self._asked: list[Message] = []
        self._system: list[Part] | None = None
        self._open: dict[str, Operation] = {}  # by the id of the response

    def note_sent_event(self, event: object) -> None:
        """Note a message that the client adds to the conversation."""
        if get_field(event, "type") == "conversation.item.create":
            self._asked.append(read_input_message(get_field(event, "item")))

    def read_received_event(self, event: object) -> None:
        """Read an event of the server: the session's description, a transcript, or a piece of a response."""
        kind = get_nested(event, "type", str) or ""
        if kind in {"session.created", "session.updated"}:
            self._read_description(get_field(event, "session"))
        elif kind.endswith("input_audio_transcription.completed"):
            text = get_nested(event, "transcript", str) or ""
            self._asked.append({"role": "user", "parts": [{"type": "text", "content": text}]})
        elif kind == "response.created":
            self._start_response(get_nested(event, "response.id", str) or "")
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

    def _start_response(self, id: str) -> None:
        """Start the span of a response, below the session's; the messages gathered so far are its input."""
        if (now := get_runtime()) is None:
            return
        session, capture_content = self.record, now.policy.capture
        chat = Chat(
            provider=session.provider,
            model=session.model,
            server_address=session.server_address,
            server_port=session.server_port,
            conversation=session.extra.get(sc.CONVERSATION_ID),
            stream=True,
            response_id=id,
            draft=OutputDraft(kept=capture_content),
            system=self._system if capture_content else None,
            input=self._asked if capture_content else None,
        )
        self._asked = []
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
            self._start_response(id)
        if (operation := self._open.pop(id, None)) is not None:
            operation.observe(response)
            operation.finish()

    def close_session(self, _: object) -> None:
        """Finish the session and its open responses."""
        for operation in self._open.values():
            operation.finish(stream_end="closed")
        self._open.clear()
        self.operation.finish()

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
        error = get_nested(got, "status_details.error.code", str) or "_OTHER"
        chat.failure = (error, get_nested(got, "status_details.error.message", str) or "")
    read_usage(chat, get_field(got, "usage"), _USAGE, _INPUT_DETAILS, _OUTPUT_DETAILS)


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
}
_OUTPUT_DETAILS: Final = {"in": "output_token_details", "audio_tokens": "audio_output_tokens"}
