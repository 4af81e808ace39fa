"""Answers of the providers' own APIs, by the name that a URL of the server of models has."""

from __future__ import annotations

import json
from typing import Any, Final

from servers.aws_events import CONTENT_TYPE, encode_event

_HEAD: Final = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}
_USAGE: Final = {"input_tokens": 12, "output_tokens": 5}
_TOOL: Final = {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"city": "Paris"}}


def _message(*content: dict[str, Any], stop: str = "end_turn") -> dict[str, Any]:
    return {**_HEAD, "content": [*content], "stop_reason": stop, "stop_sequence": None, "usage": _USAGE}


def _block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


_START: Final = {"type": "message_start", "message": {**_message(), "stop_reason": None, "content": []}}
_WORDS: Final = [{"type": "text_delta", "text": text} for text in ("One ", "two.")]
_TEXT: Final = _block(0, {"type": "text", "text": ""}, *_WORDS)
_STOP: Final = {"stop_reason": "end_turn", "stop_sequence": None}
_END: Final = [
    {"type": "message_delta", "delta": _STOP, "usage": {"output_tokens": 5}},
    {"type": "message_stop"},
]
_ASK: Final = _block(
    0,
    {**_TOOL, "input": {}},
    {"type": "input_json_delta", "partial_json": '{"city": '},
    {"type": "input_json_delta", "partial_json": '"Paris"}'},
)
_OVERLOADED: Final = {"type": "error", "error": {"type": "overloaded_error", "message": "come back later"}}


def _gemini(*parts: dict[str, Any], reason: str | None = "STOP") -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": [*parts]}, "index": 0}
    usage = {"promptTokenCount": 12, "candidatesTokenCount": 5, "totalTokenCount": 17}
    found = candidate | ({"finishReason": reason} if reason else {})
    return {"candidates": [found], "modelVersion": "m-1", "responseId": "r-1", "usageMetadata": usage}


_LOOK_UP: Final = {"functionCall": {"name": "look_up", "args": {"city": "Paris"}}}
_SAID: Final = [_gemini({"text": "One "}, reason=None), _gemini({"text": "two."})]

_BILLED: Final = {"billed_units": {"input_tokens": 12, "output_tokens": 5}}


def _cohere(*parts: dict[str, Any], **said: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": [*parts], **said}
    return {"id": "c-1", "finish_reason": "COMPLETE", "message": message, "usage": _BILLED}


def _cohere_event(kind: str, **delta: Any) -> dict[str, Any]:
    return {"type": kind, "index": 0, "delta": delta}


_COHERE_SAID: Final = [_cohere_event("content-delta", message={"content": {"text": text}}) for text in ("One ", "two.")]
_COHERE_END: Final = _cohere_event("message-end", finish_reason="COMPLETE", usage=_BILLED)
_FUNCTION: Final = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}


def _ollama(text: str = "", **more: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": text, **more.pop("said", {})}
    return {"model": "m", "created_at": "2026-01-01T00:00:00Z", "done": False, "message": said, **more}


_OLLAMA_END: Final = {"done": True, "done_reason": "stop", "prompt_eval_count": 12, "eval_count": 5}
_OLLAMA_SAID: Final = [_ollama("One "), _ollama("two.")]
_LINES: Final = "application/x-ndjson"


def _lines(*pieces: dict[str, Any] | str | None) -> tuple[str, list[bytes | None]]:
    """Return a stream of JSON, a line each; None cuts it off."""
    texts = [one if isinstance(one, str) or one is None else json.dumps(one) for one in pieces]
    return _LINES, [None if one is None else f"{one}\n".encode() for one in texts]


_CONVERSE_TOLD: Final = {
    "usage": {"inputTokens": 12, "outputTokens": 5, "totalTokens": 17},
    "metrics": {"latencyMs": 9},
}


def _converse(*blocks: dict[str, Any], reason: str = "end_turn") -> dict[str, Any]:
    return {"output": {"message": {"role": "assistant", "content": [*blocks]}}, "stopReason": reason, **_CONVERSE_TOLD}


def _aws(*events: dict[str, Any] | None) -> tuple[str, list[bytes | None]]:
    return CONTENT_TYPE, [None if event is None else encode_event(event) for event in events]


_CONVERSE_SAID: Final[list[dict[str, Any]]] = [
    {"messageStart": {"role": "assistant"}},
    *({"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": text}}} for text in ("One ", "two.")),
    {"contentBlockStop": {"contentBlockIndex": 0}},
]
_CONVERSE_END: Final[list[dict[str, Any]]] = [{"messageStop": {"stopReason": "end_turn"}}, {"metadata": _CONVERSE_TOLD}]

