"""What was billed is what is recorded, what raised is what has failed: by every framework that calls a model.

``tests/test_reconciliation_openai.py`` says it for each way of calling OpenAI's client. The frameworks that are
installed run here: in the main environment, and in their nox sessions. Each is run without and with the hook of the
client below it, so a call that two of them tell of has to count once.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

mlflow = pytest.importorskip("mlflow")

from model_servers import SERVERS
from reconciled import Bill, describe_error, find_differences
from test_endings import FRAMEWORKS, Ask, is_installed

from mlspan import integrations, tracing

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Resolved model mismatch:UserWarning"),  # AutoGen's, of any scripted answer
    # A client leaves an answer that breaks off half read; if two collections meet its generators, Python says so.
    pytest.mark.filterwarnings(
        "ignore:.*async_generator object (BoundAsyncStream|Response).:pytest.PytestUnraisableExceptionWarning"
    ),
]


TIMEOUTS = itertools.count(60)


async def ask_langgraph(http: Any, url: str, streamed: bool) -> None:
    """Run a graph whose only node asks a model."""
    from langchain_openai import ChatOpenAI
    from langgraph.graph import END, START, MessagesState, StateGraph

    ask: Any = {"base_url": url, "api_key": "x", "max_retries": 0, "http_async_client": http, "stream_usage": True}
    model = ChatOpenAI(model="gpt-4o-mini", **ask)

    async def answer(state: Any) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").add_edge("answer", END)
    asked: Any = {"messages": [("user", "Hi")]}
    if not streamed:
        await graph.compile().ainvoke(asked)
        return
    async for _ in graph.compile().astream(asked, stream_mode="messages"):
        pass


async def ask_anthropic(http: Any, url: str, streamed: bool) -> None:
    import anthropic

    options: Any = {"base_url": url.removesuffix("/v1"), "api_key": "x", "max_retries": 0}
    asked: Any = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    async with anthropic.AsyncAnthropic(**options) as client:
        if not streamed:
            await client.messages.create(**asked)
            return
        async with client.messages.stream(**asked) as stream:
            async for _ in stream:
                pass


async def ask_langchain_anthropic(http: Any, url: str, streamed: bool) -> None:
    from langchain_anthropic import ChatAnthropic

    timeout = next(TIMEOUTS)  # models with the same one share a client that nobody closes
    ask: Any = {
        "base_url": url.removesuffix("/v1"),
        "api_key": "x",
        "max_retries": 0,
        "default_request_timeout": timeout,
    }
    model = ChatAnthropic(model="claude-sonnet-4-5", **ask)
    try:
        if not streamed:
            await model.ainvoke("Hi")
            return
        async for _ in model.astream("Hi"):
            pass
    finally:
        await model._async_client.close()


async def ask_llama_anthropic(http: Any, url: str, streamed: bool) -> None:
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.anthropic import Anthropic

    model = Anthropic(model="claude-sonnet-4-5", base_url=url.removesuffix("/v1"), api_key="x", max_retries=0)
    try:
        if not streamed:
            await model.achat([ChatMessage("Hi")])
            return
        async for _ in await model.astream_chat([ChatMessage("Hi")]):
            pass
    finally:
        await model._aclient.close()
        model._client.close()


async def ask_ag2_anthropic(http: Any, url: str, streamed: bool) -> None:
    import httpx2
    from ag2 import Agent
    from ag2.config import AnthropicConfig

    async with httpx2.AsyncClient() as client:
        ask: Any = {"base_url": url.removesuffix("/v1"), "api_key": "x", "max_retries": 0, "http_client": client}
        config = AnthropicConfig("claude-sonnet-4-5", streaming=streamed, **ask)
        await Agent("clerk", "Be brief.", config=config).ask("Hi")


async def ask_gemini(http: Any, url: str, streamed: bool) -> None:
    from google import genai

    client = genai.Client(api_key="x", http_options={"base_url": url.removesuffix("/v1")})
    asked: Any = {"model": "gemini-2.5-flash", "contents": "Hi"}
    try:
        if not streamed:
            await client.aio.models.generate_content(**asked)
            return
        async for _ in await client.aio.models.generate_content_stream(**asked):
            pass
    finally:
        await client.aio.aclose()
        client.close()


class Framework(NamedTuple):
    """A framework as one of the tests runs it.

    Attributes:
        package: the package that it takes.
        hooks: the integrations that are on.
        ask: how it asks.
        server: the name of the server, of :data:`SERVERS`.
        prices_by: what of the price it leaves untold without the client's hook, and what it is then priced by.
    """

    package: str
    hooks: tuple[str, ...]
    ask: Ask
    server: str = "openai"
    prices_by: Mapping[str, Any] = MappingProxyType({})


LISTED = {name: Framework(*one) for name, one in FRAMEWORKS.items()} | {
    "langgraph": Framework("langgraph", ("langchain", "langgraph"), ask_langgraph),
    "langgraph with openai": Framework("langgraph", ("langchain", "langgraph", "openai"), ask_langgraph),
    "anthropic": Framework("anthropic", ("anthropic",), ask_anthropic, "anthropic"),
    "langchain anthropic": Framework("langchain_anthropic", ("langchain",), ask_langchain_anthropic, "anthropic"),
    "langchain anthropic with anthropic": Framework(
        "langchain_anthropic", ("langchain", "anthropic"), ask_langchain_anthropic, "anthropic"
    ),
    "llama_index anthropic": Framework(
        "llama_index.llms.anthropic", ("llama_index",), ask_llama_anthropic, "anthropic"
    ),
    "llama_index anthropic with anthropic": Framework(
        "llama_index.llms.anthropic", ("llama_index", "anthropic"), ask_llama_anthropic, "anthropic"
    ),
    "google_genai": Framework("google.genai", ("google_genai",), ask_gemini, "gemini"),
    "ag2 anthropic": Framework("ag2.config.anthropic", ("ag2",), ask_ag2_anthropic, "anthropic"),
    "ag2 anthropic with anthropic": Framework(
        "ag2.config.anthropic", ("ag2", "anthropic"), ask_ag2_anthropic, "anthropic"
    ),
}
# What AutoGen returns has two counts, and no model; what AG2 1.x returns has no tier.
LISTED["autogen"] = LISTED["autogen"]._replace(prices_by={"cache_read": 0, "model": "gpt-4o-mini", "tier": None})
LISTED["ag2"] = LISTED["ag2"]._replace(prices_by={"tier": None})
# By the first word of their names, as the nox sessions choose them.
FAMILIES = sorted({name.split()[0] for name, one in LISTED.items() if is_installed(one.package)})


async def ask_many(framework: Framework, http: Any, url: str, times: int, *, streamed: bool) -> BaseException | None:
    """Ask so many times at once; return what raised."""
    asked = [framework.ask(http, url, streamed) for _ in range(times)]
    results = await asyncio.gather(*asked, return_exceptions=True)
    gc.collect()  # what a client has left half read is closed by the loop, and now
    await asyncio.sleep(0)
    return next((one for one in results if isinstance(one, BaseException)), None)


def make_http_client(framework: Framework) -> AbstractAsyncContextManager[Any]:
    """Return the HTTP client that a framework is given; other clients than OpenAI's make and close their own."""
    if framework.server != "openai":
        return nullcontext()
    import openai

    return openai.DefaultAsyncHttpxClient()


