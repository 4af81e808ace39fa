"""Azure AI Inference's client: calls, streams, defaults, and its own spans, against a server that a test scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

pytest.importorskip("azure.ai.inference", reason="in the nox session azure_ai_inference")
from azure.ai import inference
from azure.ai.inference import aio, models
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError
from openai_chunks import ANSWER, HELLO, REFUSAL, USAGE, WHOLE, chunk
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from scripted_client import ScriptedAsyncCalls, ScriptedAsyncStreams, ScriptedCalls, ScriptedClient, ScriptedStreams

from mlspan import integrations
from mlspan.testing import Spans, content, contracts

KEY = AzureKeyCredential("test")
# The client leaves the connection of a stream that is dropped to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


class Azure(ScriptedClient):
    """The client, its hook and its server."""

    answer, refusal, events = ANSWER, REFUSAL, WHOLE
    module: ClassVar[Any] = inference

    def make_client(self) -> Any:
        return inference.ChatCompletionsClient(self.server.base_url, KEY)

    def make_async_client(self) -> Any:
        client = aio.ChatCompletionsClient(self.server.base_url, KEY)
        self.async_clients.append(client)
        return client

    def ask(self, client: Any, **more: Any) -> Any:
        return client.complete(model="m", messages=HELLO, **more)

    def autolog(self, **options: Any) -> None:
        integrations.azure_ai_inference.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        clients = self.module.ChatCompletionsClient, self.module.EmbeddingsClient, self.module.ImageEmbeddingsClient
        return list(zip(clients, ("complete", "embed", "embed"), strict=True))


class TestCalls(Azure, ScriptedCalls, contracts.CallContract):
    fails = HttpResponseError


class TestAsyncCalls(Azure, ScriptedAsyncCalls, contracts.AsyncCallContract):
    fails = HttpResponseError
    module = aio


class TestStreams(Azure, ScriptedStreams, contracts.StreamContract):
    stream_type = models.StreamingChatCompletions
    has_http_response = False


class TestAsyncStreams(Azure, ScriptedAsyncStreams, contracts.AsyncStreamContract):
    stream_type = models.AsyncStreamingChatCompletions
    has_http_response = False
    module = aio


@pytest.fixture
def server(scripted: Any, spans: Spans) -> Iterator[Any]:
    integrations.azure_ai_inference.autolog(log_traces=True)
    scripted.clear()
    yield scripted
    integrations.azure_ai_inference.autolog(disable=True)


def read_attributes(spans: Spans) -> dict[str, Any]:
    return dict(spans.one().attributes or {})


def test_defaults_of_the_client_and_models_of_messages(server: Any, spans: Spans) -> None:
    """What the client was made with is asked for, unless the call says otherwise; messages may be its models."""
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"city": "Paris"}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    server.reply({**ANSWER, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    tool = models.ChatCompletionsToolDefinition(function=models.FunctionDefinition(name="look_up"))
    options = {"model": "m", "temperature": 0.5, "max_tokens": 9, "tools": [tool]}
    with inference.ChatCompletionsClient(server.base_url, KEY, **options) as client:
        said = [models.SystemMessage("Be short."), models.UserMessage([models.TextContentItem(text="a greeting")])]
        client.complete(messages=said, temperature=0.25, seed=3, stop=["end"], response_format="json_object")
    got = read_attributes(spans)
    assert spans.tree() == "chat m [12 in, 5 out]"
    assert (got["gen_ai.provider.name"], got["server.address"]) == ("azure.ai.inference", "127.0.0.1")
    assert (got["gen_ai.request.temperature"], got["gen_ai.request.max_tokens"]) == (0.25, 9)
    assert (got["gen_ai.request.seed"], got["gen_ai.request.stop_sequences"]) == (3, ("end",))
    assert got["gen_ai.output.type"] == "json"
    asked = content(spans.one(), "gen_ai.input.messages")
    assert [(one["role"], one["parts"][0]["content"]) for one in asked] == [
        ("system", "Be short."),
        ("user", "a greeting"),
    ]
    assert [one["name"] for one in content(spans.one(), "gen_ai.tool.definitions")] == ["look_up"]
    (answered,) = content(spans.one(), "gen_ai.output.messages")
    assert answered["parts"] == [
        {"type": "tool_call", "id": "call_1", "name": "look_up", "arguments": {"city": "Paris"}}
    ]


@pytest.mark.parametrize("body", [{"model": "m", "messages": HELLO}, b'{"model": "m"}'])
def test_a_body_of_the_callers(body: Any, server: Any, spans: Spans) -> None:
    """A body is read if it is a dict; of bytes nothing is read, and the answer all the same."""
    server.reply(ANSWER)
    with inference.ChatCompletionsClient(server.base_url, KEY) as client:
        client.complete(body)
    assert spans.tree() == f"chat{' m' if isinstance(body, dict) else ''} [12 in, 5 out]"


def test_a_stream_with_odd_chunks(server: Any, spans: Spans) -> None:
    """Azure's first chunk has no choices; a tool call may lack its id, and a chunk its usage."""
    first, called = chunk(), chunk(finish="tool_calls")
    called["choices"][0]["delta"] = {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}
    details = {**USAGE, "prompt_tokens_details": {"cached_tokens": 4}}
    last = chunk(usage=details) | {"choices": []}
    server.stream({**first, "choices": []}, {**called, "usage": None}, last, "[DONE]", delay=0.05)  # one at a time
    with inference.ChatCompletionsClient(server.base_url, KEY) as client:
        assert list(client.complete(model="m", messages=HELLO, stream=True))
    assert spans.tree() == "chat m [12 in, 5 out]"
    (said,) = content(spans.one(), "gen_ai.output.messages")
    assert [(part["type"], part["name"]) for part in said["parts"]] == [("tool_call", "f")]
    assert read_attributes(spans)["gen_ai.usage.cache_read.input_tokens"] == 4


