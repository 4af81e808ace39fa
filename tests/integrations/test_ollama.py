"""Ollama's client: calls, streams, and what its own format holds, against a server that a test scripts."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Generator, Iterator
from typing import Any, ClassVar

import pytest

pytest.importorskip("ollama", reason="in the nox session ollama")
import ollama
from scripted_client import ScriptedAsyncCalls, ScriptedAsyncStreams, ScriptedCalls, ScriptedClient, ScriptedStreams

from mlspan import integrations
from mlspan.testing import Spans, content, contracts

HELLO = [{"role": "user", "content": "a greeting"}]
END: Any = {"done": True, "done_reason": "stop", "prompt_eval_count": 12, "eval_count": 5}


def piece(text: str = "", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, **more.pop("said", {})}
    return {"model": "m", "created_at": "2026-01-01T00:00:00Z", "done": False, "message": message, **more}


def stream(server: Any, *pieces: Any, **how: Any) -> None:
    """Have *server* answer with these pieces, a line each."""
    lines = [json.dumps(one).encode() + b"\n" for one in pieces]
    server.stream_bytes(*lines, content_type="application/x-ndjson", **how)


def find_address(server: Any) -> str:
    return str(server.base_url).removesuffix("/v1")


class Ollama(ScriptedClient):
    """The client, its hook and its server."""

    answer: ClassVar[Any] = piece("One two.", **END)
    refusal: ClassVar[Any] = {"error": "no such model"}
    events: ClassVar[list[Any]] = [piece("One "), piece("two."), piece(**END)]
    client_class: ClassVar[Any] = ollama.Client

    def make_client(self) -> Any:
        return ollama.Client(find_address(self.server))

    def make_async_client(self) -> Any:
        client = ollama.AsyncClient(find_address(self.server))
        self.async_clients.append(client)
        return client

    def release_client(self) -> None:
        self.client._client.close()

    async def close_client(self) -> None:
        while self.async_clients:
            await self.async_clients.pop()._client.aclose()

    def ask(self, client: Any, **more: Any) -> Any:
        return client.chat(model="m", messages=HELLO, **more)

    def send_events(self, events: list[Any], **how: Any) -> None:
        stream(self.server, *events, **how)

    def autolog(self, **options: Any) -> None:
        integrations.ollama.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(self.client_class, "_request")]


class TestCalls(Ollama, ScriptedCalls, contracts.CallContract):
    fails = ollama.ResponseError


class TestAsyncCalls(Ollama, ScriptedAsyncCalls, contracts.AsyncCallContract):
    fails = ollama.ResponseError
    client_class = ollama.AsyncClient


class TestStreams(Ollama, ScriptedStreams, contracts.StreamContract):
    stream_type = Generator
    has_http_response, has_with = False, False


class TestFailingStream(TestStreams):
    """The server says in the middle of a stream that it fails."""

    failure: ClassVar[Any] = {"error": "out of memory"}
    cut_off = ollama.ResponseError

    def open_cut_off_stream(self) -> Any:
        return self.open_stream("error")


class TestAsyncStreams(Ollama, ScriptedAsyncStreams, contracts.AsyncStreamContract):
    stream_type = AsyncGenerator
    client_class = ollama.AsyncClient
    has_http_response, has_with = False, False


@pytest.fixture
def client(scripted: Any, spans: Spans) -> Iterator[Any]:
    integrations.ollama.autolog(log_traces=True)
    client = ollama.Client(find_address(scripted))
    yield client
    client._client.close()
    integrations.ollama.autolog(disable=True)


def read_attributes(spans: Spans) -> dict[str, Any]:
    return dict(spans.one().attributes or {})


def test_a_request_in_the_conventions_names(client: Any, scripted: Any, spans: Spans) -> None:
    """Pictures, tool calls and results of tools are parts; options are parameters."""
    called = {"function": {"name": "look_up", "arguments": {"city": "Paris"}}}
    scripted.reply(piece("", said={"tool_calls": [called, called]}, **END))
    function = {"name": "look_up", "description": "Weather.", "parameters": {"type": "object", "properties": {}}}
    client.chat(
        model="m",
        messages=[
            {"role": "user", "content": "a greeting", "images": [base64.b64decode("aGVsbG8=")]},
            {"role": "assistant", "content": "", "tool_calls": [called]},
            {"role": "tool", "content": "sunny"},
        ],
        tools=[{"type": "function", "function": function}],
        format="json",
        options={"temperature": 0.5, "num_predict": 9, "seed": 3, "stop": ["end"], "mirostat": 1},
    )
    got = read_attributes(spans)
    assert (got["gen_ai.provider.name"], got["server.address"]) == ("ollama", "127.0.0.1")
    assert (got["gen_ai.request.temperature"], got["gen_ai.request.max_tokens"], got["gen_ai.request.seed"]) == (
        0.5,
        9,
        3,
    )
    assert (got["gen_ai.request.stop_sequences"], got["gen_ai.output.type"]) == (("end",), "json")
    call = {"type": "tool_call", "name": "look_up", "arguments": {"city": "Paris"}}
    said = content(spans.one(), "gen_ai.input.messages")
    assert [message["parts"][-1] for message in said] == [
        {"type": "blob", "modality": "image", "content": "aGVsbG8="},
        call,
        {"type": "tool_call_response", "response": "sunny"},
    ]
    (answer,) = content(spans.one(), "gen_ai.output.messages")
    assert answer["parts"] == [call, call]
    (tool,) = content(spans.one(), "gen_ai.tool.definitions")
    assert (tool["name"], tool["description"]) == ("look_up", "Weather.")


def test_thoughts_of_a_stream(client: Any, scripted: Any, spans: Spans) -> None:
    """A version of the client that does not know thoughts leaves them out."""
    if "thinking" not in ollama.Message.model_fields:
        pytest.skip("this version of the client knows no thoughts")
    stream(scripted, piece(said={"thinking": "h"}), piece(said={"thinking": "m"}), piece("One"), piece(**END))
    assert len(list(client.chat(model="m", messages=HELLO, stream=True, think=True))) == 4
    (answer,) = content(spans.one(), "gen_ai.output.messages")
    assert answer["parts"] == [{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "One"}]
    assert read_attributes(spans)["gen_ai.response.finish_reasons"] == ("stop",)


def test_a_completion(client: Any, scripted: Any, spans: Spans) -> None:
    scripted.reply({"model": "m", "created_at": "now", "response": "One two.", **END})
    client.generate(model="m", prompt="a greeting", system="Be short.")
    assert spans.tree() == "text_completion m [12 in, 5 out]"
    assert content(spans.one(), "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "One two."}]
    assert content(spans.one(), "gen_ai.system_instructions") == [{"type": "text", "content": "Be short."}]


def test_embeddings(client: Any, scripted: Any, spans: Spans) -> None:
    scripted.reply({"model": "e", "embeddings": [[0.1, 0.2]], "prompt_eval_count": 3})
    client.embed(model="e", input=["a"])
    got = read_attributes(spans)
    assert (spans.one().name, got["gen_ai.usage.input_tokens"]) == ("embeddings e", 3)
    assert got["gen_ai.embeddings.dimension.count"] == 2


def test_the_functions_of_the_module(client: Any, scripted: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are methods of a client that was made when the module was imported."""
    monkeypatch.setattr(ollama.chat.__self__, "_client", client._client)  # type: ignore[attr-defined]  # its server
    scripted.reply(piece("One two.", **END))
    ollama.chat(model="m", messages=HELLO)
    assert spans.tree() == "chat m [12 in, 5 out]"


def test_what_is_no_call_to_a_model(client: Any, scripted: Any, spans: Spans) -> None:
    scripted.reply({"models": []})
    client.list()
    assert spans.all == []


def test_several_streams_at_once(client: Any, scripted: Any, spans: Spans) -> None:
    """Each has its own text and tokens."""
    stream(scripted, piece("One "), piece("two."), piece(**END))

    async def read() -> None:
        mine = ollama.AsyncClient(find_address(scripted))

        async def ask() -> str:
            pieces = await mine.chat(model="m", messages=HELLO, stream=True)
            return "".join([one["message"]["content"] async for one in pieces])

        assert await asyncio.gather(ask(), ask()) == ["One two."] * 2
        await mine._client.aclose()

    asyncio.run(read())
    assert spans.tree() == "chat m [12 in, 5 out]\nchat m [12 in, 5 out]"
