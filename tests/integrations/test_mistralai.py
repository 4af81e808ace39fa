"""Mistral's client: calls, streams, and what it has that OpenAI's has not, against a server that a test scripts."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("mistralai.client", reason="in the nox session mistralai")
from mistralai.client import Mistral, models
from mistralai.client.agents import Agents
from mistralai.client.chat import Chat
from mistralai.client.embeddings import Embeddings
from mistralai.client.errors import SDKError
from mistralai.client.fim import Fim
from mistralai.client.utils.eventstreaming import EventStream, EventStreamAsync
from openai_chunks import ANSWER, HELLO, REFUSAL, USAGE, WHOLE, chunk
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from scripted_client import ScriptedAsyncCalls, ScriptedAsyncStreams, ScriptedCalls, ScriptedClient, ScriptedStreams

from mlspan import integrations
from mlspan.testing import Spans, content, contracts

_METHODS = ("complete", "complete_async", "stream", "stream_async")


def make_client(server: Any) -> Any:
    return Mistral(api_key="test", server_url=server.base_url.removesuffix("/v1"))


class AnyMistral(ScriptedClient):
    """The client, its hook and its server."""

    answer, refusal, events = ANSWER, REFUSAL, WHOLE

    def make_client(self) -> Any:
        return make_client(self.server)

    def make_async_client(self) -> Any:
        client = make_client(self.server)
        self.async_clients.append(client)
        return client

    def release_client(self) -> None:
        self.client.__exit__(None, None, None)

    async def close_client(self) -> None:
        while self.async_clients:
            client = self.async_clients.pop()
            client.__exit__(None, None, None)
            await client.__aexit__(None, None, None)

    def ask(self, client: Any, *, stream: bool = False, **more: Any) -> Any:
        return (client.chat.stream if stream else client.chat.complete)(model="m", messages=HELLO, **more)

    def autolog(self, **options: Any) -> None:
        integrations.mistralai.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        found = [(cls, name) for cls in (Chat, Agents, Fim) for name in _METHODS]
        return [*found, (Embeddings, "create"), (Embeddings, "create_async")]


class AsyncMistral(AnyMistral):
    def ask(self, client: Any, *, stream: bool = False, **more: Any) -> Any:
        return (client.chat.stream_async if stream else client.chat.complete_async)(model="m", messages=HELLO, **more)


class TestCalls(AnyMistral, ScriptedCalls, contracts.CallContract):
    fails = SDKError


class TestAsyncCalls(AsyncMistral, ScriptedAsyncCalls, contracts.AsyncCallContract):
    fails = SDKError


class TestStreams(AnyMistral, ScriptedStreams, contracts.StreamContract):
    stream_type = EventStream


class TestAsyncStreams(AsyncMistral, ScriptedAsyncStreams, contracts.AsyncStreamContract):
    stream_type = EventStreamAsync


@pytest.fixture
def client(scripted: Any, spans: Spans) -> Iterator[Any]:
    integrations.mistralai.autolog(log_traces=True)
    with make_client(scripted) as client:
        yield client
    integrations.mistralai.autolog(disable=True)


def read_attributes(spans: Spans) -> dict[str, Any]:
    return dict(spans.one().attributes or {})


def test_a_request_in_the_clients_models(client: Any, scripted: Any, spans: Spans) -> None:
    """Messages and tools may be the client's own models; parameters are there under the conventions' names."""
    scripted.reply(ANSWER)
    call = models.ToolCall(id="call_1", function=models.FunctionCall(name="look_up", arguments={"city": "Paris"}))
    function = models.Function(name="look_up", parameters={"type": "object"})
    client.chat.complete(
        model="m",
        messages=(
            models.SystemMessage(content="Be short."),
            models.UserMessage(content=[models.TextChunk(text="a greeting")]),
            models.AssistantMessage(content="", tool_calls=[call]),
            models.ToolMessage(content=[models.TextChunk(text="sunny")], tool_call_id="call_1"),
        ),
        tools=[models.Tool(function=function)],
        response_format={"type": "json_object"},
        temperature=0.5,
        random_seed=3,
        stop=["end"],
        safe_prompt=True,
    )
    got = read_attributes(spans)
    assert got["gen_ai.provider.name"] == "mistral_ai"
    assert got["server.address"] == "127.0.0.1"
    assert (got["gen_ai.request.temperature"], got["gen_ai.request.seed"]) == (0.5, 3)
    assert got["gen_ai.request.stop_sequences"] == ("end",)
    assert got["gen_ai.output.type"] == "json"
    said = content(spans.one(), "gen_ai.input.messages")
    assert [(message["role"], message["parts"][-1]) for message in said] == [
        ("system", {"type": "text", "content": "Be short."}),
        ("user", {"type": "text", "content": "a greeting"}),
        ("assistant", {"type": "tool_call", "id": "call_1", "name": "look_up", "arguments": {"city": "Paris"}}),
        ("tool", {"type": "tool_call_response", "id": "call_1", "response": "sunny"}),
    ]
    (tool,) = content(spans.one(), "gen_ai.tool.definitions")
    assert (tool["name"], tool["parameters"]) == ("look_up", {"type": "object"})


def test_thoughts_and_tool_calls_of_a_stream(client: Any, scripted: Any, spans: Spans) -> None:
    """Thoughts are a part of their own; each call keeps its own arguments."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    calls = [
        {"index": n, "id": f"call_{n}", "function": {"name": "look_up", "arguments": f'{{"n": {n}}}'}} for n in (0, 1)
    ]
    first, last = chunk(), chunk(finish="tool_calls", usage={**USAGE, "prompt_tokens_details": {"cached_tokens": 4}})
    first["choices"][0]["delta"] = {"content": [thought]}
    last["choices"][0]["delta"] = {"tool_calls": calls}
    scripted.stream(first, last, "[DONE]")
    with client.chat.stream(model="m", messages=HELLO) as stream:
        list(stream)
    (message,) = content(spans.one(), "gen_ai.output.messages")
    assert message["parts"] == [
        {"type": "reasoning", "content": "hm"},
        {"type": "tool_call", "id": "call_0", "name": "look_up", "arguments": {"n": 0}},
        {"type": "tool_call", "id": "call_1", "name": "look_up", "arguments": {"n": 1}},
    ]
    assert read_attributes(spans)["gen_ai.usage.cache_read.input_tokens"] == 4


