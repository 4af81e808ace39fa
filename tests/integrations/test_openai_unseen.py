"""What the program sees of OpenAI's client is what it sees without us: streams read as text, refusals, odd calls."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from openai_chunks import WHOLE

from mlspan import integrations, tracing
from mlspan.testing import Spans
from mlspan.tracing.operations.event_filter import EventFilter

UNASKED = [chunk for chunk in WHOLE if not isinstance(chunk, dict) or not chunk.get("usage")]
HELLO: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
def _autolog(openai_on: None) -> None:
    integrations.openai.autolog(include_usage=True)


@pytest.fixture
def client(scripted_client: openai.OpenAI) -> openai.OpenAI:
    return scripted_client


def read_lines(client: openai.OpenAI) -> Any:
    return list(client.chat.completions.create(model="m", messages=HELLO, stream=True).response.iter_lines())


def read_bytes(client: openai.OpenAI) -> Any:
    return b"".join(client.chat.completions.create(model="m", messages=HELLO, stream=True).response.iter_bytes(7))


def read_text(client: openai.OpenAI) -> Any:
    return "".join(client.chat.completions.create(model="m", messages=HELLO, stream=True).response.iter_text())


def read_raw(client: openai.OpenAI) -> Any:
    return b"".join(client.chat.completions.create(model="m", messages=HELLO, stream=True).response.iter_raw())


def read_streaming(client: openai.OpenAI) -> Any:
    create: Any = client.chat.completions.with_streaming_response.create
    with create(model="m", messages=HELLO, stream=True) as response:
        return list(response.iter_lines())


def read_raw_parsed(client: openai.OpenAI) -> Any:
    create: Any = client.chat.completions.with_raw_response.create
    return [chunk.model_dump() for chunk in create(model="m", messages=HELLO, stream=True).parse()]


READERS: dict[str, Callable[[openai.OpenAI], Any]] = {
    read.__name__: read for read in (read_lines, read_bytes, read_text, read_raw, read_streaming, read_raw_parsed)
}


def answer_as_asked(scripted: Any) -> None:
    """The usage comes in a chunk of its own, and only to who asks for it."""

    def answer(handler: Any) -> None:
        asked = (scripted.requests[-1][1].get("stream_options") or {}).get("include_usage")
        scripted.stream(*(WHOLE if asked else UNASKED))
        scripted._answers.pop()(handler)

    scripted._answers.append(answer)


@pytest.mark.parametrize("name", READERS)
def test_the_usage_chunk_is_never_seen(name: str, client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """However the body is read, it is what the caller would get without us; the span has the text."""
    answer_as_asked(scripted)
    integrations.openai.autolog(disable=True)
    bare = READERS[name](client)
    integrations.openai.autolog(include_usage=True)
    assert READERS[name](client) == bare
    assert spans.one().name == "chat m"
    assert "One two." in str((spans.one().attributes or {})["gen_ai.output.messages"])
    if name in {"read_lines", "read_bytes", "read_text", "read_raw"}:
        assert (spans.one().attributes or {})["gen_ai.usage.input_tokens"] == 12


def test_the_filter_of_text_with_odd_characters() -> None:
    """JSON may hold characters at which ``str.splitlines`` ends a line: they end neither a line nor an event."""

    class Observer:
        def observe(self, value: Any) -> bool:
            return "hide" not in value

    hidden, shown = 'data: {"hide": "a\u2028\x85\u2028b"}\n\n', 'data: {"x": "a\u2028\x85\u2028b"}\n\n'
    assert "".join(EventFilter(Observer(), lines=False).read(iter([hidden, shown]), lambda _: None)) == shown


@pytest.mark.parametrize("lines", [True, False])
@pytest.mark.parametrize("cut", [1, 3, 10, 10_000])
def test_the_filter_at_any_cut(lines: bool, cut: int) -> None:
    """What is shown is the stream without the hidden event, to the byte, wherever the pieces are cut."""

    class Observer:
        def observe(self, value: Any) -> bool:
            return value != {"hide": 1}

    shown, hidden = b'event: a\ndata: {"x": "\xc3\xa9"}\n\n', b'data: {"hide": 1}\n\n'
    body, right = shown + hidden + b": note\n\n" + hidden + b"data: [DONE]", shown + b": note\n\ndata: [DONE]"
    if lines:
        kept = EventFilter(Observer(), lines=True).read(iter(body.decode().split("\n")), lambda _: None)
        assert list(kept) == right.decode().split("\n")
    else:
        pieces = [body[start : start + cut] for start in range(0, len(body), cut)]
        assert b"".join(EventFilter(Observer(), lines=False).read(iter(pieces), lambda _: None)) == right


REFUSAL: Any = {"error": {"message": "Unrecognized request argument supplied: stream_options", "code": None}}


class TestServerThatDoesNotKnow:
    """A compatible server that refuses ``stream_options``."""

    def test_it_is_asked_without(self, client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
        scripted.reply(REFUSAL, status=400)
        scripted.stream(*UNASKED)
        for _ in range(2):
            assert len(list(client.chat.completions.create(model="m", messages=HELLO, stream=True))) == 3
        assert [request.get("stream_options") for _, request in scripted.requests] == [
            {"include_usage": True},
            None,
            None,
        ]
        assert spans.tree() == "chat m\nchat m"

    async def test_it_is_asked_without_async(self, scripted: Any, spans: Spans) -> None:
        scripted.reply(REFUSAL, status=400)
        scripted.stream(*UNASKED)
        # Another name of the same server: what a server has refused is remembered.
        url = scripted.base_url.replace("127.0.0.1", "localhost")
        async with openai.AsyncOpenAI(base_url=url, api_key="test", max_retries=0) as client:
            stream = await client.chat.completions.create(
                model="m", messages=HELLO, stream=True, stream_options={"include_obfuscation": False}
            )
            assert len([chunk async for chunk in stream]) == 3
        assert scripted.requests[-1][1]["stream_options"] == {"include_obfuscation": False}
        assert spans.tree() == "chat m"

    def test_another_400_is_the_callers(self, scripted: Any, spans: Spans) -> None:
        scripted.reply({"error": {"message": "no such model"}}, status=400)
        with (
            openai.OpenAI(base_url=scripted.base_url + "/other", api_key="test", max_retries=0) as client,
            pytest.raises(openai.BadRequestError),
        ):
            client.chat.completions.create(model="m", messages=HELLO, stream=True)
        assert len(scripted.requests) == 1


class TestOddCalls:
    """What the client makes of them is all there is: no line of ours in the log."""

    @pytest.fixture(autouse=True)
    def _quiet(self, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
        yield
        assert [record for record in caplog.records if record.name.startswith("mlspan")] == []

    def test_wrong_arity(self, client: openai.OpenAI) -> None:
        request: Any = client.request
        with pytest.raises(TypeError):
            request()
        with pytest.raises(TypeError):
            request(str, 1, 2, 3, 4)

    def test_empty_path(self, client: openai.OpenAI, scripted: Any) -> None:
        scripted.reply({"ok": True})
        assert client.get("", cast_to=object) == {"ok": True}

    def test_client_that_cannot_be_hashed(self, scripted: Any, spans: Spans) -> None:
        class Client(openai.OpenAI):
            def __eq__(self, other: object) -> bool:
                return self is other

            __hash__ = None  # type: ignore[assignment]

        scripted.stream(*UNASKED)
        with Client(base_url=scripted.base_url, api_key="test") as client:
            list(client.chat.completions.create(model="m", messages=HELLO, stream=True))
        assert spans.tree() == "chat m"

    def test_answer_that_is_both_kinds_of_stream(self, client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
        """OpenInference's proxy of a stream has the methods of both: the call says which it is."""

        class Both:
            def __init__(self, own: Any) -> None:
                self._own = own

            def __iter__(self) -> Any:
                return iter(self._own)

            def __next__(self) -> Any:
                return next(self._own)

            def __aiter__(self) -> Any:
                return self

            async def __anext__(self) -> Any:
                return await anext(self._own)

        integrations.openai.autolog(disable=True)
        own = openai.OpenAI.request
        openai.OpenAI.request = lambda *args, **kwargs: Both(own(*args, **kwargs))  # type: ignore[method-assign, assignment]
        try:
            integrations.openai.autolog()
            scripted.stream(*WHOLE)
            assert len(list(client.chat.completions.create(model="m", messages=HELLO, stream=True))) == 4
        finally:
            integrations.openai.autolog(disable=True)
            del openai.OpenAI.request  # it is inherited
        assert spans.tree() == "chat m [12 in, 5 out]"


