"""Bedrock by boto3: what is asked, what comes back, what fails, against a server that a test scripts."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("botocore.client", reason="in the nox sessions bedrock")
from bedrock_kit import ANSWER, ASKED, USAGE, knows, make_client, send_events, stream_of, text
from botocore.exceptions import ClientError
from opentelemetry.trace import StatusCode

from mlspan import integrations, tracing
from mlspan.testing import Spans, content

SAID = {"role": "assistant", "parts": [{"type": "text", "content": "One two."}], "finish_reason": "stop"}


@pytest.fixture
def client(scripted: Any, spans: Spans) -> Iterator[Any]:
    integrations.bedrock.autolog(log_traces=True)
    yield make_client("bedrock-runtime", scripted.base_url.removesuffix("/v1"))
    integrations.bedrock.autolog(disable=True)


def answer(*blocks: Any, **fields: Any) -> Any:
    return {**ANSWER, "output": {"message": {"role": "assistant", "content": list(blocks)}}, **fields}


def read_attributes(spans: Spans) -> dict[str, Any]:
    return dict(spans.one().attributes or {})


def test_a_call_in_the_conventions_names(client: Any, scripted: Any, spans: Spans) -> None:
    """One span, with only what was sent and what came back; cached tokens and writes to the cache are input."""
    if not knows("usage", "cacheDetails"):
        pytest.skip("this version knows no lifetimes of the cache")
    details = [{"ttl": "1h", "inputTokens": 1}, {"ttl": "5m", "inputTokens": 0}]
    scripted.reply(
        answer({"text": "One two."}, usage={**USAGE, "cacheDetails": details}), headers={"x-amzn-RequestId": "r-1"}
    )
    client.converse(
        **ASKED,
        system=[{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
        inferenceConfig={"temperature": 0.5, "maxTokens": 9, "topP": 0.9, "stopSequences": ["END"]},
        additionalModelRequestFields={"top_k": 3},
        guardrailConfig={"guardrailIdentifier": "g1", "guardrailVersion": "1"},
    )
    attributes = read_attributes(spans)
    assert content(spans.one(), "gen_ai.system_instructions") == [{"type": "text", "content": "Be brief."}]
    assert content(spans.one(), "gen_ai.output.messages") == [SAID]
    assert {name: value for name, value in attributes.items() if not isinstance(value, str) or value[:1] != "["} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "aws.bedrock",
        "gen_ai.request.model": "m",
        "server.address": "127.0.0.1",
        "server.port": int(scripted.base_url.split(":")[2].split("/")[0]),
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_k": 3,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.cache_write.input_tokens": 1,
        "mlspan.usage.cache_write_1h.input_tokens": 1,
        "aws.request_id": "r-1",
        "aws.bedrock.guardrail.id": "g1",
    }


BLOCKS: Any = {  # a block of a request, and the part that it becomes
    "text": ({"text": "x"}, {"type": "text", "content": "x"}),
    "picture": (
        {"image": {"format": "png", "source": {"bytes": b"\0\1"}}},
        {"type": "blob", "modality": "image", "content": "AAE=", "mime_type": "image/png"},
    ),
    "large": (
        {"image": {"format": "png", "source": {"bytes": bytes(2 << 20)}}},
        {"type": "blob", "modality": "image", "content": "[2097152 bytes]", "mime_type": "image/png"},
    ),
    "document": (
        {"document": {"format": "pdf", "name": "d", "source": {"bytes": b"x"}}},
        {"type": "blob", "modality": "document", "content": "eA==", "mime_type": "application/pdf"},
    ),
    "film": (
        {"video": {"format": "mp4", "source": {"s3Location": {"uri": "s3://b/k.mp4"}}}},
        {"type": "uri", "modality": "video", "uri": "s3://b/k.mp4", "mime_type": "video/mp4"},
    ),
    "call": (
        {"toolUse": {"toolUseId": "t1", "name": "look_up", "input": {"city": "Paris"}}},
        {"type": "tool_call", "name": "look_up", "id": "t1", "arguments": {"city": "Paris"}},
    ),
    "result": (
        {"toolResult": {"toolUseId": "t1", "content": [{"json": {"degrees": 21}}]}},
        {"type": "tool_call_response", "response": {"degrees": 21}, "id": "t1"},
    ),
    "failure": (
        {"toolResult": {"toolUseId": "t1", "content": [{"text": "no city"}], "status": "error"}},
        {"type": "tool_call_response", "response": {"error": "no city"}, "id": "t1"},
    ),
    "guarded": ({"guardContent": {"text": {"text": "x"}}}, {"type": "text", "content": "x"}),
    "thought": (
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
        {"type": "reasoning", "content": "hm"},
    ),
    "hidden": (
        {"reasoningContent": {"redactedContent": b"x"}},
        {"type": "redacted_reasoning", "content": "eA=="},
    ),
}


@pytest.mark.parametrize("name", list(BLOCKS))
def test_blocks_of_a_request(name: str, client: Any, scripted: Any, spans: Spans) -> None:
    sent, part = BLOCKS[name]
    kind = next(iter(sent))
    block = client.meta.service_model.operation_model("Converse").input_shape.members["messages"].member
    if kind not in block.members["content"].member.members:
        pytest.skip(f"this version has no {kind}")
    scripted.reply(ANSWER)
    client.converse(modelId="m", messages=[{"role": "user", "content": [sent]}])
    (message,) = content(spans.one(), "gen_ai.input.messages")
    assert message["parts"] == [part]
    assert message["role"] == ("tool" if "toolResult" in sent else "user")


def test_a_stream_of_every_block(client: Any, scripted: Any, spans: Spans) -> None:
    """Thoughts, text and two tools' calls in pieces, in the order in which they came."""

    def call(index: int, id: str, *pieces: str) -> list[Any]:
        start = {"toolUse": {"toolUseId": id, "name": "look_up"}}
        deltas = [
            {"contentBlockDelta": {"contentBlockIndex": index, "delta": {"toolUse": {"input": piece}}}}
            for piece in pieces
        ]
        return [{"contentBlockStart": {"contentBlockIndex": index, "start": start}}, *deltas]

    if not knows("output", "message", "content", "reasoningContent"):
        pytest.skip("this version knows no thoughts")
    thought = {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "hm"}}}
    calls = [*call(2, "t1", '{"city":', '"Paris"}'), *call(3, "t2", '{"city":"Rome"}')]
    events = stream_of([{"contentBlockDelta": thought}], text("Let me ", "look.", index=1), calls, stop="tool_use")
    send_events(scripted, events)
    assert len(list(client.converse_stream(**ASKED)["stream"])) == len(events)
    (message,) = content(spans.one(), "gen_ai.output.messages")
    assert message["parts"] == [
        {"type": "reasoning", "content": "hm"},
        {"type": "text", "content": "Let me look."},
        {"type": "tool_call", "name": "look_up", "id": "t1", "arguments": {"city": "Paris"}},
        {"type": "tool_call", "name": "look_up", "id": "t2", "arguments": {"city": "Rome"}},
    ]
    assert message["finish_reason"] == "tool_call"
    assert spans.tree() == "chat m [12 in, 5 out]"


