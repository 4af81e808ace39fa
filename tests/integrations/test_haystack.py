"""Haystack's pipelines, agents and tools: one tree for a run, with the hook of the client below it or without."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest

pytest.importorskip("haystack", reason="in the nox session haystack")

import haystack.tracing as haystack_tracing
from haystack import Document, Pipeline, component
from haystack import tracing as own
from haystack.components.agents import Agent
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.components.generators.chat import FallbackChatGenerator
from haystack.components.retrievers import MultiQueryEmbeddingRetriever
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever, InMemoryEmbeddingRetriever
from haystack.core.errors import BreakpointException, PipelineRuntimeError
from haystack.core.pipeline.base import PipelineBase
from haystack.dataclasses.breakpoints import Breakpoint
from haystack.tools import ComponentTool, Tool
from haystack.tools.errors import ToolInvocationError
from haystack_kit import KEY, QUESTION, VERSION, ask, get_weather, make_generator, make_rag, make_store
from openai_answers import answer, count_tokens, list_links, stream
from openai_chunks import ANSWER, REFUSAL
from opentelemetry import trace
from scripted_client import ScriptedAsyncCalls, ScriptedCalls, ScriptedClient

from mlspan import integrations, tracing
from mlspan.testing import Spans, content, contracts

RAG = "invoke_workflow rag\n  retrieval InMemoryBM25Retriever\n  prompt\n  chat m [12 in, 5 out]"
ASKS = answer(None, ("call_1", "get_weather", {"city": "Paris"}))


@pytest.fixture(params=["alone", "with openai"])
def _on(request: pytest.FixtureRequest, spans: Spans) -> Iterator[None]:
    integrations.haystack.autolog()
    if request.param == "with openai":
        integrations.openai.autolog()
    yield
    integrations.haystack.autolog(disable=True)
    integrations.openai.autolog(disable=True)


pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # clients that Haystack leaves to the collector
on = pytest.mark.usefixtures("_on")


class Rag(ScriptedClient):
    """A pipeline with a single model, its hook and a server."""

    span: ClassVar[str] = "invoke_workflow rag"
    tokens = None
    texts: ClassVar[tuple[str, ...]] = ("Is it sunny?", "One two.")
    answer, refusal, events = ANSWER, REFUSAL, stream("One two.")
    fails = PipelineRuntimeError

    def make_client(self) -> Any:
        return make_rag(self.server)

    def release_client(self) -> None:
        pass

    def find_span(self) -> Any:
        (root,) = self.spans.named(self.span)  # type: ignore[attr-defined]
        return root

    def autolog(self, **options: Any) -> None:
        integrations.haystack.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        tracer = type(haystack_tracing.tracer)
        return [(tracer, "trace"), (tracer, "current_span"), (Pipeline, "run"), (Pipeline, "run_async_generator")]

    def read_answer(self, answer: Any) -> Any:
        return answer["llm"]["replies"][0].text


class TestCalls(Rag, ScriptedCalls, contracts.CallContract):
    def ask(self, client: Any, **more: Any) -> Any:
        return client.run(QUESTION)


class TestAsyncCalls(Rag, ScriptedAsyncCalls, contracts.AsyncCallContract):
    make_async_client = Rag.make_client

    async def ask(self, client: Any, **more: Any) -> Any:
        try:
            return await client.run_async(QUESTION)
        finally:
            await client.get_component("llm").async_client.close()

    def test_calls_at_once(self) -> None:
        async def call_thrice() -> None:
            await asyncio.gather(*(self.make_call() for _ in range(3)))

        self._run(call_thrice)
        assert self.spans.tree() == "\n".join([RAG] * 3)


@on
def test_a_pipeline_is_one_tree(scripted: Any, spans: Spans) -> None:
    """The pipeline is the root; its components have the kinds of the conventions, and what went in and out."""
    scripted.reply(ANSWER)
    make_rag(scripted, generation_kwargs={"temperature": 0.5}).run(QUESTION)
    assert spans.tree() == RAG
    found, _, asked, root = (
        spans.named(name)[0] for name in ("retrieval InMemoryBM25Retriever", "prompt", "chat m", "invoke_workflow rag")
    )
    assert content(root, "mlspan.input") == QUESTION
    assert content(root, "mlspan.output") == {"llm": {"replies": [{"role": "assistant", "content": "One two."}]}}
    (document,) = content(found, "gen_ai.retrieval.documents")
    assert (document["id"], document["content"]) == ("1", "Paris is sunny.")
    assert content(asked, "gen_ai.input.messages")[0]["parts"][0]["content"] == "Paris is sunny. Is it sunny?"
    known = dict(asked.attributes or {})
    assert (known["gen_ai.provider.name"], known["server.address"]) == ("openai", "127.0.0.1")
    assert known["gen_ai.request.temperature"] == 0.5
    assert known["haystack.component.name"] == "llm"


@on
@pytest.mark.parametrize("way", ["run", "run_async"])
def test_an_agent_with_a_tool(way: str, scripted: Any, spans: Spans) -> None:
    """Agent, model, tool, model; the tool is linked to the call that asked for it."""
    scripted.reply(ASKS)
    scripted.reply(answer("It is sunny.", usage={"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23}))
    agent = Agent(chat_generator=make_generator(scripted), tools=[get_weather], system_prompt="Be brief.")
    if way == "run":
        agent.run(messages=ask())
    else:
        asyncio.run(agent.run_async(messages=ask()))
    assert spans.tree() == (
        "invoke_agent\n  chat m [12 in, 5 out]\n  execute_tool get_weather\n  chat m [20 in, 3 out]"
    )
    assert list_links(spans, "execute_tool get_weather") == [("asked_by", "chat m")]
    assert count_tokens(spans) == (32, 8)
    root = spans.named("invoke_agent")[0]
    assert (content(root, "mlspan.input"), content(root, "mlspan.output")) == ("weather in Paris?", "It is sunny.")
    assert (root.attributes or {}).get("mlspan.stop_reason") == ("text" if VERSION >= (3, 1) else None)
    tool = dict(spans.named("execute_tool get_weather")[0].attributes or {})
    assert (tool["gen_ai.tool.call.result"], tool["gen_ai.tool.description"]) == (
        "sunny in Paris",
        "The weather in a city.",
    )


@on
@pytest.mark.parametrize("raises", [False, True])
def test_a_tool_that_fails(raises: bool, scripted: Any, spans: Spans) -> None:
    """Its span says what the function has raised. The agent fails only if the tool's error reaches its caller."""
    scripted.reply(answer(None, ("call_1", "get_weather", {"city": "Nowhere"})))
    scripted.reply(ANSWER)
    agent = Agent(chat_generator=make_generator(scripted), tools=[get_weather], raise_on_tool_invocation_failure=raises)
    if raises:
        with pytest.raises(ToolInvocationError):
            agent.run(messages=ask())
    else:
        agent.run(messages=ask())
    lines = spans.tree().splitlines()
    assert lines[0] == "invoke_agent" + " [ERROR haystack.tools.errors.ToolInvocationError]" * raises
    assert lines[2] == "  execute_tool get_weather [ERROR LookupError]"
    assert spans.named("execute_tool get_weather")[0].status.description == "no such city"


