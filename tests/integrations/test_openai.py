"""Chat completions through a real client and a real server: what is asked, what comes back, what fails."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from typing import Any

import openai
import pytest

from mlspan import integrations
from mlspan.testing import Spans, content

HELLO: Any = [{"role": "user", "content": "hello"}]
WEATHER: Any = [{"role": "user", "content": "weather in Paris?"}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


pytestmark = pytest.mark.usefixtures("openai_on")


def test_a_chat_is_one_span(client: openai.OpenAI, spans: Spans, aimock: str) -> None:
    """A call becomes one span in the conventions' names, with only what was sent and what came back."""
    answer = client.chat.completions.create(
        model="gpt-4o-mini", messages=HELLO, temperature=0, max_tokens=50, seed=7, stop="END", user="ada"
    )
    span = spans.one()
    port = int(aimock.rsplit(":", 1)[1].split("/", maxsplit=1)[0])
    assert spans.tree() == "chat gpt-4o-mini [12 in, 5 out]"
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "server.address": "127.0.0.1",
        "server.port": port,
        "gen_ai.request.max_tokens": 50,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.temperature": 0.0,
        "gen_ai.response.id": answer.id,
        "gen_ai.response.model": "gpt-4o-mini",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 5,
        "openai.api.type": "chat_completions",
        "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"hello"}]}]',
        "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"Hi there!"}],'
        '"finish_reason":"stop"}]',
    }


async def test_an_async_chat_is_the_same_span(aimock: str, spans: Spans) -> None:
    """The async client's span differs in nothing but its times and ids."""
    async with openai.AsyncOpenAI(base_url=aimock, api_key="test") as client:
        await client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    assert spans.tree("gen_ai.response.finish_reasons") == (
        "chat gpt-4o-mini [12 in, 5 out, gen_ai.response.finish_reasons=('stop',)]"
    )
    assert content(spans.one(), "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "Hi there!"}]


def test_tools_are_offered_called_and_answered(client: openai.OpenAI, spans: Spans) -> None:
    """Tool definitions, the model's calls and the tools' answers keep their ids and their arguments' shape."""
    messages = [*WEATHER]
    asked = client.chat.completions.create(model="gpt-4o-mini", messages=messages, tools=[TOOL])
    messages += [asked.choices[0].message, {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}]
    client.chat.completions.create(model="gpt-4o-mini", messages=messages, tools=[TOOL])
    first, second = spans.all
    call = {"type": "tool_call", "name": "get_weather", "id": "call_1", "arguments": {"city": "Paris"}}
    assert content(first, "gen_ai.tool.definitions") == [{"type": "function", **TOOL["function"]}]
    assert content(first, "gen_ai.output.messages") == [
        {"role": "assistant", "parts": [call], "finish_reason": "tool_call"}
    ]
    assert content(second, "gen_ai.input.messages") == [
        {"role": "user", "parts": [{"type": "text", "content": "weather in Paris?"}]},
        {"role": "assistant", "parts": [call]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "response": "sunny", "id": "call_1"}]},
    ]
    assert (first.attributes or {})["gen_ai.response.finish_reasons"] == ("tool_calls",)


def test_parallel_tool_calls_of_a_stream(client: openai.OpenAI, spans: Spans) -> None:
    """Two tool calls whose pieces arrive interleaved come out whole, in their order."""
    for _ in client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "both cities"}], tools=[TOOL], stream=True
    ):
        pass
    (message,) = content(spans.one(), "gen_ai.output.messages")
    assert [(part["id"], part["arguments"]) for part in message["parts"]] == [
        ("call_1", {"city": "Paris"}),
        ("call_2", {"city": "Rome"}),
    ]


