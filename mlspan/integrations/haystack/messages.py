"""Haystack's messages, documents and tools in the form of the conventions."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from ..._shape import get_field, get_list, get_nested, list_items
from ...tracing.operations.content import to_plain_data
from ...tracing.operations.messages import (
    Message,
    Part,
    ToolDefinition,
    make_media_part,
    make_tool_call,
    make_tool_call_response,
)
from .._vectors.documents import Document, make_document

# Private names that some versions lack, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {"_content": "the parts of messages"}

_MOST_ITEMS: Final = 1000  # of a list that are read
_MAX_DEPTH: Final = 10
_VECTORS: Final = frozenset({"embedding", "query_embedding", "sparse_embedding", "query_sparse_embedding"})


def read_message(raw: object) -> Message:
    """Read a ChatMessage, or a text in place of one."""
    if isinstance(raw, str):
        return {"role": "user", "parts": [{"type": "text", "content": raw}]}
    role = get_nested(raw, "role.value", str) or get_nested(raw, "role", str) or "user"
    message: Message = {"role": role, "parts": read_parts(raw)}
    if name := get_nested(raw, "name", str):
        message["name"] = name
    return message


def read_messages(raw: object) -> list[Message]:
    """Read a list of ChatMessages, or a single text."""
    return [read_message(one) for one in ([raw] if isinstance(raw, str) else list_items(raw))]


def read_parts(raw: object) -> list[Part]:
    """Read the parts of a ChatMessage: texts, reasoning, tool calls, their results, pictures and files."""
    return [part for one in get_list(raw, "_content") if (part := _read_part(one)) is not None]


def _read_part(raw: object) -> Part | None:
    if (text := get_nested(raw, "text", str)) is not None:
        return {"type": "text", "content": text}
    if (thought := get_nested(raw, "reasoning_text", str)) is not None:
        return {"type": "reasoning", "content": thought}
    if (name := get_nested(raw, "tool_name", str)) is not None:
        return make_tool_call(name, to_plain_data(get_field(raw, "arguments")), get_nested(raw, "id", str))
    if (origin := get_field(raw, "origin")) is not None:
        return make_tool_call_response(_read_tool_output(get_field(raw, "result")), get_nested(origin, "id", str))
    for field, modality in (("base64_image", "image"), ("base64_data", "document")):
        if data := get_nested(raw, field, str):
            mime_type = get_nested(raw, "mime_type", str) or "application/octet-stream"
            return make_media_part(modality, f"data:{mime_type};base64,{data}")
    return None


def _read_tool_output(raw: object) -> object:
    """Read the result of a tool: a text, or parts."""
    return raw if isinstance(raw, str) else [_read_part(one) for one in list_items(raw)]


def read_question(messages: object) -> object:
    """Return the messages that an agent is asked with: the text of a single one, or each with its role."""
    found = list_items(messages)
    if len(found) == 1 and (text := get_nested(found[0], "text", str)) is not None:
        return text
    return [simplify(one) for one in found]


def read_last_message(message: object) -> object:
    """Return what the last message of an agent says: its text, or the result of a tool."""
    if (text := get_nested(message, "text", str)) is not None:
        return text
    if (result := get_field(get_field(message, "tool_call_result"), "result")) is not None:
        return _read_tool_output(result)
    return simplify(message)


def read_documents(raw: object) -> list[Document]:
    """Read the documents that a retriever has found; one without a score was not ranked, and has 0."""
    return [_read_document(one) for one in islice(list_items(raw), _MOST_ITEMS)]


def _read_document(raw: object) -> Document:
    return make_document(
        get_field(raw, "id"),
        score=get_field(raw, "score"),
        content=get_nested(raw, "content", str),
        metadata=to_plain_data(get_nested(raw, "meta", dict)),
    )


def read_tools(raw: object) -> list[ToolDefinition]:
    """Read tools and toolsets, in a list or by themselves."""
    found: list[ToolDefinition] = []
    for one in list_items(raw) or [raw]:
        if name := get_nested(one, "name", str):
            tool: ToolDefinition = {"type": "function", "name": name}
            if description := get_nested(one, "description", str):
                tool["description"] = description
            if (parameters := get_nested(one, "parameters", dict)) is not None:
                tool["parameters"] = to_plain_data(parameters)
            found.append(tool)
        elif inner := get_list(one, "tools"):
            found += read_tools(inner)
    return found


def simplify(value: object, depth: int = 0) -> Any:
    """Return the inputs or outputs of a run as small plain data: vectors are left out, callbacks are, too."""
    if depth > _MAX_DEPTH:
        return to_plain_data(value)
    if isinstance(value, Mapping):
        return {
            str(name): _describe_vector(one) if name in _VECTORS else simplify(one, depth + 1)
            for name, one in islice(value.items(), _MOST_ITEMS)
            if not (name == "streaming_callback" or one is None)
        }
    if isinstance(value, (list, tuple)):
        return [simplify(one, depth + 1) for one in islice(value, _MOST_ITEMS)]
    kind = type(value).__name__
    if kind == "ChatMessage":
        return (
            {"role": read_message(value)["role"], "content": read_last_message(value)}
            if _says(value)
            else read_message(value)
        )
    if kind == "Document":
        return _read_document(value)
    return to_plain_data(value)


def _says(message: object) -> bool:
    """Return whether a message says nothing but its text, or the result of a tool."""
    return len(get_list(message, "_content")) == 1 and not get_list(message, "tool_calls")


def _describe_vector(value: object) -> object:
    return f"[{len(value)} numbers]" if isinstance(value, list) else type(value).__name__
