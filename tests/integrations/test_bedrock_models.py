"""InvokeModel: each maker's own format, whole and streamed, and the ways in which a body can be read."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("botocore.client", reason="in the nox sessions bedrock")
from bedrock_kit import Bedrock, make_client, send_events
from botocore.eventstream import EventStream
from botocore.response import StreamingBody

from mlspan import integrations
from mlspan.testing import Spans, content

SAID = [{"role": "assistant", "parts": [{"type": "text", "content": "One two."}], "finish_reason": "stop"}]
HI = [{"role": "user", "parts": [{"type": "text", "content": "a greeting"}]}]
MESSAGES = [{"role": "user", "content": "a greeting"}]
METRICS = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 12, "outputTokenCount": 5}}
HEADERS = {"X-Amzn-Bedrock-Input-Token-Count": "12", "X-Amzn-Bedrock-Output-Token-Count": "5"}
CLAUDE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": MESSAGES}
NOVA = {"messages": [{"role": "user", "content": [{"text": "a greeting"}]}], "inferenceConfig": {"max_new_tokens": 9}}
NOVA_USAGE = {"inputTokens": 8, "outputTokens": 5, "cacheReadInputTokenCount": 0, "cacheReadInputTokens": 4}

FAMILIES: Any = {  # model, request, whole answer, events of a stream, name of the operation
    "claude": (
        "us.anthropic.claude-x",
        CLAUDE,
        {
            "id": "msg_1",
            "content": [{"type": "text", "text": "One two."}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 8, "cache_read_input_tokens": 4, "output_tokens": 5},
        },
        [
            {
                "type": "message_start",
                "message": {"id": "msg_1", "usage": {"input_tokens": 8, "cache_read_input_tokens": 4}},
            },
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "One "}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "two."}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
            {
                "type": "message_stop",
                "amazon-bedrock-invocationMetrics": {"inputTokenCount": 8, "outputTokenCount": 5},
            },
        ],
        "chat",
    ),
    "nova": (
        "amazon.nova-lite-v1:0",
        NOVA,
        {
            "output": {"message": {"role": "assistant", "content": [{"text": "One two."}]}},
            "stopReason": "end_turn",
            "usage": NOVA_USAGE,
        },
        [
            {"messageStart": {"role": "assistant"}},
            {"contentBlockDelta": {"delta": {"text": "One "}, "contentBlockIndex": 0}},
            {"contentBlockDelta": {"delta": {"text": "two."}, "contentBlockIndex": 0}},
            {"messageStop": {"stopReason": "end_turn"}},
            {"metadata": {"usage": NOVA_USAGE}, "amazon-bedrock-invocationMetrics": {"inputTokenCount": 8}},
        ],
        "chat",
    ),
    "llama": (
        "meta.llama3-8b-instruct-v1:0",
        {"prompt": "a greeting", "max_gen_len": 9},
        {"generation": "One two.", "prompt_token_count": 12, "generation_token_count": 5, "stop_reason": "stop"},
        [
            {"generation": "One ", "prompt_token_count": 12, "generation_token_count": 1, "stop_reason": None},
            {"generation": "two.", "prompt_token_count": None, "generation_token_count": 5, "stop_reason": "stop"},
        ],
        "text_completion",
    ),
    "mistral": (
        "mistral.mistral-7b-instruct-v0:2",
        {"prompt": "a greeting", "max_tokens": 9},
        {"outputs": [{"text": "One two.", "stop_reason": "stop"}]},
        [
            {"outputs": [{"text": "One ", "stop_reason": None}]},
            {"outputs": [{"text": "two.", "stop_reason": "stop"}], **METRICS},
        ],
        "text_completion",
    ),
    "mistral's chat": (
        "mistral.mistral-large-2407-v1:0",
        {"messages": MESSAGES, "max_tokens": 9},
        {"choices": [{"index": 0, "message": {"content": "One two."}, "stop_reason": "stop"}]},
        [
            {"choices": [{"index": 0, "message": {"role": "assistant", "content": "One "}, "stop_reason": None}]},
            {"choices": [{"index": 0, "message": {"content": "two."}, "stop_reason": "stop"}], **METRICS},
        ],
        "chat",
    ),
    "openai": (
        "openai.gpt-oss-20b-1:0",
        {"messages": MESSAGES, "max_completion_tokens": 9},
        {
            "id": "c1",
            "choices": [{"index": 0, "message": {"content": "One two."}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17},
        },
        [
            {"choices": [{"index": 0, "delta": {"content": "One "}}]},
            {"choices": [{"index": 0, "delta": {"content": "two."}, "finish_reason": "stop"}], **METRICS},
        ],
        "chat",
    ),
    "cohere": (
        "cohere.command-r-v1:0",
        {"message": "a greeting", "max_tokens": 9, "chat_history": []},
        {"text": "One two.", "generation_id": "g1", "finish_reason": "COMPLETE", "chat_history": []},
        [
            {"event_type": "text-generation", "text": "One ", "is_finished": False},
            {"event_type": "text-generation", "text": "two.", "is_finished": False},
            {"event_type": "stream-end", "is_finished": True, "finish_reason": "COMPLETE", "response": {}, **METRICS},
        ],
        "chat",
    ),
    "cohere's first": (
        "cohere.command-text-v14",
        {"prompt": "a greeting", "max_tokens": 9},
        {"id": "g1", "generations": [{"id": "g2", "text": "One two.", "finish_reason": "COMPLETE"}]},
        [
            {"is_finished": False, "text": "One "},
            {"is_finished": False, "text": "two."},
            {"is_finished": True, "finish_reason": "COMPLETE", **METRICS},
        ],
        "text_completion",
    ),
    "titan": (
        "amazon.titan-text-express-v1",
        {"inputText": "a greeting", "textGenerationConfig": {"maxTokenCount": 9}},
        {
            "inputTextTokenCount": 12,
            "results": [{"tokenCount": 5, "outputText": "One two.", "completionReason": "FINISH"}],
        },
        [
            {"outputText": "One ", "index": 0, "inputTextTokenCount": 12, "completionReason": None},
            {"outputText": "two.", "index": 0, "totalOutputTextTokenCount": 5, "completionReason": "FINISH"},
        ],
        "text_completion",
    ),
}


@pytest.fixture
def client(scripted: Any, spans: Spans) -> Iterator[Any]:
    integrations.bedrock.autolog(log_traces=True)
    yield make_client("bedrock-runtime", scripted.base_url.removesuffix("/v1"))
    integrations.bedrock.autolog(disable=True)


def make_chunk(value: Any) -> dict[str, Any]:
    return {"chunk": {"bytes": base64.b64encode(json.dumps(value).encode()).decode()}}


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("streamed", [False, True])
def test_families(family: str, streamed: bool, client: Any, scripted: Any, spans: Spans) -> None:
    """The same record, whoever has made the model; the bytes and the types are the client's own."""
    model, sent, whole, events, operation = FAMILIES[family]
    asked = {"modelId": model, "body": json.dumps(sent)}
    if streamed:
        send_events(scripted, [make_chunk(event) for event in events])
        stream = client.invoke_model_with_response_stream(**asked)["body"]
        assert isinstance(stream, EventStream)
        assert [json.loads(event["chunk"]["bytes"]) for event in stream] == events
    else:
        scripted.reply(whole, headers=HEADERS)
        body = client.invoke_model(**asked)["body"]
        assert isinstance(body, StreamingBody)
        assert body.read() == json.dumps(whole).encode()
    assert spans.tree() == f"{operation} {model} [12 in, 5 out]"
    assert content(spans.one(), "gen_ai.output.messages") == SAID
    assert content(spans.one(), "gen_ai.input.messages") == HI
    assert (spans.one().attributes or {})["gen_ai.request.max_tokens"] == 9