@pytest.mark.parametrize("kind", ["EmbeddingsClient", "ImageEmbeddingsClient"])
def test_embeddings(kind: str, server: Any, spans: Spans) -> None:
    vector = {"index": 0, "object": "embedding", "embedding": [0.1, 0.2]}
    server.reply({"id": "e", "object": "list", "model": "e", "data": [vector], "usage": {"prompt_tokens": 3}})
    asked: list[Any] = ["a"] if kind == "EmbeddingsClient" else [models.ImageEmbeddingInput(image="data:,", text="a")]

    async def embed() -> None:
        async with getattr(aio, kind)(server.base_url, KEY, model="e") as client:
            await client.embed(input=asked)

    asyncio.run(embed())
    got = read_attributes(spans)
    assert (spans.one().name, got["gen_ai.usage.input_tokens"]) == ("embeddings e", 3)
    assert got["gen_ai.embeddings.dimension.count"] == 2


@pytest.mark.any_span  # those of Azure's own
@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_its_own_spans_are_held_back(recorded: bool, first: bool, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While we record, and only then; whether its instrumentor came before our hook or after it."""
    azure_tracing = pytest.importorskip("azure.core.tracing.ext.opentelemetry_span", reason="as in the nox session")
    from azure.ai.inference.tracing import AIInferenceInstrumentor
    from azure.core.settings import settings

    seen, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(seen))
    monkeypatch.setattr(azure_tracing.OpenTelemetrySpan, "get_current_tracer", lambda *_: provider.get_tracer("azure"))
    monkeypatch.setattr(azure_tracing.trace, "get_tracer", lambda *_, **__: provider.get_tracer("azure"))
    settings.tracing_implementation = "opentelemetry"
    instrumentor = AIInferenceInstrumentor()
    try:
        if first:
            integrations.azure_ai_inference.autolog(disable=True)
            instrumentor.instrument()
        integrations.azure_ai_inference.autolog(log_traces=recorded)
        if not first:
            instrumentor.instrument()
        server.reply(ANSWER)
        with inference.ChatCompletionsClient(server.base_url, KEY) as client:
            client.complete(model="m", messages=HELLO)
        chats = [span.name for span in seen.get_finished_spans() if span.name.startswith("chat")]
        assert chats == ([] if recorded else ["chat m"])
    finally:
        instrumentor.uninstrument()
        settings.tracing_implementation = None
