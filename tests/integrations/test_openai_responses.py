"""The Responses API: answers, streams, built-in tools, the background, and the link from a tool to who asked."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest

from mlspan import integrations, tracing
from mlspan.testing import Spans, content

pytestmark = pytest.mark.usefixtures("openai_on")

TOOL: Any = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}
USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 4},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 29,
}


def response(*output: Any, status: str = "completed", **more: Any) -> dict[str, Any]:
    head = {"id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5-mini", "parallel_tool_calls": True}
    return {
        **head,
        "status": status,
        "output": list(output),
        "tools": [],
        "tool_choice": "auto",
        "usage": USAGE,
        **more,
    }


def message(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def parts(spans: Spans) -> Any:
    (said,) = content(spans.one(), "gen_ai.output.messages")
    return said["parts"]


def test_a_response_is_one_span(scripted_client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """Instructions, input, parameters, tokens of every kind and the answer, in the conventions' names."""
    scripted.reply(
        response(
            {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}, message("Hi.")
        )
    )
    scripted_client.responses.create(
        model="gpt-5-mini",
        input="hello",
        instructions="Be brief.",
        max_output_tokens=50,
        previous_response_id="resp_0",
        reasoning={"effort": "low"},
    )
    attributes = dict(spans.one().attributes or {})
    assert spans.tree() == "chat gpt-5-mini [20 in, 9 out]"
    assert content(spans.one(), "gen_ai.system_instructions") == [{"type": "text", "content": "Be brief."}]
    assert parts(spans) == [{"type": "reasoning", "content": "Hm."}, {"type": "text", "content": "Hi."}]
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 8
    assert attributes["gen_ai.usage.cache_write.input_tokens"] == 4
    assert attributes["gen_ai.usage.reasoning.output_tokens"] == 3
    assert attributes["gen_ai.request.previous_response.id"] == "resp_0"
    assert attributes["gen_ai.request.reasoning.level"] == "low"
    assert attributes["gen_ai.request.max_tokens"] == 50
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert attributes["openai.api.type"] == "responses"


@pytest.mark.parametrize("stream", [False, True])
def test_sync_and_async_say_the_same(client: openai.OpenAI, aimock: str, spans: Spans, stream: bool) -> None:
    """A whole answer, a stream, and the async client's of both: the same messages and tokens."""
    got = client.responses.create(model="gpt-4o-mini", input="hello", stream=stream)
    if stream:
        list(got)

    async def ask() -> None:
        async with openai.AsyncOpenAI(base_url=aimock, api_key="test") as other:
            got = await other.responses.create(model="gpt-4o-mini", input="hello", stream=stream)
            if stream:
                assert [event.type async for event in got][-1] == "response.completed"

    asyncio.run(ask())
    one, two = spans.all
    assert spans.tree() == "chat gpt-4o-mini [12 in, 5 out]\nchat gpt-4o-mini [12 in, 5 out]"
    for name in ("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.response.finish_reasons"):
        assert (one.attributes or {})[name] == (two.attributes or {})[name]


def test_the_stream_helper_and_raw_responses(client: openai.OpenAI, spans: Spans) -> None:
    """``stream()``, ``with_raw_response`` and ``with_streaming_response`` pass through the same record."""
    if openai.__version__.startswith("1."):
        pytest.skip("the helper of 1.x fails on the server's response.created, with us and without")
    with client.responses.stream(model="gpt-4o-mini", input="hello") as stream:
        assert [event.type for event in stream][-1] == "response.completed"
        assert stream.get_final_response().output_text == "Hi there!"
    raw = client.responses.with_raw_response.create(model="gpt-4o-mini", input="hello")
    assert raw.parse().output_text == "Hi there!"
    with client.responses.with_streaming_response.create(model="gpt-4o-mini", input="hello") as unread:
        unread.read()
    assert spans.tree() == "\n".join(["chat gpt-4o-mini [12 in, 5 out]"] * 3)


