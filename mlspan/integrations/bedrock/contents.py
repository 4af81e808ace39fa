"""Content blocks of Converse, in requests and in answers, as message parts of the conventions.

A block is a dict whose only key is its type. The messages of Amazon's own models are made of the same blocks.
"""

from __future__ import annotations

import base64
from typing import Any, Final

from ..._shape import get_field, get_nested, get_text, list_items
from ...tracing.operations.messages import (
    BlobPart,
    Message,
    Part,
    ToolDefinition,
    UriPart,
    make_server_tool_call,
    make_server_tool_response,
    make_tool_call,
    make_tool_call_response,
)

_MOST_BYTES: Final = 1024 * 1024  # of a picture or a document: a larger one is recorded by its size alone
_MEDIA: Final = ("image", "document", "video", "audio")
_APPLICATION: Final = frozenset({"pdf", "json"})  # formats of documents whose mime type is application/...


def read_message(raw: object) -> Message:
    """Read a message. Results of tools make it a message of the tool."""
    message = raw if isinstance(raw, dict) else {}
    parts = read_blocks(message.get("content"))
    if parts and all(part["type"] == "tool_call_response" for part in parts):
        return {"role": "tool", "parts": parts}
    return {"role": get_text(message, "role") or "user", "parts": parts}


def read_blocks(raw: object) -> list[Part]:
    """Read the content of a message, or a system prompt; a mark of the cache is no content."""
    if isinstance(raw, str):
        return [{"type": "text", "content": raw}]
    return [read_block(one) for one in list_items(raw) if not isinstance(one, dict) or "cachePoint" not in one]


def read_block(raw: object) -> Part:
    """Read a block. One of an unknown type keeps its type and what it holds."""
    if not isinstance(raw, dict) or not raw:
        return {"type": "unknown", "content": make_plain(raw)}
    kind, value = next(iter(raw.items()))
    if kind == "text" and isinstance(value, str):
        return {"type": "text", "content": value}
    if isinstance(value, dict) and (read := _READERS.get(kind)) is not None:
        return read(value)
    if kind in _MEDIA and (media := _read_media(kind, value)) is not None:
        return media
    return {"type": str(kind), "content": make_plain(value)}


def read_reasoning(value: object) -> str | None:
    """Return the text of a reasoning block, whole or a piece of one; None if it is hidden."""
    return get_nested(value, "reasoningText.text", str) or get_nested(value, "text", str)


def make_plain(value: Any) -> Any:
    """Return *value* with bytes as base64, and large ones as their size: JSON has no bytes."""
    if isinstance(value, (bytes, bytearray)):
        return encode_bytes(value)
    if isinstance(value, dict):
        return {str(name): make_plain(one) for name, one in value.items()}
    return [make_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def encode_bytes(data: object) -> str:
    """Return bytes in base64; their size, if they are many; nothing for what is no bytes, such as an open file."""
    if isinstance(data, str):  # of a native request, which has base64 already
        return data if len(data) <= _MOST_BYTES * 4 // 3 else f"[{len(data) * 3 // 4} bytes]"
    if not isinstance(data, (bytes, bytearray)):
        return ""
    return base64.b64encode(data).decode() if len(data) <= _MOST_BYTES else f"[{len(data)} bytes]"


def _read_call(value: dict[str, object]) -> Part:
    name, id = get_text(value, "name") or "", get_text(value, "toolUseId")
    if value.get("type") == "server_tool_use":
        return make_server_tool_call(name, {"arguments": make_plain(value.get("input"))}, id)
    return make_tool_call(name, make_plain(value.get("input")), id)


def _read_tool_content(value: dict[str, object]) -> Part:
    """Read the result of a tool: its text or its JSON if it is one alone, else its parts; a failure is marked."""
    parts: list[Any] = [
        make_plain(one["json"]) if isinstance(one, dict) and "json" in one else read_block(one)
        for one in list_items(value.get("content"))
    ]
    texts: list[Any] = [
        part.get("content") if isinstance(part, dict) and part.get("type") == "text" else None for part in parts
    ]
    found = "".join(texts) if all(isinstance(text, str) for text in texts) else parts[0] if len(parts) == 1 else parts
    if value.get("status") == "error":
        found = {"error": found}
    id = get_text(value, "toolUseId")
    if kind := get_text(value, "type"):  # of a tool that Amazon runs
        return make_server_tool_response(kind.removesuffix("_tool_result"), {"content": found}, id)
    return make_tool_call_response(found, id)


def _read_media(kind: str, value: object) -> Part | None:
    """Read a picture, document, film or sound: bytes, a text, blocks, or an object in S3."""
    source, form = get_field(value, "source"), get_nested(value, "format", str)
    if isinstance(text := get_field(source, "text"), str):
        return {"type": "text", "content": text}
    if blocks := get_field(source, "content"):
        return {"type": kind, "content": read_blocks(blocks)}
    part: BlobPart | UriPart
    if uri := get_nested(source, "s3Location.uri", str):
        part = {"type": "uri", "modality": kind, "uri": uri}
    elif (data := get_field(source, "bytes")) is not None:
        part = {"type": "blob", "modality": kind, "content": encode_bytes(data)}
    else:
        return None
    if form:
        above = kind if kind != "document" else "application" if form in _APPLICATION else "text"
        part["mime_type"] = f"{above}/{form}"
    return part


def _read_reasoning_block(value: dict[str, object]) -> Part:
    if (thought := read_reasoning(value)) is not None:
        return {"type": "reasoning", "content": thought}
    return {"type": "redacted_reasoning", "content": make_plain(value.get("redactedContent"))}


def _read_cited(value: dict[str, object]) -> Part:
    texts = [get_nested(one, "text", str) or "" for one in list_items(value.get("content"))]
    found: list[Any] = [make_plain(one) for one in list_items(value.get("citations"))]
    return {"type": "text", "content": "".join(texts), "annotations": found}


def _read_guarded(value: dict[str, object]) -> Part:
    if (text := get_nested(value, "text.text", str)) is not None:
        return {"type": "text", "content": text}
    return _read_media("image", value.get("image")) or {"type": "guardContent", "content": make_plain(value)}


_READERS: Final = {  # type of a block -> reader of what it holds
    "toolUse": _read_call,
    "toolResult": _read_tool_content,
    "reasoningContent": _read_reasoning_block,
    "citationsContent": _read_cited,
    "guardContent": _read_guarded,
}


def read_tool_definitions(config: object) -> list[ToolDefinition] | None:
    """Read the tools of a request: the application's functions, and tools that Amazon runs."""
    found: list[ToolDefinition] = []
    for tool in list_items(get_field(config, "tools")):
        spec = get_field(tool, "toolSpec")
        if isinstance(spec, dict):
            defined: ToolDefinition = {"type": "function", "name": get_text(spec, "name") or ""}
            if description := get_text(spec, "description"):
                defined["description"] = description
            if (schema := get_field(spec.get("inputSchema"), "json")) is not None:
                defined["parameters"] = make_plain(schema)
            found.append(defined)
        elif name := get_nested(tool, "systemTool.name", str):
            found.append({"type": "system_tool", "name": name})
    return found or None