@pytest.mark.parametrize(
    ("model", "sent", "answer"),
    [
        ("amazon.titan-embed-text-v2:0", {"inputText": "x"}, {"embedding": [0.25, 0.75], "inputTextTokenCount": 3}),
        ("cohere.embed-english-v3", {"texts": ["x"]}, {"id": "e1", "embeddings": [[0.25, 0.75]]}),
        ("cohere.embed-v4:0", {"texts": ["x"]}, {"embeddings": {"float": [[0.25, 0.75]]}}),
    ],
)
def test_embeddings(model: str, sent: Any, answer: Any, client: Any, scripted: Any, spans: Spans) -> None:
    scripted.reply(answer, headers={"X-Amzn-Bedrock-Input-Token-Count": "3"})
    client.invoke_model(modelId=model, body=json.dumps(sent))["body"].read()
    attributes = dict(spans.one().attributes or {})
    assert spans.one().name == f"embeddings {model}"
    assert attributes["gen_ai.usage.input_tokens"] == 3
    assert attributes["gen_ai.embeddings.dimension.count"] == 2
    assert "0.25" not in str(attributes)


def read_to_a_file(body: Any) -> bytes:
    from io import BytesIO
    from shutil import copyfileobj

    file = BytesIO()
    copyfileobj(body, file, 7)
    return file.getvalue()


def read_in_a_block(body: Any) -> bytes:
    with body as raw:
        return bytes(raw.read())


def read_exactly(body: Any) -> bytes:
    """Read all there is in one piece, and never ask for more."""
    return bytes(body.read(10_000))


def read_into(body: Any) -> bytes:
    pieces, buffer = b"", bytearray(7)
    while count := body.readinto(buffer):
        pieces += buffer[:count]
    return pieces