async def run_scenarios(name: str, framework: Framework, scripted: Any) -> dict[str, Bill]:
    """Run all scenarios by one framework, each in a session of its own; return what each was billed."""
    bills: dict[str, Bill] = {}
    server = SERVERS[framework.server]
    async with make_http_client(framework) as http:
        for scenario, (prepare, billed, streamed, times) in server.items():
            scripted.clear()
            prepare(scripted)
            with tracing.session(f"{name}: {scenario}"):
                error = await ask_many(framework, http, scripted.base_url, times, streamed=streamed)
            tokens = (billed.tokens[0] * times, billed.tokens[1] * times)
            price = None if billed.price is None else billed.price._replace(**framework.prices_by)
            cost = None if price is None else price.compute_cost(tokens)
            bills[f"{name}: {scenario}"] = Bill(tokens, cost, describe_error(error))
    return bills


@pytest.fixture
def store(mlflow_store: str, tracing_off: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("MLSPAN_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("ANTHROPIC_OPEN_TELEMETRY", "false")
    mlflow.set_tracking_uri(mlflow_store)
    yield mlflow_store
    mlflow.set_tracking_uri(None)


def use_agents_sdk() -> None:
    import agents

    agents.set_tracing_disabled(False)
    agents.set_trace_processors([])


@pytest.mark.parametrize("family", FAMILIES)
async def test_what_was_billed_is_what_is_recorded(family: str, store: str, receiver: Any, scripted: Any) -> None:
    """Tokens by trace and by span, cost, and the error that the caller got, in MLflow and by OTLP."""
    tracing.configure(tracking_uri=store, otlp_endpoint=receiver.url)
    bills: dict[str, Bill] = {}
    for name, framework in LISTED.items():
        if name.split()[0] != family or not is_installed(framework.package):
            continue
        if family == "agents":
            use_agents_sdk()
        for hook in framework.hooks:
            getattr(integrations, hook).autolog()
        bills |= await run_scenarios(name, framework, scripted)
        for hook in framework.hooks:
            getattr(integrations, hook).autolog(disable=True)
    assert await asyncio.to_thread(tracing.flush, 60)
    differences = find_differences(bills, receiver.bodies)
    assert differences == [], "\n".join(differences)
    assert len(bills) >= min(map(len, SERVERS.values()))
