"""LangChain: the right tree, once, under every way of running."""

from __future__ import annotations

import asyncio
import gc
import re
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("langchain_core")
pytest.importorskip("langchain_openai")

from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableBranch, RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from opentelemetry import context as otel_context
from opentelemetry import trace

from mlspan import integrations, tracing
from mlspan.integrations.langchain.runs import langchain_runs
from mlspan.testing import Spans, content

HELLO = {"q": "hello"}
CHAIN = """\
RunnableSequence
  ChatPromptTemplate
  chat gpt-4o-mini [12 in, 5 out]
  StrOutputParser"""


@pytest.fixture(autouse=True, params=["alone", "with openai"])
def _autolog(request: pytest.FixtureRequest, spans: Spans) -> Iterator[None]:
    """Each test runs without and with the hook of the OpenAI client: one call is one span either way."""
    integrations.langchain.autolog()
    if request.param == "with openai":
        integrations.openai.autolog()
    yield
    integrations.langchain.autolog(disable=True)
    integrations.openai.autolog(disable=True)
    gc.collect()
    assert len(langchain_runs) == 0


@pytest.fixture
def both(request: pytest.FixtureRequest) -> bool:
    return "with openai" in request.node.name


@pytest.fixture
async def model(aimock: str) -> AsyncIterator[Any]:
    import openai
    from langchain_openai import ChatOpenAI

    ask: Any = {"base_url": aimock, "api_key": "test", "max_retries": 0, "stream_usage": True}
    async with openai.DefaultAsyncHttpxClient() as client:  # LangChain's own would outlive the test's event loop
        yield ChatOpenAI(model="gpt-4o-mini", http_async_client=client, **ask)


@pytest.fixture
def chain(model: Any) -> Any:
    return ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "{q}")]) | model | StrOutputParser()