@on
def test_a_model_that_fails(scripted: Any, spans: Spans) -> None:
    """The call says what the client has raised, the pipeline what the program gets."""
    scripted.reply(REFUSAL, status=400)
    with pytest.raises(PipelineRuntimeError):
        make_rag(scripted).run(QUESTION)
    assert spans.tree().splitlines()[0] == "invoke_workflow rag [ERROR haystack.core.errors.PipelineRuntimeError]"
    assert spans.tree().splitlines()[-1] == "  chat m [ERROR openai.BadRequestError]"


@on
@pytest.mark.parametrize("end", ["", "closed"])
def test_steps_of_a_pipeline(end: str, scripted: Any, spans: Spans) -> None:
    """Between two steps nothing of the pipeline is current, and leaving the steps early ends its span."""
    scripted.reply(ANSWER)
    pipeline = make_rag(scripted)
    current = []

    async def read_steps() -> None:
        steps = pipeline.run_async_generator(QUESTION)
        async for _ in steps:
            current.append(trace.get_current_span().get_span_context().is_valid)
            if end:
                break
        await steps.aclose()
        if (client := pipeline.get_component("llm").async_client) is not None:
            await client.close()
        current.append(trace.get_current_span().get_span_context().is_valid)

    asyncio.run(read_steps())
    assert current
    assert not any(current)
    assert spans.tree().splitlines()[0] == "invoke_workflow rag" + f" [stream {end}]" * bool(end)