def test_a_parsed_response(client: openai.OpenAI, spans: Spans) -> None:
    """``parse`` gives the caller's own type, and the span says that JSON was asked for."""
    from pydantic import BaseModel

    class City(BaseModel):
        city: str
        degrees: int

    got = client.responses.parse(model="gpt-4o-mini", input="as json", text_format=City)
    assert got.output_parsed == City(city="Paris", degrees=21)
    assert (spans.one().attributes or {})["gen_ai.output.type"] == "json"


DELTAS = [
    {"type": "response.created", "sequence_number": 0, "response": response(status="in_progress", usage=None)},
    {"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": message("")},
    *(
        {"type": "response.output_text.delta", "sequence_number": n, "item_id": "msg_1", "output_index": 0}
        | {"content_index": 0, "delta": word, "logprobs": []}
        for n, word in enumerate(["One ", "two ", "three."], 2)
    ),
]


@pytest.mark.parametrize("leave", ["break", "close", "drop", "error"])
def test_a_stream_left_early_has_what_was_seen(
    scripted_client: openai.OpenAI, scripted: Any, spans: Spans, leave: str
) -> None:
    """However it is left, one ended span has the text so far, the response's id and how the stream ended."""
    scripted.stream(*DELTAS, {"type": "response.completed", "sequence_number": 9, "response": response(message("x"))})
    stream = scripted_client.responses.create(model="gpt-5-mini", input="hello", stream=True)
    seen = 0
    try:
        for event in stream:
            seen += event.type == "response.output_text.delta"
            if seen == 2:
                if leave == "error":
                    raise KeyError
                break
    except KeyError:
        pass
    if leave == "close":
        stream.close()
    del stream
    span = spans.one()
    assert parts(spans) == [{"type": "text", "content": "One two "}]
    assert (span.attributes or {})["gen_ai.response.id"] == "resp_1"
    assert (span.attributes or {})["mlspan.stream.end"] in {"closed", "abandoned"}


