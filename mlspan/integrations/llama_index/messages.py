"""Readers of LlamaIndex's messages and their blocks, which return message parts of the conventions."""

from __future__ import annotations

import base64
from typing import Any, Final

from ..._shape import dig, get, items
from ...tracing.operations.content import to_json
from ...tracing.operations.messages import Message, Part, media, tool_call, tool_call_response

_ROLES: Final = {"chatbot": "assistant", "function": "tool", "model": "assistant"}


def message(raw: Any) -> Message:
    """Read a ChatMessage, or the text of a prompt."""
    role = get(raw, "role")
    named = str(getattr(role, "value", role) or "user")
    known = _ROLES.get(named, named)
    if known == "tool":
        call_id = dig(raw, "additional_kwargs.tool_call_id", str)
        return {"role": "tool", "parts": [tool_call_response(dig(raw, "content", str) or "", call_id)]}
    return {"role": known, "parts": [{"type": "text", "content": raw}] if isinstance(raw, str) else parts(raw)}


def parts(raw: Any) -> list[Part]:
    """Read the parts of a ChatMessage.

    Tool calls are read from its blocks, and from ``additional_kwargs``, where older integration packages put them.
    """
    found = [one for block in items(raw, "blocks") if (one := _part(block)) is not None]
    called = {one.get("id") for one in found if one["type"] == "tool_call"}
    for call in items(raw, "additional_kwargs.tool_calls"):
        function = get(call, "function") or call
        id = dig(call, "id", str) or dig(call, "call_id", str)
        if id not in called and (name := dig(function, "name", str)):
            arguments = get(function, "arguments") or get(call, "input")
            found.append(tool_call(name, arguments, id))
    return found


def _part(block: Any) -> Part | None:
    """Read a block; None for one that is empty or marks a point for the cache."""
    kind = dig(block, "block_type", str)
    if kind == "text":
        return {"type": "text", "content": text} if (text := dig(block, "text", str)) else None
    if kind == "thinking":
        return {"type": "reasoning", "content": text} if (text := dig(block, "content", str)) else None
    if kind == "tool_call":
        return tool_call(dig(block, "tool_name", str) or "", get(block, "tool_kwargs"), dig(block, "tool_call_id", str))
    if kind in _MEDIA:
        return _media(kind, block)
    return None if kind == "cache" else {"type": kind or "unknown", "content": block}


_MEDIA: Final = {"image": "image", "audio": "audio", "video": "video", "document": "data"}  # type -> field of the bytes


def _media(kind: str, block: Any) -> Part:
    """Read a block of media: its bytes in base64, its URL or its path."""
    mime = dig(block, f"{kind}_mimetype", str)
    data = get(block, _MEDIA[kind])
    if isinstance(data, bytes):  # base64 already, unless it is a document that was read from a file
        text = data.decode("ascii", "ignore") if data.isascii() else base64.b64encode(data).decode()
        whole: Part = {"type": "blob", "modality": kind, "content": text}
        return {**whole, "mime_type": mime} if mime else whole  # type: ignore[return-value]  # mypy: of a blob
    if url := get(block, "url"):
        return media(kind, str(url))
    return {"type": "uri", "modality": kind, "uri": f"file:{get(block, 'path')}"}


def said(value: Any) -> dict[str, Any]:
    """Return a message as OpenAI writes it, which viewers know how to show."""
    told = message(value)
    texts = [str(one.get("content")) for one in told["parts"] if one["type"] == "text"]
    shown: dict[str, Any] = {"role": told["role"], "content": "\n".join(texts)}
    if told["role"] == "tool":
        one: Any = told["parts"][0]
        shown |= {"content": one["response"], "tool_call_id": one.get("id")}
    if calls := [_called(one) for one in told["parts"] if one["type"] == "tool_call"]:
        shown["tool_calls"] = calls
    return shown


def _called(call: Any) -> dict[str, Any]:
    """Return a tool call as OpenAI writes it; *call* is a message part."""
    function = {"name": call["name"], "arguments": to_json(call.get("arguments") or {})}
    return {"id": call.get("id") or "", "type": "function", "function": function}
