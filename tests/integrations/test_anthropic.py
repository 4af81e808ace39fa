"""Anthropic's client: what is asked, what comes back, what fails, against a server that answers what a test says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.trace import StatusCode
from scripted_client import ScriptedAsyncCalls, ScriptedAsyncStreams, ScriptedCalls, ScriptedClient, ScriptedStreams

anthropic = pytest.importorskip("anthropic", reason="in the nox sessions anthropic")

from mlspan import integrations, tracing
from mlspan.testing import Spans, content, contracts
from mlspan.tracing.operations.noop import NOOP_OPERATION
from mlspan.tracing.otel.provider import ForwardingProcessor

HELLO: Any = [{"role": "user", "content": "a greeting"}]
ASKED: Any = {"model": "m", "max_tokens": 9, "messages": HELLO}
HEAD: Any = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m-1", "content": []}
USAGE: Any = {"input_tokens": 12, "output_tokens": 5}
ANSWER: Any = {
    **HEAD,
    "content": [{"type": "text", "text": "One two."}],
    "stop_reason": "end_turn",
    "usage": USAGE,
}
REFUSAL = {"type": "error", "error": {"type": "invalid_request_error", "message": "no such model"}}
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "come back later"}}


def named(*events: Any) -> list[tuple[str, Any]]:
    """Return events as the server sends them, each with its name."""
    return [(event["type"], event) for event in events]


def block(index: int, start: Any, *deltas: Any) -> list[Any]:
    """Return the events of one content block."""
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def stream_of(*blocks: list[Any], stop: str = "end_turn", usage: Any = None) -> list[tuple[str, Any]]:
    """Return the events of a stream with these blocks."""
    return named(
        {"type": "message_start", "message": {**HEAD, "usage": {"input_tokens": 12, "output_tokens": 1}}},
        *(event for one in blocks for event in one),
        {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": usage or {"output_tokens": 5}},
        {"type": "message_stop"},
    )


def text(*pieces: str, index: int = 0) -> list[Any]:
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": piece} for piece in pieces))


WHOLE = stream_of(text("One ", "two."))
# The first clients' class decides by itself what is an instance of it, and says no to every stand-in.
STREAM, ASYNC_STREAM = (
    object if "__instancecheck__" in vars(type(cls)) else cls for cls in (anthropic.Stream, anthropic.AsyncStream)
)


@pytest.fixture(autouse=True)
def _no_own_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ours, the client's own span would be there: it is not what these tests are about, but for one of them."""
    monkeypatch.setenv("ANTHROPIC_OPEN_TELEMETRY", "false")


class Anthropic(ScriptedClient):
    """The client, its hook and its server."""

    first_text = "msg_1"  # the first event brings no text yet
    answer, refusal, events = ANSWER, REFUSAL, WHOLE
    cut_after, failure = 3, ("error", OVERLOADED)

    def make_client(self) -> Any:
        self.address = self.server.base_url.removesuffix("/v1")
        return anthropic.Anthropic(base_url=self.address, api_key="test", max_retries=0)

    def ask(self, client: Any, **more: Any) -> Any:
        return client.messages.create(**ASKED, **more)

    def autolog(self, **options: Any) -> None:
        integrations.anthropic.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        base = anthropic._base_client
        return [(base.SyncAPIClient, "request"), (base.AsyncAPIClient, "request")]

    def make_async_client(self) -> Any:
        client = anthropic.AsyncAnthropic(base_url=self.address, api_key="test", max_retries=0)
        self.async_clients.append(client)
        return client


class TestCalls(Anthropic, ScriptedCalls, contracts.CallContract):
    fails = anthropic.BadRequestError


class TestRawCalls(TestCalls):
    def ask(self, client: Any, **more: Any) -> Any:
        return client.messages.with_raw_response.create(**ASKED, **more)

    def read_answer(self, answer: Any) -> Any:
        return answer.status_code, answer.parse()


class TestBetaCalls(TestCalls):
    def ask(self, client: Any, **more: Any) -> Any:
        return client.beta.messages.create(**ASKED, **more)


class TestAsyncCalls(Anthropic, ScriptedAsyncCalls, contracts.AsyncCallContract):
    fails = anthropic.BadRequestError


class TestStreams(Anthropic, ScriptedStreams, contracts.StreamContract):
    stream_type = STREAM