def test_a_librarys_warning_names_its_caller(client: openai.OpenAI) -> None:
    """Frames of ours do not count for ``stacklevel``, below ``@trace``, a scope and a patch alike."""

    def library() -> None:
        warnings.warn("old", UserWarning, stacklevel=2)

    traced, scoped = tracing.trace(library), tracing.session("s")(library)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        traced()
        scoped()
    assert [warning.filename for warning in caught] == [__file__, __file__]


def test_a_traceback_still_shows_where(client: openai.OpenAI, caplog: pytest.LogCaptureFixture) -> None:
    """The mark in a wrapper's frame costs no line of the program's own."""
    caplog.set_level(logging.DEBUG)

    @tracing.trace
    def fails() -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError) as raised:
        fails()
    assert raised.traceback[-1].name == "fails"


def count_layers(method: Any) -> int:
    """Return how many functions stand around the client's own."""
    layers = 0
    while (method := getattr(method, "__wrapped__", None)) is not None:
        layers += 1
    return layers


def test_only_who_asks_for_usage_has_its_fallback(client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    """A change of the option patches anew; a method that is held since before is recorded all the same."""
    held = openai.OpenAI.request
    assert count_layers(held) == 2
    integrations.openai.autolog()
    assert count_layers(openai.OpenAI.request) == count_layers(openai.AsyncOpenAI.request) == 1
    integrations.openai.autolog(log_images=True)
    plain = openai.OpenAI.request
    integrations.openai.autolog()
    assert openai.OpenAI.request is plain, "another option is no reason to patch anew"
    client.request = held.__get__(client)  # type: ignore[method-assign]
    scripted.stream(*UNASKED)
    list(client.chat.completions.create(model="m", messages=HELLO, stream=True))
    assert spans.tree() == "chat m"
    integrations.openai.autolog(include_usage=True)
    assert count_layers(openai.OpenAI.request) == 2
