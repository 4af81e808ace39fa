"""Every way to call Google's Gen AI client, each as a function that returns what its caller has seen, as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from google import genai
from google.genai import types
from servers.scripted import Scripted

USAGE = {"total_tokens": 17}
REQUEST: dict[str, Any] = {"model": "gemini-x", "contents": "hello"}


def _chunk(text: str, reason: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    usage = {"promptTokenCount": 12, "candidatesTokenCount": 5, "totalTokenCount": 17}
    found = candidate | ({"finishReason": reason} if reason else {})
    return {"candidates": [found], "modelVersion": "gemini-x", "responseId": "r-1", "usageMetadata": usage}


def _answer(server: Scripted) -> None:
    server.reply(_chunk("Hi there!", "STOP"))


def _stream(server: Scripted) -> None:
    server.stream(_chunk("Hi", None), _chunk(" there!", "STOP"))


def _refusal(server: Scripted) -> None:
    server.reply({"error": {"code": 400, "message": "no such model", "status": "INVALID_ARGUMENT"}}, status=400)


def _describe(value: Any) -> Any:
    dumped = value.model_dump(mode="json", exclude={"sdk_http_response"})  # which has the date
    return [dumped, isinstance(value, types.GenerateContentResponse), value.text]


def call_sync(client: Any) -> Any:
    return _describe(client.models.generate_content(**REQUEST))


def call_chat(client: Any) -> Any:
    return _describe(client.chats.create(model="gemini-x").send_message("hello"))


def call_stream(client: Any) -> Any:
    return [_describe(chunk) for chunk in client.models.generate_content_stream(**REQUEST)]


def call_chat_stream(client: Any) -> Any:
    return [_describe(chunk) for chunk in client.chats.create(model="gemini-x").send_message_stream("hello")]


def call_stream_left_early(client: Any) -> Any:
    stream = client.models.generate_content_stream(**REQUEST)
    first = next(stream)
    stream.close()
    return _describe(first)


def call_without_arguments(client: Any) -> Any:
    return client.models.generate_content()


async def acall(client: Any) -> Any:
    return _describe(await client.aio.models.generate_content(**REQUEST))


async def acall_chat(client: Any) -> Any:
    return _describe(await client.aio.chats.create(model="gemini-x").send_message("hello"))


async def acall_stream(client: Any) -> Any:
    return [_describe(chunk) async for chunk in await client.aio.models.generate_content_stream(**REQUEST)]


async def acall_stream_left_early(client: Any) -> Any:
    stream = await client.aio.models.generate_content_stream(**REQUEST)
    first = await anext(stream)
    await stream.aclose()
    return _describe(first)


CALLS: dict[str, tuple[Callable[[Scripted], None], Callable[[Any], Any]]] = {
    "sync": (_answer, call_sync),
    "async": (_answer, acall),
    "chat": (_answer, call_chat),
    "async chat": (_answer, acall_chat),
    "stream": (_stream, call_stream),
    "chat's stream": (_stream, call_chat_stream),
    "stream left early": (_stream, call_stream_left_early),
    "async stream": (_stream, acall_stream),
    "async stream left early": (_stream, acall_stream_left_early),
    "refused": (_refusal, call_sync),
    "no arguments": (_answer, call_without_arguments),
}


def _connect(server: Scripted) -> Any:
    return genai.Client(api_key="x", http_options=types.HttpOptions(base_url=server.base_url.removesuffix("/v1")))


@contextmanager
def _open(server: Scripted) -> Iterator[Any]:
    client = _connect(server)
    try:
        yield client
    finally:
        client.close()


@asynccontextmanager
async def _aopen(server: Scripted) -> Any:
    client = _connect(server)
    try:
        yield client
    finally:
        await client.aio.aclose()
        client.close()


def make_client(server: Scripted, *, is_async: bool) -> Any:
    """Return a block whose value is a client of *server*."""
    return _aopen(server) if is_async else _open(server)


def turn_ours_on() -> None:
    from mlspan import integrations

    integrations.google_genai.autolog()