def test_a_failed_generation_is_an_error(scripted_client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """The request succeeded and the generation did not: the span says the provider's code."""
    failed = response(status="failed", error={"code": "rate_limit_exceeded", "message": "Too much."}, usage=None)
    scripted.reply(failed)
    assert scripted_client.responses.create(model="gpt-5-mini", input="hello").status == "failed"
    assert spans.tree() == "chat gpt-5-mini [ERROR rate_limit_exceeded]"
    assert spans.one().status.description == "Too much."


BUILT_IN: Any = [
    {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "cats"}},
    {"id": "fs_1", "type": "file_search_call", "status": "completed", "queries": ["cats"], "results": [
        {"file_id": "file-1", "filename": "cats.txt", "score": 0.9, "text": "Cats purr."}]},
    {"id": "ci_1", "type": "code_interpreter_call", "status": "completed", "code": "1+1", "container_id": "c_1",
        "outputs": [{"type": "logs", "logs": "2"}]},
    {"id": "mcp_1", "type": "mcp_call", "name": "roll", "arguments": '{"dice": 2}', "output": "7",
        "server_label": "dice"},
    {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": "QUJD" * 100},
]  # fmt: skip


def test_built_in_tools_are_server_tool_calls(scripted_client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """What the provider ran itself is a server tool call and its answer; a picture is scripted_client by its size."""
    computer = {"id": "cu_1", "call_id": "call_9", "type": "computer_call", "status": "completed"}
    computer |= {"action": {"type": "screenshot"}, "pending_safety_checks": []}
    scripted.reply(response(*BUILT_IN, computer))
    scripted_client.responses.create(model="gpt-5-mini", input="hello", tools=[{"type": "web_search"}])
    said = parts(spans)
    asked = [part["name"] for part in said if part["type"] == "server_tool_call"]
    assert asked == ["web_search", "file_search", "code_interpreter", "roll", "image_generation"]
    answers = {p["id"]: p["server_tool_call_response"] for p in said if p["type"] == "server_tool_call_response"}
    assert answers["mcp_1"] == {"type": "mcp_call", "output": "7"}
    assert answers["fs_1"]["results"][0]["text"] == "Cats purr."
    assert answers["ig_1"]["result"] == {"base64_bytes": 400}
    assert said[-1] == {"type": "tool_call", "name": "computer", "id": "call_9", "arguments": {"type": "screenshot"}}


def test_items_of_a_conversation_go_in_as_messages(
    scripted_client: openai.OpenAI, scripted: Any, spans: Spans, needs: Any
) -> None:
    """Messages, pictures, calls and their outputs of earlier turns are the input messages of this one."""
    needs(scripted_client.responses.create, "conversation")
    scripted.reply(response(message("Sunny.")))
    scripted_client.responses.create(
        model="gpt-5-mini",
        conversation="conv_1",
        input=[
            {
                "role": "user",
                "content": [{"type": "input_image", "image_url": "https://x.test/a.png", "detail": "low"}],
            },
            {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city": "Rome"}'},
            {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
        ],
        tools=[TOOL],
    )
    picture, called, answered = content(spans.one(), "gen_ai.input.messages")
    assert picture["parts"] == [{"type": "uri", "modality": "image", "uri": "https://x.test/a.png"}]
    assert called == {"role": "assistant", "parts": [
        {"type": "tool_call", "name": "get_weather", "id": "call_1", "arguments": {"city": "Rome"}}]}  # fmt: skip
    assert answered == {"role": "tool", "parts": [{"type": "tool_call_response", "response": "sunny", "id": "call_1"}]}
    assert (spans.one().attributes or {})["gen_ai.conversation.id"] == "conv_1"


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("capture", [True, False])
def test_a_tool_is_linked_to_the_call_that_asked_for_it(
    client: openai.OpenAI, spans: Spans, api: str, capture: bool, tracing_off: None
) -> None:
    """The span of the tool has a link to the chat span whose answer asked for it, content recorded or not."""
    tracing.configure(capture_content=capture)
    integrations.openai.autolog()
    if api == "chat":
        tool: Any = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}
        asked: Any = client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "weather in Paris?"}], tools=[tool]
        )
        call_id = asked.choices[0].message.tool_calls[0].id
    else:
        call_id = (
            client.responses.create(model="gpt-4o-mini", input="weather in Paris?", tools=[TOOL]).output[0].call_id
        )
    with tracing.span("get_weather", kind="tool", attributes={"gen_ai.tool.call.id": call_id}):
        pass
    chat, run = spans.all
    (link,) = run.links
    assert link.context.span_id == chat.get_span_context().span_id
    assert dict(link.attributes or {}) == {"mlspan.link": "asked_by"}


@pytest.mark.any_span
@pytest.mark.parametrize(
    "body",
    [
        response(usage=None),
        response(usage={"input_tokens": "many", "output_tokens": None}),
        response({"type": "from_the_future", "x": 2**70}, None, 7),
        {"id": None, "status": "completed", "output": None},
        response({"type": "message", "content": None}, {"type": "reasoning", "summary": None}),
        {"type": "function_call"},
        [],
    ],
)
def test_odd_answers(scripted_client: openai.OpenAI, scripted: Any, spans: Spans, body: Any) -> None:
    """Whatever the server sends, the caller gets what it would get without us, and there is one span."""
    scripted.reply(body)
    got, without = [], []
    for results in (got, without):
        try:
            results.append(scripted_client.responses.create(model="gpt-5-mini", input="hello"))
        except Exception as error:
            results.append(type(error))
        integrations.openai.autolog(disable=True)
    assert json.dumps(got, default=str) == json.dumps(without, default=str)
    assert (spans.one().attributes or {})["gen_ai.request.model"] == "gpt-5-mini"
