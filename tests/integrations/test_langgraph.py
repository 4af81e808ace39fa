"""LangGraph: nodes, edges, interrupts and checkpoints; agents; every way in which a run can end."""

from __future__ import annotations

import asyncio
import gc
import operator
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

pytest.importorskip("langgraph")

from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt
from opentelemetry import context as otel_context

from mlspan import integrations, tracing
from mlspan.testing import Spans, content

pytestmark = pytest.mark.usefixtures("langgraph_on")


class State(TypedDict):
    seen: Annotated[list[str], operator.add]


def node(name: str) -> Any:
    def run(_: State) -> Any:
        with tracing.span(f"in {name}"):
            return {"seen": [name]}

    return run


def links(spans: Spans) -> dict[str, list[str]]:
    """Which nodes led to which: the names of the spans that the links of each span point to, sorted.

    Nodes that run side by side start in any order.
    """
    names = {span.get_span_context().span_id: span.name for span in spans.all}
    found: dict[str, list[str]] = {}
    for span in spans.all:
        led = [names.get(one.context.span_id, "elsewhere") for one in span.links if one.attributes]
        found.setdefault(span.name, []).extend(led)
    return {name: sorted(led) for name, led in found.items() if led}


def test_a_graph_is_a_workflow_of_nodes(spans: Spans) -> None:
    """Nodes with step, state keys, conversation; a span inside a node is below it."""
    graph = StateGraph(State).add_node("a", node("a")).add_node("b", node("b")).add_edge(START, "a").add_edge("a", "b")
    compiled = graph.compile(name="trip")
    assert compiled.invoke({"seen": []}, {"configurable": {"thread_id": "t-1"}}) == {"seen": ["a", "b"]}
    assert spans.tree("mlspan.langgraph.step") == (
        "invoke_workflow trip\n  a [mlspan.langgraph.step=1]\n    in a\n  b [mlspan.langgraph.step=2]\n    in b"
    )
    root, a = spans.all[:2]
    assert (root.attributes or {})["gen_ai.conversation.id"] == "t-1"
    assert (a.attributes or {})["mlspan.langgraph.state_keys"] == ("seen",)
    assert (a.attributes or {})["mlspan.kind"] == "node"
    assert content(root, "mlspan.output") == {"seen": ["a", "b"]}
    assert links(spans) == {"b": ["a"]}


def test_edges_are_links(spans: Spans) -> None:
    """Sends, conditional edges, joins, subgraphs: each node points to those that led to it."""
    sub = (
        StateGraph(State)
        .add_node("x", node("x"))
        .add_node("y", node("y"))
        .add_edge(START, "x")
        .add_edge("x", "y")
        .compile()
    )
    graph = (
        StateGraph(State)
        .add_node("start", node("start"))
        .add_node("left", node("left"))
        .add_node("right", node("right"))
        .add_node("meet", node("meet"))
        .add_node("sub", sub)
        .add_node("sent", node("sent"))
        .add_edge(START, "start")
        .add_edge("start", "left")
        .add_edge("start", "right")
        .add_edge(["left", "right"], "meet")
        .add_conditional_edges("meet", lambda _: "sub", ["sub"])
        .add_conditional_edges("sub", lambda _: [Send("sent", {"seen": []}), Send("sent", {"seen": []})], ["sent"])
        .compile()
    )
    graph.invoke({"seen": []})
    assert links(spans) == {
        "left": ["start"],
        "right": ["start"],
        "meet": ["left", "right"],
        "sub": ["meet"],
        "y": ["x"],
        "sent": ["sub", "sub"],
    }
    assert Counter(span.name for span in spans.all)["invoke_workflow"] == 2


def ask(_: State) -> Any:
    return {"seen": [interrupt({"question": "go on?"})]}


