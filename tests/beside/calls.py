"""Every way to call OpenAI's client, each as a function that returns what its caller has seen, as JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from servers.scripted import Scripted

USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
REQUEST: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}
STREAMED: dict[str, Any] = {**REQUEST, "stream": True, "stream_options": {"include_usage": True}}


def _answer(server: Scripted) -> None:
    message = {"role": "assistant", "content": "Hi there!"}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    server.reply({**_common("chat.completion"), "choices": choices, "usage": USAGE})


def _common(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "gpt-4o-mini"}


def _stream(server: Scripted) -> None:
    def chunk(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
        return {**_common("chat.completion.chunk"), "choices": choices}

    said = [chunk({"role": "assistant", "content": "Hi"}), chunk({"content": " there!"}), chunk({}, "stop")]
    server.stream(*said, {**_common("chat.completion.chunk"), "choices": [], "usage": USAGE}, "[DONE]")


def _refusal(server: Scripted) -> None:
    server.reply({"error": {"message": "no such model", "type": "invalid_request_error"}}, status=400)


def describe(value: Any, *kinds: type) -> Any:
    """Return the value as data, and of which of *kinds* it is."""
    dumped = value.model_dump(mode="json") if hasattr(value, "model_dump") else None
    return [dumped, [kind.__name__ for kind in kinds if isinstance(value, kind)]]


def call_sync(client: openai.OpenAI) -> Any:
    return describe(client.chat.completions.create(**REQUEST), ChatCompletion)


def call_stream(client: openai.OpenAI) -> Any:
    stream = client.chat.completions.create(**STREAMED)
    chunks = [describe(chunk, ChatCompletionChunk) for chunk in stream]
    return [chunks, isinstance(stream, openai.Stream), stream.response.status_code]


def call_stream_in_with(client: openai.OpenAI) -> Any:
    with client.chat.completions.create(**STREAMED) as stream:
        first = next(iter(stream))
        return [describe(first, ChatCompletionChunk), [describe(chunk) for chunk in stream]]


def call_stream_left_early(client: openai.OpenAI) -> Any:
    stream = client.chat.completions.create(**STREAMED)
    first = next(stream)
    stream.close()
    return describe(first, ChatCompletionChunk)


def call_raw(client: openai.OpenAI) -> Any:
    response = client.chat.completions.with_raw_response.create(**REQUEST)
    parsed = describe(response.parse(), ChatCompletion)
    return [response.status_code, response.headers["content-type"], response.text, parsed]


def call_raw_stream(client: openai.OpenAI) -> Any:
    response = client.chat.completions.with_raw_response.create(**STREAMED)
    stream = response.parse()
    return [response.status_code, isinstance(stream, openai.Stream), [describe(chunk) for chunk in stream]]


def call_with_streaming_response(client: openai.OpenAI) -> Any:
    with client.chat.completions.with_streaming_response.create(**REQUEST) as response:
        return [response.status_code, isinstance(response, openai.APIResponse), list(response.iter_lines())]


def call_with_streaming_response_of_a_stream(client: openai.OpenAI) -> Any:
    with client.chat.completions.with_streaming_response.create(**STREAMED) as response:
        return list(response.iter_lines())


def call_refused(client: openai.OpenAI) -> Any:
    return client.chat.completions.create(**REQUEST)


def call_without_arguments(client: openai.OpenAI) -> Any:
    return client.chat.completions.create()  # type: ignore[call-overload]


async def acall(client: openai.AsyncOpenAI) -> Any:
    return describe(await client.chat.completions.create(**REQUEST), ChatCompletion)


async def acall_stream(client: openai.AsyncOpenAI) -> Any:
    stream = await client.chat.completions.create(**STREAMED)
    chunks = [describe(chunk, ChatCompletionChunk) async for chunk in stream]
    return [chunks, isinstance(stream, openai.AsyncStream), stream.response.status_code]


async def acall_stream_left_early(client: openai.AsyncOpenAI) -> Any:
    async with await client.chat.completions.create(**STREAMED) as stream:
        return describe(await anext(aiter(stream)), ChatCompletionChunk)


async def acall_raw(client: openai.AsyncOpenAI) -> Any:
    response = await client.chat.completions.with_raw_response.create(**REQUEST)
    return [response.status_code, response.text, describe(response.parse(), ChatCompletion)]


async def acall_raw_stream(client: openai.AsyncOpenAI) -> Any:
    response = await client.chat.completions.with_raw_response.create(**STREAMED)
    stream = response.parse()
    return [response.status_code, isinstance(stream, openai.AsyncStream), [describe(chunk) async for chunk in stream]]


async def acall_with_streaming_response(client: openai.AsyncOpenAI) -> Any:
    async with client.chat.completions.with_streaming_response.create(**REQUEST) as response:
        return [isinstance(response, openai.AsyncAPIResponse), [line async for line in response.iter_lines()]]


CALLS: dict[str, tuple[Callable[[Scripted], None], Callable[[Any], Any]]] = {
    "sync": (_answer, call_sync),
    "async": (_answer, acall),
    "stream": (_stream, call_stream),
    "stream in `with`": (_stream, call_stream_in_with),
    "stream left early": (_stream, call_stream_left_early),
    "async stream": (_stream, acall_stream),
    "async stream left early": (_stream, acall_stream_left_early),
    "raw": (_answer, call_raw),
    "async raw": (_answer, acall_raw),
    "raw stream": (_stream, call_raw_stream),
    "async raw stream": (_stream, acall_raw_stream),
    "with_streaming_response": (_answer, call_with_streaming_response),
    "async with_streaming_response": (_answer, acall_with_streaming_response),
    "with_streaming_response, stream": (_stream, call_with_streaming_response_of_a_stream),
    "refused": (_refusal, call_refused),
    "no arguments": (_answer, call_without_arguments),
}


def make_client(server: Scripted, *, is_async: bool) -> Any:
    """Return a client of *server*."""
    cls: Any = openai.AsyncOpenAI if is_async else openai.OpenAI
    return cls(base_url=server.base_url, api_key="x", max_retries=0)


def turn_ours_on() -> None:
    from mlspan import integrations

    integrations.openai.autolog()
