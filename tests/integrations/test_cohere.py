"""Cohere's client: calls, streams, and what its own format holds, against a server that a test scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

pytest.importorskip("cohere.v2.raw_client", reason="in the nox session cohere")
import cohere
from cohere.v2.raw_client import AsyncRawV2Client, RawV2Client
from scripted_client import (
    ScriptedAsyncCalls,
    ScriptedAsyncGenerators,
    ScriptedCalls,
    ScriptedClient,
    ScriptedGenerators,
)

from mlspan import integrations
from mlspan.testing import Spans, content, contracts

HELLO: Any = [{"role": "user", "content": "a greeting"}]
USAGE: Any = {"billed_units": {"input_tokens": 12, "output_tokens": 5}, "tokens": {"input_tokens": 80}}


def answer(*parts: Any, **message: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": list(parts), **message}
    return {"id": "c-1", "finish_reason": "COMPLETE", "message": said, "usage": USAGE}


def event(kind: str, *, index: int = 0, **delta: Any) -> dict[str, Any]:
    return {"type": kind, "index": index, "delta": delta}


def text(piece: str) -> dict[str, Any]:
    return event("content-delta", message={"content": {"text": piece}})


END = event("message-end", finish_reason="COMPLETE", usage=USAGE)


class Cohere(ScriptedClient):
    """The client, its hook and its server."""

    answer: ClassVar[Any] = answer({"type": "text", "text": "One two."})
    refusal: ClassVar[Any] = {"message": "no such model"}
    events: ClassVar[list[Any]] = [text("One "), text("two."), END]
    raw: ClassVar[Any] = RawV2Client

    def make_client(self) -> Any:
        return cohere.ClientV2(api_key="test", base_url=find_address(self.server))

    def make_async_client(self) -> Any:
        client = cohere.AsyncClientV2(api_key="test", base_url=find_address(self.server))
        self.async_clients.append(client)
        return client

    def release_client(self) -> None:
        self.client.__exit__(None, None, None)

    async def close_client(self) -> None:
        while self.async_clients:
            await self.async_clients.pop().__aexit__(None, None, None)

    def ask(self, client: Any, *, stream: bool = False, **more: Any) -> Any:
        return (client.chat_stream if stream else client.chat)(model="m", messages=HELLO, **more)

    def autolog(self, **options: Any) -> None:
        integrations.cohere.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(self.raw, name) for name in ("chat", "chat_stream", "embed", "rerank")]


def find_address(server: Any) -> str:
    return str(server.base_url).removesuffix("/v1")


class TestCalls(Cohere, ScriptedCalls, contracts.CallContract):
    fails = cohere.BadRequestError


class TestAsyncCalls(Cohere, ScriptedAsyncCalls, contracts.AsyncCallContract):
    fails = cohere.BadRequestError
    raw = AsyncRawV2Client


class TestStreams(Cohere, ScriptedGenerators):
    """A stream is a generator."""


class TestAsyncStreams(Cohere, ScriptedAsyncGenerators):
    raw = AsyncRawV2Client


@pytest.fixture
def client(scripted: Any, spans: Spans) -> Iterator[Any]:
    integrations.cohere.autolog(log_traces=True)
    with cohere.ClientV2(api_key="test", base_url=find_address(scripted)) as client:
        yield client
    integrations.cohere.autolog(disable=True)


def read_attributes(spans: Spans) -> dict[str, Any]:
    return dict(spans.one().attributes or {})


CALL: Any = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"city": "Paris"}'}}


def test_a_request_in_the_conventions_names(client: Any, scripted: Any, spans: Spans) -> None:
    """Parameters have the conventions' names; a plan is reasoning; what is billed is what counts."""
    scripted.reply(answer(tool_plan="hm", tool_calls=[CALL]) | {"finish_reason": "TOOL_CALL"})
    client.chat(model="m", messages=HELLO, p=0.5, k=3, temperature=0.25, stop_sequences=["end"], seed=7)
    got = read_attributes(spans)
    assert (got["gen_ai.provider.name"], got["server.address"]) == ("cohere", "127.0.0.1")
    assert (got["gen_ai.request.top_p"], got["gen_ai.request.top_k"], got["gen_ai.request.seed"]) == (0.5, 3, 7)
    assert got["gen_ai.request.stop_sequences"] == ("end",)
    assert (got["gen_ai.usage.input_tokens"], got["gen_ai.response.id"]) == (12, "c-1")
    (said,) = content(spans.one(), "gen_ai.output.messages")
    assert said["finish_reason"] == "tool_call"
    assert said["parts"] == [
        {"type": "reasoning", "content": "hm"},
        {"type": "tool_call", "id": "call_1", "name": "look_up", "arguments": {"city": "Paris"}},
    ]


def test_tool_calls_of_a_stream(client: Any, scripted: Any, spans: Spans) -> None:
    """Each keeps its own arguments, whose pieces come one after another."""
    begun = {**CALL, "function": {"name": "look_up", "arguments": ""}}
    scripted.stream(
        event("tool-plan-delta", message={"tool_plan": "hm"}),
        event("tool-call-start", message={"tool_calls": begun}),
        event("tool-call-delta", message={"tool_calls": {"function": {"arguments": '{"city": '}}}),
        event("tool-call-delta", message={"tool_calls": {"function": {"arguments": '"Paris"}'}}}),
        event("message-end", finish_reason="TOOL_CALL", usage=USAGE),
    )
    assert len(list(client.chat_stream(model="m", messages=HELLO))) == 5
    (said,) = content(spans.one(), "gen_ai.output.messages")
    assert said["parts"] == [
        {"type": "reasoning", "content": "hm"},
        {"type": "tool_call", "id": "call_1", "name": "look_up", "arguments": {"city": "Paris"}},
    ]
    assert read_attributes(spans)["gen_ai.usage.output_tokens"] == 5


def test_a_raw_answer_is_a_call_as_well(client: Any, scripted: Any, spans: Spans) -> None:
    scripted.reply(Cohere.answer)
    assert client.with_raw_response.chat(model="m", messages=HELLO).data.id == "c-1"
    assert spans.tree() == "chat m [12 in, 5 out]"


def test_embeddings(client: Any, scripted: Any, spans: Spans) -> None:
    meta = {"billed_units": {"input_tokens": 3}}
    scripted.reply(
        {"id": "e", "response_type": "embeddings_by_type", "embeddings": {"float": [[0.1, 0.2]]}, "meta": meta}
    )
    client.embed(model="e", input_type="search_query", texts=["a"], embedding_types=["float"])
    got = read_attributes(spans)
    assert (spans.one().name, got["gen_ai.usage.input_tokens"]) == ("embeddings e", 3)
    assert got["gen_ai.embeddings.dimension.count"] == 2


def test_embeddings_of_parts(client: Any, scripted: Any, spans: Spans) -> None:
    """Inputs of several parts are told as they are sent."""
    scripted.reply({"id": "e", "response_type": "embeddings_by_type", "embeddings": {"float": [[0.1]]}, "meta": {}})
    part = cohere.TextEmbedContent(text="a")
    client.embed(model="e", input_type="search_query", inputs=[cohere.EmbedInput(content=[part])])
    assert content(spans.one(), "mlspan.input") == [{"content": [{"type": "text", "text": "a"}]}]


def test_a_reranking(client: Any, scripted: Any, spans: Spans) -> None:
    scripted.reply({"id": "r", "results": [{"index": 1, "relevance_score": 0.9}]})
    client.rerank(model="r", query="q", documents=["a", "b"])
    assert spans.one().name == "rerank"
    assert "0.9" in str(read_attributes(spans))