def test_every_kind_of_content_part(client: openai.OpenAI, spans: Spans) -> None:
    """Pictures and sounds become blobs or references, by how they were sent."""
    parts: Any = [
        {"type": "text", "text": "hello"},
        {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0K"}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg", "format": "mp3"}},
        {"type": "file", "file": {"file_id": "file-1"}},
    ]
    client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}],
    )
    developer, user = content(spans.one(), "gen_ai.input.messages")
    assert developer == {"role": "developer", "parts": [{"type": "text", "content": "Be brief."}]}
    assert user["parts"] == [
        {"type": "text", "content": "hello"},
        {"type": "uri", "modality": "image", "uri": "https://example.org/cat.png"},
        {"type": "blob", "modality": "image", "content": "iVBORw0K", "mime_type": "image/png"},
        {"type": "blob", "modality": "audio", "content": "UklGRg", "mime_type": "audio/mp3"},
        {"type": "file", "modality": "document", "file_id": "file-1"},
    ]


def test_parse_gives_the_users_type(client: openai.OpenAI, spans: Spans) -> None:
    """Structured output is parsed as ever, and its span says that JSON was asked for."""

    class Weather(openai.BaseModel):
        city: str
        degrees: int

    chat = getattr(client.chat.completions, "parse", None) or client.beta.chat.completions.parse
    answer = chat(model="gpt-4o-mini", messages=[{"role": "user", "content": "as json"}], response_format=Weather)
    assert answer.choices[0].message.parsed == Weather(city="Paris", degrees=21)
    assert (spans.one().attributes or {})["gen_ai.output.type"] == "json"
    assert (
        content(spans.one(), "gen_ai.output.messages")[0]["parts"][0]["content"] == '{"city": "Paris", "degrees": 21}'
    )


def test_several_choices_and_a_refusal(scripted_client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """Each choice is a message of its own; a refusal is what was said; log probabilities are left out."""
    scripted.reply(
        _completion(
            {"index": 0, "message": {"role": "assistant", "content": "One."}, "finish_reason": "stop", "logprobs": {}},
            {"index": 1, "message": {"role": "assistant", "refusal": "No."}, "finish_reason": "content_filter"},
        )
    )
    scripted_client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, n=2, logprobs=True)
    assert content(spans.one(), "gen_ai.output.messages") == [
        {"role": "assistant", "parts": [{"type": "text", "content": "One."}], "finish_reason": "stop"},
        {"role": "assistant", "parts": [{"type": "text", "content": "No."}], "finish_reason": "content_filter"},
    ]
    assert (spans.one().attributes or {})["gen_ai.request.choice.count"] == 2
    assert not [name for name in spans.one().attributes or {} if "logprobs" in name]


