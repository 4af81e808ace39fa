"""Streams of Bedrock that end badly: the caller gets what it gets without us, and the span tells what was said before.

All events have AWS's own encoding, with both checksums, or with what a test breaks of it.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("botocore.client", reason="in the nox sessions bedrock")
from bedrock_kit import ASKED, DUMMY, GENERATE, knows, make_client, send_events, stream_of, text
from botocore.exceptions import ClientError, EventStreamError
from opentelemetry.trace import StatusCode
from servers.aws_events import CONTENT_TYPE, encode_event, encode_message

from mlspan import integrations
from mlspan.testing import Spans, content
from mlspan.tracing.operations.exceptions import get_error_type

FAILURES = [
    "modelStreamErrorException",
    "throttlingException",
    "validationException",
    "internalServerException",
    "serviceUnavailableException",
    "modelTimeoutException",
    "dependencyFailedException",
    "someDayANewException",
]
AGENT: Any = {"sessionId": "s1", "inputText": "a greeting"}


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def claude(piece: str) -> dict[str, Any]:
    """Return an event of a model's own format."""
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
    return {"chunk": {"bytes": encode(json.dumps(delta))}}


CLAUDE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": []}
# By operation: its service, its parameters, the member that is the stream, and its events before the bad end.
OPERATIONS: dict[str, tuple[str, dict[str, Any], str, list[Any]]] = {
    "converse_stream": ("bedrock-runtime", ASKED, "stream", stream_of(text("One ", "two."))[:3]),
    "invoke_model_with_response_stream": (
        "bedrock-runtime",
        {"modelId": "m", "body": json.dumps(CLAUDE)},
        "body",
        [claude("One "), claude("two.")],
    ),
    "retrieve_and_generate_stream": (
        "bedrock-agent-runtime",
        GENERATE,
        "stream",
        [{"output": {"text": "One "}}, {"output": {"text": "two."}}],
    ),
    "invoke_agent": (
        "bedrock-agent-runtime",
        {**AGENT, "agentId": "a1", "agentAliasId": "v1"},
        "completion",
        [{"chunk": {"bytes": encode("One ")}}, {"chunk": {"bytes": encode("two.")}}],
    ),
    "invoke_inline_agent": (
        "bedrock-agent-runtime",
        {**AGENT, "foundationModel": "m", "instruction": "Be brief. " * 5},
        "completion",
        [{"chunk": {"bytes": encode("One ")}}, {"chunk": {"bytes": encode("two.")}}],
    ),
}
LAST = encode_event({"messageStop": {"stopReason": "end_turn"}})
SAID_BY_HEADERS = {":message-type": "error", ":error-code": "InternalError", ":error-message": "gone"}
BROKEN: dict[str, tuple[bytes, bool]] = {  # the last bytes of a body, and whether the connection breaks behind them
    "an error in the headers": (encode_message(SAID_BY_HEADERS, b""), False),
    "a wrong checksum": (LAST[:-1] + bytes([LAST[-1] ^ 1]), False),
    "a wrong checksum of the lengths": (LAST[:8] + bytes(4) + LAST[12:], False),
    "a length beyond all bounds": (b"\xff" * 12 + LAST[12:], False),
    "half an event": (LAST[:20], True),
    "half the lengths": (LAST[:5], True),
    "no event": (b"", True),
}


def open_stream(operation: str, server: Any) -> Any:
    service, asked, member, _ = OPERATIONS[operation]
    client = make_client(service, server.base_url.removesuffix("/v1"))
    if not hasattr(client, operation):
        pytest.skip("this version has no such operation")
    return getattr(client, operation)(**asked)[member]


def read_all(stream: Any) -> tuple[list[Any], Exception | None]:
    """Return the events of a stream, and what it raises."""
    events: list[Any] = []
    try:
        events.extend(stream)
    except Exception as error:
        return events, error
    finally:
        stream.close()  # botocore leaves the connection of a stream that has failed to the collector
    return events, None


def list_chain(error: BaseException | None) -> list[tuple[type, str]]:
    """Return the type and the text of an error, and of those that it comes from."""
    chain = []
    while error is not None:
        chain.append((type(error), str(error)))
        error = error.__cause__ or error.__context__
    return chain


def compare_with_untraced(operation: str, server: Any, send: Callable[[], None]) -> Exception | None:
    """Read the stream that *send* scripts without us and with us; return what the second one has raised."""
    integrations.bedrock.autolog(disable=True)
    send()
    bare, bare_error = read_all(open_stream(operation, server))
    server.clear()
    integrations.bedrock.autolog(log_traces=True)
    send()
    traced, traced_error = read_all(open_stream(operation, server))
    assert traced == bare
    assert list_chain(traced_error) == list_chain(bare_error)
    assert getattr(traced_error, "response", None) == getattr(bare_error, "response", None)
    return traced_error