class TestStreamsOfAFailingServer(TestStreams):
    """The server's own error in the middle of a stream."""

    cut_off = anthropic.APIError

    def open_cut_off_stream(self) -> Any:
        return self.open_stream("error")


class TestAsyncStreams(Anthropic, ScriptedAsyncStreams, contracts.AsyncStreamContract):
    stream_type = ASYNC_STREAM


@pytest.fixture
def client(scripted: Any, spans: Spans) -> Iterator[Any]:
    integrations.anthropic.autolog(log_traces=True)
    address = scripted.base_url.removesuffix("/v1")
    with anthropic.Anthropic(base_url=address, api_key="test", max_retries=0) as client:
        yield client
    integrations.anthropic.autolog(disable=True)


def test_a_call_in_the_conventions_names(client: Any, scripted: Any, spans: Spans) -> None:
    """One span, with only what was sent and what came back; cached tokens are input."""
    usage = {**USAGE, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 30}
    scripted.reply({**ANSWER, "usage": usage})
    client.messages.create(
        **ASKED, system="Be brief.", stop_sequences=["END"], extra_body={"temperature": 0.5, "top_k": 3}
    )
    span = spans.one()
    attributes = {name: value for name, value in (span.attributes or {}).items() if "messages" not in name}
    port = int(scripted.base_url.rsplit(":", 1)[1].split("/", maxsplit=1)[0])
    assert spans.tree() == "chat m [142 in, 5 out]"
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "m",
        "server.address": "127.0.0.1",
        "server.port": port,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_k": 3,
        "gen_ai.response.id": "msg_1",
        "gen_ai.response.model": "m-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 142,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 100,
        "gen_ai.usage.cache_write.input_tokens": 30,
        "gen_ai.system_instructions": '[{"type":"text","content":"Be brief."}]',
    }
    assert content(span, "gen_ai.output.messages") == [
        {"role": "assistant", "parts": [{"type": "text", "content": "One two."}], "finish_reason": "stop"}
    ]


BLOCKS: Any = {  # a block of a request, and the part that it becomes
    "text": ({"type": "text", "text": "x"}, {"type": "text", "content": "x"}),
    "picture": (
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "blob", "modality": "image", "content": "AAAA", "mime_type": "image/png"},
    ),
    "address": (
        {"type": "image", "source": {"type": "url", "url": "https://a.test/p.png"}},
        {"type": "uri", "modality": "image", "uri": "https://a.test/p.png"},
    ),
    "stored": (
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "file", "modality": "document", "file_id": "file_1"},
    ),
    "plain": (
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
        {"type": "text", "content": "words"},
    ),
    "call": (
        {"type": "tool_use", "id": "t1", "name": "look_up", "input": {"city": "Paris"}},
        {"type": "tool_call", "name": "look_up", "id": "t1", "arguments": {"city": "Paris"}},
    ),
    "result": (
        {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "21"}]},
        {"type": "tool_call_response", "response": "21", "id": "t1"},
    ),
    "failure": (
        {"type": "tool_result", "tool_use_id": "t1", "content": "no city", "is_error": True},
        {"type": "tool_call_response", "response": {"error": "no city"}, "id": "t1"},
    ),
    "thought": ({"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "reasoning", "content": "hm"}),
    "hidden": (
        {"type": "redacted_thinking", "data": "zzz"},
        {"type": "redacted_thinking", "content": {"data": "zzz"}},
    ),
    "search": (
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "tea"}},
        {
            "type": "server_tool_call",
            "name": "web_search",
            "server_tool_call": {"type": "web_search", "arguments": {"query": "tea"}},
            "id": "s1",
        },
    ),
    "found": (
        {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"url": "https://a.test"}]},
        {
            "type": "server_tool_call_response",
            "server_tool_call_response": {"type": "web_search", "content": [{"url": "https://a.test"}]},
            "id": "s1",
        },
    ),
    "unknown": ({"type": "hologram", "depth": 3}, {"type": "hologram", "content": {"depth": 3}}),
}