def test_a_chain_is_one_tree(chain: Any, spans: Spans, both: bool) -> None:
    """Prompt, model and parser below the chain; with the client's hook the chat span has the client's facts, too."""
    assert chain.invoke(HELLO) == "Hi there!"
    assert spans.tree() == CHAIN
    (chat,) = spans.named("chat gpt-4o-mini")
    attributes = chat.attributes or {}
    assert content(chat, "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "Hi there!"}]
    assert [m["role"] for m in content(chat, "gen_ai.input.messages")] == ["system", "user"]
    assert attributes["gen_ai.provider.name"] == "openai"
    assert attributes["gen_ai.response.id"]
    assert attributes["server.address"] == "127.0.0.1"  # as the model's own fields tell it, or the client
    assert ("openai.api.type" in attributes) == both
    assert (content(spans.all[0], "mlspan.input"), content(spans.all[0], "mlspan.output")) == (HELLO, "Hi there!")
    assert {(span.attributes or {}).get("mlspan.kind") for span in spans.all} == {"chain", "prompt", "parser", None}


async def test_every_way_of_running_gives_the_same_tree(chain: Any, spans: Spans) -> None:
    """invoke, ainvoke, stream, astream, batch, abatch, batch_as_completed: each run is that one tree."""
    chain.invoke(HELLO)
    await chain.ainvoke(HELLO)
    assert "".join(chain.stream(HELLO)) == "Hi there!"
    assert "".join([piece async for piece in chain.astream(HELLO)]) == "Hi there!"
    chain.batch([HELLO])
    await chain.abatch([HELLO])
    list(chain.batch_as_completed([HELLO]))
    assert Counter(_trees(spans)) == {CHAIN: 7}


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_astream_events(chain: Any, spans: Spans, version: Any) -> None:
    """Events are asked for by a handler of LangChain's own; ours hears the same runs, once."""
    names = [event["event"] async for event in chain.astream_events(HELLO, version=version)]
    assert "on_chat_model_stream" in names
    assert Counter(_trees(spans))[CHAIN] == 1
    assert len(spans.named("chat gpt-4o-mini")) == 1


def test_every_kind_of_runnable(spans: Spans) -> None:
    """Parallel, lambda, branch, retry, fallback, and names, tags and metadata of one's own."""

    def fail(_: Any) -> Any:
        raise ValueError("no")

    kinds = RunnableParallel(
        plain=RunnableLambda(lambda x: x, name="plain"),
        branch=RunnableBranch(
            (lambda x: x > 1, RunnableLambda(lambda x: x, name="big")), RunnableLambda(lambda x: -x, name="small")
        ),
        fallback=RunnableLambda(fail, name="fails").with_fallbacks([RunnableLambda(lambda x: x, name="helps")]),
        again=RunnableLambda(fail, name="tries").with_retry(stop_after_attempt=2, wait_exponential_jitter=False),
    )
    with pytest.raises(ValueError, match="no"):
        kinds.with_config(run_name="kinds", tags=["mine"], metadata={"team": "red"}).invoke(2)
    root = spans.named("kinds")[0]
    assert (root.attributes or {})["mlspan.langchain.tags"] == ("mine",)
    assert (root.attributes or {})["mlspan.langchain.metadata.team"] == "red"
    assert (root.attributes or {})["error.type"] == "ValueError"
    by_name = Counter(span.name for span in spans.all)
    assert by_name["tries"] >= 2
    for name in ("plain", "big", "fails", "helps"):
        assert by_name[name] == 1, by_name


@tool
def look_up(city: str) -> str:
    """The weather in a city."""
    with trace.get_tracer("theirs").start_as_current_span("their own"):
        return f"sunny in {city}"


@tool
async def look_up_async(city: str) -> str:
    """The weather in a city."""
    with tracing.span("inside"):
        await asyncio.sleep(0)
    raise LookupError(city)


async def test_tools(spans: Spans) -> None:
    """Arguments, result, description and call id; a span inside of a tool is below it; an error is the tool's."""
    call: Any = {"type": "tool_call", "name": "look_up", "id": "call_7", "args": {"city": "Rome"}}
    assert look_up.invoke(call).content == "sunny in Rome"
    with pytest.raises(LookupError):
        await look_up_async.ainvoke({"city": "Oslo"})
    assert spans.tree() == (
        "execute_tool look_up\n  their own\nexecute_tool look_up_async [ERROR LookupError]\n  inside"
    )
    span = spans.all[0]
    assert content(span, "gen_ai.tool.call.arguments") == {"city": "Rome"}
    assert content(span, "gen_ai.tool.call.result") == "sunny in Rome"
    assert (span.attributes or {})["gen_ai.tool.call.id"] == "call_7"
    assert (span.attributes or {})["gen_ai.tool.description"] == "The weather in a city."


class Shelf(BaseRetriever):
    """Two documents, with ids and scores."""

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        with tracing.span("inside the shelf"):
            return [
                Document(id="d1", page_content="Cats purr.", metadata={"score": 0.9, "page": 3}),
                Document(id="d2", page_content="Dogs bark."),
            ]


async def test_retrievers(spans: Spans) -> None:
    """Query and documents with ids, scores and metadata; no context is left behind."""
    before = otel_context.get_current()
    Shelf().invoke("cats?")
    await Shelf().ainvoke("cats?")
    assert otel_context.get_current() == before
    assert _trees(spans) == ["retrieval Shelf\n  inside the shelf"] * 2
    span = spans.all[0]
    assert content(span, "gen_ai.retrieval.query.text") == "cats?"
    first, second = content(span, "gen_ai.retrieval.documents")
    assert first == {"id": "d1", "score": 0.9, "content": "Cats purr.", "metadata": {"score": 0.9, "page": 3}}
    assert second["id"] == "d2"


async def test_embeddings(aimock: str, spans: Spans, both: bool) -> None:
    """Of any class, sync and async, with their dimensions: one span a call, of a client's requests too."""
    import openai
    from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
    from langchain_openai import OpenAIEmbeddings

    class Mine(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[0.0] * 3 for _ in texts]

        def embed_query(self, text: str) -> list[float]:
            return [0.0] * 3

    Mine().embed_documents(["a", "b"])
    await Mine().aembed_query("a")
    DeterministicFakeEmbedding(size=5).embed_query("a")
    with openai.DefaultHttpxClient() as http:
        ask: Any = {"base_url": aimock, "api_key": "x", "http_client": http, "check_embedding_ctx_length": False}
        OpenAIEmbeddings(model="text-embedding-3-small", **ask).embed_documents(["a", "b"])
    attributes = [(span.attributes or {}) for span in spans.all]
    assert [one["gen_ai.embeddings.dimension.count"] for one in attributes] == [3, 3, 5, 1536]
    assert content(spans.all[0], "mlspan.input") == ["a", "b"]
    assert attributes[3]["gen_ai.provider.name"] == "openai"
    assert ("server.address" in attributes[3]) == both


async def test_models_alone(spans: Spans) -> None:
    """Chat models and LLMs without a chain, without a server, sync and async, streamed and not."""
    chat, llm = FakeListChatModel(responses=["one"]), FakeListLLM(responses=["two"])
    before = otel_context.get_current()
    chat.invoke("a")
    await chat.ainvoke("a")
    list(chat.stream("a"))
    assert [piece async for piece in chat.astream("a")]
    llm.invoke("b")
    await llm.ainvoke("b")
    list(llm.stream("b"))
    assert otel_context.get_current() == before
    said = [content(span, "gen_ai.output.messages")[0]["parts"][0]["content"] for span in spans.all]
    assert said == ["one"] * 4 + ["two"] * 3
    assert {(span.attributes or {})["gen_ai.operation.name"] for span in spans.all} == {"chat", "text_completion"}


@pytest.mark.any_span
def test_a_model_of_anthropic(aimock: str, spans: Spans) -> None:
    """Another provider's client: its own usage and stop reason, by what LangChain says of them."""
    anthropic = pytest.importorskip("langchain_anthropic")
    model = anthropic.ChatAnthropic(model="claude-3-5-haiku-latest", base_url=aimock.removesuffix("/v1"), api_key="x")
    assert model.invoke("hello").content == "Hi there!"
    attributes = spans.all[0].attributes or {}
    assert spans.tree().startswith(
        "chat claude-3-5-haiku-latest [12 in, 5 out]"
    )  # the client has spans of its own, too
    assert attributes["gen_ai.provider.name"] == "anthropic"
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)


