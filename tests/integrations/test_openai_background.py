"""Responses of the background: tokens, cost and failure are counted once, by the first fetch that sees the end."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from mlspan import integrations, tracing
from mlspan.integrations.openai import background
from mlspan.testing import Spans, content

pytestmark = pytest.mark.usefixtures("openai_on")

USAGE = {"input_tokens": 1000, "output_tokens": 400, "total_tokens": 1400}
TEXT = {"type": "output_text", "text": "Done.", "annotations": []}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [TEXT]}


def response(status: str, **more: Any) -> dict[str, Any]:
    head = {"id": "resp_bg", "object": "response", "created_at": 1, "model": "gpt-5-mini", "status": status}
    rest = {"output": [], "tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "usage": None}
    return {**head, **rest, **more}


DONE = response("completed", output=[MESSAGE], usage=USAGE)
ERROR = {"code": "server_error", "message": "It broke."}
FAILED = response("failed", error=ERROR, usage={**USAGE, "output_tokens": 0})


@pytest.fixture
def client(scripted_client: openai.OpenAI, needs: Any) -> openai.OpenAI:
    needs(scripted_client.responses.create, "background")
    return scripted_client


@pytest.fixture(params=["responses", "beta"])
def responses(request: pytest.FixtureRequest, client: openai.OpenAI) -> Any:
    """The resource, and the beta of it, whose paths have a query."""
    if request.param == "beta" and not hasattr(client.beta, "responses"):
        pytest.skip("this version of the client has no beta of responses")
    return client.responses if request.param == "responses" else client.beta.responses


def test_the_fetch_that_sees_the_end_counts(responses: Any, scripted: Any, spans: Spans) -> None:
    """Polled until it is done, and looked up once more: the tokens are there once."""
    for answer in (response("queued"), response("in_progress"), DONE):
        scripted.reply(answer)
    made = responses.create(model="gpt-5-mini", input="hello", background=True)
    for _ in range(3):
        responses.retrieve(made.id)
    assert spans.tree("gen_ai.response.status").split("\n") == [
        "chat gpt-5-mini [gen_ai.response.status=queued]",
        "fetch_response [gen_ai.response.status=in_progress]",
        "fetch_response [1000 in, 400 out, gen_ai.response.status=completed]",
        "fetch_response [gen_ai.response.status=completed]",
    ]
    assert content(spans.all[2], "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "Done."}]
    assert not background._unfinished


def test_a_failed_one_is_an_error_once(responses: Any, scripted: Any, spans: Spans) -> None:
    for answer in (response("queued"), FAILED):
        scripted.reply(answer)
    made = responses.create(model="gpt-5-mini", input="hello", background=True)
    for _ in range(2):
        responses.retrieve(made.id)
    assert [span.status.description for span in spans.all] == [None, "It broke.", None]
    assert (spans.all[1].attributes or {})["error.type"] == "server_error"


def test_what_this_process_has_not_asked_for_is_not_counted(responses: Any, scripted: Any, spans: Spans) -> None:
    for answer in (DONE, FAILED):
        scripted.reply(answer)
    for _ in range(2):
        responses.retrieve("resp_bg")
    assert spans.tree() == "fetch_response\nfetch_response"


TOOL_CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get_weather", "arguments": "{}"}


@pytest.mark.parametrize("capture", [True, False])
@pytest.mark.parametrize("told", ["by a fetch", "by two fetches", "by a stream", "by a stream, then a fetch"])
def test_a_tool_is_linked_to_what_told_of_its_call(
    client: openai.OpenAI, scripted: Any, spans: Spans, told: str, capture: bool, tracing_off: None
) -> None:
    """The link points to the request whose answer asked for the tool, be it a fetch; the first, if several told so."""
    tracing.configure(capture_content=capture)
    integrations.openai.autolog()
    done = response("completed", output=[TOOL_CALL], usage=USAGE)
    ask: Any = {"model": "gpt-5-mini", "input": "hello", "background": True}
    if told.startswith("by a stream"):
        scripted.stream(event("created", 0, response=response("queued")), event("completed", 1, response=done))
        scripted.reply(done)
        list(client.responses.create(stream=True, **ask))
    else:
        scripted.reply(response("queued"))
        scripted.reply(done)
        client.responses.create(**ask)
    for _ in range({"by a fetch": 1, "by two fetches": 2, "by a stream": 0}.get(told, 1)):
        client.responses.retrieve("resp_bg")
    with tracing.span("get_weather", kind="tool", attributes={"gen_ai.tool.call.id": "call_1"}):
        pass
    (link,) = spans.all[-1].links
    assert link.context.span_id == spans.all[0 if "stream" in told else 1].get_span_context().span_id


def event(kind: str, number: int, **more: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "sequence_number": number, **more}


def test_a_stream_that_is_resumed(responses: Any, scripted: Any, spans: Spans, needs: Any) -> None:
    """Left in the middle, resumed where it was left, and then looked up."""
    needs(responses.retrieve, "starting_after")
    scripted.stream(
        event("created", 0, response=response("queued")), event("in_progress", 1, response=response("in_progress"))
    )
    scripted.stream(event("completed", 2, response=DONE))
    scripted.reply(DONE)
    stream = responses.create(model="gpt-5-mini", input="hello", background=True, stream=True)
    first = next(stream)
    stream.close()
    list(responses.retrieve(first.response.id, stream=True, starting_after=first.sequence_number))
    responses.retrieve("resp_bg")
    assert spans.tree("gen_ai.request.stream_cursor").split("\n") == [
        "chat gpt-5-mini [stream closed]",
        "fetch_response [1000 in, 400 out, gen_ai.request.stream_cursor=0]",
        "fetch_response",
    ]


def test_a_stream_that_is_read_to_the_end_counts_itself(responses: Any, scripted: Any, spans: Spans) -> None:
    scripted.stream(event("created", 0, response=response("queued")), event("completed", 1, response=DONE))
    scripted.reply(DONE)
    list(responses.create(model="gpt-5-mini", input="hello", background=True, stream=True))
    responses.retrieve("resp_bg")
    assert spans.tree() == "chat gpt-5-mini [1000 in, 400 out]\nfetch_response"


@pytest.mark.parametrize("fetched", [False, True])
def test_an_error_event_of_a_stream_is_an_error(responses: Any, scripted: Any, spans: Spans, fetched: bool) -> None:
    """The stream ends without an exception, and without an answer."""
    scripted.stream(
        event("created", 0, response=response("in_progress")), {"type": "error", "sequence_number": 1, **ERROR}
    )
    read = (
        responses.retrieve("resp_bg", stream=True)
        if fetched
        else responses.create(input="hello", model="m", stream=True)
    )
    assert [one.type for one in read] == ["response.created", "error"]
    assert spans.one().status.description == "It broke."
    assert (spans.one().attributes or {})["error.type"] == "server_error"


def test_what_is_remembered_is_bounded(client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    background._unfinished.clear()
    for n in range(3):
        scripted.clear()
        scripted.reply(response("queued", id=f"resp_{n}"))
        client.responses.create(model="gpt-5-mini", input="hello", background=True)
    assert len(background._unfinished) == 3
    assert background._unfinished.max_entries == 10_000
    background._unfinished.clear()
