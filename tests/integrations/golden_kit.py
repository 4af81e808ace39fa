"""What the scenarios of the golden lists are answered."""

from __future__ import annotations

from typing import Any

HELLO: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "weather in Rome?"}]
TOOL: Any = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather.", "parameters": {"type": "object"}},
}
USAGE: Any = {
    "prompt_tokens": 12,
    "completion_tokens": 5,
    "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
_HEAD: Any = {"id": "c-1", "created": 1, "model": "m-1", "service_tier": "default", "system_fingerprint": "f-1"}


def completion(*calls: str, model: str = "m-1") -> Any:
    """Return an answer of chat completions: a text, or the calls of tools."""
    message: Any = {"role": "assistant", "content": None if calls else "sunny"}
    if calls:
        message["tool_calls"] = [
            {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": '{"city": "Rome"}'}}
            for name in calls
        ]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
    return {**_HEAD, "model": model, "object": "chat.completion", "choices": [choice], "usage": USAGE}


def chunks(*pieces: str) -> list[Any]:
    """Return an answer of chat completions as events of a stream."""
    head = {**_HEAD, "object": "chat.completion.chunk"}
    deltas = [{"index": 0, "delta": {"content": piece}, "finish_reason": None} for piece in pieces]
    deltas.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    events: list[Any] = [{**head, "choices": [delta]} for delta in deltas]
    return [*events, {**head, "choices": [], "usage": USAGE}, "[DONE]"]


def response(*items: Any) -> Any:
    """Return an answer of the Responses API."""
    said = {"type": "output_text", "text": "sunny", "annotations": []}
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [said]}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": "m-1",
        "output": list(items) or [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "service_tier": "default",
        "usage": {
            "input_tokens": 12,
            "output_tokens": 5,
            "total_tokens": 17,
            "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 2},
        },
    }


def called(name: str) -> Any:
    """Return the item of the Responses API that calls the tool *name*."""
    return {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": name,
        "arguments": '{"city": "Rome"}',
        "status": "completed",
    }
