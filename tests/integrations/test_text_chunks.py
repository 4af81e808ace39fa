"""Chunks that hold text alone are read in a shorter way. What is recorded does not depend on which chunks are."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import pytest

from mlspan.tracing.operations.message_drafts import OutputDraft
from mlspan.tracing.operations.records import Chat

LEFT_OUT: Any = object()  # of a chunk's fields


class Reading(NamedTuple):
    """How the chunks of a client are read.

    Attributes:
        module: that is to be imported.
        shorter: the functions that read text alone, as ``module:function``, or that read a chunk which has more.
        observer: what reads a stream, likewise; the name of a class stands for the method of an instance.
        stream: makes the chunks, text alone among all others, in the client's own classes.
        longer: what reads every chunk, where that is another function; else all of *shorter* are made to take none.
    """

    module: str
    shorter: tuple[str, ...]
    observer: str
    stream: Callable[[], Iterator[object]]
    longer: str | None = None


def vary(**fields: tuple[object, ...]) -> Iterator[dict[str, Any]]:
    """Yield every combination of the values of *fields*; a value that is left out has no key."""
    for values in itertools.product(*fields.values()):
        yield {name: it for name, it in zip(fields, values, strict=True) if it is not LEFT_OUT}


CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def list_openai_chunks(**more: Any) -> Iterator[dict[str, Any]]:
    deltas = vary(
        content=(LEFT_OUT, None, "", "a "),
        role=(LEFT_OUT, "assistant"),
        tool_calls=(LEFT_OUT, None, [CALL]),
        **{"reasoning_content": (LEFT_OUT, None, "hm "), **more},
    )
    for number, delta in enumerate(deltas):
        for rest in vary(finish_reason=(None, "stop"), usage=(LEFT_OUT, None, USAGE)):
            usage = {"usage": rest.pop("usage")} if "usage" in rest else {}
            choice = {"index": number % 2, "delta": delta, **rest}
            yield {
                "id": "1",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": "m",
                "choices": [choice],
                **usage,
            }


def make_openai_stream() -> Iterator[object]:
    from openai.types.chat import ChatCompletionChunk

    for chunk in list_openai_chunks(refusal=(LEFT_OUT, "no")):
        yield ChatCompletionChunk.construct(**chunk)
    odd: Any = {"id": "1", "model": "m"}
    for choice in (
        {"index": None, "delta": {"content": "b "}},
        {"delta": {"content": "c "}},
        {"index": 0, "delta": {"content": 5}},
    ):
        yield ChatCompletionChunk.construct(**odd, choices=[choice])
        yield ChatCompletionChunk.construct(**odd, choices=[choice, choice])
    yield ChatCompletionChunk.construct(**odd, choices=[])
    yield ChatCompletionChunk.construct(**odd)


def make_plain_stream() -> Iterator[object]:
    yield from list_openai_chunks()


def make_mistral_stream() -> Iterator[object]:
    from mistralai.client import models

    for chunk in list_openai_chunks(reasoning_content=(LEFT_OUT,)):
        yield models.CompletionEvent.model_validate({"data": chunk})


def make_anthropic_stream() -> Iterator[object]:
    from anthropic.types import RawContentBlockDeltaEvent, RawContentBlockStartEvent

    blocks: Any = [{"type": "text", "text": ""}, {"type": "tool_use", "id": "t", "name": "f", "input": {}}]
    for index, block in enumerate(blocks):
        yield RawContentBlockStartEvent.construct(type="content_block_start", index=index, content_block=block)
    deltas: list[Any] = [
        *vary(
            type=("text_delta",), text=(LEFT_OUT, None, "", "a ", 5), thinking=(LEFT_OUT, "hm "), more=(LEFT_OUT, "x")
        ),
        {"type": "thinking_delta", "thinking": "hm "},
        {"type": "input_json_delta", "partial_json": "{}"},
        {"type": "citations_delta", "citation": {"type": "page_location", "cited_text": "a"}},
        None,
    ]
    for delta, index in itertools.product(deltas, (0, 1, 7, None, LEFT_OUT)):
        event: Any = {"type": "content_block_delta", "delta": delta, **({} if index is LEFT_OUT else {"index": index})}
        yield event
        yield RawContentBlockDeltaEvent.construct(**event)
    yield {"type": "message_delta", "delta": {"stop_reason": "end_turn", "text": "no"}, "usage": {"output_tokens": 5}}


def make_ollama_stream() -> Iterator[object]:
    import ollama

    call = {"function": {"name": "f", "arguments": {"a": 1}}}
    messages = vary(
        role=("assistant",),
        content=(LEFT_OUT, None, "", "a "),
        thinking=(LEFT_OUT, "", "hm "),
        tool_calls=(LEFT_OUT, [call]),
    )
    for message, rest in itertools.product([*messages], [*vary(model=(LEFT_OUT, "m"), done=(LEFT_OUT, False, True))]):
        yield ollama.ChatResponse(message=ollama.Message(**message), **rest)


def make_ollama_completion() -> Iterator[object]:
    import ollama

    texts = {"response": ("", "a "), "thinking": (LEFT_OUT, "", "hm ")}
    for piece in vary(model=(LEFT_OUT, "m"), done=(LEFT_OUT, False, True), **texts):
        yield ollama.GenerateResponse(**piece)


def make_gemini_stream() -> Iterator[object]:
    from google.genai import types

    parts: list[Any] = [
        [],
        [{"text": "a "}],
        [{"text": ""}],
        [{"text": "hm ", "thought": True}],
        [{"text": "b "}, {"text": "c "}],
        [{"function_call": {"name": "f", "args": {}}}],
    ]
    counts = (LEFT_OUT, None, {"prompt_token_count": 3}, {"prompt_token_count": 0, "candidates_token_count": 7})
    told = [*vary(response_id=(LEFT_OUT, "r"), model_version=(LEFT_OUT, "m"), usage_metadata=counts)]
    for some, index, reason in itertools.product(parts, (None, 0, 1), (None, "STOP")):
        candidate = {"content": {"role": "model", "parts": some}, "index": index, "finish_reason": reason}
        for rest in told:
            yield types.GenerateContentResponse.model_validate({"candidates": [candidate], **rest})
    for candidates in (None, [], [{}], [candidate, candidate]):
        yield types.GenerateContentResponse.model_validate({"candidates": candidates, "response_id": "r"})


def make_litellm_stream() -> Iterator[object]:
    from litellm.types.utils import Delta, ModelResponseStream, StreamingChoices, Usage

    thoughts: Any = {"reasoning_content": (LEFT_OUT, "hm "), "provider_specific_fields": (LEFT_OUT, {"a": 1})}
    deltas = vary(content=(LEFT_OUT, None, "", "a ", 5), tool_calls=(LEFT_OUT, [CALL]), **thoughts)
    for number, delta in enumerate(deltas):
        for rest in vary(finish_reason=(None, "stop"), logprobs=(LEFT_OUT, {"content": []}), more=(LEFT_OUT, 1)):
            choice = StreamingChoices(index=number % 2, delta=Delta(**delta), **rest)
            for told in vary(usage=(LEFT_OUT, None, Usage(**USAGE)), service_tier=(LEFT_OUT, "default")):
                yield ModelResponseStream(id="1", model="m", choices=[choice], **told)
                yield ModelResponseStream(id="1", model="m", choices=[choice, choice], **told)


OPENAI = "mlspan.integrations.openai.chat"
LITELLM = "mlspan.integrations.litellm.calls"
MISTRAL, OLLAMA, GEMINI = (f"mlspan.integrations.{name}" for name in ("mistralai", "ollama", "google_genai.answers"))
ANTHROPIC = "mlspan.hooks.anthropic_answers"
SHORTER = f"{OPENAI}:append_text_chunk"
READINGS: Mapping[str, Reading] = {
    "openai": Reading("openai", (SHORTER,), f"{OPENAI}:observe_chat", make_openai_stream),
    "plain": Reading("openai", (SHORTER,), f"{OPENAI}:observe_chat", make_plain_stream),
    "mistralai": Reading(
        "mistralai.client",
        (f"{MISTRAL}:append_text_chunk", SHORTER),
        f"{MISTRAL}:_observe_chunk_event",
        make_mistral_stream,
    ),
    "anthropic": Reading(
        "anthropic", (f"{ANTHROPIC}:_append_text_delta",), f"{ANTHROPIC}:EventReader", make_anthropic_stream
    ),
    "ollama": Reading("ollama", (f"{OLLAMA}:_append_text_piece",), f"{OLLAMA}:_observe_chat", make_ollama_stream),
    "ollama-completion": Reading(
        "ollama", (f"{OLLAMA}:_append_text_piece",), f"{OLLAMA}:_observe_completion", make_ollama_completion
    ),
    "google_genai": Reading(
        "google.genai",
        (f"{GEMINI}:observe_answer",),
        f"{GEMINI}:observe_chunk",
        make_gemini_stream,
        longer=f"{GEMINI}:observe_answer",
    ),
}

LITELLM_READING: Final = Reading(  # for test_litellm.py, as an import of it starts threads
    "litellm",
    (f"{LITELLM}:_append_text_chunk", f"{LITELLM}:append_told_text", SHORTER),
    f"{LITELLM}:_observe_chat",
    make_litellm_stream,
)


def find_function(path: str) -> tuple[Any, str, Any]:
    """Return the module of a function, its name and itself."""
    module, _, name = path.partition(":")
    owner = importlib.import_module(module)
    return owner, name, getattr(owner, name)


def read_stream(reading: Reading, observer: str) -> tuple[tuple[object, ...], int]:
    """Return all that is recorded of the stream of *reading*, and how many chunks it has."""
    chat, observe, count = Chat(draft=OutputDraft()), find_function(observer)[2], 0
    if isinstance(observe, type):
        observe = observe().observe
    for chunk in reading.stream():
        observe(chat, chunk)
        count += 1
    chat.complete_fields()
    return (chat.build_start_attributes(), *chat.build_end_attributes()), count


@pytest.mark.parametrize("client", READINGS)
def test_both_ways_record_the_same(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All chunks there are, each among the others: with the shorter way, which takes some of them, and without it."""
    pytest.importorskip(READINGS[client].module)
    check_both_ways(READINGS[client], monkeypatch)


def check_both_ways(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    """Assert that the shorter way and the longer one record the same of the stream of *reading*."""
    called: list[bool] = []
    functions = [find_function(path) for path in reading.shorter]

    def note_calls(own: Any) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            result = own(*args)
            called.append(bool(result))
            return result

        return call

    for owner, name, own in functions:
        monkeypatch.setattr(owner, name, note_calls(own))
    shorter, count = read_stream(reading, reading.observer)
    if reading.longer:
        assert 0 < len(called) < count, "each chunk was read in the same way"
    else:
        assert {*called} == {True, False}
    for owner, name, own in functions:
        monkeypatch.setattr(owner, name, own if reading.longer else lambda *_: False)
    assert shorter == read_stream(reading, reading.longer or reading.observer)[0]
