"""Google's Gen AI client: what is asked, what comes back, what fails, against a server that a test scripts."""

from __future__ import annotations

import asyncio
import base64
import gc
import random
from collections.abc import Iterator
from types import AsyncGeneratorType, GeneratorType
from typing import Any, ClassVar

import pytest

genai = pytest.importorskip("google.genai", reason="in the nox sessions google_genai")
from google.genai import errors, types
from scripted_client import ScriptedClient

from mlspan import integrations
from mlspan.testing import Spans, content, contracts
from mlspan.testing.contracts.async_streams import close_early, close_in_another_task, wait_for_new_tasks

HAS_RESPONSE_ID = "response_id" in types.GenerateContentResponse.model_fields and genai.__version__ > "1.3"
USAGE: Any = {"promptTokenCount": 12, "candidatesTokenCount": 5, "totalTokenCount": 17}


def answer(*parts: Any, reason: str | None = "STOP", usage: Any = USAGE) -> Any:
    """Return an answer of the API, or a chunk of one."""
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if reason:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], "modelVersion": "m-1", "responseId": "r-1", "usageMetadata": usage}


ANSWER = answer({"text": "One two."})
WHOLE = [answer({"text": "One "}, reason=None, usage={"promptTokenCount": 12}), answer({"text": "two."})]
REFUSAL = {"error": {"code": 400, "message": "no such model", "status": "INVALID_ARGUMENT"}}


class Gemini(ScriptedClient):
    """The client, its hook and its server."""

    span = "generate_content m"
    answer, refusal, events = ANSWER, REFUSAL, WHOLE

    def make_client(self) -> Any:
        return make_client(self.server)

    def release_client(self) -> None:
        close_client(self.client)

    def autolog(self, **options: Any) -> None:
        integrations.google_genai.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        models = genai.models
        names = ("_generate_content", "_generate_content_stream", "generate_content", "embed_content")
        return [(cls, name) for cls in (models.Models, models.AsyncModels) for name in names]

    def make_async_client(self) -> Any:
        client = make_client(self.server)
        self.async_clients.append(client)
        return client.aio

    async def close_client(self) -> None:
        while self.async_clients:
            client = self.async_clients.pop()
            inner = getattr(client, "_api_client", None)  # what clients before 1.40 cannot close themselves
            await (client.aio.aclose() if hasattr(client.aio, "aclose") else inner._async_httpx_client.aclose())
            close_client(client)


def make_client(server: Any) -> Any:
    options = types.HttpOptions(base_url=server.base_url.removesuffix("/v1"))
    return genai.Client(api_key="test", http_options=options)


def close_client(client: Any) -> None:
    if hasattr(client, "close"):
        client.close()


class TestCalls(Gemini, contracts.CallContract):
    fails = errors.ClientError

    def make_call(self) -> Any:
        self.script("answer")
        return self.client.models.generate_content(model="m", contents="a greeting")

    def read_answer(self, answer: Any) -> Any:
        return answer.model_dump(exclude={"sdk_http_response"})

    def make_failing_call(self) -> Any:
        self.script("refusal")
        return self.client.models.generate_content(model="m", contents="a greeting")


class TestChats(TestCalls):
    def make_call(self) -> Any:
        self.script("answer")
        return self.client.chats.create(model="m").send_message("a greeting")


class TestAsyncCalls(Gemini, contracts.AsyncCallContract):
    fails = errors.ClientError

    async def make_call(self) -> Any:
        self.script("answer")
        return await self.make_async_client().models.generate_content(model="m", contents="a greeting")

    def read_answer(self, answer: Any) -> Any:
        return answer.model_dump(exclude={"sdk_http_response"})

    async def make_failing_call(self) -> Any:
        self.script("refusal")
        return await self.make_async_client().models.generate_content(model="m", contents="a greeting")

    async def make_hanging_call(self) -> Any:
        self.script("silence")
        return await self.make_async_client().models.generate_content(model="m", contents="a greeting")


class Generated(Gemini):
    """The client's streams are generators, which read our stream in a loop: one that is left lets it go unclosed."""

    is_generator: ClassVar[bool] = True
    has_with: ClassVar[bool] = False
    cut_off: ClassVar[type[BaseException]] = Exception

    def check_left(self, *, end: str | None = None, error: type[BaseException] | None = None) -> None:
        super().check_left(end="abandoned" if end == "closed" else end, error=error)  # type: ignore[misc]  # a mixin