@pytest.mark.parametrize("leave", ["break", "close", "error"])
def test_a_stream_left_early_ends_every_span(chain: Any, spans: Spans, leave: str) -> None:
    """However it is left: every span of the tree has ended, and nothing stays attached to the caller."""
    before = otel_context.get_current()
    stream = chain.stream({"q": "slowly"})
    next(stream)
    assert otel_context.get_current() == before
    if leave == "close":
        stream.close()
    elif leave == "error":
        with pytest.raises(KeyError):
            stream.throw(KeyError())
    del stream
    gc.collect()
    assert re.sub(r" \[.*?\]", "", spans.tree()) == re.sub(r" \[.*?\]", "", CHAIN)


class Slow(FakeListChatModel):
    async def _agenerate(self, *_: Any, **__: Any) -> Any:
        await asyncio.sleep(30)


async def test_a_cancelled_call_is_an_error_that_says_so(spans: Spans) -> None:
    """A task that is cancelled ends its spans as cancelled."""
    chain = RunnableLambda(lambda x: x, name="before") | Slow(responses=[])
    for run in (chain, Slow(responses=[])):
        task = asyncio.create_task(run.ainvoke("hello"))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.sleep(0.05)  # LangChain tells of it in a task of its own
    cancelled = "[ERROR asyncio.exceptions.CancelledError]"
    assert spans.tree() == f"RunnableSequence {cancelled}\n  before\n  chat {cancelled}\nchat {cancelled}"


def test_an_error_of_the_server(model: Any, spans: Spans) -> None:
    """It reaches the caller as it is, and every span on its way says what it was."""
    chain = ChatPromptTemplate.from_template("{q}") | model
    with pytest.raises(Exception, match="404") as raised:
        chain.invoke({"q": "there is no such fixture"})
    name = f"{type(raised.value).__module__}.{type(raised.value).__qualname__}"
    failed = [span.name for span in spans.all if (span.attributes or {}).get("error.type") == name]
    assert failed == ["RunnableSequence", "chat gpt-4o-mini"]


