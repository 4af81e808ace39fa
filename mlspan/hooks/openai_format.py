"""OpenAI's message format, as many clients and frameworks use it: readers of message parts and tools.

They return the message parts and tool definitions of the GenAI semantic conventions.
"""

from __future__ import annotations

from typing import Any, Final

from .._guard import let_handler_through
from .._shape import get_field, get_list, get_nested
from ..tracing.operations.content import to_plain_data
from ..tracing.operations.messages import Part, TextPart, ToolDefinition, make_media_part


def read_openai_prompt(raw: object) -> Part:
    """Read a prompt of a completion: text, or a list of token ids."""
    return {"type": "text" if isinstance(raw, str) else "tokens", "content": raw}


def read_openai_part(raw: object) -> Part:
    """Read a part of a message as chat completions or the Responses API write it: text, a picture, a sound or a file.

    A part of an unknown type keeps its type, with its other fields as the content.
    """
    if isinstance(raw, str):
        return {"type": "text", "content": raw}
    kind = get_nested(raw, "type", str) or "unknown"
    if kind in _TEXT_FIELDS and isinstance(text := get_field(raw, _TEXT_FIELDS[kind]), str):
        part: TextPart = {"type": "text", "content": text}
        if found := get_list(raw, "annotations"):
            part["annotations"] = [dump_model(one) for one in found]
        return part
    if kind == "thinking":  # of Mistral: pieces of text, or one text
        return {"type": "reasoning", "content": join_texts(get_field(raw, "thinking"))}
    if url := get_nested(raw, "image_url.url", str) or get_nested(raw, "image_url", str):
        return make_media_part("image", url)
    if data := get_nested(raw, "input_audio.data", str):
        mime_type = f"audio/{get_nested(raw, 'input_audio.format', str) or 'wav'}"
        return {"type": "blob", "modality": "audio", "content": data, "mime_type": mime_type}
    file = get_field(raw, "file") or raw
    if file_id := get_nested(file, "file_id", str):
        return {"type": "file", "modality": "image" if kind == "input_image" else "document", "file_id": file_id}
    if data := get_nested(file, "file_data", str) or get_nested(file, "file_url", str):
        return make_media_part("document", data)
    return {"type": kind, "content": {key: raw[key] for key in raw if key != "type"} if isinstance(raw, dict) else raw}


def join_texts(pieces: object) -> str:
    """Return a text, or a list of texts and of parts that have one, as one text."""
    if isinstance(pieces, str):
        return pieces
    found = [one if isinstance(one, str) else get_nested(one, "text", str) for one in _as_list(pieces)]
    return "".join(text for text in found if text)


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


_TEXT_FIELDS: Final = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "summary_text": "text",
    "reasoning_text": "text",
    "refusal": "refusal",
}


def read_openai_tool(raw: object) -> ToolDefinition:
    """Read the definition of a tool, nested as in chat completions or flat as in the Responses API.

    An MCP server is named by its label.
    """
    kind = get_nested(raw, "type", str) or "function"
    function = get_field(raw, kind) or raw
    name = get_nested(function, "name", str) or get_nested(function, "server_label", str) or kind
    offered: ToolDefinition = {"type": kind, "name": name}
    if description := get_nested(function, "description", str) or get_nested(function, "server_description", str):
        offered["description"] = description
    if parameters := get_nested(function, "parameters", dict):
        offered["parameters"] = parameters
    return offered


def dump_model(raw: object) -> Any:
    """Return a pydantic model as plain data without its None values, and any other object as it is."""
    dump = getattr(raw, "model_dump", None)
    if dump is None:
        return raw
    try:
        return dump(mode="json", exclude_none=True, warnings=False)
    except Exception as raised:  # noqa: BLE001  # half a character, or a field that JSON cannot say
        let_handler_through(raised)
        return to_plain_data(raw)


FINISH_REASONS: Final = {  # finish reason of another provider -> finish reason of OpenAI
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "COMPLETE": "stop",
    "STOP": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "model_context_window_exceeded": "length",
    "model_length": "length",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "RECITATION": "content_filter",
    "SAFETY": "content_filter",
    "SPII": "content_filter",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
    "refusal": "content_filter",
}
