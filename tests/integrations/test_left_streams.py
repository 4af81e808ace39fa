"""Asynchronous streams whose reader stops early, also just before the event loop ends: nothing of that is a failure.

A stream that nobody closes is closed by the event loop: when it is collected, or at the loop's end, where the task that
closes it may be cancelled before it has begun.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from opentelemetry.trace import StatusCode
from test_endings import chunk, is_installed

from mlspan import integrations, tracing
from mlspan.testing import Spans

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # whoever leaves a stream so leaves its connection too
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:Resolved model mismatch:UserWarning"),
]

KEY: Any = {"api_key": "x", "max_retries": 0}
HELLO: Any = [{"role": "user", "content": "Hi"}]


async def read_own(_: str) -> AsyncIterator[Any]:
    """Read a generator of the program's own, which is traced."""

    @tracing.trace
    async def count() -> AsyncIterator[int]:
        for number in range(5):
            yield number

    return count()


async def read_openai(url: str) -> AsyncIterator[Any]:
    import openai

    return await openai.AsyncOpenAI(base_url=url, **KEY).chat.completions.create(
        model="gpt-4o-mini", messages=HELLO, stream=True
    )


async def read_langchain(url: str) -> AsyncIterator[Any]:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model="gpt-4o-mini", base_url=url, **KEY).astream("Hi")


async def read_chain(url: str) -> AsyncIterator[Any]:
    from langchain_core.output_parsers import StrOutputParser
    from langchain_openai import ChatOpenAI

    return (ChatOpenAI(model="gpt-4o-mini", base_url=url, **KEY) | StrOutputParser()).astream("Hi")


async def read_langgraph(url: str) -> AsyncIterator[Any]:
    from langchain_openai import ChatOpenAI
    from langgraph.graph import END, START, MessagesState, StateGraph

    model = ChatOpenAI(model="gpt-4o-mini", base_url=url, streaming=True, **KEY)

    async def answer(state: Any) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").add_edge("answer", END)
    asked: Any = {"messages": [("user", "Hi")]}
    return graph.compile().astream(asked, stream_mode="messages")


async def read_agents(url: str) -> AsyncIterator[Any]:
    import agents
    import openai

    client = openai.AsyncOpenAI(base_url=url, **KEY)
    agent = agents.Agent(name="Clerk", model=agents.OpenAIChatCompletionsModel("gpt-4o-mini", client))
    return agents.Runner.run_streamed(agent, "Hi").stream_events()


async def read_llama_index(url: str) -> AsyncIterator[Any]:
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.openai import OpenAI

    return await OpenAI(model="gpt-4o-mini", api_base=url, **KEY).astream_chat([ChatMessage("Hi")])


async def read_autogen(url: str) -> AsyncIterator[Any]:
    from autogen_core.models import UserMessage
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    model = OpenAIChatCompletionClient(model="gpt-4o-mini", base_url=url, **KEY)
    return model.create_stream([UserMessage(content="Hi", source="user")])


async def read_anthropic(url: str) -> AsyncIterator[Any]:
    import anthropic

    client = anthropic.AsyncAnthropic(base_url=url.removesuffix("/v1"), **KEY)
    return await client.messages.create(model="claude-sonnet-4-5", max_tokens=9, messages=HELLO, stream=True)


async def read_gemini(url: str) -> AsyncIterator[Any]:
    from google import genai

    client = genai.Client(api_key="x", http_options={"base_url": url.removesuffix("/v1")})
    return await client.aio.models.generate_content_stream(model="gemini-2.5-flash", contents="Hi")


async def read_gemini_with_functions(url: str) -> AsyncIterator[Any]:
    from google import genai

    def get_weather(city: str) -> str:
        return f"sunny in {city}"

    client = genai.Client(api_key="x", http_options={"base_url": url.removesuffix("/v1")})
    asked: Any = {"model": "gemini-2.5-flash", "contents": "Hi", "config": {"tools": [get_weather]}}
    return await client.aio.models.generate_content_stream(**asked)


