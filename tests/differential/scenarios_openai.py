"""Scenarios: OpenAI's client, sync and async, each form of answer and each way to leave it."""

from __future__ import annotations

import contextlib
import inspect
import pickle
from collections.abc import Callable
from typing import Any, Final

import openai
import ways
from harness import Tools, scenario
from pydantic import BaseModel

HELLO: Final[Any] = [{"role": "user", "content": "hello"}]


class City(BaseModel):
    city: str


class Way(ways.Way):
    """OpenAI's client, sync or async."""

    def __init__(self, tools: Tools, answer: str, *, is_async: bool, **options: Any) -> None:
        cls: Any = openai.AsyncOpenAI if is_async else openai.OpenAI
        super().__init__(cls(base_url=tools.url(answer), api_key="k", max_retries=0, **options), is_async=is_async)

    async def chat(self, **more: Any) -> Any:
        return await self.got(self.client.chat.completions.create(model="m", messages=HELLO, **more))


async def plain(way: Way) -> Any:
    return await way.chat(temperature=0.5)


async def stream_read(way: Way) -> Any:
    stream = await way.chat(stream=True)
    return [stream, await way.read(stream)]


async def stream_own_usage(way: Way) -> Any:
    return await way.read(await way.chat(stream=True, stream_options={"include_usage": True}))


async def stream_left(way: Way) -> Any:
    return await way.read(await way.chat(stream=True), 1)


async def stream_read_twice(way: Way) -> Any:
    stream = await way.chat(stream=True)
    return [await way.read(stream), await way.read(stream)]


async def stream_resumed(way: Way) -> Any:
    stream = await way.chat(stream=True)
    return [await way.read(stream, 1), await way.read(stream)]


async def stream_closed(way: Way) -> Any:
    stream = await way.chat(stream=True)
    first = await way.read(stream, 1)
    await way.got(stream.close())
    await way.got(stream.close())
    return [first, stream.response.is_closed]


async def stream_in_with(way: Way) -> Any:
    async with way.inside(await way.chat(stream=True)) as stream:
        return [(await way.read(stream, 1)), stream.response.status_code]


async def stream_with_error(way: Way) -> Any:
    async with way.inside(await way.chat(stream=True)) as stream:
        await way.read(stream, 1)
        raise ValueError("the caller's own")


async def stream_iterator(way: Way) -> Any:
    stream = await way.chat(stream=True)
    items = aiter(stream) if way.is_async else iter(stream)
    first = await way.read(items, 1)
    await way.got(items.aclose() if way.is_async else items.close())
    return [type(items), items is stream, first, await way.read(items), len(await way.read(stream))]


async def stream_never_read(way: Way) -> Any:
    await way.chat(stream=True)


async def stream_next(way: Way) -> Any:
    stream = await way.chat(stream=True)
    found = []
    while True:
        found.append(await stream.__anext__() if way.is_async else stream.__next__())


async def stream_response_lines(way: Way) -> Any:
    stream = await way.chat(stream=True)
    lines = stream.response.aiter_lines() if way.is_async else stream.response.iter_lines()
    return len(await way.read(lines)) >= 6


async def stream_attributes(way: Way) -> Any:
    stream = await way.chat(stream=True)
    with contextlib.suppress(AttributeError):
        stream.nonsense  # noqa: B018
    stream.mine = 1
    found = [stream.mine, hasattr(stream, "nonsense"), hasattr(stream, "__aiter__"), hasattr(stream, "__next__")]
    await way.got(stream.close())
    return found


async def raw(way: Way) -> Any:
    answer = await way.got(way.client.chat.completions.with_raw_response.create(model="m", messages=HELLO))
    return [answer.status_code, answer.headers["content-type"], answer.parse(), answer.text, answer.content, answer]


async def raw_parsed_as(way: Way) -> Any:
    answer = await way.got(way.client.chat.completions.with_raw_response.create(model="m", messages=HELLO))
    return [answer.parse(to=str), answer.parse() is answer.parse()]


async def raw_stream(way: Way) -> Any:
    create = way.client.chat.completions.with_raw_response.create
    answer = await way.got(create(model="m", messages=HELLO, stream=True))
    stream = answer.parse()
    return [answer.http_response.status_code, await way.read(stream)]


