"""xAI's client: calls, streams, what its messages hold, and its own spans, against a server of gRPC."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any, ClassVar

import pytest

os.environ["XAI_SDK_DISABLE_TRACING"] = "1"  # its own spans have a test of their own
pytest.importorskip("xai_sdk", reason="in the nox session xai_sdk")
import grpc
import pydantic
import xai_sdk
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from scripted_client import (
    ScriptedAsyncCalls,
    ScriptedAsyncGenerators,
    ScriptedCalls,
    ScriptedClient,
    ScriptedGenerators,
)
from xai_sdk import chat as xai
from xai_sdk.proto import chat_pb2, chat_pb2_grpc, usage_pb2
from xai_sdk.sync import chat as sync_chat

from mlspan import integrations
from mlspan.testing import Spans, content, contracts
from mlspan.tracing.operations import semconv as sc

ROLE = chat_pb2.MessageRole.ROLE_ASSISTANT
USAGE: Any = {"prompt_tokens": 12, "completion_tokens": 2, "reasoning_tokens": 3, "total_tokens": 17}
STOP = "REASON_STOP"


def answer(usage: Any = USAGE, reason: str = STOP, **message: Any) -> Any:
    said = chat_pb2.CompletionMessage(role=ROLE, **message)
    output = chat_pb2.CompletionOutput(index=0, message=said, finish_reason=reason)  # type: ignore[arg-type]
    told = {"usage": usage_pb2.SamplingUsage(**usage)} if usage else {}
    return chat_pb2.GetChatCompletionResponse(id="c-1", model="m", outputs=[output], **told)


def chunk(reason: str | None = None, usage: Any = None, **delta: Any) -> Any:
    given: Any = {"finish_reason": reason} if reason else {}
    output = chat_pb2.CompletionOutputChunk(index=0, delta=chat_pb2.Delta(role=ROLE, **delta), **given)
    told = {"usage": usage_pb2.SamplingUsage(**usage)} if usage else {}
    return chat_pb2.GetChatCompletionChunk(id="c-1", model="m", outputs=[output], **told)


class Server(chat_pb2_grpc.ChatServicer):
    """Answers what a test has put into ``answer`` and ``chunks``; it may refuse, be slow, or cut a stream off."""

    def __init__(self) -> None:
        self.answer = answer(content="One two.")
        self.chunks = [chunk(content="One "), chunk(STOP, USAGE, content="two.")]
        self.refuses, self.cut, self.delay = False, False, 0.0
        self.gone = threading.Event()
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        chat_pb2_grpc.add_ChatServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def GetCompletion(self, request: Any, context: Any) -> Any:  # noqa: N802  # the service's name
        if self.refuses:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such model")
        self.gone.wait(self.delay)
        return self.answer

    def GetCompletionChunk(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802  # likewise
        for one in self.chunks:
            self.gone.wait(self.delay)
            yield one
            if self.cut:
                context.abort(grpc.StatusCode.INTERNAL, "cut off")

    def stop(self) -> None:
        self.gone.set()
        self._server.stop(0).wait(10)


class Xai(ScriptedClient):
    """The client, its hook and its server."""

    module: ClassVar[Any] = sync_chat

    @pytest.fixture(autouse=True)
    def _server(self, spans: Spans) -> Iterator[None]:
        self.xai, self.async_clients = Server(), []
        self.client = self.make_client()
        yield
        self.client.close()
        self.xai.stop()

    def make_client(self) -> Any:
        return make_client(self.xai)

    def make_async_client(self) -> Any:
        client = xai_sdk.AsyncClient(api_key="test", api_host=self.xai.address, use_insecure_channel=True)
        self.async_clients.append(client)
        return client

    def ask(self, client: Any, *, stream: bool = False, **more: Any) -> Any:
        asked = client.chat.create(model="m", messages=[xai.user("a greeting")], **more)
        return asked.stream() if stream else asked.sample()

    def script(self, what: str) -> None:
        self.xai.refuses, self.xai.cut = what == "refusal", what == "cut"
        self.xai.delay = 0.6 if what in {"silence", "slow"} else 0.0

    def autolog(self, **options: Any) -> None:
        integrations.xai_sdk.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(self.module.Chat, name) for name in ("sample", "sample_batch", "parse", "defer", "stream")]

    def read_answer(self, answer: Any) -> Any:
        return answer.proto.SerializeToString()

    def read_chunk(self, chunk: Any) -> Any:
        return chunk[1].proto.SerializeToString()


def make_client(server: Server) -> Any:
    return xai_sdk.Client(api_key="test", api_host=server.address, use_insecure_channel=True)


class TestCalls(Xai, ScriptedCalls, contracts.CallContract):
    fails = grpc.RpcError


class TestAsyncCalls(Xai, ScriptedAsyncCalls, contracts.AsyncCallContract):
    fails = grpc.RpcError
    module = xai_sdk.aio.chat


class TestStreams(Xai, ScriptedGenerators):
    """A stream is a generator."""


class TestAsyncStreams(Xai, ScriptedAsyncGenerators):
    module = xai_sdk.aio.chat

    def test_dropped(self) -> None:  # type: ignore[override]  # gRPC's tasks last until the client is closed
        """A stream that nobody closes is closed by the event loop."""

        async def read() -> None:
            async for _ in await self.open_stream():
                break
            gc.collect()
            for _ in range(20):
                await asyncio.sleep(0)

        self.run(read)
        self.check_dropped()


@pytest.fixture
def server(spans: Spans) -> Iterator[Server]:
    integrations.xai_sdk.autolog(log_traces=True)
    server = Server()
    yield server
    server.stop()
    integrations.xai_sdk.autolog(disable=True)


def read_attributes(spans: Spans) -> dict[str, Any]:
    return dict(spans.one().attributes or {})


def make_call(identifier: str = "call_1") -> Any:
    called = chat_pb2.FunctionCall(name="look_up", arguments='{"city": "Paris"}')
    return chat_pb2.ToolCall(id=identifier, function=called)


def test_a_request_and_its_answer(server: Server, spans: Spans) -> None:
    """Parameters, messages and tools by the conventions' names; reasoning is a part of the output."""
    has_cost = "cost_in_usd_ticks" in usage_pb2.SamplingUsage.DESCRIPTOR.fields_by_name  # of newer versions
    told = {**USAGE, "cached_prompt_text_tokens": 4, **({"cost_in_usd_ticks": 25_000_000} if has_cost else {})}
    server.answer = answer(told, "REASON_TOOL_CALLS", reasoning_content="hm", tool_calls=[make_call()])
    schema = {"type": "object", "properties": {}}
    with make_client(server) as client:
        chat = client.chat.create(
            model="m",
            messages=[xai.system("Be short."), xai.user("a greeting", xai.image("https://example.com/a.png"))],
            tools=[xai.tool("look_up", "Look up.", schema)],
            temperature=0.5,
            seed=3,
            stop=["end"],
            response_format="json_object",
        )
        chat.append(answer_before := chat.sample())
        chat.append(xai.tool_result("sunny"))
        assert answer_before.tool_calls
        chat.sample()
    got = dict(spans.all[-1].attributes or {})
    assert spans.tree().splitlines() == ["chat m [12 in, 5 out]"] * 2
    assert (got["gen_ai.provider.name"], got["gen_ai.output.type"]) == ("x_ai", "json")
    assert (got["gen_ai.request.temperature"], got["gen_ai.request.seed"]) == (0.5, 3)
    assert got["gen_ai.request.stop_sequences"] == ("end",)
    assert (got[sc.USAGE_REASONING_OUTPUT_TOKENS], got[sc.USAGE_CACHE_READ_INPUT_TOKENS]) == (3, 4)
    assert got.get(sc.USAGE_COST) == (pytest.approx(0.0025) if has_cost else None)
    asked = content(spans.all[-1], "gen_ai.input.messages")
    assert [one["role"] for one in asked] == ["system", "user", "assistant", "tool"]
    assert asked[1]["parts"][1]["type"] == "uri"
    assert asked[3]["parts"][0]["response"] == "sunny"
    (tool,) = content(spans.all[-1], "gen_ai.tool.definitions")
    assert (tool["name"], tool["parameters"]) == ("look_up", schema)
    (said,) = content(spans.all[-1], "gen_ai.output.messages")
    assert said["parts"] == [
        {"type": "reasoning", "content": "hm"},
        {"type": "tool_call", "id": "call_1", "name": "look_up", "arguments": {"city": "Paris"}},
    ]


