"""Realtime sessions over a websocket: one span for the session, and below it one for each response."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from ..._shape import dig, get, items
from ...hooks.hook import Hook
from ...hooks.patching import Seen, Undo, all_there, tap, when_imported
from ...tracing.operations import semconv as sc
from ...tracing.operations.messages import Draft, Message, Part
from ...tracing.operations.operation import Live, go
from ...tracing.operations.records import Chat, Request
from ...tracing.runtime import runtime
from ._read import count, provider
from .responses import message, parts_of

_MODULES: Final = ("openai.resources.realtime.realtime", "openai.resources.beta.realtime.realtime")
_CLASSES: Final = ("RealtimeConnection", "AsyncRealtimeConnection")


def install(hook: Hook) -> Undo:
    """Observe the events that connections send and receive.

    A session starts with the connection's constructor and ends with ``close``. Importing the modules of connections
    takes longer than importing the rest of the client, so the patches wait until the application imports them.
    """
    callbacks: dict[str, Seen] = {
        "__init__": functools.partial(_opened, hook),
        "send": lambda args, kwargs, _: _told(args[0], _Session.sent, get(kwargs, "event") or args[-1]),
        "parse_event": lambda args, _, event: _told(args[0], _Session.received, event),
        "close": lambda args, _, __: _told(args[0], _Session.close, None),
    }

    def observe_connections(module: str) -> Undo:
        targets = {f"{module}:{cls}.{name}": callback for cls in _CLASSES for name, callback in callbacks.items()}
        return all_there((target, functools.partial(tap, target, callback)) for target, callback in targets.items())

    with ExitStack() as undo:
        for module in _MODULES:
            undo.callback(when_imported(module, functools.partial(observe_connections, module)))
        return undo.pop_all().close


def _opened(hook: Hook, args: tuple[Any, ...], _: Any, __: Any) -> None:
    """Start the span of a session when its connection has been constructed."""
    request = get(getattr(args[0], "_connection", None), "request")
    headers: Any = get(request, "headers") or {}
    url = urlsplit(f"//{headers.get('Host') or ''}{get(request, 'path') or ''}")
    model = next(iter(parse_qs(url.query).get("model", [])), None)
    record = Request(
        type="realtime",
        name="realtime.session",
        provider=provider(None, url.hostname or ""),
        server_address=url.hostname,
        server_port=url.port,
        model=model,
    )
    operation = hook.open(lambda _call: (record, None), args, {})
    if isinstance(operation, Live):
        operation.hand_over()
        args[0]._mlspan = _Session(operation, record)


def _told(connection: Any, handle: Callable[[_Session, Any], None], event: Any) -> None:
    """Call *handle* with the session of *connection*, if it is recorded, and the event."""
    session = getattr(connection, "_mlspan", None)
    if isinstance(session, _Session):
        handle(session, event)


class _Session:
    """One connection, its open responses, and the messages since the last response, which are the next one's input."""

    def __init__(self, operation: Live, record: Request) -> None:
        self.live, self.record = operation, record
        self._asked: list[Message] = []
        self._system: list[Part] | None = None
        self._open: dict[str, Live] = {}  # by the id of the response

    def sent(self, event: Any) -> None:
        """Note a message that the client adds to the conversation."""
        if get(event, "type") == "conversation.item.create":
            self._asked.append(message(get(event, "item")))

    def received(self, event: Any) -> None:
        """Read an event of the server: the session's description, a transcript, or a piece of a response."""
        kind = dig(event, "type", str) or ""
        if kind in {"session.created", "session.updated"}:
            self._described(get(event, "session"))
        elif kind.endswith("input_audio_transcription.completed"):
            text = dig(event, "transcript", str) or ""
            self._asked.append({"role": "user", "parts": [{"type": "text", "content": text}]})
        elif kind == "response.created":
            self._begin(dig(event, "response.id", str) or "")
        elif kind == "response.done":
            self._done(get(event, "response"))
        elif kind.endswith(("text.delta", "audio_transcript.delta")) and (operation := self._answering(event)):
            operation.observe(event)
            operation.first_chunk()

    def _answering(self, event: Any) -> Live | None:
        """Return the open response that *event* belongs to."""
        return self._open.get(dig(event, "response_id", str) or "")

    def _described(self, session: Any) -> None:
        """Read the model, the id and the instructions of the session."""
        self.record.model = dig(session, "model", str) or self.record.model
        if id := dig(session, "id", str):
            self.record.extra[sc.CONVERSATION_ID] = id
        if instructions := dig(session, "instructions", str):
            self._system = [{"type": "text", "content": instructions}]

    def _begin(self, id: str) -> None:
        """Start the span of a response, below the session's; the messages gathered so far are its input."""
        if (now := runtime()) is None:
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
            draft=Draft(kept=capture_content),
            system=self._system if capture_content else None,
            input=self._asked if capture_content else None,
        )
        self._asked = []
        self._open[id] = go(now, chat, _observe, draw=now.starter().draw(self.live.context))

    def _done(self, response: Any) -> None:
        """Finish the span of a response; start it first if its start was not seen."""
        id = dig(response, "id", str) or ""
        if id not in self._open:
            self._begin(id)
        if (operation := self._open.pop(id, None)) is not None:
            operation.observe(response)
            operation.finish()

    def close(self, _: Any) -> None:
        """Finish the session and its open responses."""
        for operation in self._open.values():
            operation.finish(stream_end="closed")
        self._open.clear()
        self.live.finish()

    def __del__(self) -> None:
        for operation in self._open.values():
            operation.finish(stream_end="abandoned", collecting=True)
        self.live.finish(stream_end="abandoned", collecting=True)


def _observe(chat: Chat, got: Any) -> None:
    """Read a piece of text, or a response that has ended, which replaces the pieces."""
    if isinstance(delta := get(got, "delta"), str):
        chat.draft.choice().say(delta)
        return
    chat.draft = Draft(kept=chat.draft.kept)
    choice, status = chat.draft.choice(), dig(got, "status", str)
    for item in items(got, "output"):
        for part in _said(item):
            choice.add(part)
    reason = dig(got, "status_details.reason", str)
    if status == "completed":
        choice.finish_reason = "tool_calls" if chat.draft.call_ids else "stop"
    elif status == "incomplete":
        choice.finish_reason = {"max_output_tokens": "length"}.get(reason or "", reason)
    elif status == "cancelled":
        chat.stream_end = "closed"
    elif status == "failed":
        error = dig(got, "status_details.error.code", str) or "_OTHER"
        chat.failure = (error, dig(got, "status_details.error.message", str) or "")
    count(chat, get(got, "usage"), _USAGE, _INPUT_DETAILS, _OUTPUT_DETAILS)


def _said(item: Any) -> list[Part]:
    """Read an item of a response's output; sounds are read by their transcripts."""
    if get(item, "type") != "message":
        return parts_of(item, dig(item, "type", str) or "unknown")
    texts = [dig(piece, "text", str) or dig(piece, "transcript", str) for piece in items(item, "content")]
    return [{"type": "text", "content": text} for text in texts if text]


_USAGE: Final = {"input_tokens": "input_tokens", "output_tokens": "output_tokens"}
_INPUT_DETAILS: Final = {
    "in": "input_token_details",
    "cached_tokens": "cache_read_tokens",
    "text_tokens": "text_input_tokens",
    "audio_tokens": "audio_input_tokens",
}
_OUTPUT_DETAILS: Final = {"in": "output_token_details", "audio_tokens": "audio_output_tokens"}
