"""Answers that were billed and that OpenAI's client cannot parse: it raises, so the framework has no answer to tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode
from test_endings import FRAMEWORKS, answer, chunk, is_installed, list_claims

from mlspan import integrations
from mlspan.testing import Spans

pytestmark = pytest.mark.filterwarnings(
    "ignore:Resolved model mismatch:UserWarning"
)  # AutoGen's, of any scripted answer


async def parse_langchain(http: Any, url: str) -> None:
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="gpt-4o-mini", base_url=url, api_key="x", max_retries=0, http_async_client=http)
    await model.with_structured_output({"title": "City", "type": "object"}, method="json_mode").ainvoke("Hi")


async def parse_autogen(http: Any, url: str) -> None:
    from autogen_core.models import UserMessage
    from autogen_ext.models.openai import OpenAIChatCompletionClient
    from pydantic import create_model

    ask: Any = {"base_url": url, "api_key": "x", "max_retries": 0, "http_client": http}
    model, city = OpenAIChatCompletionClient(model="gpt-4o-mini", **ask), create_model("City", name=(str, ...))
    await model.create([UserMessage(content="Hi", source="user")], json_output=city)


async def parse_ag2_classic(http: Any, url: str) -> None:
    """Ask by a client of the user's own, as none of AG2's parses an answer."""
    import asyncio

    import autogen
    import openai
    from pydantic import create_model

    class Own:
        def __init__(self, config: Any, **_: Any) -> None: ...

        def create(self, params: Any) -> Any:
            with openai.OpenAI(base_url=url, api_key="x", max_retries=0) as client:
                return client.beta.chat.completions.parse(
                    model=params["model"],
                    messages=params["messages"],
                    response_format=create_model("C", name=(str, ...)),
                )

        def message_retrieval(self, response: Any) -> Any: ...
        def cost(self, response: Any) -> float:
            return 0.0

        @staticmethod
        def get_usage(response: Any) -> Any: ...

    entry = {"model": "gpt-4o-mini", "model_client_cls": "Own"}
    wrapper = autogen.OpenAIWrapper(config_list=[entry], cache_seed=None)
    wrapper.register_model_client(Own)
    await asyncio.to_thread(wrapper.create, messages=[{"role": "user", "content": "Hi"}])


def make_ag2_agent(http: Any, url: str, *, streamed: bool) -> Any:
    """Return an agent with a client of the user's own, as none of AG2's parses an answer."""
    import openai
    from ag2 import Agent
    from ag2.config import OpenAIConfig
    from ag2.events import ModelMessageChunk
    from pydantic import create_model

    asked: Any = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}
    client = openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0, http_client=http)
    asked["response_format"] = create_model("City", name=(str, ...))

    class Client:
        def __init__(self) -> None:
            self._create_options = {"model": "gpt-4o-mini", "stream": streamed}

        async def __call__(self, messages: Any, context: Any, **_: Any) -> Any:
            if not streamed:
                return await client.chat.completions.parse(**asked)
            async with client.chat.completions.stream(**asked) as events:
                async for event in events:
                    if event.type == "content.delta":
                        await context.send(ModelMessageChunk(event.delta))
            return None

    class Config(OpenAIConfig):
        def create(self) -> Any:
            return Client()

    return Agent("clerk", "Be brief.", config=Config("gpt-4o-mini", api_key="x"))


async def parse_ag2(http: Any, url: str) -> None:
    await make_ag2_agent(http, url, streamed=False).ask("Hi")


async def stream_ag2(http: Any, url: str) -> None:
    await make_ag2_agent(http, url, streamed=True).ask("Hi")


async def stream_langchain(http: Any, url: str) -> None:
    from langchain_openai import ChatOpenAI
    from pydantic import create_model

    model = ChatOpenAI(model="gpt-4o-mini", base_url=url, api_key="x", max_retries=0, http_async_client=http)
    async for _ in model.with_structured_output(create_model("City", name=(str, ...)), method="json_schema").astream(
        "Hi"
    ):
        pass


async def stream_autogen(http: Any, url: str) -> None:
    from autogen_core.models import UserMessage
    from autogen_ext.models.openai import OpenAIChatCompletionClient
    from pydantic import create_model

    ask: Any = {"base_url": url, "api_key": "x", "max_retries": 0, "http_client": http}
    model, city = OpenAIChatCompletionClient(model="gpt-4o-mini", **ask), create_model("City", name=(str, ...))
    async for _ in model.create_stream([UserMessage(content="Hi", source="user")], json_output=city):
        pass


async def stream_llama_index(http: Any, url: str) -> None:
    """Stream by a model of the user's own: LlamaIndex's model of OpenAI parses nothing while it streams."""
    import openai
    from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata
    from pydantic import create_model

    client, city = (
        openai.AsyncOpenAI(base_url=url, api_key="x", http_client=http),
        create_model("City", name=(str, ...)),
    )

    class Own(CustomLLM):
        @property
        def metadata(self) -> LLMMetadata:
            return LLMMetadata(model_name="gpt-4o-mini")

        def complete(self, *_: Any, **__: Any) -> Any: ...

        def stream_complete(self, *_: Any, **__: Any) -> Any: ...

        async def astream_complete(self, prompt: str, formatted: bool = False, **_: Any) -> Any:
            async def read() -> Any:
                said, asked = "", [{"role": "user", "content": prompt}]
                async with client.beta.chat.completions.stream(
                    model="gpt-4o-mini", messages=asked, response_format=city
                ) as events:
                    async for event in events:
                        if event.type == "content.delta":
                            said += event.delta
                            yield CompletionResponse(text=said, delta=event.delta)

            return read()

    async for _ in await Own().astream_complete("Hi"):
        pass


@pytest.mark.parametrize("with_client", [False, True], ids=["alone", "with openai"])
@pytest.mark.parametrize("reason", ["length", "content_filter"])
@pytest.mark.parametrize(
    ("family", "parse"),
    [
        ("langchain", parse_langchain),
        ("autogen", parse_autogen),
        ("ag2 classic", parse_ag2_classic),
        ("ag2", parse_ag2),
    ],
    ids=["langchain", "autogen", "ag2 classic", "ag2"],
)
async def test_an_answer_that_cannot_be_parsed(
    family: str, parse: Callable[..., Any], reason: str, with_client: bool, scripted: Any, spans: Spans
) -> None:
    """The client raises in place of returning what was billed: the call has failed, and has its tokens and its text."""
    scripted.reply(answer('{"na', reason))
    chat = await fail_to_parse(family, parse, scripted, spans, with_client=with_client)
    assert list_claims(chat) == ((reason,), ['{"na'], 9, 3)


@pytest.mark.parametrize("with_client", [False, True], ids=["alone", "with openai"])
@pytest.mark.parametrize(
    ("family", "parse"),
    [
        ("langchain", stream_langchain),
        ("autogen", stream_autogen),
        ("llama_index", stream_llama_index),
        ("ag2", stream_ag2),
    ],
    ids=["langchain", "autogen", "llama_index", "ag2"],
)
async def test_a_stream_too_long_to_parse(
    family: str, parse: Callable[..., Any], with_client: bool, scripted: Any, spans: Spans
) -> None:
    """A streamed answer that is cut has arrived in chunks before the exception tells it again: its text stands once."""
    scripted.stream(chunk('{"na'), chunk('me": "Pa'), chunk("", "length"), "[DONE]")
    chat = await fail_to_parse(family, parse, scripted, spans, with_client=with_client)
    assert list_claims(chat)[:2] == (("length",), ['{"name": "Pa'])


async def fail_to_parse(
    family: str, parse: Callable[..., Any], scripted: Any, spans: Spans, *, with_client: bool
) -> ReadableSpan:
    """Ask for an answer that cannot be parsed, and return the span of the call."""
    if not is_installed(FRAMEWORKS[family][0]):
        pytest.skip(f"{family} is in a nox session of its own")
    import openai

    hooks = [*FRAMEWORKS[family][1], *(["openai"] if with_client else [])]
    for name in hooks:
        getattr(integrations, name).autolog()
    async with openai.DefaultAsyncHttpxClient() as http:
        with pytest.raises((openai.LengthFinishReasonError, openai.ContentFilterFinishReasonError)) as raised:
            await parse(http, scripted.base_url)
    for name in hooks:
        getattr(integrations, name).autolog(disable=True)
    if not hasattr(raised.value, "completion"):
        pytest.skip("this version's client does not tell the answer that a filter has stopped")
    asked = {"chat", "text_completion"}
    (chat,) = [one for one in spans.all if (one.attributes or {}).get("gen_ai.operation.name") in asked]
    assert chat.status.status_code is StatusCode.ERROR
    return chat
