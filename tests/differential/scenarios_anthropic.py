"""Scenarios: Anthropic's client, sync and async, each form of answer and each way to leave it."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any, Final

import anthropic
import ways
from harness import Tools, scenario
from pydantic import BaseModel

ASKED: Final[Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
TOOL: Final[Any] = {"name": "look_up", "description": "Look.", "input_schema": {"type": "object", "properties": {}}}


class City(BaseModel):
    city: str


class Way(ways.Way):
    """Anthropic's client, sync or async."""

    def __init__(self, tools: Tools, answer: str, *, is_async: bool) -> None:
        cls: Any = anthropic.AsyncAnthropic if is_async else anthropic.Anthropic
        url = tools.url(answer).removesuffix("/v1")
        super().__init__(cls(base_url=url, api_key="k", max_retries=0), is_async=is_async)

    async def ask(self, **more: Any) -> Any:
        return await self.got(self.client.messages.create(**ASKED, **more))


async def plain(way: Way) -> Any:
    return await way.ask(system="Be brief.", tools=[TOOL])


async def stream_read(way: Way) -> Any:
    stream = await way.ask(stream=True)
    return [stream, await way.read(stream)]


async def stream_left(way: Way) -> Any:
    return await way.read(await way.ask(stream=True), 2)


async def stream_resumed(way: Way) -> Any:
    stream = await way.ask(stream=True)
    return [await way.read(stream, 1), await way.read(stream), await way.read(stream)]


async def stream_closed(way: Way) -> Any:
    stream = await way.ask(stream=True)
    first = await way.read(stream, 1)
    await way.got(stream.close())
    return [first, stream.response.is_closed]


async def stream_iterator(way: Way) -> Any:
    stream = await way.ask(stream=True)
    items = aiter(stream) if way.is_async else iter(stream)
    first = await way.read(items, 1)
    await way.got(items.aclose() if way.is_async else items.close())
    return [type(items), first, await way.read(items), len(await way.read(stream))]


async def stream_with_error(way: Way) -> Any:
    async with way.inside(await way.ask(stream=True)) as stream:
        await way.read(stream, 1)
        raise ValueError("the caller's own")


async def stream_never_read(way: Way) -> Any:
    await way.ask(stream=True)


async def stream_lines(way: Way) -> Any:
    stream = await way.ask(stream=True)
    lines = stream.response.aiter_lines() if way.is_async else stream.response.iter_lines()
    return await way.read(lines)


async def helper_events(way: Way) -> Any:
    async with way.inside(way.client.messages.stream(**ASKED)) as stream:
        events = await way.read(stream)
        return [stream, events, await way.got(stream.get_final_message()), stream.current_message_snapshot]


async def helper_text(way: Way) -> Any:
    async with way.inside(way.client.messages.stream(**ASKED)) as stream:
        texts = await way.read(stream.text_stream)
        return [texts, await way.got(stream.get_final_text()), stream.request_id]


async def helper_left(way: Way) -> Any:
    async with way.inside(way.client.messages.stream(**ASKED)) as stream:
        return await way.read(stream.text_stream, 1)


async def helper_until_done(way: Way) -> Any:
    async with way.inside(way.client.messages.stream(**ASKED)) as stream:
        await way.got(stream.until_done())
        return await way.got(stream.get_final_message())


async def helper_not_entered(way: Way) -> Any:
    return way.client.messages.stream(**ASKED)


async def raw(way: Way) -> Any:
    answer = await way.got(way.client.messages.with_raw_response.create(**ASKED))
    parsed = await way.got(answer.parse())
    return [answer.status_code, answer.headers["content-type"], parsed, answer]


async def raw_stream(way: Way) -> Any:
    answer = await way.got(way.client.messages.with_raw_response.create(**ASKED, stream=True))
    return await way.read(await way.got(answer.parse()))


def _streaming(read: Callable[[Way, Any], Any], **more: Any) -> Callable[[Way], Any]:
    async def form(way: Way) -> Any:
        async with way.inside(way.client.messages.with_streaming_response.create(**ASKED, **more)) as answer:
            return await read(way, answer)

    return form


async def _read_parsed(way: Way, answer: Any) -> Any:
    return [await way.got(answer.parse()), answer]


async def _read_json(way: Way, answer: Any) -> Any:
    return [await way.got(answer.json()), await way.got(answer.text())]


async def _read_lines(way: Way, answer: Any) -> Any:
    return await way.read(answer.iter_lines())


async def _read_first_line(way: Way, answer: Any) -> Any:
    return await way.read(answer.iter_lines(), 1)


async def _read_stream(way: Way, answer: Any) -> Any:
    return await way.read(await way.got(answer.parse()))


async def _read_nothing(_: Way, answer: Any) -> Any:
    return answer.status_code


async def parse(way: Way) -> Any:
    found = await way.got(way.client.messages.parse(**ASKED, output_format=City))
    return [found, found.parsed_output]


