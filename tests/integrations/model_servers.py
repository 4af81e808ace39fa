"""What the servers of three providers answer and bill, for the scenarios that every framework is asked for.

A scenario is how the server is prepared, what it bills for one request, whether a stream is asked for, and how many
requests there are at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from reconciled import Price


class Billed(NamedTuple):
    """Tokens of the input and of the output of one request, and at which price; None if nothing is billed."""

    tokens: tuple[int, int]
    price: Price | None


Scenario = tuple[Callable[[Any], None], Billed, bool, int]
NOTHING = Billed((0, 0), None)


def make_scenarios(
    whole: Any, stream: list[Any], refusal: Any, plain: Billed, whole_cached: Any, cached: Billed
) -> Any:
    """Return the scenarios that all servers have, by their names."""
    return {
        "whole": (lambda server: server.reply(whole), plain, False, 1),
        "three at once": (lambda server: server.reply(whole), plain, False, 3),
        "from the cache, with reasoning": (lambda server: server.reply(whole_cached), cached, False, 1),
        "streamed": (lambda server: server.stream(*stream), plain, True, 1),
        "refused": (lambda server: server.reply(refusal, status=400), NOTHING, False, 1),
        "refused, streamed": (lambda server: server.reply(refusal, status=400), NOTHING, True, 1),
    }


def _answer_openai(usage: Any, **top: Any) -> Any:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi."}}
    head = {"id": "c-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini"}
    return {**head, "choices": [choice], "usage": usage, **top}


def _chunk_openai(*choices: Any, **top: Any) -> Any:
    head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
    return {**head, "choices": [*choices], **top}


_OPENAI_USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
_OPENAI_CACHED = {
    "prompt_tokens": 1200,
    "completion_tokens": 50,
    "total_tokens": 1250,
    "prompt_tokens_details": {"cached_tokens": 800},
    "completion_tokens_details": {"reasoning_tokens": 30},
}


def _stream_openai_usages(*counts: int) -> list[Any]:
    """Return a stream each of whose chunks tells the tokens until then, as vLLM and others send it."""
    chunks = [
        _chunk_openai(
            {"index": 0, "delta": {"role": "assistant", "content": "Hi."}, "finish_reason": None},
            usage={"prompt_tokens": 12, "completion_tokens": count, "total_tokens": 12 + count},
        )
        for count in counts[:-1]
    ]
    end = _chunk_openai(
        {"index": 0, "delta": {}, "finish_reason": "stop"},
        usage={"prompt_tokens": 12, "completion_tokens": counts[-1], "total_tokens": 12 + counts[-1]},
    )
    return [*chunks, end, "[DONE]"]


_OPENAI = make_scenarios(
    _answer_openai(_OPENAI_USAGE),
    [
        _chunk_openai({"index": 0, "delta": {"role": "assistant", "content": "Hi."}, "finish_reason": None}),
        _chunk_openai({"index": 0, "delta": {}, "finish_reason": "stop"}),
        _chunk_openai(usage=_OPENAI_USAGE),
        "[DONE]",
    ],
    {"error": {"message": "not today", "code": "no", "type": "no"}},
    Billed((12, 5), Price(model="gpt-4o-mini")),
    _answer_openai(_OPENAI_CACHED),
    Billed((1200, 50), Price(model="gpt-4o-mini", cache_read=800)),
) | {
    "at another tier": (
        lambda server: server.reply(_answer_openai(_OPENAI_USAGE, service_tier="priority", model="gpt-5-mini")),
        Billed((12, 5), Price(model="gpt-5-mini", tier="priority")),
        False,
        1,
    ),
    "streamed, with the usage so far in every chunk": (
        lambda server: server.stream(*_stream_openai_usages(1, 3, 5)),
        Billed((12, 5), Price(model="gpt-4o-mini")),
        True,
        1,
    ),
    "streamed, with the usage told twice": (
        lambda server: server.stream(*_stream_openai_usages(5, 5)),
        Billed((12, 5), Price(model="gpt-4o-mini")),
        True,
        1,
    ),
    "failed in the stream": (
        lambda server: server.stream(
            _chunk_openai({"index": 0, "delta": {"role": "assistant", "content": "Hi."}, "finish_reason": None}),
            {"error": {"message": "It broke.", "code": "server_error", "type": "server_error"}},
        ),
        NOTHING,
        True,
        1,
    ),
}


def _answer_anthropic(usage: Any) -> Any:
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "stop_sequence": None}
    return {**head, "content": [{"type": "text", "text": "Hi."}], "stop_reason": "end_turn", "usage": usage}


def _stream_anthropic(told: Any, output_tokens: int) -> list[Any]:
    begun = {**_answer_anthropic({**told, "output_tokens": 1}), "content": [], "stop_reason": None}
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    events: list[Any] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi."}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": {**told, "output_tokens": output_tokens}},
        {"type": "message_stop"},
    ]
    return [(event["type"], event) for event in events]


_ANTHROPIC_CACHED = {  # its input tokens leave out what comes from the cache, or goes into it
    "input_tokens": 300,
    "cache_read_input_tokens": 800,
    "cache_creation_input_tokens": 100,
    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 0},
}
_SONNET = Price("anthropic", "claude-sonnet-4-5")
_CACHED_SONNET = Billed((1200, 50), _SONNET._replace(cache_read=800, cache_write=100))
_OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "come back later"}}
_ANTHROPIC = make_scenarios(
    _answer_anthropic({"input_tokens": 12, "output_tokens": 5}),
    _stream_anthropic({"input_tokens": 12}, 5),
    {"type": "error", "error": {"type": "invalid_request_error", "message": "not today"}},
    Billed((12, 5), _SONNET),
    _answer_anthropic({**_ANTHROPIC_CACHED, "output_tokens": 50}),
    _CACHED_SONNET,
) | {
    "from the cache, streamed": (
        lambda server: server.stream(*_stream_anthropic(_ANTHROPIC_CACHED, 50)),
        _CACHED_SONNET,
        True,
        1,
    ),
    "failed in the stream": (lambda server: server.stream(("error", _OVERLOADED)), NOTHING, True, 1),
}


def _answer_gemini(usage: Any) -> Any:
    candidate = {"content": {"role": "model", "parts": [{"text": "Hi."}]}, "finishReason": "STOP", "index": 0}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-2.5-flash", "responseId": "r-1"}


_GEMINI_USAGE = {"promptTokenCount": 12, "candidatesTokenCount": 5, "totalTokenCount": 17}
_FLASH = Price("google", "gemini-2.5-flash")
_GEMINI = make_scenarios(
    _answer_gemini(_GEMINI_USAGE),
    [_answer_gemini({**_GEMINI_USAGE, "candidatesTokenCount": 1}), _answer_gemini(_GEMINI_USAGE)],
    {"error": {"code": 400, "message": "not today", "status": "INVALID_ARGUMENT"}},
    Billed((12, 5), _FLASH),
    _answer_gemini(
        {  # what was thought stands beside the answer
            "promptTokenCount": 1200,
            "cachedContentTokenCount": 800,
            "candidatesTokenCount": 20,
            "thoughtsTokenCount": 30,
            "totalTokenCount": 1250,
        }
    ),
    Billed((1200, 50), _FLASH._replace(cache_read=800)),
)

SERVERS: dict[str, dict[str, Scenario]] = {"openai": _OPENAI, "anthropic": _ANTHROPIC, "gemini": _GEMINI}
