"""Every way in which a stream can end gives exactly one ended span, with what was seen so far and how it ended.

Sync and async clients pass the same cases.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from opentelemetry import trace

from mlspan import integrations, tracing
from mlspan.testing import Spans, content

HELLO: Any = [{"role": "user", "content": "hello"}]


def chunk(text: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
WHOLE = [chunk("One "), chunk("two."), chunk(finish="stop"), chunk(usage=USAGE) | {"choices": []}, "[DONE]"]


@pytest.fixture(autouse=True)
def _autolog(spans: Spans) -> Iterator[None]:
    integrations.openai.autolog(log_traces=True)
    yield
    integrations.openai.autolog(disable=True)


@pytest.fixture
def client(scripted: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=scripted.base_url, api_key="test", max_retries=0) as client:
        yield client


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


def _break(stream: Any) -> None:
    for _ in stream:
        break


def _with_and_break(stream: Any) -> None:
    with stream:
        next(iter(stream))


def _close(stream: Any) -> None:
    next(stream)
    stream.close()


def _close_the_response(stream: Any) -> None:
    next(stream)
    stream.response.close()


def _keep_in_a_cycle(stream: Any) -> None:
    next(stream)
    loop: list[Any] = [stream]
    loop.append(loop)


def _generator_left(stream: Any) -> None:
    def texts() -> Iterator[str]:
        with stream:
            for got in stream:
                yield got.choices[0].delta.content

    next(texts())


@pytest.mark.parametrize(
    ("leave", "end"),
    [
        (_break, "abandoned"),
        (_with_and_break, "closed"),
        (_close, "closed"),
        (_close_the_response, "closed"),
        (_keep_in_a_cycle, "abandoned"),
        (_generator_left, "closed"),
    ],
)
def test_left_early(client: openai.OpenAI, scripted: Any, spans: Spans, leave: Any, end: str) -> None:
    """A stream left early is no error: its span ends, with what was seen, and says how it was left."""
    scripted.stream(*WHOLE)
    leave(start(client))
    gc.collect()
    assert spans.tree() == f"chat m [stream {end}]"
    assert said(spans) == "One "


async def _awith(stream: Any) -> None:
    async with stream:
        await anext(stream)


async def _aclose(stream: Any) -> None:
    await anext(stream)
    await stream.close()


async def _aclose_the_response(stream: Any) -> None:
    await anext(stream)
    await stream.response.aclose()


@pytest.mark.parametrize("leave", [_awith, _aclose, _aclose_the_response])
async def test_closed_early_async(aclient: openai.AsyncOpenAI, scripted: Any, spans: Spans, leave: Any) -> None:
    """Async streams too, whichever way they are closed."""
    scripted.stream(*WHOLE)
    await leave(await astart(aclient))
    assert spans.tree() == "chat m [stream closed]"
    assert said(spans) == "One "


async def test_dropped_async(aclient: openai.AsyncOpenAI, scripted: Any, spans: Spans) -> None:
    """An async stream that nobody closes ends its span when it is collected."""
    scripted.stream(*WHOLE)
    stream = await astart(aclient)
    async for _ in stream:
        break
    own = stream._mlspan_own  # so that the connection can be closed, as the caller should have
    del stream
    gc.collect()
    assert spans.tree() == "chat m [stream abandoned]"
    await own.close()


def test_the_callers_exception_in_the_loop(client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """An exception that leaves the caller's ``with`` block reaches the caller, and its span says so."""
    scripted.stream(*WHOLE)
    with pytest.raises(ZeroDivisionError), start(client) as stream:
        for _ in stream:
            1 / 0  # noqa: B018
    assert spans.tree() == "chat m [ERROR ZeroDivisionError]"
    assert said(spans) == "One "


def test_an_error_event_mid_stream(client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """The server's own error in the middle of a stream ends the span as failed, with what came before."""
    scripted.stream(chunk("One "), {"error": {"message": "overloaded", "type": "server_error"}})
    with pytest.raises(openai.APIError, match="overloaded"):
        list(start(client))
    assert spans.tree() == "chat m [ERROR openai.APIError]"
    assert (said(spans), spans.one().status.description) == ("One ", "overloaded")


def test_a_dropped_connection(client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """A connection that breaks mid-stream is an error with what came before."""
    scripted.stream(chunk("One "), drop=True)
    with pytest.raises(Exception, match=r"closed|Connection"):
        list(start(client))
    assert spans.tree().startswith("chat m [ERROR ")
    assert said(spans) == "One "


async def test_a_cancelled_task(aclient: openai.AsyncOpenAI, scripted: Any, spans: Spans) -> None:
    """A task that is cancelled while it reads: the span is an error that says it was cancelled."""
    scripted.stream(chunk("One "), *WHOLE, delay=0.2)
    seen = asyncio.Event()

    async def read() -> None:
        async with await astart(aclient) as stream:
            async for _ in stream:
                seen.set()

    task = asyncio.create_task(read())
    await asyncio.wait_for(seen.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert spans.tree() == "chat m [ERROR asyncio.exceptions.CancelledError]"
    assert (said(spans), spans.one().status.description) == ("One ", "cancelled")


async def test_a_timeout_before_the_answer(aclient: openai.AsyncOpenAI, scripted: Any, spans: Spans) -> None:
    """``wait_for`` gives up on a call that has not answered: one span, cancelled."""
    scripted.reply({}, delay=0.5)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(aclient.chat.completions.create(model="m", messages=HELLO), 0.1)
    assert spans.tree() == "chat m [ERROR asyncio.exceptions.CancelledError]"
    await asyncio.sleep(0.5)


def test_the_stream_helper(client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """``stream()`` goes through the same seam: its events and its final answer are as ever."""
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


def test_a_stream_read_in_another_thread(client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """A stream may be handed to another thread."""
    scripted.stream(*WHOLE)
    thread = threading.Thread(target=list, args=(start(client),))
    thread.start()
    thread.join(30)
    assert (spans.tree(), said(spans)) == ("chat m [12 in, 5 out]", "One two.")


def test_shutdown_ends_what_is_left_open(client: openai.OpenAI, scripted: Any, spans: Spans, tracing_off: None) -> None:
    """A stream that is still referenced at the end of the process does not lose its span."""
    integrations.openai.autolog()
    scripted.stream(*WHOLE)
    stream = start(client)
    next(stream)
    tracing.shutdown(5)
    assert spans.tree() == "chat m [stream abandoned]"
    assert len(list(stream)) == 3


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
    """Chunks of text alone are read apart from those that bring more: each piece lands where it belongs, in order."""
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
