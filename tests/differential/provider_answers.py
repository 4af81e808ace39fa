"""Answers of Anthropic's and of Google's API, by the name that a URL of the server of models has."""

from __future__ import annotations

from typing import Any, Final

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
}