def waiting(saver: Any) -> Any:
    return (
        StateGraph(State)
        .add_node("ask", ask)
        .add_node("end", node("end"))
        .add_edge(START, "ask")
        .add_edge("ask", "end")
        .compile(checkpointer=saver)
    )


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_interrupt_is_no_error_and_the_resumed_run_is_linked(spans: Spans, asynchronous: bool) -> None:
    """The run that waits says so; the run that goes on points back to it."""
    graph, config = waiting(InMemorySaver()), {"configurable": {"thread_id": "t-1"}}
    for given in ({"seen": []}, Command(resume="yes")):
        await graph.ainvoke(given, config) if asynchronous else graph.invoke(given, config)
    first, asked, second = [span for span in spans.all if span.name in {"invoke_workflow", "ask"}][:3]
    assert "ERROR" not in spans.tree()
    assert (first.attributes or {})["mlspan.interrupted"] is True
    assert (asked.attributes or {})["mlspan.interrupted"] is True
    for span in (first, asked):
        assert content(span, "mlspan.output")["__interrupt__"] == [{"question": "go on?"}]
    assert "mlspan.interrupted" not in (second.attributes or {})
    (link,) = second.links
    assert link.context == first.get_span_context() or link.context.span_id == first.get_span_context().span_id
    assert dict(link.attributes or {}) == {"mlspan.link": "resumes"}
    assert [event.name for event in second.events][:2] == ["checkpoint.read", "checkpoint.write"]


def test_a_run_is_resumed_in_another_process(spans: Spans, tmp_path: Path) -> None:
    """The ids of the interrupted trace are in the checkpoint: another process finds them there."""
    sqlite = pytest.importorskip("langgraph.checkpoint.sqlite")
    code = f"""
import operator, sys
sys.path.insert(0, {str(Path(__file__).parent)!r}); sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
from test_langgraph import waiting
from langgraph.checkpoint.sqlite import SqliteSaver
from mlspan import integrations, testing
integrations.langgraph.autolog()
with testing.spans() as spans, SqliteSaver.from_conn_string({str(tmp_path / "state.db")!r}) as saver:
    waiting(saver).invoke({{"seen": []}}, {{"configurable": {{"thread_id": "t-1"}}}})
context = spans.named("invoke_workflow")[0].get_span_context()
print(context.trace_id, context.span_id)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    trace_id, span_id = map(int, done.stdout.split())
    with sqlite.SqliteSaver.from_conn_string(str(tmp_path / "state.db")) as saver:
        waiting(saver).invoke(Command(resume="yes"), {"configurable": {"thread_id": "t-1"}})
    (link,) = spans.named("invoke_workflow")[0].links
    assert (link.context.trace_id, link.context.span_id) == (trace_id, span_id)


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


@pytest.fixture
async def model(aimock: str) -> AsyncIterator[Any]:
    openai: Any = pytest.importorskip("openai")
    chat = pytest.importorskip("langchain_openai")
    integrations.openai.autolog()
    async with openai.DefaultAsyncHttpxClient() as client:
        yield chat.ChatOpenAI(model="gpt-4o-mini", base_url=aimock, api_key="test", http_async_client=client)
    integrations.openai.autolog(disable=True)


AGENT = """\
invoke_agent weather
  model
    chat gpt-4o-mini
  tools
    execute_tool get_weather
  model
    chat gpt-4o-mini"""


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_agent_is_an_agent(model: Any, spans: Spans, asynchronous: bool) -> None:
    """``create_agent``: agent, nodes, calls and tools, each tool linked to the call that asked for it."""
    agents = pytest.importorskip("langchain.agents")
    agent = agents.create_agent(model, [get_weather], name="weather")
    given: Any = {"messages": [("user", "weather in Paris?")]}
    got = await agent.ainvoke(given) if asynchronous else agent.invoke(given)
    assert got["messages"][-1].content == "It is sunny in Paris."
    tree = re.sub(r" \[.*?\]", "", spans.tree())
    assert re.sub(r"\n *(model_to_tools|tools_to_model)", "", tree) == AGENT  # LangGraph 1.0 tells of its edges as runs
    (run,) = spans.named("execute_tool get_weather")
    (link,) = run.links
    assert link.context.span_id == spans.named("chat gpt-4o-mini")[0].get_span_context().span_id
    assert content(spans.all[0], "mlspan.input")["messages"] == [{"role": "user", "content": "weather in Paris?"}]


@pytest.mark.filterwarnings("ignore:.*create_react_agent")
def test_a_prebuilt_agent_is_an_agent(model: Any, spans: Spans) -> None:
    """``create_react_agent`` of LangGraph is an agent too, by what its nodes are."""
    from langgraph.prebuilt import create_react_agent

    create_react_agent(model, [get_weather], name="weather").invoke({"messages": [("user", "weather in Paris?")]})
    assert spans.tree().startswith("invoke_agent weather")


def test_a_failure(spans: Spans) -> None:
    """The node that failed and the graph say what it was; the caller gets his own exception."""

    def fail(_: State) -> Any:
        raise KeyError("lost")

    graph = (
        StateGraph(State)
        .add_node("a", node("a"))
        .add_node("fail", fail)
        .add_edge(START, "a")
        .add_edge("a", "fail")
        .compile()
    )
    with pytest.raises(KeyError, match="lost"):
        graph.invoke({"seen": []})
    assert spans.tree() == "invoke_workflow [ERROR KeyError]\n  a\n    in a\n  fail [ERROR KeyError]"


def slow_graph() -> Any:
    async def slow(_: State) -> Any:
        await asyncio.sleep(30)

    return (
        StateGraph(State)
        .add_node("a", RunnableLambda(node("a")))
        .add_node("slow", slow)
        .add_node("b", node("b"))
        .add_edge(START, "a")
        .add_edge("a", "b")
        .add_edge("a", "slow")
        .add_edge("b", END)
        .compile()
    )


@pytest.mark.parametrize("how", ["break", "close", "cancel", "timeout"])
async def test_an_async_run_left_early_ends_every_span(spans: Spans, how: str) -> None:
    """However it is left, each span of the run ends, once, and no context stays attached."""
    before, graph = otel_context.get_current(), slow_graph()

    async def read() -> None:
        async for _ in graph.astream({"seen": []}):
            if how == "break":
                break

    if how in {"break", "close"}:
        stream = graph.astream({"seen": []})
        await anext(stream)
        assert otel_context.get_current() == before
        await stream.aclose()
    elif how == "cancel":
        task = asyncio.create_task(read())
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(read(), 0.2)
    await asyncio.sleep(0.05)
    gc.collect()
    assert otel_context.get_current() == before
    assert {"invoke_workflow", "a"} <= {span.name for span in spans.all}
    assert max(Counter(span.get_span_context().span_id for span in spans.all).values()) == 1


@pytest.mark.parametrize("how", ["break", "error"])
def test_a_stream_left_early_ends_every_span(spans: Spans, how: str) -> None:
    """A sync stream that is broken out of or that the caller's own error ends."""
    before = otel_context.get_current()
    graph = (
        StateGraph(State)
        .add_node("a", node("a"))
        .add_node("b", node("b"))
        .add_edge(START, "a")
        .add_edge("a", "b")
        .compile()
    )
    stream = graph.stream({"seen": []})
    next(stream)
    assert otel_context.get_current() == before
    if how == "error":
        with pytest.raises(KeyError):
            stream.throw(KeyError())
    del stream
    gc.collect()
    assert spans.tree().startswith("invoke_workflow")