def _streaming(read: Callable[[Way, Any], Any], **more: Any) -> Callable[[Way], Any]:
    async def form(way: Way) -> Any:
        create = way.client.chat.completions.with_streaming_response.create
        async with way.inside(create(model="m", messages=HELLO, **more)) as answer:
            return await read(way, answer)

    return form


async def _read_parsed(way: Way, answer: Any) -> Any:
    return [await way.got(answer.parse()), answer]


async def _read_json(way: Way, answer: Any) -> Any:
    return [await way.got(answer.json()), await way.got(answer.text()), await way.got(answer.read())]


async def _read_lines(way: Way, answer: Any) -> Any:
    return await way.read(answer.iter_lines())


async def _read_bytes(way: Way, answer: Any) -> Any:
    return b"".join(await way.read(answer.iter_bytes()))


async def _read_first_line(way: Way, answer: Any) -> Any:
    return await way.read(answer.iter_lines(), 1)


async def _read_nothing(_: Way, answer: Any) -> Any:
    return [answer.status_code, answer.is_closed if hasattr(answer, "is_closed") else None]


async def _read_stream(way: Way, answer: Any) -> Any:
    return await way.read(await way.got(answer.parse()))


async def _read_and_raise(way: Way, answer: Any) -> Any:
    await way.read(answer.iter_lines(), 1)
    raise ValueError("the caller's own")


async def helper(way: Way) -> Any:
    async with way.inside(way.client.chat.completions.stream(model="m", messages=HELLO)) as stream:
        events = [event.type for event in await way.read(stream)]
        return [events, await way.got(stream.get_final_completion())]


async def parse(way: Way) -> Any:
    complete = way.client.chat.completions.parse
    found = await way.got(complete(model="m", messages=HELLO, response_format=City))
    return [found.choices[0].message.parsed, pickle.loads(pickle.dumps(found)).id]


async def wrong_arguments(way: Way) -> Any:
    return await way.got(way.client.chat.completions.create(nonsense=1))


async def wrong_type(way: Way) -> Any:
    return await way.got(way.client.chat.completions.create(model="m", messages=[object()]))


async def empty_path(way: Way) -> Any:
    return await way.got(way.client.get("", cast_to=object))


async def signatures(way: Way) -> Any:
    completions = way.client.chat.completions
    return [
        completions.create,
        completions.with_raw_response.create,
        type(completions),
        inspect.signature(way.client.request),
    ]


async def copied(way: Way) -> Any:
    client = way.client.with_options(timeout=3)
    return [await way.got(client.models.list()), isinstance(client, type(way.client))]


async def pages(way: Way) -> Any:
    listed = way.client.models.list()
    return await way.read(listed)


async def embed(way: Way) -> Any:
    return await way.got(way.client.embeddings.create(model="m", input=["a", "b"]))


async def embed_raw(way: Way) -> Any:
    found = await way.got(way.client.embeddings.with_raw_response.create(model="m", input="a"))
    return found.parse()


async def picture(way: Way) -> Any:
    return await way.got(way.client.images.generate(model="m", prompt="a cat"))


async def moderate(way: Way) -> Any:
    return await way.got(way.client.moderations.create(model="m", input="hello"))


async def completion(way: Way) -> Any:
    return await way.got(way.client.completions.create(model="m", prompt="hello"))


async def respond(way: Way) -> Any:
    return await way.got(way.client.responses.create(model="m", input="hello"))


async def respond_stream(way: Way) -> Any:
    stream = await way.got(way.client.responses.create(model="m", input="hello", stream=True))
    return [stream, await way.read(stream)]


async def respond_left(way: Way) -> Any:
    return await way.read(await way.got(way.client.responses.create(model="m", input="hello", stream=True)), 2)


async def respond_raw(way: Way) -> Any:
    return (await way.got(way.client.responses.with_raw_response.create(model="m", input="hello"))).parse()


async def respond_lines(way: Way) -> Any:
    create = way.client.responses.with_streaming_response.create
    async with way.inside(create(model="m", input="hello", stream=True)) as answer:
        return await way.read(answer.iter_lines())


async def respond_helper(way: Way) -> Any:
    async with way.inside(way.client.responses.stream(model="m", input="hello")) as stream:
        events = [event.type for event in await way.read(stream)]
        return [events, (await way.got(stream.get_final_response())).output_text]


