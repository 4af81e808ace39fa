"""The suite of endings for Anthropic's and Google's clients, and for the frameworks that call Anthropic's.

``test_endings.py`` asks the same of the frameworks that call OpenAI's. Each ending checks what the span claims: its
reasons, text and tokens, which are those that the server has told until then; and the error, up to the root.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import pytest

pytest.importorskip("mlflow")

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode
from test_endings import is_installed, list_claims
from test_reconciliation_frameworks import LISTED

from mlspan import integrations
from mlspan.testing import Spans

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
Claims = tuple[tuple[str, ...] | None, str, tuple[int | None, int | None]]  # reasons, text, tokens


def anthropic_message(reason: str | None, text: str = "", usage: tuple[int, int] = (9, 3)) -> dict[str, Any]:
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "stop_sequence": None}
    blocks = [{"type": "text", "text": text}] if text else []
    counts = {"input_tokens": usage[0], "output_tokens": usage[1]}
    return {**head, "content": blocks, "stop_reason": reason, "usage": counts}


def anthropic_events(*pieces: str, reason: str | None = None) -> list[Any]:
    """Return the events of a stream; without a *reason* it has no end."""
    events: list[Any] = [
        {"type": "message_start", "message": anthropic_message(None, usage=(9, 1))},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ]
    for text in pieces:
        delta = {"type": "text_delta", "text": text}
        events.append({"type": "content_block_delta", "index": 0, "delta": delta})
    if reason is not None:
        ended = {"stop_reason": reason, "stop_sequence": None}
        events += [
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": ended, "usage": {"input_tokens": 9, "output_tokens": 3}},
            {"type": "message_stop"},
        ]
    return [(one["type"], one) for one in events]


def gemini_answer(reason: str | None, text: str = "", usage: tuple[int, int] = (9, 3), **more: Any) -> dict[str, Any]:
    counts = {"promptTokenCount": usage[0], "candidatesTokenCount": usage[1], "totalTokenCount": sum(usage)}
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    candidate |= {"finishReason": reason} if reason else {}
    head = {"modelVersion": "gemini-2.5-flash", "responseId": "r-1", "usageMetadata": counts}
    return {**head, **({"candidates": [candidate]} if text or reason else {}), **more}


class Server(NamedTuple):
    """What a provider's server sends for each ending.

    Attributes:
        error: the body of an HTTP error.
        begun: the events of a stream of these pieces that has no end.
        told: the tokens that such a stream has told.
        stopped: for each word of the provider's that stops an answer: whole, streamed, and what has to be claimed.
    """

    error: dict[str, Any]
    begun: Callable[..., list[Any]]
    told: tuple[int, int]
    stopped: dict[str, tuple[dict[str, Any], list[Any], Claims]]


def list_gemini_chunks(*pieces: str) -> list[Any]:
    return [gemini_answer(None, piece, (9, 1)) for piece in pieces]


_BLOCKED = gemini_answer(None, usage=(9, 0), promptFeedback={"blockReason": "PROHIBITED_CONTENT"})
del _BLOCKED["usageMetadata"]["candidatesTokenCount"]
SERVERS = {
    "anthropic": Server(
        {"type": "error", "error": {"type": "invalid_request_error", "message": "not today"}},
        anthropic_events,
        (9, 1),
        {
            name: (anthropic_message(name, "I"), anthropic_events("I", reason=name), ((told,), "I", (9, 3)))
            for name, told in {"refusal": "content_filter", "max_tokens": "length", "end_turn": "stop"}.items()
        },
    ),
    "gemini": Server(
        {"error": {"code": 400, "message": "not today", "status": "INVALID_ARGUMENT"}},
        list_gemini_chunks,
        (9, 1),
        {
            name: (gemini_answer(name, "I"), [gemini_answer(name, "I")], ((told,), "I", (9, 3)))
            for name, told in {"SAFETY": "content_filter", "MAX_TOKENS": "length", "STOP": "stop"}.items()
        }
        | {"blocked": (_BLOCKED, [_BLOCKED], (("content_filter",), "", (9, None)))},
    ),
}
ASKED = {name: one for name, one in LISTED.items() if one.server != "openai" and is_installed(one.package)}
STOPPED = [
    pytest.param(name, word, id=f"{name}-{word}") for name, one in ASKED.items() for word in SERVERS[one.server].stopped
]
Ask = Callable[[str, bool], Awaitable[Any]]


@pytest.fixture
async def ask(
    request: pytest.FixtureRequest, name: str, monkeypatch: pytest.MonkeyPatch, spans: Spans
) -> AsyncIterator[Ask]:
    """Ask by what *name* means, with its hooks on."""
    monkeypatch.setenv("ANTHROPIC_OPEN_TELEMETRY", "false")
    for hook in ASKED[name].hooks:
        getattr(integrations, hook).autolog()
    yield lambda url, streamed: ASKED[name].ask(None, url, streamed)
    for hook in ASKED[name].hooks:
        getattr(integrations, hook).autolog(disable=True)


def is_model_call(span: ReadableSpan) -> bool:
    return (span.attributes or {}).get("gen_ai.operation.name") in {"chat", "generate_content"}


def read_claims(spans: Spans) -> Claims:
    """Return what the span of the only call to the model claims; there is one, whoever else knows of the call."""
    (span,) = filter(is_model_call, spans.all)
    reasons, texts, *counts = list_claims(span)
    return reasons, "".join(texts), (counts[0], counts[1])


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("status", [400, 529])
@pytest.mark.parametrize("name", ASKED)
async def test_an_http_error(name: str, ask: Ask, scripted: Any, spans: Spans, status: int, streamed: bool) -> None:
    """Type and text of the client's exception, up to the root; no answer, no reason, no tokens."""
    scripted.reply(SERVERS[ASKED[name].server].error, status=status)
    with pytest.raises(Exception, match="not today") as raised:
        await ask(scripted.base_url, streamed)
    kind = f"{type(raised.value).__module__}.{type(raised.value).__qualname__}"
    assert read_claims(spans) == (None, "", (None, None))
    for span in (*filter(is_model_call, spans.all), spans.all[0]):
        assert span.status.status_code is StatusCode.ERROR
        assert (span.attributes or {})["error.type"] == kind
        assert "not today" in str(span.status.description)


