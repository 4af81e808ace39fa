"""Contents of Gemini's API, in all the forms that the client takes, as messages of the conventions."""

from __future__ import annotations

import base64
from typing import Final

from ..._shape import get_field, get_fields, get_nested, get_text, list_items
from ...hooks.openai_format import dump_model
from ...tracing.operations.messages import (
    Message,
    Part,
    ToolDefinition,
    add_mime_type,
    find_modality,
    make_server_tool_call,
    make_server_tool_response,
    make_tool_call,
    make_tool_call_response,
)
from ...tracing.operations.plain_values import KeptList

_ROLES: Final = {"model": "assistant"}
_MOST_BYTES: Final = 1024 * 1024  # of a picture or a sound: a larger one is recorded by its size alone


def read_contents(contents: object) -> list[Message]:
    """Read contents: a text, a part, a content, a file, a picture, or a list of them in any mixture.

    What stands in no content of its own belongs to one message of the user's, with its neighbours.
    """
    if contents is None:
        return []
    if type(contents) is str:  # a text alone need not be looked through again
        return KeptList([{"role": "user", "parts": [{"type": "text", "content": contents}]}])
    messages: list[Message] = []
    loose: list[Part] = []
    for one in contents if isinstance(contents, (list, tuple)) else [contents]:
        parts = _find_parts(one)
        if parts is None:
            loose.append(read_part(one))
            continue
        if loose:
            messages.append({"role": "user", "parts": loose})
            loose = []
        messages.append(_make_message(get_nested(one, "role", str), [read_part(part) for part in parts]))
    if loose:
        messages.append({"role": "user", "parts": loose})
    return messages


def _find_parts(one: object) -> list[object] | None:
    """Return the parts of a content, which may be a single one or a bare list of them; None for anything else."""
    if isinstance(one, (list, tuple)):
        return list(one)
    if isinstance(one, str) or not (isinstance(one, dict) or hasattr(one, "parts")):
        return None
    parts = get_field(one, "parts")
    return list_items(parts) or ([] if isinstance(parts, (list, tuple)) else None if parts is None else [parts])


def _make_message(role: str | None, parts: list[Part]) -> Message:
    if parts and all(part["type"] == "tool_call_response" for part in parts):
        role = "tool"
    return {"role": _ROLES.get(role or "", role or "user"), "parts": parts}


def read_part(raw: object) -> Part:
    """Read a part. One of an unknown kind keeps its fields, and a picture of PIL's or the like its class alone."""
    if isinstance(raw, str):
        return {"type": "text", "content": raw}
    known = get_fields(raw)
    text = known.get("text")
    if isinstance(text, str):
        return {"type": "reasoning" if known.get("thought") is True else "text", "content": text}
    for name, read in _READERS.items():
        value = known.get(name)
        if value is None and isinstance(raw, dict):
            value = known.get(_CAMEL[name])
        if value is not None:
            return read(value)
    if get_text(known, "uri"):  # a stored file
        return _read_file(raw)
    dumped = dump_model(raw)
    if isinstance(dumped, dict) and dumped:
        kind = next(iter(dumped))
        return {"type": str(kind), "content": dumped[kind]}
    return {"type": type(raw).__name__, "content": f"<{type(raw).__name__}>"}


def _read_call(raw: object) -> Part:
    return make_tool_call(
        get_nested(raw, "name", str) or "", dump_model(get_field(raw, "args")), get_nested(raw, "id", str)
    )


def _read_function_response(raw: object) -> Part:
    return make_tool_call_response(dump_model(get_field(raw, "response")), get_nested(raw, "id", str))


def _read_blob(raw: object) -> Part:
    mime_type, data = _read_mime_type(raw), get_field(raw, "data")
    if isinstance(data, (bytes, str)) and len(data) > _MOST_BYTES:
        data = f"[{len(data)} bytes]"
    elif isinstance(data, bytes):
        data = base64.b64encode(data).decode()
    content = data if isinstance(data, str) else ""
    return add_mime_type({"type": "blob", "modality": find_modality(mime_type), "content": content}, mime_type)


def _read_file(raw: object) -> Part:
    mime_type = _read_mime_type(raw)
    uri = get_nested(raw, "file_uri", str) or get_nested(raw, "fileUri", str) or get_nested(raw, "uri", str) or ""
    return add_mime_type({"type": "uri", "modality": find_modality(mime_type), "uri": uri}, mime_type)


def _read_mime_type(raw: object) -> str | None:
    return get_nested(raw, "mime_type", str) or get_nested(raw, "mimeType", str)


def _read_code(raw: object) -> Part:
    return make_server_tool_call("code_execution", {"code": get_nested(raw, "code", str)})


def _read_code_result(raw: object) -> Part:
    outcome = get_field(raw, "outcome")
    told = {"output": get_nested(raw, "output", str), "outcome": getattr(outcome, "value", outcome)}
    return make_server_tool_response("code_execution", told)


_READERS: Final = {  # field of a part -> reader of its value
    "function_call": _read_call,
    "function_response": _read_function_response,
    "inline_data": _read_blob,
    "file_data": _read_file,
    "executable_code": _read_code,
    "code_execution_result": _read_code_result,
}
_CAMEL: Final = {name: name.split("_")[0] + "".join(map(str.title, name.split("_")[1:])) for name in _READERS}


def read_tool_definitions(tools: object) -> list[ToolDefinition] | None:
    """Read the tools of a config: Python functions, declared functions, and those that Google runs."""
    found: list[ToolDefinition] = []
    for tool in list_items(tools):
        if callable(tool):
            found.append(_describe_function(tool))
            continue
        for name, value in get_fields(tool).items():
            if name in {"function_declarations", "functionDeclarations"}:
                found += [_read_declaration(one) for one in value or ()]
            elif value is not None:
                found.append({"type": name, "name": name})
    return found or None


def _describe_function(function: object) -> ToolDefinition:
    described: ToolDefinition = {"type": "function", "name": get_nested(function, "__name__", str) or "function"}
    if text := get_nested(function, "__doc__", str):
        described["description"] = text
    return described


def _read_declaration(raw: object) -> ToolDefinition:
    declared: ToolDefinition = {"type": "function", "name": get_nested(raw, "name", str) or ""}
    if text := get_nested(raw, "description", str):
        declared["description"] = text
    parameters = get_field(raw, "parameters_json_schema") or get_field(raw, "parameters")
    if parameters is not None:
        declared["parameters"] = dump_model(parameters)
    return declared