READS: Any = {
    "read": lambda body: body.read(),
    "load": lambda body: json.dumps(json.load(body)).encode(),
    "chunks": lambda body: b"".join(body.iter_chunks(7)),
    "lines": lambda body: b"\n".join(body.iter_lines()),
    "iterate": b"".join,
    "next": lambda body: b"".join(iter(lambda: next(body, b""), b"")),
    "file": read_to_a_file,
    "block": read_in_a_block,
    "exactly": read_exactly,
    "nothing first": lambda body: body.read(0) + body.read(),
    "into": read_into,
}


@pytest.mark.parametrize("name", list(READS))
def test_every_way_to_read_a_body(name: str, client: Any, scripted: Any, spans: Spans) -> None:
    if name == "into" and not hasattr(StreamingBody, "readinto"):
        pytest.skip("this version's bodies are not read into buffers")
    model, sent, whole, *_ = FAMILIES["llama"]
    scripted.reply(whole)
    answer = client.invoke_model(modelId=model, body=json.dumps(sent))
    assert READS[name](answer["body"]) == json.dumps(whole).encode()
    del answer
    gc.collect()
    assert content(spans.one(), "gen_ai.output.messages") == SAID
    assert "mlspan.stream.end" not in (spans.one().attributes or {})


@pytest.mark.parametrize(("leave", "end"), [("drop", "abandoned"), ("close", "closed"), ("half", "abandoned")])
def test_a_body_that_is_not_read(leave: str, end: str, client: Any, scripted: Any, spans: Spans) -> None:
    """Its span ends with it, and says how; the tokens are in the headers."""
    model, sent, whole, *_ = FAMILIES["mistral"]
    scripted.reply(whole, headers=HEADERS)
    answer = client.invoke_model(modelId=model, body=json.dumps(sent))
    if leave == "close":
        answer["body"].close()
    elif leave == "half":
        answer["body"].read(5)
    del answer
    gc.collect()
    assert spans.tree() == f"text_completion {model} [12 in, 5 out, stream {end}]"


@pytest.mark.parametrize("sent", [b"\xff\xfe", "[1, 2]", "null", '{"messages": 5, "prompt": {}}', b"{" * 100])
@pytest.mark.parametrize("got", [b"", b"\x00\x01", b"[]", b"null", b'{"content": 3}', b'{"choices": [null, 5, {}]}'])
def test_bodies_that_are_odd(sent: Any, got: bytes, client: Any, scripted: Any, spans: Spans) -> None:
    """Any bytes may be sent, and any may come back: the caller gets them, and the span ends."""
    scripted.reply(got)
    assert client.invoke_model(modelId="m", body=sent)["body"].read() == got
    assert len(spans.all) == 1


@pytest.mark.parametrize("action", ["INTERVENED", "GUARDRAIL_INTERVENED"])
def test_a_guardrail_that_intervened(action: str, client: Any, scripted: Any, spans: Spans) -> None:
    """AWS names it in two ways."""
    model, sent, whole, *_ = FAMILIES["llama"]
    scripted.reply({**whole, "amazon-bedrock-guardrailAction": action})
    options = {"guardrailIdentifier": "g1", "guardrailVersion": "1"}
    client.invoke_model(modelId=model, body=json.dumps(sent), **options)["body"].read()
    attributes = dict(spans.one().attributes or {})
    assert attributes["aws.bedrock.guardrail.id"] == "g1"
    assert attributes["gen_ai.response.finish_reasons"] == ("content_filter",)


class TestAsync(Bedrock):
    """The same by aiobotocore."""

    @pytest.fixture(autouse=True)
    def _traced(self) -> Iterator[None]:
        pytest.importorskip("aiobotocore.client", reason="in the nox sessions bedrock")
        self.autolog()
        yield
        self.autolog(disable=True)

    @pytest.mark.parametrize("way", ["read", "chunks", "block", "iterate"])
    def test_a_body(self, way: str, spans: Spans) -> None:
        model, sent, whole, *_ = FAMILIES["llama"]
        self.server.reply(whole)

        async def read(body: Any) -> bytes:
            if way == "read":
                return bytes(await body.read())
            if way == "chunks":
                return b"".join([piece async for piece in body.iter_chunks(7)])
            if way == "iterate":
                return b"".join([piece async for piece in body])
            async with body as opened:
                return bytes(await opened.read())

        async def scenario() -> None:
            client = await self.make_async_client()
            answer = await client.invoke_model(modelId=model, body=json.dumps(sent))
            assert await read(answer["body"]) == json.dumps(whole).encode()
            await self.close_client()

        asyncio.run(scenario())
        gc.collect()
        assert content(spans.one(), "gen_ai.output.messages") == SAID
        assert spans.tree() == f"text_completion {model} [12 in, 5 out]"