def test_a_gap_that_is_filled(client: Any, scripted: Any, spans: Spans) -> None:
    scripted.reply(ANSWER)
    client.fim.complete(model="m", prompt="def f(", suffix="return 1")
    assert spans.tree() == "text_completion m [12 in, 5 out]"
    (message,) = content(spans.one(), "gen_ai.input.messages")
    assert [part["content"] for part in message["parts"]] == ["def f(", "return 1"]


def test_an_agent_by_its_id(client: Any, scripted: Any, spans: Spans) -> None:
    scripted.reply(ANSWER)
    client.agents.complete(agent_id="ag_1", messages=HELLO)
    assert read_attributes(spans)["gen_ai.agent.id"] == "ag_1"


def test_embeddings(client: Any, scripted: Any, spans: Spans) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}
    vector = {"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}
    scripted.reply({"id": "e", "object": "list", "model": "e", "data": [vector], "usage": usage})
    client.embeddings.create(model="e", inputs=["a"])
    assert spans.one().name == "embeddings e"
    assert read_attributes(spans)["gen_ai.usage.input_tokens"] == 3
    assert read_attributes(spans)["gen_ai.embeddings.dimension.count"] == 2


@pytest.mark.parametrize("recorded", [True, False])
def test_the_clients_own_span_is_held_back(
    recorded: bool, client: Any, scripted: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While we record the call, and only then."""
    seen, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(seen))
    theirs = SimpleNamespace(**{**vars(trace), "get_tracer_provider": lambda: provider})  # ours stays as it is
    monkeypatch.setattr("mistralai.extra.observability.otel.trace", theirs)
    for hook in client.sdk_configuration.__dict__["_hooks"].before_request_hooks:  # as its own opt-in does
        if hasattr(hook, "tracer_provider"):
            monkeypatch.setattr(hook, "tracer_provider", provider)
    integrations.mistralai.autolog(log_traces=recorded)
    scripted.reply(ANSWER)
    client.chat.complete(model="m", messages=HELLO)
    assert (len(spans.all), len(seen.get_finished_spans())) == ((1, 0) if recorded else (0, 1))
