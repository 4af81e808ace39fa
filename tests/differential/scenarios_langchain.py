"""Scenarios: LangChain and LangGraph, each way to run a chain or a graph, with what its callbacks hear."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final, TypedDict

from harness import Tools, scenario
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel, chain
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt


class Heard(BaseCallbackHandler):
    """The application's own handler: the events that it hears, in their order."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if not name.startswith("on_") or not callable(found):
            return found

        def note(*args: Any, **kwargs: Any) -> Any:
            self.events.append([name, kwargs.get("name"), kwargs.get("tags"), sorted(kwargs.get("metadata") or {})])
            return found(*args, **kwargs)

        return note


class Shelf(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        if query == "fail":
            raise ValueError("no such shelf")
        return [Document(query)]


@tool
def look_up(city: str) -> str:
    """The weather in a city."""
    if city == "Nowhere":
        raise ValueError("no such city")
    return f"sunny in {city}"


@chain
def double(text: str) -> Iterator[str]:
    yield text
    yield text


def _fail(_: Any) -> Any:
    raise ValueError("no")


def _make_chain(handler: Any) -> Any:
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "{q}")])
    made = prompt | FakeListChatModel(responses=["Hi there!"]) | StrOutputParser()
    return made.with_config(callbacks=[handler], run_name="chain", tags=["mine"], metadata={"team": "red"})


async def _events(made: Any) -> Any:
    found = [event async for event in made.astream_events({"q": "a"}, version="v2")]
    return [[event["event"], event["name"], event["tags"]] for event in found]


async def _collect(items: Any) -> list[Any]:
    return [item async for item in items]


RUNS: Final[dict[str, Callable[[Any], Any]]] = {
    "invoke": lambda made: made.invoke({"q": "a"}),
    "ainvoke": lambda made: made.ainvoke({"q": "a"}),
    "stream": lambda made: list(made.stream({"q": "a"})),
    "astream": lambda made: _collect(made.astream({"q": "a"})),
    "batch": lambda made: made.batch([{"q": "a"}, {"q": "b"}], config={"max_concurrency": 1}),
    "abatch": lambda made: made.abatch([{"q": "a"}, {"q": "b"}], config={"max_concurrency": 1}),
    "batch with exceptions": lambda made: made.batch([{"q": "a"}, {}], {"max_concurrency": 1}, return_exceptions=True),
    "astream_events": _events,
    "stream left": lambda made: next(made.stream({"q": "a"})),
    "missing variable": lambda made: made.invoke({}),
    "wrong input": lambda made: made.invoke(7),
    "graph": lambda made: sorted(node.name for node in made.get_graph().nodes.values()),
    "schema": lambda made: made.get_input_jsonschema(),
}


@scenario(RUNS)
async def chained(tools: Tools, run: Callable[[Any], Any]) -> Any:
    handler = Heard()
    found = run(_make_chain(handler))
    return [await found if hasattr(found, "__await__") else found, handler.events]


KINDS: Final[dict[str, Callable[[], Any]]] = {
    "parallel": lambda: RunnableParallel(a=RunnableLambda(str), b=RunnableLambda(len)).invoke("xy"),
    "failing": lambda: RunnableLambda(_fail).invoke(1),
    "failing below": lambda: (RunnableLambda(str) | RunnableLambda(_fail)).invoke(1),
    "fallback": lambda: RunnableLambda(_fail).with_fallbacks([RunnableLambda(str)]).invoke(1),
    "retry": lambda: RunnableLambda(_fail).with_retry(stop_after_attempt=2, wait_exponential_jitter=False).invoke(1),
    "decorated generator": lambda: list(double.stream("a")),
    "tool": lambda: [look_up.invoke({"city": "Paris"}), look_up.args, look_up],
    "tool that fails": lambda: look_up.invoke({"city": "Nowhere"}),
    "tool with a wrong argument": lambda: look_up.invoke({"town": "Paris"}),
    "retriever": lambda: Shelf().invoke("books"),
    "retriever that fails": lambda: Shelf().invoke("fail"),
    "retriever, async": lambda: Shelf().ainvoke("books"),
    "retriever that fails, async": lambda: Shelf().ainvoke("fail"),
    "embeddings": lambda: len(DeterministicFakeEmbedding(size=2).embed_query("x")),
    "embeddings, async": lambda: DeterministicFakeEmbedding(size=2).aembed_documents(["x"]),
    "embeddings of nothing": lambda: DeterministicFakeEmbedding(size=2).embed_query(),  # type: ignore[call-arg]
    "signature": lambda: [DeterministicFakeEmbedding.embed_query, Shelf.ainvoke, FakeListChatModel.agenerate],
}


@scenario(KINDS)
async def runnable(tools: Tools, run: Callable[[], Any]) -> Any:
    found = run()
    return await found if hasattr(found, "__await__") else found


MODELS: Final = {"whole": "hi", "stream": "stream", "tool": "tool", "refused": "400", "broken": "stream-broken"}


@scenario(MODELS)
def model(tools: Tools, answer: str) -> Any:
    asked = ChatOpenAI(model="m", base_url=tools.url(answer), api_key="k", max_retries=0)  # type: ignore[arg-type]
    try:
        if answer.startswith("stream"):
            return list(asked.stream("hello"))
        return asked.bind_tools([look_up]).invoke("hello")
    finally:
        asked.root_client.close()


@scenario()
async def cancelled_run(tools: Tools) -> Any:
    async def wait(_: Any) -> None:
        await asyncio.sleep(30)

    task = asyncio.create_task(RunnableLambda(_fail, afunc=wait).ainvoke(1))
    await asyncio.sleep(0.01)
    task.cancel()
    await task


class State(TypedDict):
    seen: Annotated[list[str], lambda old, new: [*old, *new]]


def _make_graph(*, fails: bool = False, stops: bool = False) -> Any:
    def first(state: State) -> Any:
        return {"seen": ["first"]}

    def second(state: State) -> Any:
        if fails:
            raise ValueError("the node's own")
        return {"seen": [f"answer {interrupt('go on?')}" if stops else "second"]}

    graph = StateGraph(State).add_node("first", first).add_node("second", second)
    graph.add_edge(START, "first").add_edge("first", "second").add_edge("second", END)
    return graph.compile(checkpointer=InMemorySaver() if stops else None)


def _interrupt() -> Any:
    graph, config = _make_graph(stops=True), {"configurable": {"thread_id": "1"}}
    stopped = graph.invoke({"seen": []}, config)
    values = [one.value for one in stopped["__interrupt__"]]
    state = graph.get_state(config)
    metadata = [
        key for key in state.metadata if not key.startswith("mlspan")
    ]  # ours is for the process that resumes it
    return [values, state.next, graph.invoke(Command(resume="yes"), config)["seen"], metadata]


GRAPHS: Final[dict[str, Callable[[], Any]]] = {
    "invoke": lambda: _make_graph().invoke({"seen": []}),
    "stream": lambda: list(_make_graph().stream({"seen": []}, stream_mode="updates")),
    "ainvoke": lambda: _make_graph().ainvoke({"seen": []}),
    "failing": lambda: _make_graph(fails=True).invoke({"seen": []}),
    "failing, async": lambda: _make_graph(fails=True).ainvoke({"seen": []}),
    "interrupted": _interrupt,
}


@scenario(GRAPHS)
async def graph(tools: Tools, run: Callable[[], Any]) -> Any:
    found = run()
    return await found if hasattr(found, "__await__") else found
