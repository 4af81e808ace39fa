"""Content blocks of a message as parts of the conventions: LangChain's standard blocks, and single providers'."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from ..._guard import let_handler_through
from ..._shape import get_field, get_list, get_nested
from ...hooks.openai_format import read_openai_part
from ...tracing.operations.messages import (
    Part,
    add_mime_type,
    find_modality,
    make_media_part,
    make_server_tool_call,
    make_server_tool_response,
)

_TOOL_CALLS: Final = frozenset(  # the message lists them besides
    {"tool_use", "function_call", "tool_call", "tool_call_chunk", "invalid_tool_call", "input_json_delta"}
)


def read_content_blocks(message: object, content: Iterable[object]) -> list[Part]:
    """Read the blocks of a message's *content*, but for tool calls.

    What no reader here knows is read as LangChain itself translates it, where this version of it does.
    """
    blocks = [block for block in content if _is_told_here(block)]
    parts = [_read_content_block(block) for block in blocks]
    if None in parts and (standard := _translate_blocks(message)) is not None and len(standard) == len(blocks):
        parts = [part or _read_content_block(block) for part, block in zip(parts, standard, strict=True)]
    return [part or read_openai_part(block) for part, block in zip(parts, blocks, strict=True)]


def _is_told_here(block: object) -> bool:
    """Return whether a block says something that the message does not list besides, as it does tool calls."""
    kind = get_field(block, "type")
    return block != "" and kind not in _TOOL_CALLS and not (kind == "text" and get_field(block, "text") == "")


def _translate_blocks(message: object) -> list[object] | None:
    """Return a message's blocks in LangChain's standard form; None if it has none."""
    try:
        found = getattr(message, "content_blocks", None)
    except Exception as raised:  # noqa: BLE001  # its translators raise on what a provider has added since
        let_handler_through(raised)
        return None
    return [one for one in found if _is_told_here(one)] if isinstance(found, list) else None


def _read_content_block(block: object) -> Part | None:
    """Read one block; None if its type is unknown, or it has not what its type should have."""
    if isinstance(block, str):
        return {"type": "text", "content": block}
    if isinstance(block, dict) and block.get("type") is None:  # Bedrock's have no type, but their name as the only key
        name = next(iter(block), None)
        return {"type": "text", "content": block["text"]} if name == "text" and isinstance(block["text"], str) else None
    kind = get_nested(block, "type", str) or ""
    read = _READERS.get(kind)
    if read is None and kind.endswith("_tool_result"):  # Anthropic's, by tool
        read = _read_server_result
    return None if read is None else read(block)


def _read_text(block: object) -> Part | None:
    text = get_nested(block, "text", str)
    return None if text is None else {"type": "text", "content": text}


def _read_reasoning_block(block: object) -> Part:
    """Read reasoning of LangChain, Anthropic, Bedrock or the Responses API."""
    for path in ("thinking", "reasoning", "reasoning_content.text", "reasoning_content.reasoningText.text"):
        if thought := get_nested(block, path, str):
            return {"type": "reasoning", "content": thought}
    return {
        "type": "reasoning",
        "content": "\n".join(get_nested(one, "text", str) or "" for one in get_list(block, "summary")),
    }


def _read_redacted(block: object) -> Part:
    """Read reasoning that the provider has encrypted: that there was some, and how much."""
    return {"type": "redacted_thinking", "content": {"characters": len(get_nested(block, "data", str) or "")}}


def _read_media(block: object) -> Part | None:
    """Read a picture, sound, film or document of LangChain, Anthropic, Bedrock or Gemini."""
    kind = get_nested(block, "type", str) or ""
    inside = get_field(block, kind) if isinstance(get_field(block, kind), Mapping) else None  # Bedrock's {"image": {}}
    source = get_field(inside or block, "source") or inside or block
    mime_type = _find_mime_type(source, inside, block)
    modality = _MODALITIES.get(kind) or find_modality(mime_type)
    for name in ("url", "file_uri"):
        if url := get_nested(source, name, str):
            return add_mime_type(make_media_part(modality, url), mime_type)
    if file_id := get_nested(source, "file_id", str):
        return {"type": "file", "modality": modality, "file_id": file_id}
    raw = next((one for name in ("data", "base64", "bytes") if (one := get_field(source, name)) is not None), None)
    if get_field(source, "type") == "text" and isinstance(raw, str):  # Anthropic's document of plain text
        return {"type": "text", "content": raw}
    if isinstance(raw, (bytes, bytearray)):
        raw = base64.b64encode(raw).decode()
    if not isinstance(raw, str):
        return None
    return add_mime_type({"type": "blob", "modality": modality, "content": raw}, mime_type)


_MODALITIES: Final = {"image": "image", "audio": "audio", "video": "video", "file": "document", "document": "document"}


def _find_mime_type(*holders: object) -> str | None:
    """Return the mime type that one of *holders* tells, or has told by a format such as Bedrock's ``pdf``."""
    for holder in holders:
        for name in ("media_type", "mime_type", "mimeType"):
            if found := get_nested(holder, name, str):
                return found
    for holder in holders:
        if format := get_nested(holder, "format", str):
            return _MIME_TYPES.get(format)
    return None


_MIME_TYPES: Final = {
    "pdf": "application/pdf",
    "png": "image/png",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "txt": "text/plain",
    "csv": "text/csv",
    "html": "text/html",
    "md": "text/markdown",
}


def _read_plain_text(block: object) -> Part | None:
    """Read LangChain's block for a document of plain text."""
    text = get_nested(block, "text", str)
    return {"type": "text", "content": text} if text is not None else _read_media(block)


def _read_server_call(block: object) -> Part:
    """Read the call of a tool that the provider runs: Anthropic's, Gemini's code, or LangChain's standard one."""
    name = get_nested(block, "name", str) or get_nested(block, "type", str) or ""
    asked = next((one for key in ("input", "args", "code", "executable_code") if (one := get_field(block, key))), None)
    told = {} if asked is None else {"arguments": asked}
    return make_server_tool_call(name, told, get_nested(block, "id", str) or None)


def _read_server_result(block: object) -> Part:
    """Read the result of such a tool."""
    kind = (get_nested(block, "type", str) or "").removesuffix("_tool_result")
    given = next(
        (one for key in ("content", "output", "code_execution_result") if (one := get_field(block, key)) is not None),
        None,
    )
    id = get_nested(block, "tool_use_id", str) or get_nested(block, "tool_call_id", str)
    return make_server_tool_response(kind, {"output": given}, id or None)


_READERS: Final[Mapping[str, Callable[[object], Part | None]]] = {
    "text": _read_text,
    "thinking": _read_reasoning_block,
    "reasoning": _read_reasoning_block,
    "reasoning_content": _read_reasoning_block,
    "redacted_thinking": _read_redacted,
    "image": _read_media,
    "audio": _read_media,
    "video": _read_media,
    "file": _read_media,
    "media": _read_media,
    "document": _read_media,
    "text-plain": _read_plain_text,
    "server_tool_use": _read_server_call,
    "server_tool_call": _read_server_call,
    "executable_code": _read_server_call,
    "server_tool_result": _read_server_result,
    "code_execution_result": _read_server_result,
}
