"""Anthropic's content blocks: citations beside their text, blocks that arrive mixed, and requests made of iterators."""

from __future__ import annotations

from collections import UserList, deque
from collections.abc import Iterator
from typing import Any

import pytest

anthropic = pytest.importorskip("anthropic", reason="in the nox sessions anthropic")

from test_anthropic import ANSWER, ASKED, OVERLOADED, block, stream_of, text

from mlspan import integrations
from mlspan.testing import Spans, content

SOURCE: Any = {"type": "char_location", "cited_text": "Grass is green.", "document_index": 0, "document_title": "G"}
SOURCE |= {"start_char_index": 0, "end_char_index": 15, "file_id": None}
CITED: Any = [
    {"type": "text", "text": "Well, "},
    {"type": "text", "text": "grass is green", "citations": [SOURCE]},
    {"type": "text", "text": ", "},
    {"type": "text", "text": "as I said."},
]


@pytest.fixture
def client(scripted: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("ANTHROPIC_OPEN_TELEMETRY", "false")
    integrations.anthropic.autolog(log_traces=True)
    with anthropic.Anthropic(base_url=scripted.base_url.removesuffix("/v1"), api_key="test", max_retries=0) as made:
        yield made
    integrations.anthropic.autolog(disable=True)


def list_parts(spans: Spans) -> list[tuple[str, Any, list[str]]]:
    """Return type, text and cited texts of each part of the answer."""
    (message,) = content(spans.one(), "gen_ai.output.messages")
    return [
        (part["type"], part.get("content"), [one["cited_text"] for one in part.get("annotations", [])])
        for part in message["parts"]
    ]


SAID = [("text", "Well, ", []), ("text", "grass is green", ["Grass is green."]), ("text", ", as I said.", [])]


def test_citations(client: Any, scripted: Any, spans: Spans) -> None:
    """A citation belongs to the block that it came with; blocks without one are one text."""
    scripted.reply({**ANSWER, "content": CITED})
    client.messages.create(**ASKED)
    assert list_parts(spans) == SAID


def test_streamed_citations(client: Any, scripted: Any, spans: Spans) -> None:
    """The same answer, streamed, is recorded as the same."""
    cited = block(
        1,
        {"type": "text", "text": "", "citations": []},
        {"type": "text_delta", "text": "grass "},
        {"type": "citations_delta", "citation": SOURCE},
        {"type": "text_delta", "text": "is green"},
    )
    scripted.stream(*stream_of(text("Well, "), cited, text(", ", index=2), text("as I ", "said.", index=3)))
    list(client.messages.create(stream=True, **ASKED))
    assert list_parts(spans) == SAID


def test_blocks_that_arrive_mixed(client: Any, scripted: Any, spans: Spans) -> None:
    """Pieces belong to the block of their index, and blocks stand in the order in which they began."""
    begun: list[Any] = [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "text", "text": ""},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}},
        {"type": "text", "text": ""},
    ]
    events = [{"type": "content_block_start", "index": at, "content_block": one} for at, one in enumerate(begun)]
    pieces: list[tuple[int, Any]] = [
        (1, {"type": "text_delta", "text": "A"}),
        (3, {"type": "text_delta", "text": "C"}),
        (0, {"type": "thinking_delta", "thinking": "hm"}),
        (2, {"type": "input_json_delta", "partial_json": '{"a":'}),
        (1, {"type": "text_delta", "text": "B"}),
        (2, {"type": "input_json_delta", "partial_json": "1}"}),
        (3, {"type": "text_delta", "text": "D"}),
    ]
    deltas = [{"type": "content_block_delta", "index": index, "delta": delta} for index, delta in pieces]
    ends = [{"type": "content_block_stop", "index": index} for index in range(4)]
    scripted.stream(*stream_of([*events, *deltas, *ends]))
    list(client.messages.create(stream=True, **ASKED))
    assert [(kind, said) for kind, said, _ in list_parts(spans)] == [
        ("reasoning", "hm"),
        ("text", "AB"),
        ("tool_call", None),
        ("text", "CD"),
    ]