def test_every_kind_of_token(scripted_client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """Cached, reasoning and audio tokens are counted separately; the reasoning of compatible servers is kept."""
    details = {"cached_tokens": 40, "audio_tokens": 3}
    usage = {"prompt_tokens": 50, "completion_tokens": 20, "prompt_tokens_details": details}
    usage |= {"completion_tokens_details": {"reasoning_tokens": 16, "audio_tokens": 2}}
    message = {"role": "assistant", "content": "42.", "reasoning_content": "Six by seven."}
    scripted.reply(_completion({"index": 0, "message": message, "finish_reason": "stop"}, usage=usage))
    scripted_client.chat.completions.create(model="o3", messages=HELLO, reasoning_effort="high")
    used = {k: v for k, v in (spans.one().attributes or {}).items() if "usage" in k or "reasoning" in k}
    assert used == {
        "gen_ai.request.reasoning.level": "high",
        "gen_ai.usage.input_tokens": 50,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 40,
        "gen_ai.usage.audio.input_tokens": 3,
        "gen_ai.usage.reasoning.output_tokens": 16,
        "gen_ai.usage.audio.output_tokens": 2,
    }
    assert content(spans.one(), "gen_ai.output.messages")[0]["parts"] == [
        {"type": "reasoning", "content": "Six by seven."},
        {"type": "text", "content": "42."},
    ]


def test_a_raw_response_is_read_without_touching_it(client: openai.OpenAI, spans: Spans) -> None:
    """``with_raw_response`` hands over the client's own object, and the span has the answer all the same."""
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o-mini", messages=HELLO)
    assert type(raw).__name__ == "LegacyAPIResponse"
    assert raw.headers["content-type"].startswith("application/json")
    assert raw.parse().choices[0].message.content == "Hi there!"
    assert spans.tree() == "chat gpt-4o-mini [12 in, 5 out]"


def test_a_raw_stream_is_recorded(client: openai.OpenAI, spans: Spans) -> None:
    """A stream that comes out of a raw response is traced like any other."""
    create: Any = client.chat.completions.with_raw_response.create
    raw = create(model="gpt-4o-mini", messages=HELLO, stream=True)
    assert isinstance(raw.parse(), openai.Stream)
    assert raw.parse() is raw.parse()
    for stream in (raw.parse(), create(model="gpt-4o-mini", messages=HELLO, stream=True).parse()):
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == "Hi there!"
    assert spans.tree() == "chat gpt-4o-mini\nchat gpt-4o-mini"
    for span in spans.all:
        assert content(span, "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "Hi there!"}]


@pytest.mark.parametrize("read", ["parse", "json", "text", "read", "iter_lines", "iter_bytes", "iter_text"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_streaming_response_is_recorded_however_it_is_read(
    client: openai.OpenAI, spans: Spans, read: str, stream: bool
) -> None:
    """``with_streaming_response`` gives an unread body; whichever way the caller reads it, the span has the answer."""
    if stream and read == "json":
        pytest.skip("an event stream is no JSON")
    create: Any = client.chat.completions.with_streaming_response.create
    with create(model="gpt-4o-mini", messages=HELLO, stream=stream) as response:
        assert response.status_code == 200
        got = getattr(response, read)()
        if read.startswith("iter") or (stream and read == "parse"):
            list(got)
    assert content(spans.one(), "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "Hi there!"}]


async def test_an_async_streaming_response(aimock: str, spans: Spans) -> None:
    """The async client's unread body is traced too: what is awaited gives what it always gave."""
    async with openai.AsyncOpenAI(base_url=aimock, api_key="test") as client:
        create = client.chat.completions.with_streaming_response.create
        async with create(model="gpt-4o-mini", messages=HELLO) as response:
            assert (await response.parse()).choices[0].message.content == "Hi there!"
        async with create(model="gpt-4o-mini", messages=HELLO, stream=True) as response:
            lines = [line async for line in response.iter_lines()]
    assert lines[-2:] == ["data: [DONE]", ""] or lines[-1] == "data: [DONE]"
    for span in spans.all:
        assert content(span, "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "Hi there!"}]
    assert len(spans.all) == 2


def test_an_error_of_the_server(scripted_client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """The exception reaches the caller as it is, and the span says what it was."""
    scripted.reply({"error": {"message": "no such model", "code": "model_not_found"}}, status=404)
    with pytest.raises(openai.NotFoundError) as raised:
        scripted_client.chat.completions.create(model="gpt-none", messages=HELLO)
    span = spans.one()
    assert spans.tree() == "chat gpt-none [ERROR openai.NotFoundError]"
    assert span.status.description == str(raised.value)
    (event,) = span.events
    assert (event.name, (event.attributes or {})["exception.type"]) == ("exception", "openai.NotFoundError")
    assert "_make_status_error" in str((event.attributes or {})["exception.stacktrace"])


def test_retries_are_one_call(scripted_client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """The client's own retries stay inside one span, which ends well if the last of them does."""
    scripted.reply({"error": {"message": "busy"}}, status=429, headers={"Retry-After": "0.01"})
    scripted.reply(
        _completion({"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"})
    )
    scripted_client.with_options(max_retries=2).chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    assert len(scripted.requests) == 2
    assert spans.tree() == "chat gpt-4o-mini [12 in, 5 out]"


def test_an_answer_cut_at_its_length_still_counts(scripted_client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """``parse`` raises on an answer that is too short; its tokens and text are in the span with the error."""
    scripted.reply(
        _completion({"index": 0, "message": {"role": "assistant", "content": '{"ci'}, "finish_reason": "length"})
    )

    class City(openai.BaseModel):
        city: str

    completions = scripted_client.chat.completions
    parse = getattr(completions, "parse", None) or scripted_client.beta.chat.completions.parse
    with pytest.raises(openai.LengthFinishReasonError):
        parse(model="gpt-4o-mini", messages=HELLO, response_format=City)
    assert spans.tree() == "chat gpt-4o-mini [12 in, 5 out, ERROR openai.LengthFinishReasonError]"


def test_azure_is_recognised(scripted: Any, spans: Spans) -> None:
    """The Azure client is another provider, whose model is the deployment."""
    scripted.reply(
        _completion({"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"})
    )
    with openai.AzureOpenAI(base_url=scripted.base_url, api_key="test", api_version="2024-06-01") as client:
        client.chat.completions.create(model="my-deployment", messages=HELLO)
    attributes = spans.one().attributes or {}
    assert (attributes["gen_ai.provider.name"], attributes["gen_ai.request.model"]) == (
        "azure.ai.openai",
        "my-deployment",
    )


def test_nothing_is_added_to_the_request(scripted_client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """The server sees what it would see without us: no trace headers, and no option that nobody set."""
    scripted.reply(
        _completion({"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"})
    )
    with_us = scripted_client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    integrations.openai.autolog(disable=True)
    without = scripted_client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    (headers, body), (plain_headers, plain_body) = scripted.requests
    own = ("idempotency", "x-stainless-retry", "x-client-request-id")
    assert {k for k in headers if not k.startswith(own)} == {k for k in plain_headers if not k.startswith(own)}
    assert (body, with_us) == (plain_body, without)


def test_content_can_stay_at_home(client: openai.OpenAI, spans: Spans, tracing_off: None) -> None:
    """With capture off a span says which model, how much and how it ended, and not one word of what was said."""
    from mlspan import tracing

    tracing.configure(capture_content=False)
    client.chat.completions.create(model="gpt-4o-mini", messages=WEATHER, tools=[TOOL])
    attributes = spans.one().attributes or {}
    assert not {"gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.tool.definitions"} & set(attributes)
    assert attributes["gen_ai.response.finish_reasons"] == ("tool_calls",)


def test_suppression_is_honoured(client: openai.OpenAI, spans: Spans) -> None:
    """Inside OpenTelemetry's suppress_instrumentation there is no span, and the call is as ever."""
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.utils")
    with instrumentation.suppress_instrumentation():
        client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    assert spans.all == []


def test_disable_gives_the_originals_back(client: openai.OpenAI, spans: Spans) -> None:
    """``disable=True`` leaves no trace of a patch, on the classes or in the spans."""
    integrations.openai.autolog(disable=True)
    assert "request" not in vars(openai.OpenAI)
    assert "request" not in vars(openai.AsyncOpenAI)
    client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    assert spans.all == []


def test_log_traces_false_records_nothing(client: openai.OpenAI, spans: Spans) -> None:
    """A second autolog changes the settings of the first."""
    integrations.openai.autolog(log_traces=False)
    client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    integrations.openai.autolog(log_traces=True)
    client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    assert len(spans.all) == 1


def test_patched_methods_look_like_themselves(client: openai.OpenAI) -> None:
    """Signature, name and pickling of what we watch are those of the original."""
    patched = openai.OpenAI.request
    integrations.openai.autolog(disable=True)
    assert inspect.signature(patched) == inspect.signature(openai.OpenAI.request)
    integrations.openai.autolog()
    assert (
        pickle.loads(pickle.dumps(openai.resources.chat.Completions.create)) is openai.resources.chat.Completions.create
    )
    assert asyncio.iscoroutinefunction(openai.AsyncOpenAI.request)


def _completion(*choices: Any, usage: Any = None) -> Any:
    usage = usage or {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini"}
    return {**head, "choices": list(choices), "usage": usage}
