"""LangChain: every public way of running, on each kind of runnable, however it ends: exact spans and traces."""

from __future__ import annotations

import asyncio
import gc
import inspect
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("langchain_core")
pytest.importorskip("langgraph")

from langchain_core.language_models import BaseChatModel, BaseLLM, FakeListLLM
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompt_values import StringPromptValue
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.pregel import Pregel
from opentelemetry import context as otel_context

from mlspan import integrations
from mlspan.integrations.langchain.runs import langchain_runs
from mlspan.testing import Spans, content
from mlspan.tracing.operations.records import Chat

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*(beta|deprecated|experimental).*"),
]


class Words(BaseChatModel):
    """Says three words; with *slow*, it says the first and then waits until it is cancelled."""

    slow: bool = False

    @property
    def _llm_type(self) -> str:
        return "words"

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="one two three"))])

    async def _agenerate(self, *_: Any, **__: Any) -> ChatResult:
        if self.slow:
            await asyncio.wait_for(asyncio.Event().wait(), 60)
        return self._generate()

    def _stream(self, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        for word in ("one ", "two ", "three"):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        for number, chunk in enumerate(self._stream()):
            if number and self.slow:
                await asyncio.wait_for(asyncio.Event().wait(), 60)
            yield chunk


def make_chain(*, slow: bool) -> Any:
    return ChatPromptTemplate.from_messages([("user", "{q}")]) | Words(slow=slow) | StrOutputParser()


def make_graph(*, slow: bool) -> Any:
    model = Words(slow=slow)

    async def answer(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    def answer_sync(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    from langchain_core.runnables import RunnableLambda

    graph = StateGraph(MessagesState).add_node("answer", RunnableLambda(answer_sync, afunc=answer, name="answer"))
    return graph.add_edge(START, "answer").add_edge("answer", END).compile()


def make_agent(*, slow: bool) -> Any:
    agents = pytest.importorskip("langchain.agents")
    return agents.create_agent(Words(slow=slow), [], name="clerk")


Q = {"messages": [("user", "Which?")]}
# subject -> how it is made, its input, and its tree
SUBJECTS: dict[str, tuple[Callable[..., Any], Any, str]] = {
    "model": (Words, "Which?", "chat"),
    "chain": (
        make_chain,
        {"q": "Which?"},
        "RunnableSequence\n  ChatPromptTemplate\n  chat\n  StrOutputParser",
    ),
    "agent": (make_agent, Q, "invoke_agent clerk\n  model\n    chat"),
    "graph": (make_graph, Q, "invoke_workflow\n  answer\n    answer\n      chat"),
}
ONCE = {"invoke": 1, "batch": 2, "batch_as_completed": 2}
STREAMS = ("stream", "transform", "stream_events v3")
ASYNC_ONCE = {"ainvoke": 1, "abatch": 2, "abatch_as_completed": 2}
ASYNC_STREAMS = (
    "astream",
    "atransform",
    "astream_log",
    "astream_events v1",
    "astream_events v2",
    "astream_events v3",
)
WAIT_FOR_THE_RUN = {"astream_log", "astream_events v1"}
MODEL_WAYS = ("generate", "generate_prompt", "agenerate", "agenerate_prompt")  # of several prompts at once
# Public methods that take an input and run nothing, and those of 0.3 that call ``invoke`` under their old names.
WITHOUT_A_RUN = {"get_num_tokens_from_messages", "predict_messages", "apredict_messages"}


@pytest.fixture(autouse=True)
def _autolog(spans: Spans) -> Iterator[None]:
    """No span is current afterwards, and nothing is kept of any run."""
    integrations.langchain.autolog()
    integrations.langgraph.autolog()
    before = otel_context.get_current()
    yield
    assert otel_context.get_current() == before
    integrations.langchain.autolog(disable=True)
    integrations.langgraph.autolog(disable=True)
    gc.collect()
    assert len(langchain_runs) == 0


def list_ways(cls: type) -> set[str]:
    """Return the public methods of *cls* that take an input as their first argument."""
    found = set()
    for name in dir(cls):
        method = inspect.getattr_static(cls, name)
        if name.startswith("_") or not inspect.isfunction(method):
            continue
        first = [*inspect.signature(method).parameters, "", ""][1]
        if first in {"input", "inputs", "messages", "prompts"}:
            found.add(name)
    return found


@pytest.mark.parametrize("cls", [Runnable, BaseChatModel, BaseLLM, Pregel])
def test_the_matrix_has_every_way_of_running(cls: type) -> None:
    """A way that LangChain gains is missing here, until it is tested."""
    tested = {*ONCE, *STREAMS, *ASYNC_ONCE, *ASYNC_STREAMS, *MODEL_WAYS}
    assert list_ways(cls) - {way.partition(" ")[0] for way in tested} - WITHOUT_A_RUN == set()
    for name in ("stream_events", "astream_events"):
        if (method := getattr(cls, name, None)) is not None:
            told = str(inspect.signature(method).parameters["version"].annotation)
            assert set(re.findall(r"v\d+", told)) <= {"v1", "v2", "v3"}


def skip_unless_offered(runnable: Any, way: str) -> None:
    """Skip a way that this version has not, or has for no such runnable."""
    name, _, version = way.partition(" ")
    method = getattr(runnable, name, None)
    if method is None or (version == "v3" and "v3" not in str(inspect.signature(method).parameters["version"])):
        pytest.skip("this version has no such way")
    if version == "v3" and not isinstance(runnable, (BaseChatModel, Pregel)):
        pytest.skip("LangChain offers it for models and graphs")


def open_stream(runnable: Any, way: str, given: Any) -> Any:
    """Return the stream of *way*; that of ``astream_events`` in version 3 is awaited first."""
    name, _, version = way.partition(" ")
    if name == "transform":
        return runnable.transform(iter([given]))
    if name == "atransform":

        async def give() -> AsyncIterator[Any]:
            yield given

        return runnable.atransform(give())
    return getattr(runnable, name)(given, **({"version": version} if version else {}))


async def settle() -> None:
    """Let the event loop close what has been dropped, and the tasks that it stops come to their end."""
    for _ in range(100):
        if not len(langchain_runs):
            return
        gc.collect()
        await asyncio.sleep(0.01)


def trees(spans: Spans) -> Counter[str]:
    """Return the trees of the roots, without marks, and how often there is each."""
    shown = re.sub(r" \[.*?\]", "", spans.tree())
    return Counter(re.split(r"\n(?! )", shown)) if shown else Counter()


def check_ended(spans: Spans, subject: str, runs: int, *, error: str | None = None) -> None:
    """Check that *runs* traces have ended, each with one root and no span whose parent is missing."""
    ids = {span.get_span_context().span_id for span in spans.all}
    roots = [span for span in spans.all if span.parent is None]
    early = {"LangGraph": "invoke_workflow", "clerk": "invoke_agent clerk"}  # before 1.1: left before its first step
    named = [early.get(root.name, root.name) for root in roots]
    assert named == [SUBJECTS[subject][2].partition("\n")[0]] * runs, spans.tree()
    assert all(span.parent is None or span.parent.span_id in ids for span in spans.all), spans.tree()
    checked = spans.all if error is None else roots  # what is cancelled may have parts that have ended before
    assert {(span.attributes or {}).get("error.type") for span in checked} == {error}, spans.tree()
    if error is None:
        assert "ERROR" not in spans.tree(), spans.tree()


@pytest.mark.parametrize("way", ONCE)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_whole_answers(spans: Spans, subject: str, way: str) -> None:
    """Each input is one trace, twice in a row."""
    make, given, tree = SUBJECTS[subject]
    runnable, several = make(slow=False), ONCE[way] > 1
    for _ in range(2):
        result = getattr(runnable, way)([given, given] if several else given)
        if several:
            list(result)
    assert trees(spans) == {tree: 2 * ONCE[way]}


@pytest.mark.parametrize("way", ASYNC_ONCE)
@pytest.mark.parametrize("subject", SUBJECTS)
async def test_whole_answers_async(spans: Spans, subject: str, way: str) -> None:
    """Likewise, in one task."""
    make, given, tree = SUBJECTS[subject]
    runnable, several = make(slow=False), ASYNC_ONCE[way] > 1
    for _ in range(2):
        result = getattr(runnable, way)([given, given] if several else given)
        if way == "abatch_as_completed":
            assert len([one async for one in result]) == 2
        else:
            await result
    assert trees(spans) == {tree: 2 * ASYNC_ONCE[way]}


@pytest.mark.parametrize("end", ["read", "left", "closed"])
@pytest.mark.parametrize("way", STREAMS)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_streams(spans: Spans, subject: str, way: str, end: str) -> None:
    """Streams that are read, dropped after a chunk, or closed: no error, and nothing is left open."""
    make, given, tree = SUBJECTS[subject]
    runnable = make(slow=False)
    skip_unless_offered(runnable, way)
    for _ in range(3):
        stream = open_stream(runnable, way, given)
        if end == "read":
            list(stream)
            continue
        for _chunk in stream:
            break
        if end == "closed" and (close := getattr(stream, "close", getattr(stream, "abort", None))) is not None:
            close()
        del stream
    gc.collect()
    assert len(langchain_runs) == 0
    check_ended(spans, subject, 3)
    if end == "read":
        assert trees(spans) == {tree: 3}


def asks_model() -> bool:
    """Return whether a call to a model is open: the first of a slow run."""
    return any(isinstance(operation.record, Chat) for operation in langchain_runs.list_operations())


async def wait_for_the_reader(task: asyncio.Task[None], count_items: Callable[[], int]) -> None:
    """Wait until the model is asked and what has come is read: a reader that does not wait for more has left."""
    while not asks_model() and not task.done():  # noqa: ASYNC110  # there is no event to wait for
        await asyncio.sleep(0.01)
    items = -1
    while items != count_items():
        items = count_items()
        for _ in range(5):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("end", ["read", "left", "closed", "cancelled"])
@pytest.mark.parametrize("way", ASYNC_STREAMS)
@pytest.mark.parametrize("subject", SUBJECTS)
async def test_async_streams(spans: Spans, subject: str, way: str, end: str) -> None:
    """Likewise in one task; a reader that is cancelled is an error that says so, where LangChain stops the run."""
    if end == "cancelled" and way in WAIT_FOR_THE_RUN:
        pytest.skip("LangChain does not stop the run, and waits for its end")
    make, given, tree = SUBJECTS[subject]
    runnable = make(slow=end == "cancelled")
    skip_unless_offered(runnable, way)
    before, read_items = otel_context.get_current(), 0

    async def read() -> None:
        nonlocal read_items
        stream = open_stream(runnable, way, given)
        if inspect.isawaitable(stream) and way.endswith("v3"):
            stream = await stream
        try:
            async for _ in stream:
                read_items += 1
                if end in {"left", "closed"}:
                    break
        finally:
            if end == "closed" or (end == "cancelled" and way.endswith("v3")):
                close = getattr(stream, "aclose", None) or stream.abort
                await close()

    for _ in range(3):
        if end == "cancelled":
            task = asyncio.create_task(read())
            await wait_for_the_reader(task, lambda: read_items)
            task.cancel()
            await asyncio.wait([task], timeout=10)
            assert task.cancelled()
        else:
            await read()
        assert otel_context.get_current() == before
        await settle()
    if end == "cancelled" and way.endswith("v3") and subject == "model":  # its run is stopped by closing the stream
        check_ended(spans, subject, 3)
    else:
        check_ended(spans, subject, 3, error="asyncio.exceptions.CancelledError" if end == "cancelled" else None)
    if end == "read":
        assert trees(spans) == {tree: 3}


@pytest.mark.parametrize("way", MODEL_WAYS)
async def test_several_prompts_in_one_call(spans: Spans, way: str) -> None:
    """Each prompt of ``generate`` is a trace with its own question and answer, of chat models and of LLMs."""
    prompts: Any = ["Q1", "Q2", "Q3"]
    for model in (Words(), FakeListLLM(responses=["A1", "A2", "A3"])):
        given = [[HumanMessage(one)] for one in prompts] if isinstance(model, BaseChatModel) else prompts
        if way.endswith("_prompt"):
            given = [StringPromptValue(text=one) for one in prompts]
        result = getattr(model, way)(given)
        if inspect.isawaitable(result):
            await result
        asked = [content(span, "gen_ai.input.messages")[0]["parts"][0]["content"] for span in spans.all]
        assert asked == prompts
        assert all(span.parent is None for span in spans.all)
        said = [content(span, "gen_ai.output.messages")[0]["parts"][0]["content"] for span in spans.all]
        assert said == (["one two three"] * 3 if isinstance(model, BaseChatModel) else ["A1", "A2", "A3"])
        spans.clear()


async def test_streams_side_by_side_keep_their_own_question(spans: Spans) -> None:
    """Four streams of version 3, open at once in one task: four traces, each with its own question."""
    model = Words()
    skip_unless_offered(model, "astream_events v3")
    streams = [await model.astream_events(f"Q{n}", version="v3") for n in range(4)]
    firsts = [aiter(stream) for stream in streams]
    for events in firsts:
        await anext(events)
    for stream in streams:
        assert (await stream).text == "one two three"
    asked = [content(span, "gen_ai.input.messages")[0]["parts"][0]["content"] for span in spans.all]
    assert asked == ["Q0", "Q1", "Q2", "Q3"]
    assert len({span.get_span_context().trace_id for span in spans.all}) == 4