class TestStreams(Generated, contracts.StreamContract):
    stream_type = GeneratorType

    def read_chunk(self, chunk: Any) -> Any:
        return chunk.model_dump(exclude={"sdk_http_response"})

    def open_stream(self, what: str = "whole") -> Any:
        self.script(what)
        return self.client.models.generate_content_stream(model="m", contents="a greeting")

    def open_cut_off_stream(self) -> Any:
        return self.open_stream("cut")


class TestAsyncStreams(Generated, contracts.AsyncStreamContract):
    stream_type = AsyncGeneratorType

    def read_chunk(self, chunk: Any) -> Any:
        return chunk.model_dump(exclude={"sdk_http_response"})

    async def open_stream(self, what: str = "whole") -> Any:
        self.script(what)
        return await self.make_async_client().models.generate_content_stream(model="m", contents="a greeting")

    async def open_cut_off_stream(self) -> Any:
        return await self.open_stream("cut")

    async def open_slow_stream(self) -> Any:
        return await self.open_stream("slow")

    @pytest.mark.parametrize("leave", [close_early, close_in_another_task])
    def test_closed(self, leave: Any) -> None:
        """The event loop closes what the client's generator lets go, in a task of its own."""

        async def scenario() -> None:
            before = asyncio.all_tasks()
            await leave(await self.open_stream())
            await wait_for_new_tasks(before)
            self.check_left(end="closed")

        self.run(scenario)


@pytest.fixture
def client(scripted: Any, spans: Spans) -> Iterator[Any]:
    integrations.gemini.autolog(log_traces=True)
    client = make_client(scripted)
    yield client
    close_client(client)
    integrations.gemini.autolog(disable=True)


def test_a_call_in_the_conventions_names(client: Any, scripted: Any, spans: Spans) -> None:
    """One span, with only what was sent and what came back; thoughts are output, cached tokens input."""
    usage = {
        **USAGE,
        "thoughtsTokenCount": 7,
        "cachedContentTokenCount": 4,
        "toolUsePromptTokenCount": 2,
        "totalTokenCount": 26,
    }
    scripted.reply(answer({"text": "hm", "thought": True}, {"text": "One two."}, usage=usage))
    config = types.GenerateContentConfig(
        system_instruction="Be brief.",
        temperature=0.5,
        top_k=3,
        max_output_tokens=9,
        stop_sequences=["END"],
        response_mime_type="application/json",
    )
    client.models.generate_content(model="models/m", contents="a greeting", config=config)
    span = spans.one()
    port = int(scripted.base_url.rsplit(":", 1)[1].split("/", maxsplit=1)[0])
    attributes = {name: value for name, value in (span.attributes or {}).items() if "messages" not in name}
    if HAS_RESPONSE_ID:
        assert attributes.pop("gen_ai.response.id") == "r-1"
    assert attributes == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "m",
        "server.address": "127.0.0.1",
        "server.port": port,
        "gen_ai.output.type": "json",
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_k": 3,
        "gen_ai.response.model": "m-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 14,
        "gen_ai.usage.output_tokens": 12,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 7,
        "gen_ai.system_instructions": '[{"type":"text","content":"Be brief."}]',
        "mlspan.usage.tool_use_prompt_tokens": 2,
    }
    (message,) = content(span, "gen_ai.output.messages")
    assert message["parts"] == [{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "One two."}]


PNG = b"\x89PNG"
PARTS: Any = {  # a part of a request, and the part that it becomes
    "text": ({"text": "x"}, {"type": "text", "content": "x"}),
    "object": (types.Part.from_text(text="x"), {"type": "text", "content": "x"}),
    "picture": (
        types.Part.from_bytes(data=PNG, mime_type="image/png"),
        {
            "type": "blob",
            "modality": "image",
            "content": base64.b64encode(PNG).decode(),
            "mime_type": "image/png",
        },
    ),
    "address": (
        types.Part.from_uri(file_uri="https://a.test/p.pdf", mime_type="application/pdf"),
        {"type": "uri", "modality": "document", "uri": "https://a.test/p.pdf", "mime_type": "application/pdf"},
    ),
    "call": (
        types.Part.from_function_call(name="look_up", args={"city": "Paris"}),
        {"type": "tool_call", "name": "look_up", "arguments": {"city": "Paris"}},
    ),
    "result": (
        types.Part.from_function_response(name="look_up", response={"weather": "sunny"}),
        {"type": "tool_call_response", "response": {"weather": "sunny"}},
    ),
}