def read_output(span: Any) -> Any:
    """Return the text that the span's answer has."""
    if "mlspan.output" in span.attributes:
        return content(span, "mlspan.output")
    (message,) = content(span, "gen_ai.output.messages")
    return "".join(part["content"] for part in message["parts"])


@pytest.fixture(autouse=True)
def _bedrock_off() -> Iterator[None]:
    yield
    integrations.bedrock.autolog(disable=True)


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_exception_inside_a_stream(operation: str, failure: str, scripted: Any, spans: Spans) -> None:
    """Its kind is the error's type where botocore knows it, whatever came before it is the answer."""
    events = [*OPERATIONS[operation][3], {failure: {"message": "slow down", "originalStatusCode": 500}}]
    error = compare_with_untraced(operation, scripted, lambda: send_events(scripted, events))
    assert isinstance(error, EventStreamError)
    span = spans.one()
    assert span.status.status_code is StatusCode.ERROR
    code = error.response["Error"]["Code"]
    assert span.attributes["error.type"] == (code or get_error_type(error))
    assert code in {failure, ""}
    assert read_output(span) == "One two."
    assert "mlspan.stream.end" not in span.attributes


@pytest.mark.parametrize("failure", FAILURES[:5])
def test_the_exceptions_of_every_chat_have_their_code(failure: str, scripted: Any, spans: Spans) -> None:
    """The ones that both streams of models declare, as the first event too."""
    for operation in ("converse_stream", "invoke_model_with_response_stream"):
        spans.clear()
        service, streamed = OPERATIONS[operation][0], {"converse_stream": "ConverseStream"}
        name = streamed.get(operation, "InvokeModelWithResponseStream")
        member = OPERATIONS[operation][2]
        if not knows(member, failure, operation=name, service=service):
            continue
        events = [{failure: {"message": "slow down"}}]
        error: Any = compare_with_untraced(operation, scripted, lambda sent=events: send_events(scripted, sent))
        assert error.response["Error"] == {"Code": failure, "Message": "slow down"}
        attributes = spans.one().attributes or {}
        assert attributes["error.type"] == failure
        assert "slow down" in (spans.one().status.description or "")
        scripted.clear()


@pytest.mark.parametrize("end", BROKEN)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_body_that_breaks(operation: str, end: str, scripted: Any, spans: Spans) -> None:
    """Half an event, a wrong checksum, a connection that is gone: an error, behind what was whole before."""
    tail, drop = BROKEN[end]
    pieces = [*map(encode_event, OPERATIONS[operation][3]), *filter(None, [tail])]

    def send() -> None:
        scripted.stream_bytes(*pieces, content_type=CONTENT_TYPE, drop=drop)

    error = compare_with_untraced(operation, scripted, send)
    assert error is not None
    span = spans.one()
    assert span.status.status_code is StatusCode.ERROR
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else None
    assert span.attributes["error.type"] == (code or get_error_type(error))
    assert read_output(span) == "One two."


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("cut", [5, 20, len(LAST) - 1])
def test_a_body_that_ends_inside_of_an_event(operation: str, cut: int, scripted: Any, spans: Spans) -> None:
    """Botocore drops the half event and raises nothing, so there is no error; nobody has said why the answer ends."""

    def send() -> None:
        pieces = [*map(encode_event, OPERATIONS[operation][3]), LAST[:cut]]
        scripted.stream_bytes(*pieces, content_type=CONTENT_TYPE)

    assert compare_with_untraced(operation, scripted, send) is None
    span = spans.one()
    assert span.status.status_code is StatusCode.UNSET
    assert read_output(span) == "One two."
    assert "stop" not in span.attributes.get("gen_ai.response.finish_reasons", ())


def test_a_guardrail_that_stops_a_stream(scripted: Any, spans: Spans) -> None:
    assessment = {"guardrail": {"inputAssessment": {"g1": {"topicPolicy": {"topics": []}}}}}
    events = stream_of(text("Sorry."), stop="guardrail_intervened")
    events[-1]["metadata"]["trace"] = assessment
    assert compare_with_untraced("converse_stream", scripted, lambda: send_events(scripted, events)) is None
    assert (spans.one().attributes or {})["gen_ai.response.finish_reasons"] == ("content_filter",)


