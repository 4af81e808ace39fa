"""Scenarios: event loops that end, or whose tasks are cancelled, while somebody is in the middle of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import openai
from harness import Tools, scenario
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

HELLO: Final[Any] = [{"role": "user", "content": "hello"}]
_kept: Final[list[Any]] = []  # what a program holds beyond the end of its loop


class Client:
    """A client of the server of models, closed when the scenario has run."""

    def __init__(self, tools: Tools) -> None:
        self.made = openai.AsyncOpenAI(base_url=tools.url("stream"), api_key="k", max_retries=0)

    async def stream(self) -> Any:
        return await self.made.chat.completions.create(model="m", messages=HELLO, stream=True)


class _SlowModel(GenericFakeChatModel):
    """A model whose stream takes a moment, to read and to close, as those over a network do."""

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        try:
            async for chunk in super()._astream(*args, **kwargs):
                await asyncio.sleep(0.01)
                yield chunk
        finally:
            await asyncio.sleep(0.01)


def _make_model() -> _SlowModel:
    return _SlowModel(messages=iter([AIMessage("one two three four")] * 9))


async def read_traced(tools: Tools) -> AsyncIterator[Any]:
    @tools.trace
    async def count() -> AsyncIterator[int]:
        for number in range(4):
            yield number

    return count()


async def read_scoped(tools: Tools) -> AsyncIterator[Any]:
    @tools.block("session")
    async def count() -> AsyncIterator[int]:
        try:
            for number in range(4):
                yield number
        finally:
            await asyncio.sleep(0)

    result: AsyncIterator[Any] = count()
    return result


async def read_client(tools: Tools) -> AsyncIterator[Any]:
    return aiter(await Client(tools).stream())


async def read_lines(tools: Tools) -> AsyncIterator[Any]:
    lines: AsyncIterator[Any] = (await Client(tools).stream()).response.aiter_lines()
    return lines


async def read_model(_: Tools) -> AsyncIterator[Any]:
    return _make_model().astream("hello")


async def read_model_indirectly(_: Tools) -> AsyncIterator[Any]:
    return (chunk async for chunk in _make_model().astream("hello"))


async def read_events(_: Tools) -> AsyncIterator[Any]:
    return _make_model().astream_events("hello", version="v2")


async def read_graph(_: Tools) -> AsyncIterator[Any]:
    async def answer(state: Any) -> Any:
        return {"messages": [await _make_model().ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    return builder.compile().astream({"messages": "hello"}, stream_mode="messages")  # type: ignore[arg-type]


READERS: Final = {
    "a traced generator": read_traced,
    "a scoped generator": read_scoped,
    "a client's stream": read_client,
    "a client's lines": read_lines,
    "a model": read_model,
    "a model, by a generator": read_model_indirectly,
    "a model's events": read_events,
    "a graph": read_graph,
}
Open = Callable[[], Any]


async def _work_on(open_stream: Open, started: asyncio.Event) -> None:
    async for _ in await open_stream():
        started.set()
        await asyncio.sleep(60)


async def end_while_worked_on(open_stream: Open) -> Any:
    started = asyncio.Event()
    _kept.append(asyncio.create_task(_work_on(open_stream, started)))
    await started.wait()


async def raise_while_worked_on(open_stream: Open) -> Any:
    await end_while_worked_on(open_stream)
    raise SystemExit(3)


async def cancel(open_stream: Open) -> Any:
    started = asyncio.Event()
    task = asyncio.create_task(_work_on(open_stream, started))
    await started.wait()
    task.cancel()
    return await asyncio.gather(task, return_exceptions=True)


async def end_while_held(open_stream: Open) -> Any:
    for _ in range(8):  # in which order the loop closes them is chance
        stream = await open_stream()
        await anext(stream)
        _kept.append(stream)


async def drop(open_stream: Open) -> Any:
    await anext(await open_stream())
    await asyncio.sleep(0)


async def close(open_stream: Open) -> Any:
    stream = await open_stream()
    await anext(stream)
    if hasattr(stream, "aclose"):
        await stream.aclose()
    return await anext(stream, "the end")


async def run_out_of_time(open_stream: Open) -> Any:
    return await asyncio.wait_for(_work_on(open_stream, asyncio.Event()), 0.3)


ENDS: Final = (end_while_worked_on, raise_while_worked_on, cancel, end_while_held, drop, close, run_out_of_time)
TABLE: Final = {f"{name}, {end.__name__}": (read, end) for name, read in READERS.items() for end in ENDS}


@scenario(TABLE)
async def loop_that_ends(tools: Tools, row: tuple[Callable[[Tools], Any], Callable[[Open], Any]]) -> Any:
    read, end = row
    return await end(lambda: read(tools))


@scenario()
def what_was_held_is_dropped(_: Tools) -> Any:
    _kept.clear()
