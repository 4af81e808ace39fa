"""LangGraph's streams, whose reader works on an item while the graph goes on: who has cancelled what."""

from __future__ import annotations

import asyncio
import gc
import operator
import sys
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, TypedDict

import pytest

pytest.importorskip("langgraph")

from langchain_core.runnables import RunnableLambda
from langgraph.graph import END, START, StateGraph

from mlspan.testing import Spans

pytestmark = pytest.mark.usefixtures("langgraph_on")


class State(TypedDict, total=False):
    a: str
    b: Annotated[list[str], operator.add]


def make_graph(told: asyncio.Event, *, patience: float | None) -> Any:
    """Return a graph with a fast node and two that wait for a model, as its *patience* lasts; it says so by *told*."""

    async def ask_model(_: str) -> str:
        await asyncio.sleep(20)
        return "late"

    async def fast(_: State) -> State:
        return {"a": "1"}

    async def slow(_: State) -> State:
        try:
            await asyncio.wait_for(RunnableLambda(ask_model, name="ask model").ainvoke("hi"), patience)
        except asyncio.TimeoutError:
            told.set()
        return {"b": ["no answer"]}

    graph = StateGraph(State).add_node("fast", fast).add_node("slow", slow).add_node("too", slow)
    for name in ("fast", "slow", "too"):
        graph.add_edge(START, name).add_edge(name, END)
    return graph.compile()


async def read_in_one_task(items: AsyncIterator[Any], work: Callable[[], Any]) -> None:
    async for _ in items:
        await work()


async def read_in_a_task_each(items: AsyncIterator[Any], work: Callable[[], Any]) -> None:
    """As a web server does that sends a sign of life while it waits."""

    async def read_next() -> Any:
        return await anext(items, None)

    while await asyncio.create_task(read_next()) is not None:
        await work()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="a task of Python 3.10 does not tell that it is being cancelled")
@pytest.mark.parametrize("read", [read_in_one_task, read_in_a_task_each])
@pytest.mark.parametrize("way", ["astream", "astream_events"])
@pytest.mark.parametrize("is_fast", [True, False], ids=["fast", "slow"])
async def test_a_timeout_in_a_node(spans: Spans, way: str, is_fast: bool, read: Any) -> None:
    """What a node has cancelled is cancelled by nobody's leaving, whatever the reader does in that moment."""
    told = asyncio.Event()
    graph = make_graph(told, patience=0.1)
    more = {"version": "v2"} if way == "astream_events" else {"stream_mode": "updates"}

    async def work() -> None:
        if not is_fast:
            await asyncio.wait_for(told.wait(), 20)

    await read(getattr(graph, way)({}, **more), work)
    errors = [(span.attributes or {}).get("error.type") for span in spans.named("ask model")]
    assert errors == ["asyncio.exceptions.CancelledError"] * 2, spans.tree()
    assert {span.name for span in spans.all if span.status.status_code.name == "ERROR"} == {"ask model"}


@pytest.mark.parametrize("how", ["returns", "fails", "cancelled", "awaits"])
def test_a_reader_that_leaves(spans: Spans, how: str) -> None:
    """It has left while it worked on an item: what it read is closed with the loop, or before, and that is no error."""

    async def run() -> None:
        items = make_graph(asyncio.Event(), patience=None).astream({}, stream_mode="updates")
        async for _ in items:
            break
        await asyncio.sleep(0.05)
        if how == "fails":
            raise KeyError("own")
        if how == "cancelled":
            raise asyncio.CancelledError
        if how == "awaits":
            del items
            await asyncio.sleep(0.05)

    if how == "fails":
        with pytest.raises(KeyError):
            asyncio.run(run())
    elif how == "cancelled":
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(run())
    else:
        asyncio.run(run())
    gc.collect()
    assert [span.name for span in spans.all if span.status.status_code.name == "ERROR"] == [], spans.tree()
    assert len(spans.named("ask model")) == 2
