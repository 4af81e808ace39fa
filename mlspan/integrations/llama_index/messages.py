"""Readers of LlamaIndex's messages and their blocks, which return message parts of the conventions."""

from __future__ import annotations

import base64
from typing import Any, Final

from ..._shape import get_field, get_list, get_nested
from ...tracing.operations.content import to_json
from ...tracing.operations.messages import Message, Part, make_media_part, make_tool_call, make_tool_call_response

_ROLES: Final = {"chatbot": "assistant", "function": "tool", "model": "assistant"}


def read_chat_message(raw: object) -> Message:
    """Read a ChatMessage, or the text of a prompt."""
    role = get_field(raw, "role")
    named = str(getattr(role, "value", role) or "user")
    known = _ROLES.get(named, named)
    if known == "tool":
        call_id = get_nested(raw, "additional_kwargs.tool_call_id", str)
        return {"role": "tool", "parts": [make_tool_call_response(get_nested(raw, "content", str) or "", call_id)]}
    return {
        "role": known,
        "parts": [{"type": "text", "content": raw}] if isinstance(raw, str) else read_block_parts(raw),
    }


def read_block_parts(raw: object) -> list[Part]:
    """Read the parts of a ChatMessage.

    Tool calls are read from its blocks, and from ``additional_kwargs``, where older integration packages put them.
    """
    found = [one for block in get_list(raw, "blocks") if (one := _read_content_block(block)) is not None]
    called = {one.get("id") for one in found if one["type"] == "tool_call"}
    for call in get_list(raw, "additional_kwargs.tool_calls"):
        function = get_field(call, "function") or call
        id = get_nested(call, "id", str) or get_nested(call, "call_id", str)
        if id not in called and (name := get_nested(function, "name", str)):
            arguments = get_field(function, "arguments") or get_field(call, "input")
            found.append(make_tool_call(name, arguments, id))
    return found


def _read_content_block(block: object) -> Part | None:
    """Read a block; None for one that is empty or marks a point for the cache."""
    kind = get_nested(block, "block_type", str)
    if kind == "text":
        return {"type": "text", "content": text} if (text := get_nested(block, "text", str)) else None
    if kind == "thinking":
        return {"type": "reasoning", "content": text} if (text := get_nested(block, "content", str)) else None
    if kind == "tool_call":
        return make_tool_call(
            get_nested(block, "tool_name", str) or "",
            get_field(block, "tool_kwargs"),
            get_nested(block, "tool_call_id", str),
        )
    if kind in _MEDIA_FIELDS:
        return _read_media_block(kind, block)
    return None if kind == "cache" else {"type": kind or "unknown", "content": block}


_MEDIA_FIELDS: Final = {
    "image": "image",
    "audio": "audio",
    "video": "video",
    "document": "data",
}  # type -> field of the bytes


def _read_media_block(kind: str, block: object) -> Part:
    """Read a block of media: its bytes in base64, its URL or its path."""
    mime = get_nested(block, f"{kind}_mimetype", str)
    data = get_field(block, _MEDIA_FIELDS[kind])
    if isinstance(data, bytes):  # base64 already, unless it is a document that was read from a file
        text = data.decode("ascii", "ignore") if data.isascii() else base64.b64encode(data).decode()
        whole: Part = {"type": "blob", "modality": kind, "content": text}
        return {**whole, "mime_type": mime} if mime else whole  # type: ignore[return-value]  # mypy: of a blob
    if url := get_field(block, "url"):
        return make_media_part(kind, str(url))
    return {"type": "uri", "modality": kind, "uri": f"file:{get_field(block, 'path')}"}


def format_chat_message(value: object) -> dict[str, object]:
    """Return a message as OpenAI writes it, which viewers know how to show."""
    message = read_chat_message(value)
    texts = [str(one.get("content")) for one in message["parts"] if one["type"] == "text"]
    shown: dict[str, object] = {"role": message["role"], "content": "\n".join(texts)}
    if message["role"] == "tool":
        one: Any = message["parts"][0]
        shown |= {"content": one["response"], "tool_call_id": one.get("id")}
    if calls := [_format_block_tool_call(one) for one in message["parts"] if one["type"] == "tool_call"]:
        shown["tool_calls"] = calls
    return shown


def _format_block_tool_call(call: Any) -> dict[str, object]:
    """Return a tool call as OpenAI writes it; *call* is a message part."""
    function = {"name": call["name"], "arguments": to_json(call.get("arguments") or {})}
    return {"id": call.get("id") or "", "type": "function", "function": function}