def test_a_raw_call_inside_is_not_swallowed(aimock: str, chain: Any, spans: Spans, both: bool) -> None:
    """A call of the client of one's own inside a lambda is a span of its own, below the lambda."""
    import openai

    def ask(_: Any) -> str:
        with openai.OpenAI(base_url=aimock, api_key="test") as client:
            messages: Any = [{"role": "user", "content": "hello"}]
            return (
                client.chat.completions.create(model="gpt-4o-mini", messages=messages).choices[0].message.content or ""
            )

    RunnableLambda(ask, name="ask").invoke(1)
    assert spans.tree() == ("ask\n  chat gpt-4o-mini [12 in, 5 out]" if both else "ask")


def test_users_spans_nest_both_ways(chain: Any, spans: Spans) -> None:
    """A chain inside a span of the user's inside a lambda: each below the other, in threads too."""

    def middle(x: Any) -> Any:
        with tracing.span("middle"):
            chain.invoke(HELLO)
            RunnableParallel(
                a=RunnableLambda(lambda _: _mark("left")), b=RunnableLambda(lambda _: _mark("right"))
            ).invoke(x)
        return x

    with tracing.span("outer"):
        RunnableLambda(middle, name="lambda").invoke(1)
    tree = spans.tree()
    assert tree.startswith("outer\n  lambda\n    middle\n      RunnableSequence\n        ChatPromptTemplate")
    assert "      RunnableParallel<a,b>\n" in tree
    assert re.search(r"\n        \w+\n          left", tree)
    assert re.search(r"\n        \w+\n          right", tree)


def _mark(name: str) -> None:
    with tracing.span(name):
        pass


async def test_two_hundred_at_once_stay_apart(spans: Spans) -> None:
    """In one event loop and in a thread pool, failures among them: no span below another run's parent."""

    async def inner(n: int) -> int:
        with tracing.span(f"own {n}"):
            await asyncio.sleep(0.001 * (n % 7))
        if n % 10 == 0:
            raise ValueError(n)
        return n

    def inner_sync(n: int) -> int:
        with tracing.span(f"own {n}"):
            pass
        return n

    chain = RunnableLambda(lambda n: n, name="first") | RunnableLambda(inner_sync, afunc=inner, name="second")
    await asyncio.gather(*(chain.ainvoke(n, {"run_name": f"run {n}"}) for n in range(200)), return_exceptions=True)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: chain.invoke(n, {"run_name": f"run {n}"}), range(200, 400)))
    trees = _trees(spans)
    assert len(trees) == 400
    for tree in trees:
        (n,) = set(re.findall(r"(?:run|own) (\d+)", tree))
        assert re.sub(r" \[.*?\]", "", tree) == f"run {n}\n  first\n  second\n    own {n}"
    assert len(langchain_runs) == 0


def test_it_goes_with_the_thread_it_is_asked_in(spans: Spans) -> None:
    """A run inside a plain thread has no parent but its own."""
    with tracing.span("main"):
        thread = threading.Thread(target=lambda: RunnableLambda(lambda x: x, name="alone").invoke(1))
        thread.start()
        thread.join(30)
    assert spans.tree() == "main\nalone"


def test_disable_leaves_nothing(spans: Spans) -> None:
    """Off, nothing is recorded, and LangChain's hooks and functions are the originals again."""
    from langchain_core.runnables import config
    from langchain_core.tracers import context

    integrations.langchain.autolog(disable=True)
    assert config._set_config_context.__module__ == "langchain_core.runnables.config"
    assert not hasattr(config._set_config_context, "__wrapped__")
    assert all(getattr(var, "name", "") != "mlspan_langchain" for var, *_ in context._configure_hooks)
    RunnableLambda(lambda x: x).invoke(1)
    assert spans.all == []


def _trees(spans: Spans) -> list[str]:
    """The trees of the roots, one by one."""
    return re.split(r"\n(?! )", spans.tree())