async def test_two_hundred_graphs_at_once_stay_apart(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    """In one event loop and in threads, some failing, some cancelled: every span below its own run, no line logged."""

    async def work(state: State) -> Any:
        name = state["seen"][0]
        with tracing.span(f"own {name}"):
            await asyncio.sleep(0.002 * (int(name) % 5))
        if int(name) % 10 == 3:
            raise ValueError(name)
        return {"seen": []}

    graph = (
        StateGraph(State)
        .add_node("work", work)
        .add_node("next", node("next"))
        .add_edge(START, "work")
        .add_edge("work", "next")
        .compile()
    )
    tasks = [asyncio.create_task(graph.ainvoke({"seen": [str(n)]})) for n in range(200)]
    await asyncio.sleep(0.01)
    for task in tasks[::20]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.05)
    sync = StateGraph(State).add_node("a", node("a")).add_edge(START, "a").compile()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: sync.invoke({"seen": [str(n)]}), range(200)))
    trees = re.split(r"\n(?! )", spans.tree())
    assert all(len(set(re.findall(r"own (\d+)", tree))) <= 1 for tree in trees)
    assert all(tree.startswith("invoke_workflow") for tree in trees)
    assert sum("in a" in tree for tree in trees) == 200
    assert [record.message for record in caplog.records if "detach" in record.message] == []


def test_thousands_of_runs_leave_memory_flat(spans: Spans) -> None:
    """What is kept of a run goes with it."""
    graph = StateGraph(State).add_node("a", lambda _: {"seen": ["a"]}).add_edge(START, "a").compile()

    def objects_after(runs: int) -> int:
        for n in range(runs):
            graph.invoke({"seen": []})
            if n % 500 == 499:
                spans.clear()
        gc.collect()
        return len(gc.get_objects())

    first = objects_after(500)
    grown = objects_after(3_000) - first
    assert grown < 300, f"{grown} objects more after 3,000 runs"
