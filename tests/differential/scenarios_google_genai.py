"""Scenarios: Google's Gen AI client, sync and async, each form of answer and each way to leave it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

import ways
from google import genai
from google.genai import types
from harness import Tools, scenario
from pydantic import BaseModel

ASKED: Final[Any] = {"model": "m", "contents": "hello"}


class City(BaseModel):
    city: str


class Way(ways.Way):
    """Google's client, sync or async."""

    def __init__(self, tools: Tools, answer: str, *, is_async: bool) -> None:
        options = types.HttpOptions(base_url=tools.url(answer).removesuffix("/v1"))
        self.whole = genai.Client(api_key="k", http_options=options)
        super().__init__(self.whole.aio if is_async else self.whole, is_async=is_async)

    async def ask(self, **config: Any) -> Any:
        return await self.got(self.client.models.generate_content(**ASKED, config=config or None))

    async def stream(self, **config: Any) -> Any:
        return await self.got(self.client.models.generate_content_stream(**ASKED, config=config or None))

    async def close(self) -> None:
        if self.is_async:
            await self.client.aclose()
        self.whole.close()


def look_up(city: str) -> str:
    """Look a city up."""
    return f"sunny in {city}"


def look_up_and_fail(city: str) -> str:
    """Look a city up."""
    raise ValueError(f"no {city}")


look_up_and_fail.__name__ = "look_up"


async def plain(way: Way) -> Any:
    return await way.ask(temperature=0.5, system_instruction="Be brief.")


async def text(way: Way) -> Any:
    answer = await way.ask()
    return [answer.text, answer.usage_metadata, answer]


async def parsed(way: Way) -> Any:
    return (await way.ask(response_schema=City, response_mime_type="application/json")).parsed


async def functions(way: Way) -> Any:
    calls = types.AutomaticFunctionCallingConfig(maximum_remote_calls=2)
    answer = await way.ask(tools=[look_up], automatic_function_calling=calls)
    return [answer, answer.automatic_function_calling_history]


async def failing_functions(way: Way) -> Any:
    calls = types.AutomaticFunctionCallingConfig(maximum_remote_calls=2)
    return await way.ask(tools=[look_up_and_fail], automatic_function_calling=calls)


async def stream_read(way: Way) -> Any:
    stream = await way.stream()
    return [type(stream).__name__, await way.read(stream), await way.read(stream)]


async def stream_left(way: Way) -> Any:
    return await way.read(await way.stream(), 1)


async def stream_resumed(way: Way) -> Any:
    stream = await way.stream()
    return [await way.read(stream, 1), await way.read(stream)]


async def stream_closed(way: Way) -> Any:
    stream = await way.stream()
    first = await way.read(stream, 1)
    await way.got(stream.aclose() if way.is_async else stream.close())
    return [first, await way.read(stream)]


async def stream_thrown_into(way: Way) -> Any:
    stream = await way.stream()
    await way.read(stream, 1)
    error = ValueError("the caller's own")
    return await way.got(stream.athrow(error) if way.is_async else stream.throw(error))


async def stream_never_read(way: Way) -> Any:
    await way.stream()


async def stream_kind(way: Way) -> Any:
    stream = await way.stream()
    asked = (inspect.isgenerator, inspect.isasyncgen, inspect.iscoroutine, inspect.isawaitable)
    found = [one(stream) for one in asked]
    return [found, iter(stream) is stream if not way.is_async else aiter(stream) is stream, await way.read(stream)]


async def stream_functions(way: Way) -> Any:
    calls = types.AutomaticFunctionCallingConfig(maximum_remote_calls=2)
    return await way.read(await way.stream(tools=[look_up], automatic_function_calling=calls))


async def chat(way: Way) -> Any:
    made = way.client.chats.create(model="m")
    return [await way.got(made.send_message("hello")), made.get_history()]


async def chat_stream(way: Way) -> Any:
    made = way.client.chats.create(model="m")
    return [await way.read(await way.got(made.send_message_stream("hello"))), made.get_history()]


async def chat_stream_left(way: Way) -> Any:
    made = way.client.chats.create(model="m")
    return [await way.read(await way.got(made.send_message_stream("hello")), 1), made.get_history()]


async def embed(way: Way) -> Any:
    return await way.got(way.client.models.embed_content(model="m", contents=["a", "b"]))


async def count(way: Way) -> Any:
    return await way.got(way.client.models.count_tokens(**ASKED))


async def pages(way: Way) -> Any:
    return await way.read(await way.got(way.client.models.list()))


async def wrong_arguments(way: Way) -> Any:
    return await way.got(way.client.models.generate_content(nonsense=1))


async def wrong_type(way: Way) -> Any:
    return await way.got(way.client.models.generate_content(model="m", contents=object()))


async def signatures(way: Way) -> Any:
    models = way.client.models
    return [models.generate_content, models.generate_content_stream, models.embed_content, type(models)]


FORMS: Final[dict[str, tuple[str, Callable[[Way], Any]]]] = {
    "plain": ("gemini", plain),
    "text": ("gemini", text),
    "function call": ("gemini-tool", plain),
    "blocked": ("gemini-blocked", text),
    "parsed": ("gemini-city", parsed),
    "functions called": ("gemini-tool", functions),
    "functions that fail": ("gemini-tool", failing_functions),
    "empty object": ("empty", plain),
    "a list": ("list", plain),
    "no JSON": ("garbage", plain),
    "refused": ("gemini-refused", plain),
    **{f"status {code}": (str(code), plain) for code in (401, 404)},
    "wrong arguments": ("gemini", wrong_arguments),
    "wrong type": ("gemini", wrong_type),
    "signatures": ("gemini", signatures),
    "counted": ("gemini-count", count),
    "pages": ("gemini-models", pages),
    "embeddings": ("gemini-vectors", embed),
    "stream read": ("gemini-stream", stream_read),
    "stream's kind": ("gemini-stream", stream_kind),
    "stream of a function call": ("gemini-stream-tool", stream_read),
    "stream of functions called": ("gemini-stream-tool", stream_functions),
    "stream cut off": ("gemini-stream-cut", stream_read),
    "stream with broken JSON": ("gemini-stream-broken", stream_read),
    "stream of nothing": ("gemini-stream-nothing", stream_read),
    "stream refused": ("gemini-refused", stream_read),
    "stream left": ("gemini-stream", stream_left),
    "stream resumed": ("gemini-stream", stream_resumed),
    "stream closed": ("gemini-stream", stream_closed),
    "stream thrown into": ("gemini-stream", stream_thrown_into),
    "stream never read": ("gemini-stream", stream_never_read),
    "chat": ("gemini", chat),
    "chat refused": ("gemini-refused", chat),
    "chat stream": ("gemini-stream", chat_stream),
    "chat stream left": ("gemini-stream", chat_stream_left),
}


@scenario(ways.make_ways(FORMS))
async def gemini(tools: Tools, row: ways.Row) -> Any:
    return await ways.run_way(Way, tools, row)