@pytest.mark.parametrize("name", list(BLOCKS))
def test_blocks_of_a_request(name: str, client: Any, scripted: Any, spans: Spans) -> None:
    sent, part = BLOCKS[name]
    scripted.reply(ANSWER)
    client.messages.create(**{**ASKED, "messages": [{"role": "user", "content": [sent]}]})
    (message,) = content(spans.one(), "gen_ai.input.messages")
    assert message["parts"] == [part]
    assert message["role"] == ("tool" if "tool_result" in sent["type"] and "web" not in sent["type"] else "user")


def test_a_stream_of_every_block(client: Any, scripted: Any, spans: Spans) -> None:
    """Thoughts, text, a tool's call in pieces and a search by the server, in the order in which they came."""
    scripted.stream(
        *stream_of(
            block(0, {"type": "thinking", "thinking": ""}, {"type": "thinking_delta", "thinking": "hm"}),
            block(
                1,
                {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}},
                {"type": "input_json_delta", "partial_json": '{"query": '},
                {"type": "input_json_delta", "partial_json": '"tea"}'},
            ),
            block(2, {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}),
            text("Let me ", "look.", index=3),
            block(
                4,
                {"type": "tool_use", "id": "t1", "name": "look_up", "input": {}},
                {"type": "input_json_delta", "partial_json": '{"city":'},
                {"type": "input_json_delta", "partial_json": '"Paris"}'},
            ),
            stop="tool_use",
            usage={"output_tokens": 7, "input_tokens": 12, "cache_read_input_tokens": 3},
        )
    )
    for _ in client.messages.create(**ASKED, stream=True):
        pass
    (message,) = content(spans.one(), "gen_ai.output.messages")
    assert message["parts"] == [
        {"type": "reasoning", "content": "hm"},
        {
            "type": "server_tool_call",
            "name": "web_search",
            "server_tool_call": {"type": "web_search", "arguments": {"query": "tea"}},
            "id": "s1",
        },
        {
            "type": "server_tool_call_response",
            "server_tool_call_response": {"type": "web_search", "content": []},
            "id": "s1",
        },
        {"type": "text", "content": "Let me look."},
        {"type": "tool_call", "name": "look_up", "id": "t1", "arguments": {"city": "Paris"}},
    ]
    assert message["finish_reason"] == "tool_call"
    assert spans.tree() == "chat m [15 in, 7 out]"


def test_the_helper_for_streams(client: Any, scripted: Any, spans: Spans) -> None:
    """``messages.stream`` reads the stream by itself: the caller gets its text and its message, and it is one span."""
    scripted.stream(*WHOLE)
    with client.messages.stream(**ASKED) as stream:
        assert "".join(stream.text_stream) == "One two."
        assert stream.get_final_message().usage.output_tokens == 5
    assert spans.tree() == "chat m [12 in, 5 out]"


def test_a_parsed_answer(client: Any, scripted: Any, spans: Spans) -> None:
    if not hasattr(client.messages, "parse"):
        pytest.skip("this version's messages have no parse")
    import pydantic

    class City(pydantic.BaseModel):
        name: str

    scripted.reply({**ANSWER, "content": [{"type": "text", "text": '{"name": "Paris"}'}]})
    answer = client.messages.parse(**ASKED, output_format=City)
    assert answer.parsed_output == City(name="Paris")
    assert (spans.one().attributes or {})["gen_ai.output.type"] == "json"


@pytest.mark.parametrize(
    ("reason", "recorded"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("refusal", "content_filter"),
        ("tool_use", "tool_calls"),
        ("pause_turn", "pause_turn"),
    ],
)
def test_reasons_to_stop(reason: str, recorded: str, client: Any, scripted: Any, spans: Spans) -> None:
    scripted.reply({**ANSWER, "stop_reason": reason})
    client.messages.create(**ASKED)
    assert (spans.one().attributes or {})["gen_ai.response.finish_reasons"] == (recorded,)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_block_without_its_text(streamed: bool, client: Any, scripted: Any, spans: Spans) -> None:
    """It costs no other block, and not the reason to stop."""
    if streamed:
        bare = block(0, {"type": "text"}, {"type": "text_delta", "text": "One two."})
        scripted.stream(*stream_of(bare))
        for _ in client.messages.create(**ASKED, stream=True):
            pass
    else:
        scripted.reply({**ANSWER, "content": [{"type": "text", "text": None}, {"type": "text", "text": "One two."}]})
        client.messages.create(**ASKED)
    (message,) = content(spans.one(), "gen_ai.output.messages")
    assert message == {
        "role": "assistant",
        "parts": [{"type": "text", "content": "One two."}],
        "finish_reason": "stop",
    }


