"""Content blocks of Anthropic's API, in requests and in answers, as message parts of the conventions.

Claude is served elsewhere in the same format, such as by ``invoke_model`` of Bedrock.
"""

from __future__ import annotations

from typing import Any, Final

from .._shape import get_field, get_nested, list_items
from ..tracing.operations.messages import (
    Message,
    Part,
    TextPart,
    ToolDefinition,
    add_mime_type,
    make_media_part,
    make_server_tool_call,
    make_server_tool_response,
    make_tool_call,
    make_tool_call_response,
)
from .openai_format import dump_model


def read_message(raw: object) -> Message:
    """Read a message of a request, as a dict or a client's model. Results of tools make it a message of the tool."""
    parts = read_content(get_field(raw, "content"))
    role = get_nested(raw, "role", str) or "user"
    if parts and all(part["type"] == "tool_call_response" for part in parts):
        role = "tool"
    return {"role": role, "parts": parts}


def read_content(content: object) -> list[Part]:
    """Read the content of a message, or a system prompt: a text, or a list of blocks."""
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    return [read_block(block) for block in list_items(content)]


def read_block(raw: object) -> Part:
    """Read a content block. One of an unknown type keeps its type, with its other fields as the content."""
    if isinstance(raw, str):
        return {"type": "text", "content": raw}
    kind = get_nested(raw, "type", str) or "unknown"
    if kind == "text" and isinstance(text := get_field(raw, "text"), str):
        return _add_citations({"type": "text", "content": text}, raw)
    if kind == "thinking" and isinstance(thought := get_field(raw, "thinking"), str):
        return {"type": "reasoning", "content": thought}
    if kind == "tool_use":
        return make_tool_call(get_nested(raw, "name", str) or "", get_field(raw, "input"), get_nested(raw, "id", str))
    if kind == "tool_result":
        return make_tool_call_response(_read_result_content(raw), get_nested(raw, "tool_use_id", str))
    if kind in {"image", "document"} and (media := _read_source(kind, get_field(raw, "source"))) is not None:
        return media
    if kind == "container_upload" and (file_id := get_nested(raw, "file_id", str)):
        return {"type": "file", "modality": "document", "file_id": file_id}
    if kind in _SERVER_CALLS:
        return make_block_call(raw, get_field(raw, "input"))
    if kind.endswith("_tool_result"):
        told = {"content": dump_model(get_field(raw, "content"))}
        return make_server_tool_response(kind.removesuffix("_tool_result"), told, get_nested(raw, "tool_use_id", str))
    return {"type": kind, "content": _dump_fields(raw)}


def _add_citations(part: TextPart, block: object) -> TextPart:
    """Return *part* with the citations of its block, as the provider gives them."""
    if found := list_items(get_field(block, "citations")):
        part["annotations"] = [dump_model(one) for one in found]
    return part


_SERVER_CALLS: Final = frozenset({"server_tool_use", "mcp_tool_use"})


def is_server_call(block: object) -> bool:
    """Return whether a block is a call of a tool that the provider runs."""
    return get_nested(block, "type", str) in _SERVER_CALLS


def make_block_call(block: object, arguments: object) -> Part:
    """Return the part for the block of such a call, with its *arguments*, which a stream brings after the block."""
    name = get_nested(block, "name", str) or get_nested(block, "type", str) or "server_tool"
    return make_server_tool_call(name, {"arguments": dump_model(arguments)}, get_nested(block, "id", str))


def _read_result_content(raw: object) -> object:
    """Return the result of a tool: its text if it is text alone, else its parts; a failure is marked as one."""
    content = get_field(raw, "content")
    found: object = content
    if isinstance(content, (list, tuple)):
        parts: list[Any] = [read_block(block) for block in content]
        is_text = all(part["type"] == "text" and isinstance(part["content"], str) for part in parts)
        found = "".join(part["content"] for part in parts) if is_text else parts
    return {"error": found} if get_field(raw, "is_error") is True else found


def _read_source(kind: str, source: object) -> Part | None:
    """Read the source of a picture or a document: data in base64, a text, blocks, an address, or a stored file."""
    mime_type = get_nested(source, "media_type", str)
    if file_id := get_nested(source, "file_id", str):
        return {"type": "file", "modality": kind, "file_id": file_id}
    if url := get_nested(source, "url", str):
        return make_media_part(kind, url)
    data = get_field(source, "data")
    if get_nested(source, "type", str) == "base64":
        content = data if isinstance(data, str) else ""
        return add_mime_type({"type": "blob", "modality": kind, "content": content}, mime_type)
    if isinstance(data, str):
        return {"type": "text", "content": data}
    if (blocks := get_field(source, "content")) is not None:
        return {"type": kind, "content": read_content(blocks)}
    return None


def _dump_fields(raw: object) -> object:
    dumped = dump_model(raw)
    return {key: dumped[key] for key in dumped if key != "type"} if isinstance(dumped, dict) else dumped


def read_tool_definitions(body: object) -> list[ToolDefinition] | None:
    """Read the tools of a request and its MCP servers; None if there are none."""
    servers = list_items(get_field(body, "mcp_servers"))
    named: list[ToolDefinition] = [{"type": "mcp", "name": get_nested(one, "name", str) or "mcp"} for one in servers]
    return [*map(read_tool, list_items(get_field(body, "tools"))), *named] or None


def read_tool(raw: object) -> ToolDefinition:
    """Read a tool of the application's, which is a function, or one that the provider knows by its type."""
    kind = get_nested(raw, "type", str) or "custom"
    tool: ToolDefinition = {
        "type": "function" if kind == "custom" else kind,
        "name": get_nested(raw, "name", str) or kind,
    }
    if description := get_nested(raw, "description", str):
        tool["description"] = description
    if parameters := get_nested(raw, "input_schema", dict):
        tool["parameters"] = parameters
    return tool