@on
def test_a_streamed_answer(scripted: Any, spans: Spans) -> None:
    """A callback gets each piece; the span is that of a whole answer."""
    scripted.stream(*stream("One two."))
    pieces: list[str] = []
    options = {"stream_options": {"include_usage": True}}
    rag = make_rag(scripted, streaming_callback=lambda chunk: pieces.append(chunk.content), generation_kwargs=options)
    rag.run(QUESTION)
    assert "".join(pieces) == "One two."
    assert spans.tree("gen_ai.request.stream").endswith("chat m [12 in, 5 out, gen_ai.request.stream=True]")


@on
def test_parallel_tools(scripted: Any, spans: Spans) -> None:
    """Tools that run in threads at the same time are siblings, each with its own link."""
    scripted.reply(answer(None, *((f"call_{n}", "get_weather", {"city": f"City {n}"}) for n in range(3))))
    scripted.reply(ANSWER)
    Agent(chat_generator=make_generator(scripted), tools=[get_weather]).run(messages=ask())
    assert spans.tree().splitlines()[2:5] == ["  execute_tool get_weather"] * 3
    assert list_links(spans, "execute_tool get_weather") == [("asked_by", "chat m")] * 3
    ids = {(span.attributes or {})["gen_ai.tool.call.id"] for span in spans.named("execute_tool get_weather")}
    assert ids == {"call_0", "call_1", "call_2"}


@on
def test_an_agent_as_a_tool_and_in_a_pipeline(scripted: Any, spans: Spans) -> None:
    """An agent of a pipeline is one span, named as its component; an agent that is a tool is below that tool."""
    scripted.reply(answer(None, ("call_1", "expert", {"messages": [{"role": "user", "content": [{"text": "sun?"}]}]})))
    scripted.reply(ANSWER)
    expert = ComponentTool(
        Agent(chat_generator=make_generator(scripted)),
        name="expert",
        description="Knows.",
        outputs_to_string={"source": "last_message"},
    )
    pipeline = Pipeline()
    pipeline.add_component("chief", Agent(chat_generator=make_generator(scripted), tools=[expert]))
    pipeline.run({"chief": {"messages": ask()}})
    assert spans.tree() == (
        "invoke_workflow Pipeline\n  invoke_agent chief\n    chat m [12 in, 5 out]\n    execute_tool expert\n"
        "      invoke_agent\n        chat m [12 in, 5 out]\n    chat m [12 in, 5 out]"
    )


@on
async def test_parallel_agents(scripted: Any, spans: Spans) -> None:
    """Agents of several tasks are a trace each; in a span of the program's they are its children."""
    scripted.reply(ANSWER)
    agents = [Agent(chat_generator=make_generator(scripted)) for _ in range(3)]
    with tracing.session("s-1"), tracing.span("all"):
        await asyncio.gather(*(agent.run_async(messages=ask()) for agent in agents))
    for agent in agents:
        await agent.chat_generator.async_client.close()
    assert spans.tree() == "all" + "\n  invoke_agent\n    chat m [12 in, 5 out]" * 3
    assert {(span.attributes or {})["session.id"] for span in spans.all} == {"s-1"}


VECTORS = {"object": "list", "model": "e-1", "usage": {"prompt_tokens": 3, "total_tokens": 3}}