def test_a_guardrail_that_stops_a_generated_answer(scripted: Any, spans: Spans) -> None:
    events = [{"output": {"text": "Sorry."}}, {"guardrail": {"action": "INTERVENED"}}]
    send = lambda: send_events(scripted, events)  # noqa: E731
    assert compare_with_untraced("retrieve_and_generate_stream", scripted, send) is None
    assert (spans.one().attributes or {})["gen_ai.response.finish_reasons"] == ("content_filter",)


@pytest.mark.parametrize(
    ("actions", "told"),
    [(["NONE"], "NONE"), (["NONE", "INTERVENED", "NONE"], "INTERVENED"), (["NONE"] * 2, "NONE")],
)
def test_a_guardrail_of_an_agent(actions: list[str], told: str, scripted: Any, spans: Spans) -> None:
    """What it has stopped is told, whatever it lets pass before and behind that."""
    traces = [{"trace": {"agentId": "a1", "trace": {"guardrailTrace": {"action": action}}}} for action in actions]
    known = ("completion", "trace", "trace", "guardrailTrace")
    if not knows(*known, operation="InvokeAgent", service="bedrock-agent-runtime"):
        pytest.skip("this version's traces tell of no guardrail")
    events = [*traces, {"chunk": {"bytes": encode("Sorry.")}}]
    assert compare_with_untraced("invoke_agent", scripted, lambda: send_events(scripted, events)) is None
    assert (spans.one().attributes or {})["mlspan.guardrail.action"] == told
    assert read_output(spans.one()) == "Sorry."


ASKED_FOR: Any = {"invocationId": "i1", "invocationInputs": [{"functionInvocationInput": {"actionGroup": "g"}}]}
TEXT: Any = [{"chunk": {"bytes": encode(piece)}} for piece in ("One ", "two.")]
FILES: Any = [{"files": {"files": [{"name": f"{n}.csv", "type": "text/csv", "bytes": encode("a,b")}]}} for n in "xy"]
SENT: Any = [{"name": f"{n}.csv", "type": "text/csv", "bytes": encode("a,b")} for n in "xy"]


@pytest.mark.parametrize("operation", ["invoke_agent", "invoke_inline_agent"])
@pytest.mark.parametrize(
    ("events", "output"),
    [
        ([*TEXT, {"returnControl": ASKED_FOR}], {"text": "One two.", "returnControl": ASKED_FOR}),
        ([{"returnControl": ASKED_FOR}, *TEXT], {"text": "One two.", "returnControl": ASKED_FOR}),
        ([*TEXT, *FILES], {"text": "One two.", "files": SENT}),
        ([FILES[0], TEXT[0], FILES[1], TEXT[1]], {"text": "One two.", "files": SENT}),
        (FILES, {"files": SENT}),
        ([{"files": {"files": []}}, *TEXT], "One two."),
    ],
)
def test_all_that_an_agent_gives(operation: str, events: Any, output: Any, scripted: Any, spans: Spans) -> None:
    """Text, files and control that it hands back are kept beside each other, in whichever order they come."""
    name = {"invoke_agent": "InvokeAgent", "invoke_inline_agent": "InvokeInlineAgent"}[operation]
    if not knows("completion", "files", operation=name, service="bedrock-agent-runtime"):
        pytest.skip("this version's agents give no files")
    assert compare_with_untraced(operation, scripted, lambda: send_events(scripted, events)) is None
    assert read_output(spans.one()) == output


@pytest.mark.parametrize("failure", ["throttlingException", "someDayANewException"])
def test_an_exception_inside_an_asynchronous_stream(failure: str, scripted: Any, spans: Spans) -> None:
    """By aiobotocore, whose stream is another class."""
    aio = pytest.importorskip("aiobotocore.session", reason="in the nox sessions bedrock")
    from aiobotocore.config import AioConfig

    async def read() -> Exception | None:
        config = AioConfig(retries={"total_max_attempts": 1}, read_timeout=20)
        options = {**DUMMY, "endpoint_url": scripted.base_url.removesuffix("/v1"), "config": config}
        async with aio.get_session().create_client("bedrock-runtime", **options) as client:
            try:
                async for _ in (await client.converse_stream(**ASKED))["stream"]:
                    pass
            except Exception as error:
                return error
        return None

    events = [*OPERATIONS["converse_stream"][3], {failure: {"message": "slow down"}}]
    send_events(scripted, events)
    bare = asyncio.run(read())
    integrations.bedrock.autolog(log_traces=True)
    traced: Any = asyncio.run(read())
    assert list_chain(traced) == list_chain(bare)
    assert traced.response == bare.response  # type: ignore[union-attr]
    span = spans.one()
    assert (span.attributes or {})["error.type"] == (traced.response["Error"]["Code"] or get_error_type(traced))
    assert read_output(span) == "One two."