def test_a_stream_goes_on_where_it_was_left(client: Any, scripted: Any, spans: Spans) -> None:
    """As without tracing: a second loop reads the rest, and the span has all of it."""
    send_events(scripted, stream_of(text("One ", "two.")))
    stream = client.converse_stream(**ASKED)["stream"]
    for event in stream:
        if "contentBlockDelta" in event:
            break
    rest = list(stream)
    assert next(iter(rest[0])) == "contentBlockDelta"
    assert content(spans.one(), "gen_ai.output.messages") == [SAID]
    assert spans.tree() == "chat m [12 in, 5 out]"


def test_tools_are_offered_and_linked(client: Any, scripted: Any, spans: Spans) -> None:
    scripted.reply(answer({"toolUse": {"toolUseId": "t1", "name": "look_up", "input": {}}}, stopReason="tool_use"))
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    spec = {"name": "look_up", "description": "The weather.", "inputSchema": {"json": schema}}
    client.converse(**ASKED, toolConfig={"tools": [{"toolSpec": spec}]})
    assert content(spans.one(), "gen_ai.tool.definitions") == [
        {"type": "function", "name": "look_up", "description": "The weather.", "parameters": schema}
    ]
    (message,) = content(spans.one(), "gen_ai.output.messages")
    assert message["parts"] == [{"type": "tool_call", "name": "look_up", "id": "t1", "arguments": {}}]


@pytest.mark.parametrize(
    ("reason", "recorded"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("brand_new", "brand_new"),
    ],
)
def test_reasons_to_stop(reason: str, recorded: str, client: Any, scripted: Any, spans: Spans) -> None:
    scripted.reply(answer({"text": "x"}, stopReason=reason))
    client.converse(**ASKED)
    assert read_attributes(spans)["gen_ai.response.finish_reasons"] == (recorded,)


ODD: Any = {
    "no usage": answer({"text": "x"}, usage=None),
    "no output": {},
    "null content": {**ANSWER, "output": {"message": {"role": "assistant", "content": None}}},
    "null message": {**ANSWER, "output": {"message": None}},
    "an unknown block": answer({"hologram": {"depth": 3}}),
    "an empty block": answer({}),
    "negative counts": answer({"text": "x"}, usage={"inputTokens": -1, "outputTokens": -5, "totalTokens": -6}),
    "enormous counts": answer({"text": "x"}, usage={"inputTokens": 2**70, "outputTokens": 1, "totalTokens": 1}),
}