@on
def test_embedders_and_threads(scripted: Any, spans: Spans) -> None:
    """Embedders have their tokens; what a retriever asks of them in threads is below it."""
    scripted.reply({**VECTORS, "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}]})
    where: Any = {"api_key": KEY, "model": "e", "api_base_url": scripted.base_url, "max_retries": 0}
    store = make_store()
    pipeline = Pipeline()
    pipeline.add_component("documents", OpenAIDocumentEmbedder(**where, progress_bar=False))
    pipeline.run({"documents": {"documents": [Document(content="Paris.")]}})
    assert spans.tree() == "invoke_workflow Pipeline\n  embeddings e [3 in, 0 out]"
    known = dict(spans.named("embeddings e")[0].attributes or {})
    assert (known["gen_ai.embeddings.dimension.count"], known["gen_ai.response.model"]) == (2, "e-1")
    assert "0.2" not in str([dict(span.attributes or {}) for span in spans.all])
    spans.clear()
    many = MultiQueryEmbeddingRetriever(
        retriever=InMemoryEmbeddingRetriever(store), query_embedder=OpenAITextEmbedder(**where)
    )
    pipeline = Pipeline()
    pipeline.add_component("many", many)
    pipeline.run({"many": {"queries": ["Paris", "Rome"]}})
    lines = spans.tree().splitlines()
    assert lines[:2] == ["invoke_workflow Pipeline", "  retrieval MultiQueryEmbeddingRetriever"]
    assert (
        sorted(lines[2:]) == ["    embeddings e [3 in, 0 out]"] * 2 + ["    retrieval InMemoryEmbeddingRetriever"] * 2
    )


@on
async def test_components_without_a_pipeline(scripted: Any, spans: Spans) -> None:
    """A generator that the program calls itself is a call, once, and so are an embedder and a retriever."""
    scripted.reply(ANSWER)
    generator = make_generator(scripted)
    generator.run(messages=ask("a greeting"))
    await generator.run_async(ask("a greeting"))
    await generator.async_client.close()
    InMemoryBM25Retriever(make_store(), top_k=1).run(query="Paris")
    assert spans.tree() == "chat m [12 in, 5 out]\nchat m [12 in, 5 out]\nretrieval InMemoryBM25Retriever"
    for span in spans.named("chat m"):
        assert content(span, "gen_ai.input.messages")[0]["parts"][0]["content"] == "a greeting"


@on
def test_a_generator_that_falls_back(scripted: Any, spans: Spans) -> None:
    """Models that are asked one after the other are a single call, with the facts of the one that has answered."""
    scripted.reply(REFUSAL, status=400)
    scripted.reply(ANSWER)
    pipeline = Pipeline()
    pipeline.add_component("llm", FallbackChatGenerator([make_generator(scripted), make_generator(scripted)]))
    pipeline.run({"llm": {"messages": ask()}})
    assert len(spans.all) == 2
    assert count_tokens(spans) == (12, 5)


@on
def test_a_pipeline_that_pauses(scripted: Any, spans: Spans) -> None:
    """A breakpoint is no failure, and the run that goes on is linked to the one that has paused."""
    scripted.reply(ANSWER)
    rag = make_rag(scripted)
    with pytest.raises(BreakpointException) as paused:
        rag.run(QUESTION, break_point=Breakpoint("llm"))
    assert spans.tree() == "invoke_workflow rag\n  retrieval InMemoryBM25Retriever\n  prompt"
    rag.run(data={}, pipeline_snapshot=paused.value.pipeline_snapshot)
    assert spans.tree().endswith("\ninvoke_workflow rag\n  chat m [12 in, 5 out]")
    assert list_links(spans, "invoke_workflow rag") == [("resumes", "invoke_workflow rag")]


@on
@pytest.mark.skipif(VERSION < (3, 1), reason="Haystack does not tell of hooks yet")
def test_a_person_in_the_loop(scripted: Any, spans: Spans) -> None:
    """Who is asked before a tool runs is a step of the agent's, with what was decided."""
    hitl = pytest.importorskip("haystack.hooks.human_in_the_loop")
    scripted.reply(ASKS)
    scripted.reply(ANSWER)

    class Refuse:
        def run(self, **given: Any) -> Any:
            return hitl.ToolExecutionDecision(
                tool_name="get_weather", execute=False, tool_call_id="call_1", feedback="no"
            )

        def to_dict(self) -> Any: ...

    hook = hitl.ConfirmationHook(confirmation_strategies={"get_weather": Refuse()})
    agent = Agent(chat_generator=make_generator(scripted), tools=[get_weather], hooks={"before_tool": [hook]})
    agent.run(messages=ask())
    assert spans.tree("mlspan.kind") == (
        "invoke_agent\n  chat m [12 in, 5 out]\n  ConfirmationHook [mlspan.kind=hook]\n"
        "    get_weather [mlspan.kind=approval]\n  chat m [12 in, 5 out]"
    )
    approval = dict(spans.named("get_weather")[0].attributes or {})
    assert approval["haystack.tool.call.id"] == "call_1"
    assert "reject" in str(approval)


@on
def test_tools_without_an_agent(spans: Spans) -> None:
    """A tool that the program calls itself is a span, once."""
    assert get_weather.invoke(city="Paris") == "sunny in Paris"
    asyncio.run(get_weather.invoke_async(city="Rome"))
    assert spans.tree() == "execute_tool get_weather\nexecute_tool get_weather"


@component
class Tagging:
    """A component that adds to its own span, as Haystack's documentation shows it."""

    @component.output_types(done=bool)
    def run(self) -> Any:
        span = own.tracer.current_span()
        if span is not None:
            span.set_tag("customer", "c-7")
            span.set_content_tag("note", "a secret")
        with own.tracer.trace("lookup", tags={"table": "t"}):
            pass
        return {"done": True}


@on
@pytest.mark.parametrize("captured", [True, False])
def test_tags_of_the_program(captured: bool, spans: Spans) -> None:
    """Tags that a component sets are on its span; content tags only where content is recorded."""
    tracing.configure(capture_content=captured)
    try:
        pipeline = Pipeline()
        pipeline.add_component("tagging", Tagging())
        pipeline.run({})
    finally:
        tracing.configure()
    assert spans.tree("customer", "note", "table") == (
        "invoke_workflow Pipeline\n  tagging [customer=c-7" + ", note=a secret" * captured + "]\n    lookup [table=t]"
    )


class Recorder(haystack_tracing.Tracer):
    """An application's own tracer."""

    class Span(haystack_tracing.Span):
        def __init__(self, name: str, parent: Any) -> None:
            self.name, self.parent, self.tags = name, parent, {}  # type: ignore[var-annotated]

        def set_tag(self, key: str, value: Any) -> None:
            self.tags[key] = value

    def __init__(self) -> None:
        self.ended: list[Any] = []
        self.open: list[Any] = []

    @contextmanager
    def trace(self, operation_name: str, tags: Any = None, parent_span: Any = None) -> Iterator[Any]:
        span = self.Span(operation_name, parent_span)
        span.set_tags(tags or {})
        self.open.append(span)
        try:
            yield span
        finally:
            self.ended.append(self.open.pop())

    def current_span(self) -> Any:
        return self.open[-1] if self.open else None


def test_an_applications_own_tracer(scripted: Any, spans: Spans, monkeypatch: Any) -> None:
    """It sees the very spans, tags and parents that it sees without mlspan, and Haystack's switches say the same."""
    scripted.reply(ANSWER)
    monkeypatch.setattr(haystack_tracing.tracer, "is_content_tracing_enabled", True)
    told = []
    for traced in (False, True):
        recorder = Recorder()
        if traced:
            integrations.haystack.autolog()
            assert not haystack_tracing.is_tracing_enabled()
        haystack_tracing.enable_tracing(recorder)
        try:
            make_rag(scripted).run(QUESTION)
        finally:
            haystack_tracing.disable_tracing()
            integrations.haystack.autolog(disable=True)
        assert all(type(span.parent) in {Recorder.Span, type(None)} for span in recorder.ended)
        told.append([(span.name, span.parent and span.parent.name, [*span.tags]) for span in recorder.ended])
    assert told[0] == told[1]
    assert spans.tree() == RAG


def test_disable_brings_the_originals_back(spans: Spans) -> None:
    """Every patch is taken back: of modules that were imported later, and of tools, too."""
    from haystack.components.agents import agent, tool_calling
    from haystack.components.retrievers import multi_query_text_retriever

    def list_originals() -> list[Any]:
        return [
            vars(PipelineBase)["_create_component_span"],
            vars(agent.Agent)["_create_agent_span"],
            tool_calling._create_tool_span,
            vars(Tool)["invoke"],
            vars(OpenAITextEmbedder)["run"],
            vars(OpenAITextEmbedder)["run_async"],
            multi_query_text_retriever.ThreadPoolExecutor,
        ]

    before = list_originals()
    integrations.haystack.autolog()
    assert all(now is not was for now, was in zip(list_originals(), before, strict=True))
    integrations.haystack.autolog(disable=True)
    assert list_originals() == before