def test_arguments_that_arrive_whole(client: Any, scripted: Any, spans: Spans) -> None:
    scripted.stream(*stream_of(block(0, {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}})))
    for _ in client.messages.create(**ASKED, stream=True):
        pass
    (message,) = content(spans.one(), "gen_ai.output.messages")
    assert message["parts"] == [{"type": "tool_call", "name": "f", "id": "t", "arguments": {"a": 1}}]


def test_a_tools_result_without_text(client: Any, scripted: Any, spans: Spans) -> None:
    scripted.reply(ANSWER)
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": None}]}
    client.messages.create(**{**ASKED, "messages": ({"role": "user", "content": [result]},)})
    (message,) = content(spans.one(), "gen_ai.input.messages")
    assert message["role"] == "tool"


def test_every_token_that_is_billed(client: Any, scripted: Any, spans: Spans) -> None:
    """What a later event leaves out stays as it was; thoughts, and writes that are kept for an hour, are told."""
    start = {"input_tokens": 12, "cache_read_input_tokens": 1000, "output_tokens": 1}
    kept = {"cache_creation": {"ephemeral_1h_input_tokens": 30}, "cache_creation_input_tokens": 30}
    last = {"input_tokens": 12, "output_tokens": 5, "output_tokens_details": {"thinking_tokens": 3}}
    events = stream_of(text("x"), usage=last)
    events[0][1]["message"]["usage"] = {**start, **kept}
    scripted.stream(*events)
    for _ in client.messages.create(**ASKED, stream=True):
        pass
    attributes = spans.one().attributes or {}
    assert spans.tree() == "chat m [1042 in, 5 out]"
    assert attributes["gen_ai.usage.reasoning.output_tokens"] == 3
    assert attributes["mlspan.usage.cache_write_1h.input_tokens"] == 30


def test_tools_are_offered(client: Any, scripted: Any, spans: Spans) -> None:
    scripted.reply(ANSWER)
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    look_up = {"name": "look_up", "description": "The weather.", "input_schema": schema}
    client.messages.create(**ASKED, tools=[look_up, {"type": "web_search_20250305", "name": "web_search"}])
    assert content(spans.one(), "gen_ai.tool.definitions") == [
        {"type": "function", "name": "look_up", "description": "The weather.", "parameters": schema},
        {"type": "web_search_20250305", "name": "web_search"},
    ]