@pytest.mark.parametrize("name", list(ODD))
def test_odd_answers(name: str, client: Any, scripted: Any, spans: Spans) -> None:
    """They reach the caller as without tracing, and the span ends."""
    scripted.reply(ODD[name])

    def ask() -> Any:
        try:
            got = client.converse(**ASKED)
        except Exception as error:  # what botocore itself makes of it
            return type(error)
        return {name: value for name, value in got.items() if name != "ResponseMetadata"}

    traced = ask()
    integrations.bedrock.autolog(disable=True)
    assert traced == ask()
    assert len(spans.all) == 1


def test_odd_events(client: Any, scripted: Any, spans: Spans) -> None:
    """Events of an unknown type, and fields that are missing, cost no other event."""
    odd: list[Any] = [
        {"messageStart": {}},
        {"brandNew": {"x": 1}},
        {"contentBlockDelta": {}},
        {"contentBlockDelta": {"delta": {"toolUse": {}}}},
        {"contentBlockStart": {}},
        {"metadata": {}},
    ]
    send_events(scripted, [*odd, *stream_of(text("One ", "two."))])
    list(client.converse_stream(**ASKED)["stream"])
    (message,) = content(spans.one(), "gen_ai.output.messages")
    assert message["parts"][-1:] == SAID["parts"]
    assert spans.tree() == "chat m [12 in, 5 out]"


def test_no_content_where_it_is_not_wanted(client: Any, scripted: Any, spans: Spans) -> None:
    tracing.configure(capture_content=False)
    try:
        send_events(scripted, stream_of(text("One ", "two.")))
        list(client.converse_stream(**ASKED)["stream"])
    finally:
        tracing.configure()
    assert spans.tree() == "chat m [12 in, 5 out]"
    assert "greeting" not in str(read_attributes(spans))
    assert "two" not in str(read_attributes(spans))


@pytest.mark.parametrize("code", ["ThrottlingException", "ExpiredTokenException"])
def test_errors_by_their_code(code: str, client: Any, scripted: Any, spans: Spans) -> None:
    """The service's code is the type, whether botocore has a class for it or not."""
    scripted.reply({"message": "no", "__type": code}, status=429, headers={"x-amzn-RequestId": "r-1"})
    with pytest.raises(ClientError):
        client.converse(**ASKED)
    assert spans.one().status.status_code is StatusCode.ERROR
    assert read_attributes(spans)["error.type"] == code
    assert read_attributes(spans)["aws.request_id"] == "r-1"


def test_retries_inside_of_botocore_are_one_call(client: Any, scripted: Any, spans: Spans) -> None:
    scripted.reply({"message": "slow down", "__type": "ThrottlingException"}, status=429)
    scripted.reply(ANSWER)
    patient = make_client("bedrock-runtime", scripted.base_url.removesuffix("/v1"), retries=2)
    patient.converse(**ASKED)
    assert spans.tree() == "chat m [12 in, 5 out]"
    assert read_attributes(spans)["mlspan.request.retries"] == 1


def test_arguments_that_botocore_refuses(client: Any, spans: Spans) -> None:
    """The caller gets botocore's own error, and nothing of ours."""
    from botocore.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        client.converse(modelId=5, messages="hello", inferenceConfig=[], system=3, toolConfig={"tools": 1})
    assert read_attributes(spans)["error.type"] == "botocore.exceptions.ParamValidationError"


def test_other_services_have_no_spans(client: Any, scripted: Any, spans: Spans) -> None:
    scripted.reply(b"<ListAllMyBucketsResult/>")
    assert make_client("s3", scripted.base_url.removesuffix("/v1")).list_buckets()["ResponseMetadata"]
    assert spans.all == []


def test_counting_tokens_is_no_call_to_a_model(client: Any, scripted: Any, spans: Spans) -> None:
    if not hasattr(client, "count_tokens"):
        pytest.skip("this version counts no tokens")
    scripted.reply({"inputTokens": 9})
    asked = {"converse": {"messages": ASKED["messages"]}}
    assert client.count_tokens(modelId="m", input=asked)["inputTokens"] == 9
    assert spans.all == []


def test_a_stubbed_client(client: Any, spans: Spans) -> None:
    """Botocore's Stubber answers with what a test has made, which need not be a stream of the network's."""
    from botocore.stub import Stubber

    with Stubber(client) as stub:
        stub.add_response("converse", {k: v for k, v in ANSWER.items() if k != "usage"} | {"usage": USAGE})
        client.converse(**ASKED)
    assert spans.tree() == "chat m [12 in, 5 out]"


def test_a_body_that_is_a_file_is_left_alone(client: Any, scripted: Any, spans: Spans) -> None:
    scripted.reply({"generation": "One two.", "stop_reason": "stop"})
    sent = io.BytesIO(json.dumps({"prompt": "a greeting"}).encode())
    assert json.load(client.invoke_model(modelId="m", body=sent)["body"])["generation"] == "One two."
    assert scripted.requests[0][1] == {"prompt": "a greeting"} or b"a greeting" in scripted.requests[0][1]
    assert content(spans.one(), "gen_ai.output.messages") == [SAID]