Form = tuple[str, Callable[[Way], Any]]
FORMS: Final[dict[str, Form]] = {
    "plain": ("hi", plain),
    "tool call": ("tool", plain),
    "empty object": ("empty", plain),
    "a list": ("list", plain),
    "no JSON": ("garbage", plain),
    **{f"status {code}": (str(code), plain) for code in (400, 401, 404, 429, 500)},
    "wrong arguments": ("hi", wrong_arguments),
    "wrong type": ("hi", wrong_type),
    "empty path": ("hi", empty_path),
    "signatures": ("hi", signatures),
    "stream read": ("stream", stream_read),
    "stream with its own usage": ("stream", stream_own_usage),
    "stream of a tool call": ("stream-tool", stream_read),
    "stream without an end": ("stream-unended", stream_read),
    "stream of nothing": ("stream-nothing", stream_read),
    "stream with an error": ("stream-error", stream_read),
    "stream with broken JSON": ("stream-broken", stream_read),
    "stream cut off": ("stream-cut", stream_read),
    "stream refused": ("500", stream_read),
    "stream answered whole": ("hi", stream_read),
    "stream left": ("stream", stream_left),
    "stream read twice": ("stream", stream_read_twice),
    "stream resumed": ("stream", stream_resumed),
    "stream closed": ("stream", stream_closed),
    "stream in with": ("stream", stream_in_with),
    "stream with the caller's error": ("stream", stream_with_error),
    "stream's iterator closed": ("stream", stream_iterator),
    "stream never read": ("stream", stream_never_read),
    "stream by next": ("stream", stream_next),
    "stream's lines": ("stream", stream_response_lines),
    "stream's attributes": ("stream", stream_attributes),
    "raw": ("hi", raw),
    "raw as text": ("hi", raw_parsed_as),
    "raw stream": ("stream", raw_stream),
    "raw error": ("429", raw),
    "streaming parsed": ("hi", _streaming(_read_parsed)),
    "streaming json": ("hi", _streaming(_read_json)),
    "streaming bytes": ("hi", _streaming(_read_bytes)),
    "streaming nothing": ("hi", _streaming(_read_nothing)),
    "streaming error": ("500", _streaming(_read_json)),
    "streaming lines": ("stream", _streaming(_read_lines, stream=True)),
    "streaming one line": ("stream", _streaming(_read_first_line, stream=True)),
    "streaming raised in": ("stream", _streaming(_read_and_raise, stream=True)),
    "streaming a stream": ("stream", _streaming(_read_stream, stream=True)),
    "helper": ("stream", helper),
    "helper with an error": ("stream-error", helper),
    "parse": ("parsed", parse),
    "parse cut short": ("length", parse),
    "copied client": ("models", copied),
    "pages": ("models", pages),
    "embeddings": ("vectors", embed),
    "embeddings raw": ("vectors", embed_raw),
    "embeddings refused": ("400", embed),
    "picture": ("image", picture),
    "moderation": ("moderation", moderate),
    "completion": ("completion", completion),
    "responses": ("response", respond),
    "responses refused": ("401", respond),
    "responses raw": ("response", respond_raw),
    "responses stream": ("response-stream", respond_stream),
    "responses left": ("response-stream", respond_left),
    "responses lines": ("response-stream", respond_lines),
    "responses helper": ("response-stream", respond_helper),
}


@scenario(ways.make_ways(FORMS))
async def client(tools: Tools, row: ways.Row) -> Any:
    return await ways.run_way(Way, tools, row)


@scenario({"sync": False, "async": True})
async def unreachable(tools: Tools, is_async: bool) -> Any:
    way = Way(tools, "hi", is_async=is_async)
    way.client.base_url = "http://127.0.0.1:1/v1"
    try:
        return await way.chat()
    finally:
        await way.close()


@scenario()
def in_a_traced_function(tools: Tools) -> Any:
    @tools.trace
    def ask() -> Any:
        with Way(tools, "stream", is_async=False).client as one, tools.block("session"):
            return list(one.chat.completions.create(model="m", messages=HELLO, stream=True))

    return ask()


@scenario()
def a_subclass(tools: Tools) -> Any:
    class Own(openai.OpenAI):
        def __eq__(self, other: object) -> bool:
            return False

        __hash__ = None  # type: ignore[assignment]

        def request(self, *args: Any, **kwargs: Any) -> Any:
            return super().request(*args, **kwargs)

    with Own(base_url=tools.url("hi"), api_key="k", max_retries=0) as own:
        return own.chat.completions.create(model="m", messages=HELLO)