@pytest.mark.parametrize("name", list(PARTS))
def test_parts_of_a_request(name: str, client: Any, scripted: Any, spans: Spans) -> None:
    sent, part = PARTS[name]
    scripted.reply(ANSWER)
    client.models.generate_content(model="m", contents=[{"role": "user", "parts": [sent]}])
    (message,) = content(spans.one(), "gen_ai.input.messages")
    assert message == {"role": "tool" if name == "result" else "user", "parts": [part]}


def test_contents_in_every_form(client: Any, scripted: Any, spans: Spans) -> None:
    """Loose texts and parts are one message; contents are messages of their own, the model's an assistant's."""
    scripted.reply(ANSWER)
    said = types.Content(role="model", parts=[types.Part.from_text(text="hello")])
    client.models.generate_content(model="m", contents=[said, "and", types.Part.from_text(text="now?")])
    assert content(spans.one(), "gen_ai.input.messages") == [
        {"role": "assistant", "parts": [{"type": "text", "content": "hello"}]},
        {"role": "user", "parts": [{"type": "text", "content": "and"}, {"type": "text", "content": "now?"}]},
    ]


def get_weather(city: str) -> str:
    """The weather in a city."""
    if city == "Nowhere":
        raise ValueError(city)
    return f"sunny in {city}"


get_weather.__annotations__ = {"city": str, "return": str}  # older clients read no annotations that are text


CALL = answer({"functionCall": {"name": "get_weather", "args": {"city": "Paris"}}})
TREE = """\
generate_content with functions m
  generate_content m [12 in, 5 out]
  execute_tool get_weather
  generate_content m [12 in, 5 out]"""


def test_functions_that_the_client_calls(client: Any, scripted: Any, spans: Spans) -> None:
    """Two requests and the function between them are one trace."""
    scripted.reply(CALL)
    scripted.reply(ANSWER)
    config = types.GenerateContentConfig(tools=[get_weather])
    assert client.models.generate_content(model="m", contents="a greeting", config=config).text == "One two."
    assert spans.tree() == TREE
    (tool,) = spans.named("execute_tool get_weather")
    assert content(tool, "gen_ai.tool.call.arguments") == {"city": "Paris"}
    assert (tool.attributes or {})["gen_ai.tool.call.result"] == "sunny in Paris"
    (around,) = spans.named("generate_content with functions m")
    assert (around.attributes or {})["mlspan.output"] in {"One two.", '"One two."'}