def test_a_stream_with_odd_chunks(server: Server, spans: Spans) -> None:
    """A chunk may have no outputs, a tool call no id, and the stream no tokens."""
    empty = chat_pb2.GetChatCompletionChunk(id="c-1", model="m")
    server.chunks = [empty, chunk(reasoning_content="hm"), chunk("REASON_TOOL_CALLS", tool_calls=[make_call("")])]
    with make_client(server) as client:
        chat = client.chat.create(model="m", messages=[xai.user("a greeting")])
        assert len(list(chat.stream())) == 3
    assert spans.tree() == "chat m"
    (said,) = content(spans.one(), "gen_ai.output.messages")
    assert [part["type"] for part in said["parts"]] == ["reasoning", "tool_call"]


def test_a_parsed_answer_and_several_at_once(server: Server, spans: Spans) -> None:
    class Answer(pydantic.BaseModel):
        text: str

    server.answer = answer(content='{"text": "hi"}')
    with make_client(server) as client:
        chat = client.chat.create(model="m", messages=[xai.user("a greeting")])
        assert chat.parse(Answer)[1].text == "hi"
        server.answer.outputs.append(server.answer.outputs[0])
        server.answer.outputs[1].index = 1
        with pytest.warns(PendingDeprecationWarning):
            assert len(chat.sample_batch(2)) == 2
    assert spans.tree().splitlines() == ["chat m [12 in, 5 out]"] * 2
    assert len(content(spans.all[-1], "gen_ai.output.messages")) == 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("recorded", [True, False])
def test_its_own_spans_are_held_back(
    recorded: bool, stream: bool, server: Server, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While we record the call, and only then."""
    seen, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(seen))
    integrations.xai_sdk.autolog(disable=True)
    monkeypatch.setattr(sync_chat, "tracer", provider.get_tracer("xai"))
    integrations.xai_sdk.autolog(log_traces=recorded)
    with make_client(server) as client:
        chat = client.chat.create(model="m", messages=[xai.user("a greeting")])
        list(chat.stream()) if stream else chat.sample()
    assert (len(spans.all), len(seen.get_finished_spans())) == ((1, 0) if recorded else (0, 1))
    integrations.xai_sdk.autolog(disable=True)