def test_a_stream_that_fails_keeps_its_blocks(client: Any, scripted: Any, spans: Spans) -> None:
    events = stream_of(text("Hel", "lo"))[:4]
    scripted.stream(*events, ("error", OVERLOADED))
    with pytest.raises(anthropic.APIStatusError):
        list(client.messages.create(stream=True, **ASKED))
    assert list_parts(spans) == [("text", "Hello", [])]


@pytest.mark.parametrize("fails", [False, True])
def test_messages_from_a_generator(client: Any, scripted: Any, spans: Spans, fails: bool) -> None:
    """The client reads it, once and when it would have; what it has read is recorded, also if the request fails."""
    read: list[str] = []

    def generate() -> Iterator[Any]:
        for said in ("a", "b"):
            read.append(said)
            yield {"role": "user", "content": said}

    if fails:
        scripted.reply({"type": "error", "error": {"type": "x", "message": "no"}}, status=400)
    else:
        scripted.reply(ANSWER)
    system: Any = ({"type": "text", "text": one} for one in ("be ", "brief"))
    try:
        client.messages.create(**{**ASKED, "messages": generate()}, system=system)
    except anthropic.BadRequestError:
        assert fails
    assert read == ["a", "b"]
    (_, body), *_ = scripted.requests
    assert [one["content"] for one in body["messages"]] == ["a", "b"]
    asked = content(spans.one(), "gen_ai.input.messages")
    assert [part["content"] for message in asked for part in message["parts"]] == ["a", "b"]
    assert [part["content"] for part in content(spans.one(), "gen_ai.system_instructions")] == ["be ", "brief"]


def test_a_generator_that_fails(client: Any, scripted: Any, spans: Spans) -> None:
    """Its exception reaches the caller as without us, and what it had yielded is recorded."""

    def generate() -> Iterator[Any]:
        yield {"role": "user", "content": "a"}
        raise LookupError("no more")

    with pytest.raises(Exception, match="no more"):
        client.messages.create(**{**ASKED, "messages": generate()})
    assert scripted.requests == []
    assert all(span.status.status_code.name == "ERROR" for span in spans.all)


@pytest.mark.parametrize("make", [tuple, deque, UserList, iter, lambda found: dict(enumerate(found)).values()])
def test_messages_of_any_iterable(client: Any, scripted: Any, spans: Spans, make: Any) -> None:
    """Whatever the client takes is recorded: messages, and the blocks of one, which may be read only once."""
    scripted.reply(ANSWER)
    blocks: Any = make([{"type": "text", "text": "b"}, {"type": "text", "text": "c"}])
    asked = [{"role": "user", "content": "a"}, {"role": "user", "content": blocks}]
    client.messages.create(**{**ASKED, "messages": make(asked)})
    (_, body), *_ = scripted.requests
    assert [one["text"] for one in body["messages"][1]["content"]] == ["b", "c"]
    assert asked[1]["content"] is blocks
    said = content(spans.one(), "gen_ai.input.messages")
    assert [part["content"] for message in said for part in message["parts"]] == ["a", "b", "c"]
    assert [message["role"] for message in said] == ["user", "user"]


def test_blocks_of_a_generator_in_a_list(client: Any, scripted: Any, spans: Spans) -> None:
    """A list of messages keeps its other messages as they are."""
    scripted.reply(ANSWER)
    blocks: Any = ({"type": "text", "text": one} for one in ("b", "c"))
    client.messages.create(**{**ASKED, "messages": [*ASKED["messages"], {"role": "user", "content": blocks}]})
    said = content(spans.one(), "gen_ai.input.messages")
    assert [part["content"] for message in said for part in message["parts"]] == ["a greeting", "b", "c"]