# what is read -> the package that it takes, the hooks, how it is opened, and whose server answers
STREAMS: dict[str, tuple[str, tuple[str, ...], Callable[[str], Any], str]] = {
    "own": ("mlspan", (), read_own, "openai"),
    "openai": ("openai", ("openai",), read_openai, "openai"),
    "langchain": ("langchain_openai", ("langchain",), read_langchain, "openai"),
    "langchain with openai": ("langchain_openai", ("langchain", "openai"), read_langchain, "openai"),
    "langchain chain": ("langchain_openai", ("langchain",), read_chain, "openai"),
    "langgraph": ("langgraph", ("langchain", "langgraph"), read_langgraph, "openai"),
    "agents": ("agents", ("openai",), read_agents, "openai"),
    "llama_index": ("llama_index.llms.openai", ("llama_index",), read_llama_index, "openai"),
    "llama_index with openai": ("llama_index.llms.openai", ("llama_index", "openai"), read_llama_index, "openai"),
    "autogen": ("autogen_ext.models.openai", ("autogen",), read_autogen, "openai"),
    "autogen with openai": ("autogen_ext.models.openai", ("autogen", "openai"), read_autogen, "openai"),
    "anthropic": ("anthropic", ("anthropic",), read_anthropic, "anthropic"),
    "google_genai": ("google.genai", ("google_genai",), read_gemini, "gemini"),
    "google_genai with functions": ("google.genai", ("google_genai",), read_gemini_with_functions, "gemini"),
}


async def stop_reading(url: str, read: Any, kept: list[Any]) -> None:
    async for _ in await read(url):
        return


async def keep_unread(url: str, read: Any, kept: list[Any]) -> None:
    kept.append(await read(url))
    async for _ in kept[0]:
        return


async def keep_running(url: str, read: Any, kept: list[Any]) -> None:
    """Stop reading, and let the loop run on for a while."""
    await stop_reading(url, read, kept)
    for _ in range(20):
        await asyncio.sleep(0.005)


async def close_it(url: str, read: Any, kept: list[Any]) -> None:
    stream = await read(url)
    async for _ in stream:
        break
    close = getattr(stream, "aclose", None) or stream.close
    await close()


WAYS = {one.__name__: one for one in (stop_reading, keep_unread, keep_running, close_it)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [name for name, one in STREAMS.items() if is_installed(one[0])])
def test_a_reader_that_stops(name: str, way: str, scripted: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each span ends, none as an error, and a stream that was left says so."""
    monkeypatch.setenv("ANTHROPIC_OPEN_TELEMETRY", "false")
    _, hooks, read, server = STREAMS[name]
    if name == "agents":
        import agents

        agents.set_tracing_disabled(False)
        agents.set_trace_processors([])
    for hook in hooks:
        getattr(integrations, hook).autolog()
    if server == "openai":
        scripted.stream(chunk("Hello"), *[chunk("!")] * 20, delay=0.02)
    else:
        pytest.importorskip("model_servers").SERVERS[server]["streamed"][0](scripted)
    kept: list[Any] = []
    try:
        asyncio.run(WAYS[way](scripted.base_url, read, kept))
        kept.clear()
    finally:
        for hook in hooks:
            getattr(integrations, hook).autolog(disable=True)
    failed = {span.name: span.status.description for span in spans.all if span.status.status_code is StatusCode.ERROR}
    assert failed == {}, spans.tree()
    ends = [(span.attributes or {}).get("mlspan.stream.end") for span in spans.all]
    # The Agents SDK goes on until the run's own end where its reader closes the stream.
    assert any(ends) or (name, way) == ("agents", "close_it"), spans.tree()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout is newer")
def test_a_time_limit_of_an_agents_reader(scripted: Any, spans: Spans) -> None:
    """The reader gets an error, so the run that is cancelled with it has failed: it was not left."""
    agents = pytest.importorskip("agents")
    agents.set_tracing_disabled(False)
    agents.set_trace_processors([])
    integrations.openai.autolog()
    scripted.stream(chunk("Hello"), *[chunk("!")] * 20, delay=0.2)

    async def read() -> None:
        async with asyncio.timeout(1):
            async for _ in await read_agents(scripted.base_url):
                pass

    try:
        with pytest.raises(TimeoutError):
            asyncio.run(read())
    finally:
        integrations.openai.autolog(disable=True)
    assert {span.status.status_code for span in spans.all} == {StatusCode.ERROR}, spans.tree()