ANSWERS: Final[dict[str, tuple[int, Any]]] = {
    "claude": (200, _message({"type": "text", "text": "Hi."})),
    "claude-tool": (200, _message(_TOOL, stop="tool_use")),
    "claude-thinking": (
        200,
        _message({"type": "thinking", "thinking": "so", "signature": "s"}, {"type": "text", "text": "Hi."}),
    ),
    "claude-city": (200, _message({"type": "text", "text": '{"city": "Paris"}'})),
    "claude-count": (200, {"input_tokens": 12}),
    "claude-models": (200, {"data": [], "has_more": False, "first_id": None, "last_id": None}),
    "claude-overloaded": (529, _OVERLOADED),
    "gemini": (200, _gemini({"text": "Hi."})),
    "gemini-tool": (200, _gemini(_LOOK_UP)),
    "gemini-city": (200, _gemini({"text": '{"city": "Paris"}'})),
    "gemini-blocked": (200, {"promptFeedback": {"blockReason": "SAFETY"}, "modelVersion": "m-1"}),
    "gemini-count": (200, {"totalTokens": 12}),
    "gemini-vectors": (200, {"embeddings": [{"values": [0.5, 1.0]}]}),
    "gemini-models": (200, {"models": [{"name": "models/m", "displayName": "M"}]}),
    "cohere": (200, _cohere({"type": "text", "text": "Hi."})),
    "cohere-tool": (200, _cohere(tool_calls=[_FUNCTION])),
    "cohere-vectors": (200, {"id": "e-1", "embeddings": {"float": [[0.5, 1.0]]}, "texts": ["hello"], "meta": _BILLED}),
    "cohere-ranks": (200, {"id": "r-1", "results": [{"index": 0, "relevance_score": 0.5}]}),
    "ollama": (200, _ollama("Hi.", **_OLLAMA_END)),
    "ollama-tool": (200, _ollama(said={"tool_calls": [{"function": {"name": "look_up", "arguments": {}}}]}, done=True)),
    "ollama-vectors": (200, {"model": "m", "embeddings": [[0.5, 1.0]], "prompt_eval_count": 2}),
    "converse": (200, _converse({"text": "Hi."})),
    "converse-tool": (
        200,
        _converse({"toolUse": {"toolUseId": "t-1", "name": "look_up", "input": {}}}, reason="tool_use"),
    ),
    "invoke": (200, _message({"type": "text", "text": "Hi."})),
    "gemini-refused": (400, {"error": {"code": 400, "message": "no such model", "status": "INVALID_ARGUMENT"}}),
}
EVENTS: Final[dict[str, list[Any]]] = {
    "claude-stream": [_START, *_TEXT, *_END],
    "claude-stream-tool": [_START, *_ASK, *_END],
    "claude-stream-error": [_START, *_TEXT[:2], _OVERLOADED],
    "claude-stream-cut": [_START, *_TEXT[:2], None],
    "claude-stream-unended": [_START, *_TEXT],
    "claude-stream-broken": [_START, '{"type": '],
    "claude-stream-unknown": [_START, {"type": "something_new"}, *_TEXT, *_END],
    "gemini-stream": _SAID,
    "gemini-stream-tool": [_gemini(_LOOK_UP)],
    "gemini-stream-cut": [_SAID[0], None],
    "gemini-stream-broken": [_SAID[0], '{"candidates": '],
    "gemini-stream-nothing": [],
    "cohere-stream": [*_COHERE_SAID, _COHERE_END],
    "cohere-stream-cut": [_COHERE_SAID[0], None],
    "cohere-stream-unended": _COHERE_SAID,
    "cohere-stream-broken": [_COHERE_SAID[0], '{"type": '],
}
PIECES: Final[dict[str, tuple[str, list[bytes | None]]]] = {  # streams of other kinds: their content type, their pieces
    "ollama-stream": _lines(*_OLLAMA_SAID, _ollama(**_OLLAMA_END)),
    "ollama-stream-cut": _lines(_OLLAMA_SAID[0], None),
    "ollama-stream-unended": _lines(*_OLLAMA_SAID),
    "ollama-stream-broken": _lines(_OLLAMA_SAID[0], '{"model": '),
    "ollama-stream-error": _lines(_OLLAMA_SAID[0], {"error": "overloaded"}),
    "converse-stream": _aws(*_CONVERSE_SAID, *_CONVERSE_END),
    "converse-stream-cut": _aws(*_CONVERSE_SAID[:2], None),
    "converse-stream-unended": _aws(*_CONVERSE_SAID),
    "converse-stream-error": _aws(*_CONVERSE_SAID[:2], {"throttlingException": {"message": "overloaded"}}),
}
