"""Claude Code calls a tool of the program's own, as one trace.

Needs ``pip install '.[mlflow,claude-agent-sdk]'`` in a checkout of mlspan; no key. Then ``mlspan show`` prints the
trace, and ``mlspan ui`` opens it in MLflow.

A script plays Claude Code here, so that nobody needs an account. Leave out ``transport`` and the real one is started.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import claude_agent_sdk

from mlspan import integrations, tracing

integrations.claude_agent_sdk.autolog(log_traces=True)


@claude_agent_sdk.tool("look_up", "Look up the weather.", {"city": str})
async def look_up(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the weather in a city."""
    with tracing.span("forecast"):
        return {"content": [{"type": "text", "text": f"sunny in {arguments['city']}"}]}


def say(kind: str, *blocks: dict[str, Any]) -> dict[str, Any]:
    """Return a message of the script."""
    message = {"id": f"msg_{len(blocks[0])}", "role": kind, "model": "claude-sonnet-4-6", "content": list(blocks)}
    return {"type": kind, "message": message, "session_id": "demo"}


def call(number: int, method: str, **params: Any) -> dict[str, Any]:
    """Return a request of the script to the program's tools."""
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    asked = {"subtype": "mcp_message", "server_name": "weather", "message": message}
    return {"type": "control_request", "request_id": f"r{number}", "request": asked}


INFO: dict[str, Any] = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "x", "version": "1"},
}
ASKED = {"name": "look_up", "arguments": {"city": "Paris"}, "_meta": {"claudecode/toolUseId": "t1"}}
USED = {"type": "tool_use", "id": "t1", "name": "mcp__weather__look_up", "input": {"city": "Paris"}}
TOLD = {"type": "tool_result", "tool_use_id": "t1", "content": "sunny in Paris"}
RESULT = {
    "type": "result",
    "subtype": "success",
    "duration_ms": 1,
    "duration_api_ms": 1,
    "is_error": False,
    "num_turns": 2,
}
USAGE = {"input_tokens": 40, "output_tokens": 12}
PLAY = [
    call(1, "initialize", **INFO),
    say("assistant", USED),
    call(2, "tools/call", **ASKED),
    say("user", TOLD),
    say("assistant", {"type": "text", "text": "It is sunny in Paris."}),
    RESULT | {"session_id": "demo", "result": "It is sunny in Paris.", "total_cost_usd": 0.01, "usage": USAGE},
]


class Script(claude_agent_sdk.Transport):
    """Plays what Claude Code says, a message at a time; after a request it waits for the answer."""

    def __init__(self) -> None:
        self._said: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._left = list(PLAY)

    async def connect(self) -> None:
        """Start nothing."""

    async def write(self, data: str) -> None:
        """Read a line of the program's."""
        asked = json.loads(data)
        if asked["type"] == "control_request":
            told = {"subtype": "success", "request_id": asked["request_id"], "response": {}}
            self._said.put_nowait({"type": "control_response", "response": told})
            return
        while self._left:
            self._said.put_nowait(message := self._left.pop(0))
            if message["type"] == "control_request":
                break

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:  # type: ignore[override]  # a generator is one
        """Yield what is said."""
        while (message := await self._said.get()) is not None:
            yield message

    async def end_input(self) -> None:
        """End with the input."""
        self._said.put_nowait(None)

    async def close(self) -> None:
        """End at once."""
        self._said.put_nowait(None)

    def is_ready(self) -> bool:
        """Return whether it can be talked to."""
        return True


async def answer(question: str) -> str:
    """Return the result of one turn."""
    weather = claude_agent_sdk.create_sdk_mcp_server("weather", tools=[look_up])
    options = claude_agent_sdk.ClaudeAgentOptions(mcp_servers={"weather": weather})
    said = ""
    async for message in claude_agent_sdk.query(prompt=question, options=options, transport=Script()):
        if isinstance(message, claude_agent_sdk.ResultMessage):
            said = message.result or ""
    return said


if __name__ == "__main__":
    with tracing.session("demo"), tracing.user("ada"):
        print(asyncio.run(answer("What is the weather in Paris?")))
    tracing.flush()