@pytest.mark.parametrize("name", ASKED)
async def test_a_stream_that_is_cut(name: str, ask: Ask, scripted: Any, spans: Spans) -> None:
    """What had arrived is kept; it says ``error``, and not that the model has stopped.

    LangChain and AG2 tell the tokens of a stream at its end, so that only the client's own hook knows those so far.
    """
    server = SERVERS[ASKED[name].server]
    told = (None, None) if name in {"langchain anthropic", "ag2 anthropic"} else server.told
    scripted.stream(*server.begun("Hel", "lo"), drop=True)
    with pytest.raises(Exception):  # noqa: B017  # each client lets through another
        await ask(scripted.base_url, True)
    assert read_claims(spans) == (("error",), "Hello", told)
    assert {span.status.status_code for span in (*filter(is_model_call, spans.all), spans.all[0])} == {StatusCode.ERROR}


@pytest.mark.parametrize("name", ASKED)
async def test_a_cancellation(name: str, ask: Ask, scripted: Any, spans: Spans) -> None:
    """A stream whose reader is cancelled: no reason but ``error``, and the tokens that were told, if any were."""
    server = SERVERS[ASKED[name].server]
    scripted.stream(*server.begun("Hello", *["!"] * 200), delay=0.05)
    task = asyncio.create_task(ask(scripted.base_url, True))  # type: ignore[arg-type]  # they are coroutines
    for _ in range(300):
        await asyncio.sleep(0.02)
        if scripted.requests:
            break
    await asyncio.sleep(0.4)
    task.cancel()
    await asyncio.wait([task], timeout=20)
    for _ in range(100):
        if any(map(is_model_call, spans.all)):
            break
        await asyncio.sleep(0.05)
    reasons, _, counts = read_claims(spans)
    assert reasons in {None, ("error",)}
    assert counts in {server.told, (None, None)}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("name", "word"), STOPPED)
async def test_what_stops_an_answer(
    name: str, word: str, ask: Ask, scripted: Any, spans: Spans, streamed: bool
) -> None:
    """A refusal, a filter, a limit: the conventions' reason, what was said, the tokens billed, and no error."""
    whole, events, claims = SERVERS[ASKED[name].server].stopped[word]
    if streamed:
        scripted.stream(*events)
    else:
        scripted.reply(whole)
    await ask(scripted.base_url, streamed)
    assert read_claims(spans) == claims
    assert {span.status.status_code for span in spans.all} == {StatusCode.UNSET}