async def run_tools(way: Way) -> Any:
    seen: list[str] = []

    def look_up(city: str) -> str:
        """Look a city up."""
        seen.append(city)
        return f"sunny in {city}"

    async def alook_up(city: str) -> str:
        """Look a city up."""
        return look_up(city)

    alook_up.__name__ = "look_up"
    made: Any = anthropic.beta_async_tool(alook_up) if way.is_async else anthropic.beta_tool(look_up)
    runner = way.client.beta.messages.tool_runner(**ASKED, tools=[made], max_iterations=2)
    return [await way.read(runner), seen]


async def count(way: Way) -> Any:
    return await way.got(way.client.messages.count_tokens(model="m", messages=ASKED["messages"]))


async def pages(way: Way) -> Any:
    return await way.read(way.client.models.list())


async def wrong_arguments(way: Way) -> Any:
    return await way.got(way.client.messages.create(nonsense=1))


async def wrong_type(way: Way) -> Any:
    return await way.got(way.client.messages.create(model="m", max_tokens=1, messages=[object()]))


async def copied(way: Way) -> Any:
    client = way.client.with_options(timeout=3)
    return [await way.got(client.messages.create(**ASKED)), isinstance(client, type(way.client))]


async def signatures(way: Way) -> Any:
    messages = way.client.messages
    return [messages.create, messages.stream, messages.with_raw_response.create, inspect.signature(way.client.request)]


async def unreachable(way: Way) -> Any:
    way.client.base_url = "http://127.0.0.1:1"
    return await way.ask()


async def stream_attributes(way: Way) -> Any:
    stream = await way.ask(stream=True)
    with contextlib.suppress(AttributeError):
        stream.nonsense  # noqa: B018
    stream.mine = 1
    found = [stream.mine, hasattr(stream, "__aiter__"), hasattr(stream, "__next__"), stream.response.status_code]
    await way.got(stream.close())
    return found


FORMS: Final[dict[str, tuple[str, Callable[[Way], Any]]]] = {
    "plain": ("claude", plain),
    "tool call": ("claude-tool", plain),
    "thinking": ("claude-thinking", plain),
    "empty object": ("empty", plain),
    "a list": ("list", plain),
    "no JSON": ("garbage", plain),
    **{f"status {code}": (str(code), plain) for code in (400, 401, 404, 429, 500)},
    "overloaded": ("claude-overloaded", plain),
    "unreachable": ("claude", unreachable),
    "wrong arguments": ("claude", wrong_arguments),
    "wrong type": ("claude", wrong_type),
    "signatures": ("claude", signatures),
    "copied client": ("claude", copied),
    "counted": ("claude-count", count),
    "pages": ("claude-models", pages),
    "parse": ("claude-city", parse),
    "tools run": ("claude-tool", run_tools),
    "stream read": ("claude-stream", stream_read),
    "stream of a tool call": ("claude-stream-tool", stream_read),
    "stream with an error": ("claude-stream-error", stream_read),
    "stream cut off": ("claude-stream-cut", stream_read),
    "stream without an end": ("claude-stream-unended", stream_read),
    "stream with broken JSON": ("claude-stream-broken", stream_read),
    "stream with an unknown event": ("claude-stream-unknown", stream_read),
    "stream refused": ("500", stream_read),
    "stream left": ("claude-stream", stream_left),
    "stream resumed": ("claude-stream", stream_resumed),
    "stream closed": ("claude-stream", stream_closed),
    "stream's iterator closed": ("claude-stream", stream_iterator),
    "stream with the caller's error": ("claude-stream", stream_with_error),
    "stream never read": ("claude-stream", stream_never_read),
    "stream's lines": ("claude-stream", stream_lines),
    "stream's attributes": ("claude-stream", stream_attributes),
    "helper's events": ("claude-stream", helper_events),
    "helper's text": ("claude-stream", helper_text),
    "helper's tool call": ("claude-stream-tool", helper_events),
    "helper left": ("claude-stream", helper_left),
    "helper read out": ("claude-stream", helper_until_done),
    "helper with an error": ("claude-stream-error", helper_events),
    "helper refused": ("429", helper_events),
    "helper not entered": ("claude-stream", helper_not_entered),
    "raw": ("claude", raw),
    "raw error": ("429", raw),
    "raw stream": ("claude-stream", raw_stream),
    "streaming parsed": ("claude", _streaming(_read_parsed)),
    "streaming json": ("claude", _streaming(_read_json)),
    "streaming nothing": ("claude", _streaming(_read_nothing)),
    "streaming error": ("500", _streaming(_read_json)),
    "streaming lines": ("claude-stream", _streaming(_read_lines, stream=True)),
    "streaming one line": ("claude-stream", _streaming(_read_first_line, stream=True)),
    "streaming a stream": ("claude-stream", _streaming(_read_stream, stream=True)),
}


@scenario(ways.make_ways(FORMS))
async def claude(tools: Tools, row: ways.Row) -> Any:
    return await ways.run_way(Way, tools, row)
