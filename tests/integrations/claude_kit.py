"""A transport of the Claude Agent SDK that plays a script in the place of Claude Code's process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from claude_agent_sdk import Transport

USAGE = {"input_tokens": 5, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 3, "output_tokens": 5}


def answer(*blocks: Any, id: str | None = "msg_1", parent: str | None = None, **more: Any) -> dict[str, Any]:
    """A message of the model, with its blocks."""
    message = {"role": "assistant", "model": "claude-x", "content": list(blocks), "usage": {"output_tokens": 1}}
    if id is not None:
        message["id"] = id
    return {"type": "assistant", "message": message, "parent_tool_use_id": parent, "session_id": "s-1", **more}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def tool_use(id: str, name: str = "Bash", **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": arguments}


def tool_result(id: str, content: Any = "done", *, parent: str | None = None, failed: bool = False) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": id, "content": content, "is_error": failed}
    message = {"role": "user", "content": [block]}
    return {"type": "user", "message": message, "parent_tool_use_id": parent, "session_id": "s-1"}


def result(**more: Any) -> dict[str, Any]:
    told = {"subtype": "success", "duration_ms": 1, "duration_api_ms": 1, "is_error": False, "num_turns": 1}
    said = {"result": "One two.", "session_id": "s-1", "stop_reason": "end_turn"}
    return {"type": "result", **told, **said, "total_cost_usd": 0.25, "usage": USAGE, **more}


def request(subtype: str, **more: Any) -> dict[str, Any]:
    """A request of the process to the program; the script goes on when it is answered."""
    return {"type": "control_request", "request_id": f"r-{subtype}", "request": {"subtype": subtype, **more}}


class Script(Transport):
    """Plays the next of *turns* after each prompt. A turn is a list of messages; an exception in it is raised.

    With *ends* it ends with its input, as the process does.
    """

    def __init__(self, *turns: list[Any], ends: bool = True) -> None:
        self.ends = ends
        self.turns = list(turns)
        self.written: list[dict[str, Any]] = []
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._waiting: list[Any] = []

    async def connect(self) -> None: ...

    async def write(self, data: str) -> None:
        sent = json.loads(data)
        self.written.append(sent)
        if sent["type"] == "control_request":
            told = {"subtype": "success", "request_id": sent["request_id"], "response": {}}
            self._queue.put_nowait({"type": "control_response", "response": told})
        elif sent["type"] == "user" and self.turns:
            self._play(self.turns.pop(0))
        elif sent["type"] == "control_response":
            self._play(self._waiting)

    def _play(self, messages: list[Any]) -> None:
        for index, message in enumerate(messages):
            self._queue.put_nowait(message)
            if isinstance(message, dict) and message["type"] == "control_request":
                self._waiting = messages[index + 1 :]
                return

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:  # type: ignore[override]  # a generator is one
        while (message := await asyncio.wait_for(self._queue.get(), 60)) is not None:
            if isinstance(message, Exception):
                raise message
            yield message

    async def close(self) -> None:
        self._queue.put_nowait(None)

    def is_ready(self) -> bool:
        return True

    async def end_input(self) -> None:
        if self.ends:
            self._queue.put_nowait(None)