def growing_chunks() -> list[Any]:
    """Chunks of text alone, whose counts are those so far; only one tells what tools have added to the prompt."""
    told: list[Any] = [{"candidatesTokenCount": count} for count in range(1, 5)]
    told[2] |= {"toolUsePromptTokenCount": 3}
    details = {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": 12}]}
    usages = [{"promptTokenCount": 12, **details, **one} for one in told]
    return [answer({"text": f"word{place} "}, reason=None, usage=usage) for place, usage in enumerate(usages)]


@pytest.mark.parametrize("how", ["whole", "left", "reason"])
def test_the_counts_of_text_chunks(how: str, client: Any, scripted: Any, spans: Spans) -> None:
    """The last that came count, whether the stream was read to its end or left, or a chunk of another kind ends it."""
    chunks = growing_chunks()
    if how == "reason":
        chunks.append(answer({"text": "end."}, usage={"promptTokenCount": 12, "candidatesTokenCount": 9}))
    scripted.stream(*chunks)
    stream = client.models.generate_content_stream(model="m", contents="a greeting")
    read = [next(stream).text for _ in chunks]
    assert list(stream) == [] if how != "left" else stream.close() is None
    attributes = spans.one().attributes or {}
    assert content(spans.one(), "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "".join(read)}]
    counts = {name: attributes[f"gen_ai.usage.{name}_tokens"] for name in ("input", "output")}
    assert counts == {"input": 15, "output": 9 if how == "reason" else 4}
    assert attributes["mlspan.usage.tool_use_prompt_tokens"] == 3


COUNTS = {"promptTokenCount": "input", "candidatesTokenCount": "output", "cachedContentTokenCount": "cache_read.input"}


@pytest.mark.parametrize("seed", range(25))
def test_random_counts_of_text_chunks(seed: int, client: Any, scripted: Any, spans: Spans) -> None:
    """Each chunk tells any of the counts, or none, some of them as zero or null, or one that nobody knows."""
    dice = random.Random(seed)
    names = [*COUNTS, "noSuchTokenCount"]
    usages: list[Any] = [
        {name: dice.choice([None, 0, dice.randrange(1, 99)]) for name in dice.sample(names, dice.randrange(5))} or None
        for _ in range(6)
    ]
    scripted.stream(*(answer({"text": "x"}, reason=None, usage=usage) for usage in usages))
    for _ in client.models.generate_content_stream(model="m", contents="a greeting"):
        pass
    told = {name: [usage[name] for usage in usages if usage and usage.get(name)] for name in COUNTS}
    zeros = {name for usage in usages for name, count in (usage or {}).items() if count == 0}
    attributes = spans.one().attributes or {}
    for name, ending in COUNTS.items():
        expected = {told[name][-1]} if told[name] else {0, None} if name in zeros else {None}
        assert attributes.get(f"gen_ai.usage.{ending}_tokens") in expected


class LeaveError(Exception):
    """What a reader of a stream raises."""


def leave_stream(stream: Any, how: str, count: int) -> None:
    """Read *count* chunks and leave: by a ``break``, by closing, with an exception, or by letting the stream go."""
    if how == "exception":
        with pytest.raises(LeaveError):
            for place, _ in enumerate(stream, 1):
                if place == count:
                    raise LeaveError
    elif how == "break":
        for place, _ in enumerate(stream, 1):
            if place == count:
                break
    else:
        for _ in range(count):
            next(stream)
    if how == "close":
        stream.close()


@pytest.mark.parametrize("how", ["break", "close", "exception", "dropped"])
@pytest.mark.parametrize("teller", [0, 1, 2])
def test_a_stream_that_is_left_names_its_answer(
    how: str, teller: int, client: Any, scripted: Any, spans: Spans
) -> None:
    """Whichever chunk that was read tells the id and the model, also where the next ones do not tell them again."""
    chunks = growing_chunks()
    for place, chunk in enumerate(chunks):
        if place != teller:
            del chunk["modelVersion"], chunk["responseId"]
    scripted.stream(*chunks)
    leave_stream(client.models.generate_content_stream(model="m", contents="a greeting"), how, 3)
    gc.collect()
    attributes = spans.one().attributes or {}
    assert attributes["gen_ai.response.model"] == "m-1"
    if HAS_RESPONSE_ID:
        assert attributes["gen_ai.response.id"] == "r-1"


@pytest.mark.parametrize("field", ["modelVersion", "responseId"])
def test_a_stream_that_tells_one_name_late(field: str, client: Any, scripted: Any, spans: Spans) -> None:
    """The name that is known from the first chunk on does not hide the other."""
    chunks = growing_chunks()
    for chunk in (chunks[0], *chunks[2:]):
        del chunk[field]
    scripted.stream(*chunks)
    leave_stream(client.models.generate_content_stream(model="m", contents="a greeting"), "close", 3)
    attributes = spans.one().attributes or {}
    assert attributes["gen_ai.response.model"] == "m-1"
    if HAS_RESPONSE_ID:
        assert attributes["gen_ai.response.id"] == "r-1"


def test_functions_in_a_stream(client: Any, scripted: Any, spans: Spans) -> None:
    scripted.stream(CALL)
    scripted.stream(*WHOLE)
    config = types.GenerateContentConfig(tools=[get_weather])
    chunks = client.models.generate_content_stream(model="m", contents="a greeting", config=config)
    assert "".join(chunk.text or "" for chunk in chunks) == "One two."
    assert spans.tree() == TREE


def test_a_function_that_fails(client: Any, scripted: Any, spans: Spans) -> None:
    """The model is told, and the function's span is an error."""
    scripted.reply(answer({"functionCall": {"name": "get_weather", "args": {"city": "Nowhere"}}}))
    scripted.reply(ANSWER)
    client.models.generate_content(
        model="m", contents="a greeting", config=types.GenerateContentConfig(tools=[get_weather])
    )
    (tool,) = spans.named("execute_tool get_weather")
    assert not tool.status.is_ok


def test_a_refused_prompt(client: Any, scripted: Any, spans: Spans) -> None:
    scripted.reply({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 12}})
    client.models.generate_content(model="m", contents="a greeting")
    assert (spans.one().attributes or {})["gen_ai.response.finish_reasons"] == ("content_filter",)
    assert (spans.one().attributes or {})["gen_ai.usage.input_tokens"] == 12


def test_embeddings(client: Any, scripted: Any, spans: Spans) -> None:
    scripted.reply({"embeddings": [{"values": [0.1, 0.2]}, {"values": [0.3, 0.4]}]})
    client.models.embed_content(model="e", contents=["a", "b"])
    span = spans.one()
    assert span.name == "embeddings e"
    assert (span.attributes or {})["gen_ai.embeddings.dimension.count"] == 2
    assert content(span, "mlspan.input") == ["a", "b"]


@pytest.mark.parametrize(
    ("usages", "tokens"),
    [
        ([{"promptTokenCount": 12, "thoughtsTokenCount": 900}], (12, 900)),  # it stopped while it thought
        ([{"promptTokenCount": 10, "toolUsePromptTokenCount": 90}, {"promptTokenCount": 10}], (100, None)),
        ([{"promptTokenCount": -5, "candidatesTokenCount": 5}], (None, 5)),
    ],
)
def test_odd_token_counts(usages: Any, tokens: Any, client: Any, scripted: Any, spans: Spans) -> None:
    scripted.stream(*(answer({"text": "x"}, usage=usage) for usage in usages))
    list(client.models.generate_content_stream(model="m", contents="a"))
    attributes = spans.one().attributes or {}
    assert tuple(attributes.get(f"gen_ai.usage.{name}_tokens") for name in ("input", "output")) == tokens


def test_candidates_in_any_order(client: Any, scripted: Any, spans: Spans) -> None:
    first, second = (answer({"text": text})["candidates"][0] for text in "AB")
    scripted.reply({"candidates": [{**second, "index": 1}, first], "usageMetadata": USAGE})
    client.models.generate_content(model="m", contents="a")
    said = [message["parts"][0]["content"] for message in content(spans.one(), "gen_ai.output.messages")]
    assert said == ["A", "B"]


def test_a_picture_is_embedded(client: Any, scripted: Any, spans: Spans) -> None:
    scripted.reply({"embeddings": [{"values": [0.1]}]})
    client.models.embed_content(
        model="e", contents=[types.Part.from_uri(file_uri="https://a.test/b.png", mime_type="image/png")]
    )
    assert spans.one().name == "embeddings e"


def test_what_is_held_is_silent_once_it_is_off(client: Any, scripted: Any, spans: Spans) -> None:
    """A method that the program has kept, and an iterator in the place of the client's generator."""
    held = client.models.generate_content_stream
    integrations.google_genai.autolog(disable=True)
    scripted.stream(CALL)
    scripted.stream(*WHOLE)
    config = types.GenerateContentConfig(tools=[get_weather])
    assert "".join(chunk.text or "" for chunk in held(model="m", contents="a", config=config)) == "One two."
    assert spans.all == []


def test_another_tracer_around_a_stream(scripted: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in the place of the client's generator is read by its own ``__next__``, whatever it lacks."""
    read: list[Any] = []

    class Proxy:
        def __init__(self, own: Any) -> None:
            self.own = own

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            read.append(next(self.own))
            return read[-1]

    original = genai.models.Models.generate_content_stream
    monkeypatch.setattr(
        genai.models.Models, "generate_content_stream", lambda self, **asked: Proxy(original(self, **asked))
    )
    integrations.google_genai.autolog()
    try:
        client = make_client(scripted)
        scripted.stream(*WHOLE)
        chunks = list(client.models.generate_content_stream(model="m", contents="a"))
        close_client(client)
    finally:
        integrations.google_genai.autolog(disable=True)
    assert chunks == read
    assert len(read) == 2
    assert spans.tree() == "generate_content m [12 in, 5 out]"
