"""Every way to call Anthropic's client, each as a function that returns what its caller has seen, as JSON."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import anthropic
from calls import describe
from servers.scripted import Scripted

USAGE = {"input_tokens": 12, "output_tokens": 5, "total_tokens": 17}
REQUEST: dict[str, Any] = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
HEAD = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "stop_sequence": None}
COUNTED = {"input_tokens": 12, "output_tokens": 5}


def _answer(server: Scripted) -> None:
    server.reply(
        {**HEAD, "content": [{"type": "text", "text": "Hi there!"}], "stop_reason": "end_turn", "usage": COUNTED}
    )


def _stream(server: Scripted) -> None:
    delta = {"type": "content_block_delta", "index": 0}
    events: list[dict[str, Any]] = [
        {
            "type": "message_start",
            "message": {**HEAD, "content": [], "stop_reason": None, "usage": {"input_tokens": 12, "output_tokens": 1}},
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({**delta, "delta": {"type": "text_delta", "text": text}} for text in ("Hi", " there!")),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 5},
        },
        {"type": "message_stop"},
    ]
    server.stream(*[(event["type"], event) for event in events])


def _refusal(server: Scripted) -> None:
    error = {"type": "invalid_request_error", "message": "no such model"}
    server.reply({"type": "error", "error": error}, status=400)


def call_sync(client: Any) -> Any:
    return describe(client.messages.create(**REQUEST), anthropic.types.Message)


def call_stream(client: Any) -> Any:
    stream = client.messages.create(**REQUEST, stream=True)
    return [[describe(event) for event in stream], stream.response.status_code]


def call_stream_in_with(client: Any) -> Any:
    with client.messages.create(**REQUEST, stream=True) as stream:
        return [describe(next(iter(stream))), [describe(event) for event in stream]]


def call_stream_left_early(client: Any) -> Any:
    stream = client.messages.create(**REQUEST, stream=True)
    first = next(stream)
    stream.close()
    return describe(first)


def call_helper(client: Any) -> Any:
    with client.messages.stream(**REQUEST) as stream:
        return [[*stream.text_stream], describe(stream.get_final_message())]


def call_raw(client: Any) -> Any:
    response = client.messages.with_raw_response.create(**REQUEST)
    return [response.status_code, describe(response.parse())]


def call_with_streaming_response(client: Any) -> Any:
    with client.messages.with_streaming_response.create(**REQUEST) as response:
        return [response.status_code, [*response.iter_lines()]]


def call_without_arguments(client: Any) -> Any:
    return client.messages.create()


async def acall(client: Any) -> Any:
    return describe(await client.messages.create(**REQUEST), anthropic.types.Message)


async def acall_stream(client: Any) -> Any:
    stream = await client.messages.create(**REQUEST, stream=True)
    return [[describe(event) async for event in stream], stream.response.status_code]


async def acall_stream_left_early(client: Any) -> Any:
    async with await client.messages.create(**REQUEST, stream=True) as stream:
        return describe(await anext(aiter(stream)))


async def acall_helper(client: Any) -> Any:
    async with client.messages.stream(**REQUEST) as stream:
        return [[text async for text in stream.text_stream], describe(await stream.get_final_message())]


async def acall_raw(client: Any) -> Any:
    response = await client.messages.with_raw_response.create(**REQUEST)
    parsed = response.parse()
    return [response.status_code, describe(await parsed if hasattr(parsed, "__await__") else parsed)]


CALLS: dict[str, tuple[Callable[[Scripted], None], Callable[[Any], Any]]] = {
    "sync": (_answer, call_sync),
    "async": (_answer, acall),
    "stream": (_stream, call_stream),
    "stream in `with`": (_stream, call_stream_in_with),
    "stream left early": (_stream, call_stream_left_early),
    "async stream": (_stream, acall_stream),
    "async stream left early": (_stream, acall_stream_left_early),
    "messages.stream": (_stream, call_helper),
    "async messages.stream": (_stream, acall_helper),
    "raw": (_answer, call_raw),
    "async raw": (_answer, acall_raw),
    "with_streaming_response": (_answer, call_with_streaming_response),
    "refused": (_refusal, call_sync),
    "no arguments": (_answer, call_without_arguments),
}


def make_client(server: Scripted, *, is_async: bool) -> Any:
    """Return a client of *server*. Its own span is not what is compared, as mlspan's takes its place."""
    os.environ["ANTHROPIC_OPEN_TELEMETRY"] = "false"
    cls: Any = anthropic.AsyncAnthropic if is_async else anthropic.Anthropic
    return cls(base_url=server.base_url.removesuffix("/v1"), api_key="x", max_retries=0)


def turn_ours_on() -> None:
    from mlspan import integrations

    integrations.anthropic.autolog()
