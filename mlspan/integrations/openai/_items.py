"""Items of the Responses API, of a request's input and of a response's output, as messages and their parts."""

from __future__ import annotations

from typing import Final

from ..._shape import get_field, get_list, get_nested
from ...hooks.openai_format import dump_model, read_openai_part
from ...tracing.operations.messages import (
    Message,
    Part,
    make_server_tool_call,
    make_server_tool_response,
    make_tool_call,
    make_tool_call_response,
    parse_json,
)


def read_item_parts(item: object, kind: str) -> list[Part]:
    """Return the message parts of an item that is no message, of a request's input or of a response's output."""
    id = get_nested(item, "call_id", str) or get_nested(item, "id", str)
    if kind in {"function_call", "custom_tool_call"}:
        arguments = get_nested(item, "arguments", str) or get_nested(item, "input", str)
        return [make_tool_call(get_nested(item, "name", str) or "", arguments, id)]
    if kind.endswith("_output"):  # of a tool that the caller has run: a function, a custom tool, a computer, a shell
        return [make_tool_call_response(_read_tool_output(get_field(item, "output")), id)]
    if kind == "reasoning":
        texts = [get_nested(raw, "text", str) for raw in [*get_list(item, "content"), *get_list(item, "summary")]]
        return [{"type": "reasoning", "content": text} for text in texts if text]
    if kind in _CALLER_TOOLS:
        known = dump_model(get_field(item, "action") or get_field(item, "operation"))
        return [make_tool_call(_CALLER_TOOLS[kind], known, id)]
    if kind == "compaction":
        return [{"type": "compaction", "content": ""}]
    return _read_server_tool(item, kind, id)


_CALLER_TOOLS: Final = {  # built-in tools that the caller runs
    "computer_call": "computer",
    "local_shell_call": "local_shell",
    "shell_call": "shell",
    "apply_patch_call": "apply_patch",
}
_SERVER_TOOLS: Final = {  # built-in tools that the provider runs -> name, fields of the call, fields of its result
    "web_search_call": ("web_search", ("action", "status"), ()),
    "file_search_call": ("file_search", ("queries", "status"), ("results",)),
    "code_interpreter_call": ("code_interpreter", ("code", "container_id", "status"), ("outputs",)),
    "image_generation_call": ("image_generation", ("revised_prompt", "status"), ("result",)),
    "mcp_call": ("", ("server_label", "arguments"), ("output", "error")),
    "mcp_list_tools": ("mcp_list_tools", ("server_label",), ("tools", "error")),
    "mcp_approval_request": ("", ("server_label", "arguments"), ()),
    "tool_search_call": ("tool_search", ("arguments", "status"), ()),
}


def _read_server_tool(item: object, kind: str, id: str | None) -> list[Part]:
    """Return the call of a tool that the provider has run, and its result; an item of an unknown type as it is."""
    if kind not in _SERVER_TOOLS:
        raw = dump_model(item)
        return [
            {"type": kind, "content": {k: v for k, v in raw.items() if k != "type"} if isinstance(raw, dict) else raw}
        ]
    name, asked, given = _SERVER_TOOLS[kind]
    name = name or get_nested(item, "name", str) or kind
    parts: list[Part] = [make_server_tool_call(name, _pick_fields(item, asked), id, kind=kind)]
    answer = _pick_fields(item, given)
    if isinstance(picture := answer.get("result"), str):
        answer["result"] = {"base64_bytes": len(picture)}  # the size alone: pictures are large
    if answer:
        parts.append(make_server_tool_response(kind, answer, id))
    return parts


def _pick_fields(item: object, names: tuple[str, ...]) -> dict[str, object]:
    """Return those of the fields called *names* that *item* has, as plain data; arguments are parsed as JSON."""
    found = {name: get_field(item, name) for name in names}
    read = {
        name: [dump_model(one) for one in value] if isinstance(value, list) else dump_model(value)
        for name, value in found.items()
        if value is not None
    }
    if isinstance(arguments := read.get("arguments"), str):
        read["arguments"] = parse_json(arguments)
    return read


def _read_tool_output(output: object) -> object:
    """Return a tool's output: a list of text parts is joined, anything else becomes plain data."""
    if isinstance(output, list):
        texts = [get_nested(one, "text", str) for one in output]
        return "".join(texts) if all(isinstance(text, str) for text in texts) else [dump_model(one) for one in output]  # type: ignore[arg-type]  # all are text
    return dump_model(output)


def read_input_messages(given: object) -> list[Message]:
    """Read the input of a request: a text, or a list of messages and other items."""
    if isinstance(given, str):
        return [{"role": "user", "parts": [{"type": "text", "content": given}]}]
    return [read_input_message(item) for item in given] if isinstance(given, list) else []


def read_input_message(item: object) -> Message:
    """Read an item of a request's input as a message."""
    kind, role, content = get_nested(item, "type", str), get_nested(item, "role", str), get_field(item, "content")
    if role is None or kind not in {None, "message"}:
        role = "tool" if (kind or "").endswith("_output") else "assistant"
        return {"role": role, "parts": read_item_parts(item, kind or "unknown")}
    if isinstance(content, str):
        return {"role": role, "parts": [{"type": "text", "content": content}]}
    parts = [
        read_openai_part(raw if isinstance(raw, (dict, str)) else dump_model(raw)) for raw in get_list(item, "content")
    ]
    return {"role": role, "parts": parts}
