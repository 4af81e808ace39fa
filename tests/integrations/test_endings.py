"""One suite of endings for all frameworks: what spans claim of a request that fails, is cut, cancelled or filtered.

The frameworks that are installed run it: LangChain and the Agents SDK in the main environment, LlamaIndex, AutoGen and
AG2 in their nox sessions. Each asks the scripted server by OpenAI's client, without and with the client's own hook.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from mlspan import integrations
from mlspan.testing import Spans, content

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Resolved model mismatch:UserWarning"),  # AutoGen's, of any scripted answer
]

BASE = {"id": "chatcmpl-1", "created": 1, "model": "gpt-4o-mini"}
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def answer(text: str | None, reason: str, **message: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": text, **message}
    return {
        **BASE,
        "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": reason, "message": said}],
        "usage": USAGE,
    }


def chunk(text: str, reason: str | None = None) -> dict[str, Any]:
    delta = {"role": "assistant", "content": text}
    return {
        **BASE,
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "finish_reason": reason, "delta": delta}],
    }


Ask = Callable[[Any, str, bool], Awaitable[Any]]  # (http client, base URL, whether to stream)


async def ask_langchain(http: Any, url: str, streamed: bool) -> None:
    from langchain_openai import ChatOpenAI

    ask: Any = {"base_url": url, "api_key": "x", "max_retries": 0, "http_async_client": http, "stream_usage": True}
    model = ChatOpenAI(model="gpt-4o-mini", **ask)
    if not streamed:
        await model.ainvoke("Hi")
        return
    async for _ in model.astream("Hi"):
        pass


async def ask_agents(http: Any, url: str, streamed: bool) -> None:
    import agents
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0, http_client=http)
    agent = agents.Agent(name="Clerk", model=agents.OpenAIChatCompletionsModel("gpt-4o-mini", client))
    if not streamed:
        await agents.Runner.run(agent, "Hi")
        return
    async for _ in agents.Runner.run_streamed(agent, "Hi").stream_events():
        pass


async def ask_llama_index(http: Any, url: str, streamed: bool) -> None:
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.openai import OpenAI

    ask: Any = {"api_base": url, "api_key": "x", "max_retries": 0, "async_http_client": http}
    model = OpenAI(model="gpt-4o-mini", **ask)
    if not streamed:
        await model.achat([ChatMessage("Hi")])
        return
    async for _ in await model.astream_chat([ChatMessage("Hi")]):
        pass


async def ask_autogen(http: Any, url: str, streamed: bool) -> None:
    from autogen_core.models import UserMessage
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    ask: Any = {"base_url": url, "api_key": "x", "max_retries": 0, "http_client": http}
    model = OpenAIChatCompletionClient(model="gpt-4o-mini", **ask)
    asked = [UserMessage(content="Hi", source="user")]
    if not streamed:
        await model.create(asked)
        return
    async for _ in model.create_stream(asked):
        pass


async def ask_ag2_classic(http: Any, url: str, streamed: bool) -> None:
    """AG2 0.x is synchronous, and makes its own HTTP client."""
    import autogen

    entry = {"model": "gpt-4o-mini", "api_key": "x", "base_url": url, "api_type": "openai", "max_retries": 0}
    wrapper = autogen.OpenAIWrapper(config_list=[entry | ({"stream": True} if streamed else {})], cache_seed=None)
    await asyncio.to_thread(wrapper.create, messages=[{"role": "user", "content": "Hi"}])


async def ask_ag2(http: Any, url: str, streamed: bool) -> None:
    from ag2 import Agent
    from ag2.config import OpenAIConfig

    ask: Any = {"base_url": url, "api_key": "x", "max_retries": 0, "streaming": streamed, "http_client": http}
    await Agent("clerk", "Be brief.", config=OpenAIConfig("gpt-4o-mini", **ask)).ask("Hi")


# framework -> the package that it takes, its hooks, and how it asks
FRAMEWORKS: dict[str, tuple[str, tuple[str, ...], Ask]] = {
    "langchain": ("langchain_openai", ("langchain",), ask_langchain),
    "langchain with openai": ("langchain_openai", ("langchain", "openai"), ask_langchain),
    "agents with openai": ("agents", ("openai",), ask_agents),
    "llama_index": ("llama_index.llms.openai", ("llama_index",), ask_llama_index),
    "llama_index with openai": ("llama_index.llms.openai", ("llama_index", "openai"), ask_llama_index),
    "autogen": ("autogen_ext.models.openai", ("autogen",), ask_autogen),
    "ag2 classic": ("autogen.oai", ("ag2",), ask_ag2_classic),
    "ag2 classic with openai": ("autogen.oai", ("ag2", "openai"), ask_ag2_classic),
    "ag2": ("ag2", ("ag2",), ask_ag2),
    "ag2 with openai": ("ag2", ("ag2", "openai"), ask_ag2),
    "autogen with openai": ("autogen_ext.models.openai", ("autogen", "openai"), ask_autogen),
}


def is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


@pytest.fixture(params=[name for name, (package, _, _) in FRAMEWORKS.items() if is_installed(package)])
async def ask(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, spans: Spans
) -> AsyncIterator[Callable[[str, bool], Awaitable[Any]]]:
    """Ask by one of the frameworks, with its hooks on."""
    import openai

    _, hooks, run = FRAMEWORKS[request.param]
    if request.param.startswith("ag2 classic"):  # it asks the network how a text is cut into tokens
        monkeypatch.setattr("autogen.oai.client.count_token", lambda *_: 9, raising=False)
    if request.param.startswith("agents"):
        import agents

        agents.set_tracing_disabled(False)
        agents.set_trace_processors([])
    for name in hooks:
        getattr(integrations, name).autolog()
    async with openai.DefaultAsyncHttpxClient() as http:
        yield lambda url, streamed: run(http, url, streamed)
    for name in hooks:
        getattr(integrations, name).autolog(disable=True)


@pytest.fixture
def chat(spans: Spans) -> Callable[[], ReadableSpan]:
    """Return the span of the only call to the model; there is one, whoever else knows of the call."""

    def find() -> ReadableSpan:
        (span,) = [one for one in spans.all if (one.attributes or {}).get("gen_ai.operation.name") == "chat"]
        return span

    return find


def list_claims(span: ReadableSpan) -> tuple[Any, list[str], Any, Any]:
    """Return what a span claims of its answer: finish reasons, texts, tokens of input and of output."""
    said = dict(span.attributes or {})
    messages = content(span, "gen_ai.output.messages") or []
    texts = [part["content"] for message in messages for part in message["parts"] if part["type"] == "text"]
    counts = said.get("gen_ai.usage.input_tokens"), said.get("gen_ai.usage.output_tokens")
    return (said.get("gen_ai.response.finish_reasons"), texts, *counts)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("status", [400, 429, 529])
async def test_an_http_error(ask: Any, chat: Any, scripted: Any, spans: Spans, status: int, streamed: bool) -> None:
    """Type and text of the client's exception, up to the root; no answer, no reason, no tokens."""
    scripted.reply({"error": {"message": "not today", "code": "no", "type": "no"}}, status=status)
    with pytest.raises(Exception, match="not today") as raised:
        await ask(scripted.base_url, streamed)
    kind = f"{type(raised.value).__module__}.{type(raised.value).__qualname__}"
    assert list_claims(chat()) == (None, [], None, None)
    for span in (chat(), spans.all[0]):
        assert span.status.status_code is StatusCode.ERROR
        assert (span.attributes or {})["error.type"] == kind
        assert "not today" in str(span.status.description)


