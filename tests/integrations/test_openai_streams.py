"""What the streams of OpenAI's client have beyond the contract of all streams: see test_openai_contracts.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai_chunks import WHOLE, chunk
from opentelemetry import trace

from mlspan import integrations, tracing
from mlspan.testing import Spans, content

HELLO: Any = [{"role": "user", "content": "hello"}]


pytestmark = pytest.mark.usefixtures("openai_on")


@pytest.fixture
def client(scripted_client: openai.OpenAI) -> openai.OpenAI:
    return scripted_client


@pytest.fixture
async def aclient(scripted: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=scripted.base_url, api_key="test", max_retries=0) as client:
        yield client


def said(spans: Spans) -> str:
    (message,) = content(spans.one(), "gen_ai.output.messages")
    return "".join(part["content"] for part in message["parts"])


def start(client: openai.OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(model="m", messages=HELLO, stream=True, **more)


async def astart(client: openai.AsyncOpenAI, **more: Any) -> Any:
    return await client.chat.completions.create(model="m", messages=HELLO, stream=True, **more)


def test_exhausted(client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """Read to its end: all of the text, the tokens, and the time to the first chunk."""
    scripted.stream(*WHOLE, delay=0.01)
    stream = start(client)
    assert isinstance(stream, openai.Stream)
    assert len(list(stream)) == 4
    span = spans.one()
    assert spans.tree("gen_ai.request.stream") == "chat m [12 in, 5 out, gen_ai.request.stream=True]"
    assert said(spans) == "One two."
    first = (span.attributes or {})["gen_ai.response.time_to_first_chunk"]
    assert 0.01 <= first <= (span.end_time - span.start_time) / 1e9


async def test_exhausted_async(aclient: openai.AsyncOpenAI, scripted: Any, spans: Spans) -> None:
    """The async stream is the same."""
    scripted.stream(*WHOLE)
    stream = await astart(aclient)
    assert isinstance(stream, openai.AsyncStream)
    assert len([chunk async for chunk in stream]) == 4
    assert (spans.tree(), said(spans)) == ("chat m [12 in, 5 out]", "One two.")


def test_an_error_event_mid_stream(client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """The server's own error in the middle of a stream ends the span as failed, with what came before."""
    scripted.stream(chunk("One "), {"error": {"message": "overloaded", "type": "server_error"}})
    with pytest.raises(openai.APIError, match="overloaded"):
        list(start(client))
    assert spans.tree() == "chat m [ERROR openai.APIError]"
    assert (said(spans), spans.one().status.description) == ("One ", "overloaded")


def test_the_stream_helper(client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """``stream()`` goes through the same patch point: its events and its final answer are as ever."""
    scripted.stream(*WHOLE)
    stream = getattr(client.chat.completions, "stream", None) or client.beta.chat.completions.stream
    with stream(model="m", messages=HELLO) as events:
        kinds = {event.type for event in events}
        assert events.get_final_completion().choices[0].message.content == "One two."
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert (spans.tree(), said(spans)) == ("chat m [12 in, 5 out]", "One two.")


def test_the_stream_helper_left_early(client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """The helper closes the HTTP response, not the stream: the span ends with it, while the helper still lives."""
    scripted.stream(*WHOLE)
    stream = getattr(client.chat.completions, "stream", None) or client.beta.chat.completions.stream
    with stream(model="m", messages=HELLO) as events:
        next(iter(events))
    assert spans.tree() == "chat m [stream closed]"
    assert events is not None


def test_include_usage_is_asked_for_on_request_only(client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """``include_usage=True`` asks for the tokens of a stream, and keeps the chunk that the caller did not ask for."""
    integrations.openai.autolog(include_usage=True)
    scripted.stream(*WHOLE)
    got = list(start(client))
    assert scripted.requests[0][1]["stream_options"] == {"include_usage": True}
    assert [bool(c.choices) for c in got] == [True, True, True]
    assert spans.tree() == "chat m [12 in, 5 out]"


def test_the_callers_own_include_usage_is_left_alone(client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """Who asked for the usage chunk gets it."""
    integrations.openai.autolog(include_usage=True)
    scripted.stream(*WHOLE)
    got = list(start(client, stream_options={"include_usage": True}))
    assert got[-1].usage.total_tokens == 17


def test_a_stream_may_outlive_the_span_around_it(client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """A stream read after its parent has ended stays that parent's child."""
    scripted.stream(*WHOLE)
    with tracing.span("outer"):
        stream = start(client)
    list(stream)
    assert spans.tree() == "outer\n  chat m [12 in, 5 out]"


def test_chunks_leave_the_callers_context_alone(client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """While the caller handles a chunk, the current span is the caller's own."""
    scripted.stream(*WHOLE)
    with tracing.span("outer") as outer:
        current = {trace.get_current_span() for _ in start(client)}
        assert current == {outer._operation.span}


ODD: list[list[Any]] = [
    [chunk("a") | {"usage": None}, chunk(finish="stop")],
    [chunk("a") | {"usage": {"prompt_tokens": "12", "completion_tokens": None}}, chunk(finish="stop")],
    [chunk("a") | {"choices": [{"index": 0, "delta": None, "finish_reason": None}]}, chunk("a", "stop")],
    [chunk("a") | {"choices": []}, chunk("a", "stop")],
    [chunk("a") | {"choices": None}, chunk("a", "stop")],
    [chunk("a") | {"choices": [{"index": 0}]}, chunk("a", "stop")],
]


@pytest.mark.parametrize("events", ODD)
def test_odd_chunks(client: openai.OpenAI, scripted: Any, spans: Spans, events: list[Any]) -> None:
    """What no schema allows and servers send all the same: the caller gets it as ever, and the span its text."""
    scripted.stream(*events)
    with_us = [got.to_dict(warnings=False) for got in start(client)]
    assert (spans.tree(), said(spans)) == ("chat m", "a")
    integrations.openai.autolog(disable=True)
    scripted.clear()
    scripted.stream(*events)
    assert with_us == [got.to_dict(warnings=False) for got in start(client)]


def test_pieces_of_text_among_others(client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """Chunks of text alone are read by a path of their own: each piece lands where it belongs, in order."""
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    deltas: list[tuple[int, dict[str, Any]]] = [
        (0, {"role": "assistant", "content": "", "refusal": None}),
        (0, {"content": "a"}),
        (1, {"content": "x"}),
        (0, {"content": "b", "reasoning_content": "hm"}),
        (0, {"content": "c"}),
        (0, {"content": ""}),
        (1, {"content": "y"}),
        (2, {"content": ""}),
        (2, {"tool_calls": [call]}),
        (2, {"content": ""}),
    ]
    events = [chunk() | {"choices": [{"index": index, "delta": delta}]} for index, delta in deltas]
    scripted.stream(*events, "[DONE]")
    assert len(list(start(client, n=3))) == len(deltas)
    answers = content(spans.one(), "gen_ai.output.messages")
    assert [answer["parts"] for answer in answers] == [
        [text("a"), {"type": "reasoning", "content": "hm"}, text("bc")],
        [text("xy")],
        [{"type": "tool_call", "id": "call_1", "name": "f", "arguments": {}}],
    ]


def text(said: str) -> dict[str, str]:
    return {"type": "text", "content": said}