def test_no_content_where_it_is_not_wanted(
    client: Any, scripted: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlspan import tracing

    tracing.configure(capture_content=False)
    try:
        scripted.stream(*WHOLE)
        for _ in client.messages.create(**ASKED, stream=True):
            pass
    finally:
        tracing.configure()
    span = spans.one()
    assert spans.tree() == "chat m [12 in, 5 out]"
    assert "greeting" not in str(span.attributes)
    assert "two" not in str(span.attributes)


def test_a_batch_from_its_start_to_its_results(client: Any, scripted: Any, spans: Spans) -> None:
    """Each request is a span; the results tell what the batch has cost."""
    counts = {"processing": 2, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    batch = {
        "id": "msgbatch_1",
        "type": "message_batch",
        "processing_status": "in_progress",
        "request_counts": counts,
        "created_at": "2026-01-01T00:00:00Z",
        "expires_at": "2026-01-02T00:00:00Z",
        "results_url": f"{scripted.base_url}/messages/batches/msgbatch_1/results",
    }
    ended = {**batch, "processing_status": "ended"}
    lines = [{"custom_id": str(n), "result": {"type": "succeeded", "message": ANSWER}} for n in range(2)]
    scripted.reply(batch)
    scripted.reply(ended)
    scripted.reply("\n".join(map(json.dumps, lines)).encode(), headers={"Content-Type": "application/x-jsonl"})
    client.messages.batches.create(requests=[{"custom_id": str(n), "params": ASKED} for n in range(2)])
    assert len(list(client.messages.batches.results("msgbatch_1"))) == 2
    names = [span.name for span in spans.all]
    assert names == ["messages.batches.create", "messages.batches.retrieve", "messages.batches.results"]
    created, retrieved, results = (dict(span.attributes or {}) for span in spans.all)
    assert created["mlspan.request.count"] == 2
    assert created["gen_ai.request.model"] == "m"
    assert created["mlspan.request_counts.processing"] == 2
    assert retrieved["mlspan.response.status"] == "ended"
    assert results["mlspan.result_counts.succeeded"] == 2
    assert results["mlspan.batch.output_tokens"] == 10


def test_counting_tokens_is_no_call_to_a_model(client: Any, scripted: Any, spans: Spans) -> None:
    scripted.reply({"input_tokens": 9})
    assert client.messages.count_tokens(model="m", messages=HELLO).input_tokens == 9
    assert spans.all == []


@pytest.mark.parametrize(
    ("name", "options", "provider"),
    [
        ("AnthropicVertex", {"region": "r", "project_id": "p", "access_token": "t"}, "gcp.vertex_ai"),
        ("AnthropicFoundry", {"api_key": "test"}, "azure.ai.inference"),
    ],
)
def test_claude_elsewhere(
    name: str, options: Any, provider: str, client: Any, scripted: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other clients of the same package: the same span, with the provider that serves it."""
    if not hasattr(anthropic, name):
        pytest.skip(f"this version has no {name}")
    scripted.reply(ANSWER)
    address = scripted.base_url.removesuffix("/v1")
    with getattr(anthropic, name)(base_url=address, max_retries=0, **options) as elsewhere:
        elsewhere.messages.create(**ASKED)
    assert spans.tree() == "chat m [12 in, 5 out]"
    assert (spans.one().attributes or {})["gen_ai.provider.name"] == provider


@pytest.mark.parametrize(("is_ours_started", "is_joined"), [(True, True), (False, True), (True, False)])
def test_the_clients_own_span_is_held_back(
    is_ours_started: bool, is_joined: bool, scripted: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call is one span where ours go too: the client's own is back with ours off, and where ours is not started."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    if not hasattr(anthropic._base_client, "start_api_call_span"):
        pytest.skip("this version opens no span of its own")
    seen, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(seen))
    if is_joined:
        provider.add_span_processor(ForwardingProcessor((SimpleSpanProcessor(InMemorySpanExporter()),)))
    address = scripted.base_url.removesuffix("/v1")
    scripted.reply(ANSWER)
    if not is_ours_started:  # as after a failure in its begin
        monkeypatch.setattr(integrations.anthropic.HOOK, "start_operation", lambda *_, **__: NOOP_OPERATION)
    integrations.anthropic.autolog()
    options: Any = {"tracer_provider": provider}
    with anthropic.Anthropic(base_url=address, api_key="test", max_retries=0, open_telemetry=options) as client:
        with tracing.span("assistant", kind="agent"):
            client.messages.create(**ASKED)
        assert len(seen.get_finished_spans()) == (not is_ours_started or not is_joined)
        seen.clear()
        integrations.anthropic.autolog(disable=True)
        client.messages.create(**ASKED)
        assert len(seen.get_finished_spans()) == 1
    call = "\n  chat m [12 in, 5 out]" if is_ours_started else ""
    assert spans.tree() == f"invoke_agent assistant{call}"


def test_the_own_span_is_held_back_without_a_destination_of_ours(scripted: Any) -> None:
    """Where the application alone exports what both record, a call is one span of its provider as well."""
    program = """
import sys
import anthropic
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from mlspan import integrations, tracing

seen, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(seen))
trace.set_tracer_provider(provider)
tracing.configure(tracking_uri="none")
integrations.anthropic.autolog()
client = anthropic.Anthropic(base_url=sys.argv[1], api_key="test", max_retries=0)
client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "a greeting"}])
print([span.name for span in seen.get_finished_spans()])
"""
    scripted.reply(ANSWER)
    environment = {name: value for name, value in os.environ.items() if name != "ANTHROPIC_OPEN_TELEMETRY"}
    command = [sys.executable, "-c", program, scripted.base_url.removesuffix("/v1")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "['chat m']"


def test_the_error_that_the_caller_gets(client: Any, scripted: Any, spans: Spans) -> None:
    scripted.reply(REFUSAL, status=400)
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(**ASKED)
    span = spans.one()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "anthropic.BadRequestError"
    assert "no such model" in (span.status.description or "")
