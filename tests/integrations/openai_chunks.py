"""A streamed answer of OpenAI's chat completions, chunk by chunk."""

from __future__ import annotations

from typing import Any

USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}


def chunk(text: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


WHOLE = [chunk("One "), chunk("two."), chunk(finish="stop"), chunk(usage=USAGE) | {"choices": []}, "[DONE]"]
