"""A question to OpenAI's chat completions, its answer whole and chunk by chunk, and a refusal."""

from __future__ import annotations

from typing import Any

USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}

HELLO: Any = [{"role": "user", "content": "a greeting"}]
MESSAGE = {"role": "assistant", "content": "One two."}
ANSWER: Any = {
    "id": "c-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
    "usage": USAGE,
}
REFUSAL = {"error": {"message": "no such model", "type": "invalid_request_error"}}


def chunk(text: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


WHOLE = [chunk("One "), chunk("two."), chunk(finish="stop"), chunk(usage=USAGE) | {"choices": []}, "[DONE]"]
