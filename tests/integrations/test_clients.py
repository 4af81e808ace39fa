"""Clients made from the template of OpenAI's: each line of the table keeps the contracts of calls and streams."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from openai_chunks import ANSWER, HELLO, REFUSAL, USAGE, WHOLE, chunk
from scripted_client import ScriptedAsyncCalls, ScriptedAsyncStreams, ScriptedCalls, ScriptedClient, ScriptedStreams

from mlspan import integrations
from mlspan.integrations.openai.clients import CLIENTS
from mlspan.testing import Spans, content, contracts
from mlspan.tracing.operations import semconv as sc


@pytest.fixture(params=list(CLIENTS), scope="module")
def name(request: pytest.FixtureRequest) -> str:
    """The name of each integration of the table whose client is installed."""
    try:
        found = importlib.util.find_spec(CLIENTS[request.param].module)
    except ModuleNotFoundError:  # not even the package that it stands in
        found = None
    if found is None:
        pytest.skip("in the nox session clients")
    return str(request.param)


class AnyClient(ScriptedClient):
    """A client of the table, its hook and its server."""

    answer, refusal, events = ANSWER, REFUSAL, WHOLE
    failure = REFUSAL
    name: ClassVar[str]
    module: ClassVar[Any]

    @pytest.fixture(autouse=True, scope="class")  # a wider scope than that of what needs the name
    def _choose_client(self, request: pytest.FixtureRequest, name: str) -> None:
        request.cls.name, request.cls.module = name, importlib.import_module(CLIENTS[name].module)

    def make_client(self) -> Any:
        return make_client(self.name, self.server)

    def make_async_client(self) -> Any:
        client = make_client(self.name, self.server, number=1)
        self.async_clients.append(client)
        return client

    def ask(self, client: Any, **more: Any) -> Any:
        return client.chat.completions.create(model="m", messages=HELLO, **more)

    def autolog(self, **options: Any) -> None:
        getattr(integrations, self.name).autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(getattr(self.module, cls), "request") for cls in CLIENTS[self.name].classes]


def make_client(name: str, server: Any, number: int = 0) -> Any:
    """Return a client of the table, the asynchronous one if *number* is 1."""
    line = CLIENTS[name]
    cls = getattr(importlib.import_module(line.module), line.classes[number])
    return cls(base_url=server.base_url.removesuffix("/v1"), api_key="test", max_retries=0)


class TestCalls(AnyClient, ScriptedCalls, contracts.CallContract):
    @property
    def fails(self) -> Any:
        return self.module.BadRequestError


class TestAsyncCalls(AnyClient, ScriptedAsyncCalls, contracts.AsyncCallContract):
    @property
    def fails(self) -> Any:
        return self.module.BadRequestError


class TestStreams(AnyClient, ScriptedStreams, contracts.StreamContract):
    @property
    def stream_type(self) -> Any:
        return self.module.Stream


class TestAsyncStreams(AnyClient, ScriptedAsyncStreams, contracts.AsyncStreamContract):
    @property
    def stream_type(self) -> Any:
        return self.module.AsyncStream


@pytest.fixture
def client(name: str, scripted: Any, spans: Spans) -> Iterator[Any]:
    integration = getattr(integrations, name)
    integration.autolog(log_traces=True)
    with make_client(name, scripted) as client:
        scripted.clear()
        yield client
    integration.autolog(disable=True)


def test_the_provider_and_the_server(name: str, client: Any, scripted: Any, spans: Spans) -> None:
    """The provider is whose client it is, where the host does not tell."""
    scripted.reply(ANSWER)
    client.chat.completions.create(model="m", messages=HELLO)
    attributes = spans.one().attributes or {}
    assert attributes["gen_ai.provider.name"] == CLIENTS[name].provider
    assert attributes["server.address"] == "127.0.0.1"


def with_delta(chunk: dict[str, Any], **delta: Any) -> dict[str, Any]:
    """Return *chunk* with these fields in its delta."""
    return chunk | {"choices": [{**chunk["choices"][0], "delta": delta}]}


def test_reasoning_and_tools_of_a_stream(client: Any, scripted: Any, spans: Spans) -> None:
    """Reasoning is recorded whether the client's models declare it or not."""
    call = {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "look_up", "arguments": '{"city": "Paris"}'},
    }
    scripted.stream(
        with_delta(chunk(), role="assistant", reasoning="hm"),
        with_delta(chunk(finish="tool_calls", usage=USAGE), tool_calls=[call]),
        "[DONE]",
    )
    list(client.chat.completions.create(model="m", messages=HELLO, stream=True))
    (message,) = content(spans.one(), "gen_ai.output.messages")
    assert message["parts"] == [
        {"type": "reasoning", "content": "hm"},
        {"type": "tool_call", "id": "call_1", "name": "look_up", "arguments": {"city": "Paris"}},
    ]


@pytest.mark.parametrize(
    ("more", "field", "value"),
    [
        ({"usage": {**USAGE, "cached_tokens": 4}}, "gen_ai.usage.cache_read.input_tokens", 4),
        ({"usage": None, "x_groq": {"id": "r", "usage": USAGE}}, "gen_ai.usage.input_tokens", 12),
        ({"usage": {**USAGE, "cost": {"total_cost": 0.25}}}, sc.USAGE_COST, 0.25),
    ],
)
def test_counts_in_places_of_a_servers_own(
    more: Any, field: str, value: int, client: Any, scripted: Any, spans: Spans
) -> None:
    """Counts are read whether the client's models declare their place or not."""
    scripted.stream(chunk("x", "stop", **more), "[DONE]")
    list(client.chat.completions.create(model="m", messages=HELLO, stream=True))
    assert (spans.one().attributes or {})[field] == value


def test_embeddings(client: Any, scripted: Any, spans: Spans) -> None:
    if not hasattr(client, "embeddings") or not hasattr(client, "chat"):
        pytest.skip("this client has none")
    scripted.reply({"object": "list", "model": "e", "data": [{"index": 0, "embedding": [0.1, 0.2]}], "usage": USAGE})
    client.embeddings.create(model="pplx-embed-v1-4b", input=["a"])  # Perplexity's client takes none but its own
    assert spans.one().name == "embeddings pplx-embed-v1-4b"
