"""The Responses API over a websocket: one span for each response, below what was current when it was asked for."""

from __future__ import annotations

import functools
from typing import Any, Final

from ..._shape import get_field, get_fields, get_nested
from ...hooks.hook import Hook
from ...hooks.patching import Undo
from ...tracing.operations.message_drafts import OutputDraft
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import Chat
from ...tracing.runtime import get_runtime
from ._connections import observe_connections, read_connection_url
from ._read import find_client_provider
from ._response_state import ENDED_STATUSES
from .responses import observe_response, read_response_request

_CONNECTION_MODULES: Final = ("openai.resources.responses.responses", "openai.resources.beta.responses.responses")
_CONNECTION_CLASSES: Final = ("ResponsesConnection", "AsyncResponsesConnection")
_LOSS: Final = "the Responses API over a websocket"


def install(hook: Hook) -> Undo:
    """Observe the events that connections send and receive. The first versions of the client have none."""
    start = functools.partial(_ResponsesSession, hook)
    return observe_connections(_CONNECTION_MODULES, _CONNECTION_CLASSES, start, _LOSS, is_optional=True)


class _ResponsesSession:
    """One connection and its responses. Their events name the response only at its start and at its end.

    The client may ask on several lanes (``stream_id``) at once; on each, one response is made after the other.
    """

    def __init__(self, hook: Hook, connection: object) -> None:
        self._hook = hook
        url = read_connection_url(connection)
        provider = find_client_provider(None, url.hostname or "")
        self._server: dict[str, Any] = {
            "provider": provider,
            "server_address": url.hostname,
            "server_port": url.port,
        }
        self._asked: dict[str | None, list[Operation]] = {}  # by lane: asked for, and not begun
        self._open: dict[str | None, Operation] = {}  # by lane

    def note_sent_event(self, event: object) -> None:
        """Start the span of a response that is asked for."""
        if get_field(event, "type") == "response.create":
            lane = get_nested(event, "stream_id", str)
            if (operation := self._start_response(event)) is not None:
                self._asked.setdefault(lane, []).append(operation)

    def _start_response(self, event: object) -> Operation | None:
        if (now := get_runtime()) is None:
            return None
        chat = Chat(**self._server, draft=OutputDraft(kept=now.policy.capture))
        read_response_request(chat, get_fields(event), capture_content=now.policy.capture)
        chat.stream = True
        operation = self._hook.start_operation(lambda _call: (chat, observe_response), (), {})
        if not isinstance(operation, Operation):
            return None
        operation.hand_over()
        return operation

    def read_received_event(self, event: object) -> None:
        """Read an event of a response, which begins, goes on or ends."""
        kind, lane = get_nested(event, "type", str) or "", get_nested(event, "stream_id", str)
        if kind == "response.created":
            self._finish(lane)  # one whose end was not seen
            asked = self._asked.get(lane)
            begun = asked.pop(0) if asked else self._start_response({})  # one that the server has begun by itself
            if begun is not None:
                self._open[lane] = begun
        if kind == "error":
            self._fail(lane, event)
        elif (operation := self._open.get(lane)) is not None:
            operation.observe(event)
            if get_nested(event, "response.status", str) in ENDED_STATUSES:
                self._finish(lane)

    def _fail(self, lane: str | None, event: object) -> None:
        """Finish the response that an error belongs to: the one being made, else the next that was asked for."""
        asked = self._asked.get(lane)
        operation = self._open.pop(lane, None) or (asked.pop(0) if asked else None)
        if operation is not None:
            operation.observe(event)
            operation.finish()

    def _finish(self, lane: str | None) -> None:
        if (operation := self._open.pop(lane, None)) is not None:
            operation.finish()

    def _take_all(self) -> list[Operation]:
        left = [*self._open.values(), *(operation for asked in self._asked.values() for operation in asked)]
        self._open, self._asked = {}, {}
        return left

    def close_session(self, error: BaseException | None) -> None:
        """Finish the responses whose end was not seen."""
        for operation in self._take_all():
            operation.finish(error, stream_end=None if error else "closed")

    def __del__(self) -> None:
        for operation in self._take_all():
            operation.finish(stream_end="abandoned", collecting=True)