async def test_a_stream_that_is_cut(
    ask: Any, chat: Any, scripted: Any, spans: Spans, request: pytest.FixtureRequest
) -> None:
    """What had arrived is kept; it says ``error``, and not that the model has stopped.

    AG2 0.x reads a stream to its end before it tells anybody of it.
    """
    tells_nothing = request.node.callspec.params["ask"] == "ag2 classic"
    scripted.stream(chunk("Hel"), chunk("lo"), drop=True)
    with pytest.raises(Exception):  # noqa: B017  # each framework lets through another
        await ask(scripted.base_url, True)
    reasons, texts, *counts = list_claims(chat())
    assert ("".join(texts), counts) == ("" if tells_nothing else "Hello", [None, None])
    assert reasons == (None if tells_nothing else ("error",))
    for span in (chat(), spans.all[0]):
        assert span.status.status_code is StatusCode.ERROR, spans.tree()


async def test_a_cancellation(ask: Any, chat: Any, scripted: Any, spans: Spans, request: pytest.FixtureRequest) -> None:
    """A stream whose reader is cancelled: what had arrived, no reason but ``error``, and the cancellation."""
    if request.node.callspec.params["ask"].startswith("ag2 classic"):
        pytest.skip("AG2 0.x is synchronous: nobody can cancel it")
    scripted.stream(chunk("Hello"), *[chunk("!")] * 200, delay=0.05)
    task = asyncio.create_task(ask(scripted.base_url, True))
    for _ in range(200):
        await asyncio.sleep(0.02)
        if scripted.requests:
            break
    await asyncio.sleep(0.3)
    task.cancel()
    await asyncio.wait([task], timeout=20)
    for _ in range(100):
        if any((span.attributes or {}).get("gen_ai.operation.name") == "chat" for span in spans.all):
            break
        await asyncio.sleep(0.05)
    reasons, _, *counts = list_claims(chat())
    assert reasons in {None, ("error",)}
    assert counts == [None, None]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_a_content_filter(ask: Any, chat: Any, scripted: Any, streamed: bool) -> None:
    """The reason is the filter, the tokens are those that were billed, and nothing is an error."""
    if streamed:
        last = {**BASE, "object": "chat.completion.chunk", "choices": [], "usage": USAGE}
        scripted.stream(chunk("I"), chunk("", "content_filter"), last, "[DONE]")
    else:
        scripted.reply(answer("I", "content_filter"))
    await ask(scripted.base_url, streamed)
    reasons, texts, *counts = list_claims(chat())
    assert (reasons, texts) == (("content_filter",), ["I"])
    assert streamed or counts == [9, 3]
    assert chat().status.status_code is StatusCode.UNSET


async def test_a_refusal(ask: Any, chat: Any, scripted: Any, spans: Spans) -> None:
    """A refusal is what the model said, with the server's reason; a framework that raises on it is an error above."""
    scripted.reply(answer(None, "stop", refusal="I will not."))
    try:
        await ask(scripted.base_url, False)
    except Exception:  # each framework has an exception of its own
        assert spans.all[0].status.status_code is StatusCode.ERROR
        if spans.all[0] is chat():  # it raises inside of the call: AutoGen has no answer to give
            return
    reasons, texts, *counts = list_claims(chat())
    assert (reasons or ("stop",), counts) == (("stop",), [9, 3])
    assert texts in (["I will not."], [], [""])  # the messages of LlamaIndex and of AutoGen have lost it
