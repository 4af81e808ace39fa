"""Hugging Face's inference client: calls, streams, and where model and server are named, by a scripted server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterator
from typing import Any, ClassVar

import pytest

pytest.importorskip("huggingface_hub.inference._client", reason="in the nox session huggingface_hub")
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from openai_chunks import ANSWER, HELLO, REFUSAL, USAGE, WHOLE, chunk
from scripted_client import ScriptedAsyncCalls, ScriptedAsyncStreams, ScriptedCalls, ScriptedClient, ScriptedStreams

from mlspan import integrations
from mlspan.testing import Spans, content, contracts


class HuggingFace(ScriptedClient):
    """The client, its hook and its server."""

    answer, refusal, events = ANSWER, REFUSAL, WHOLE
    client_class: ClassVar[Any] = InferenceClient

    def make_client(self) -> Any:
        return InferenceClient(base_url=self.server.base_url, api_key="test")

    def make_async_client(self) -> Any:
        client = AsyncInferenceClient(base_url=self.server.base_url, api_key="test")
        self.async_clients.append(client)
        return client

    def ask(self, client: Any, **more: Any) -> Any:
        return client.chat_completion(HELLO, model="m", **more)

    def autolog(self, **options: Any) -> None:
        integrations.huggingface_hub.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(self.client_class, name) for name in ("chat_completion", "feature_extraction")]


class TestCalls(HuggingFace, ScriptedCalls, contracts.CallContract):
    fails = HfHubHTTPError


class TestAsyncCalls(HuggingFace, ScriptedAsyncCalls, contracts.AsyncCallContract):
    fails = HfHubHTTPError
    client_class = AsyncInferenceClient


class TestStreams(HuggingFace, ScriptedStreams, contracts.StreamContract):
    """The stream is a generator, over a request that was sent already."""

    stream_type = Generator
    has_http_response, has_with = False, False


class TestAsyncStreams(HuggingFace, ScriptedAsyncStreams, contracts.AsyncStreamContract):
    stream_type = AsyncGenerator
    client_class = AsyncInferenceClient
    has_http_response, has_with = False, False


@pytest.fixture
def server(scripted: Any, spans: Spans) -> Iterator[Any]:
    integrations.huggingface_hub.autolog(log_traces=True)
    yield scripted
    integrations.huggingface_hub.autolog(disable=True)


def test_openais_name_of_the_method(server: Any, spans: Spans) -> None:
    """It is the same call, so it is one span; reasoning and tool calls are parts of it."""
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"city": "Paris"}'}}
    message = {"role": "assistant", "content": "", "reasoning": "hm", "tool_calls": [call]}
    server.reply({**ANSWER, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    with InferenceClient(base_url=server.base_url, api_key="test") as client:
        client.chat.completions.create(messages=HELLO, model="m", temperature=0.5, extra_body={"top_k": 3})
    attributes = dict(spans.one().attributes or {})
    assert attributes["gen_ai.provider.name"] == "huggingface"
    assert (attributes["gen_ai.request.temperature"], attributes["gen_ai.request.top_k"]) == (0.5, 3)
    (said,) = content(spans.one(), "gen_ai.output.messages")
    assert said["parts"] == [
        {"type": "reasoning", "content": "hm"},
        {"type": "tool_call", "id": "call_1", "name": "look_up", "arguments": {"city": "Paris"}},
    ]


@pytest.mark.parametrize(
    ("made", "asked", "name"),
    [({"base_url": "URL"}, {"model": "m"}, "chat m"), ({"model": "URL"}, {}, "chat"), ({}, {"model": "URL"}, "chat")],
)
def test_where_a_model_is_a_url(made: Any, asked: Any, name: str, server: Any, spans: Spans) -> None:
    """An address is no model's name, wherever it was given."""
    server.reply(ANSWER)
    url = {"URL": f"{server.base_url}/chat/completions"}
    with InferenceClient(**{key: url[one] for key, one in made.items()}, api_key="test") as client:
        client.chat_completion(HELLO, **{key: url.get(one, one) for key, one in asked.items()})
    assert spans.one().name == name
    assert (spans.one().attributes or {})["server.address"] == "127.0.0.1"


def test_counts_of_a_servers_own(server: Any, spans: Spans) -> None:
    server.stream(chunk("x", "stop", usage={**USAGE, "cached_tokens": 4}), "[DONE]")
    with InferenceClient(base_url=server.base_url, api_key="test") as client:
        list(client.chat_completion(HELLO, model="m", stream=True))
    assert (spans.one().attributes or {})["gen_ai.usage.cache_read.input_tokens"] == 4


def test_a_stream_has_the_methods_that_it_has_untraced(server: Any, spans: Spans) -> None:
    """Programs ask an iterator whether it can be closed: an asynchronous generator has no ``close``."""
    server.stream(*WHOLE)

    async def close() -> None:
        async with AsyncInferenceClient(base_url=server.base_url, api_key="test") as client:
            stream = await client.chat_completion(HELLO, model="m", stream=True)
            assert (hasattr(stream, "close"), hasattr(stream, "aclose")) == (False, True)
            await stream.aclose()

    asyncio.run(close())
    assert (spans.one().attributes or {})["mlspan.stream.end"] == "closed"


def test_embeddings(server: Any, spans: Spans) -> None:
    pytest.importorskip("numpy")
    server.reply([[0.1, 0.2]])
    with InferenceClient(model=server.base_url, api_key="test") as client:
        client.feature_extraction("a")
    attributes = dict(spans.one().attributes or {})
    assert (spans.one().name, attributes["gen_ai.embeddings.dimension.count"]) == ("embeddings", 2)
