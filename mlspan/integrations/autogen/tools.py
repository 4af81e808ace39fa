"""Calls of AutoGen's tools, workbenches, code executors and memories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..._shape import get_field, get_list, get_nested, is_a
from ...hooks.call import BegunCall, Call
from ...tracing.operations.content import to_plain_data
from ...tracing.operations.records import Retrieval, Step, Tool
from .wrappers import tool_type


def begin_tool(call: Call) -> BegunCall:
    """Begin a call of ``run_json`` of a tool."""
    own = call.args[0]
    described = get_nested(own, "description", str) or None
    tool = Tool(
        name=get_nested(own, "name", str),
        description=described,
        **_read_tool_fields(call, call.argument("args")),
    )

    def observe(tool: Tool, got: object) -> None:
        tool.output = own.return_value_as_string(got)

    return tool, observe if call.capture_content else None


def begin_tool_stream(call: Call) -> BegunCall:
    """Begin a call of ``run_json_stream``, which yields events and, last, the tool's return value."""
    tool, observe = begin_tool(call)
    kind = call.args[0].return_type()

    def observe_last(tool: Tool, got: object) -> None:
        if observe is not None and isinstance(kind, type) and isinstance(got, kind):
            observe(tool, got)

    return tool, observe_last


def begin_workbench(call: Call) -> BegunCall:
    """Begin a call of ``call_tool`` of a workbench, whose tool may run on an MCP server."""
    tool = Tool(name=call.argument("name"), **_read_tool_fields(call, call.argument("arguments")))

    def observe(tool: Tool, got: object) -> None:
        if not hasattr(got, "to_text") or not hasattr(got, "is_error"):
            return  # an event of a streaming tool
        text = got.to_text(replace_image="[image]")
        if call.capture_content:
            tool.output = text
        if got.is_error and tool.failure is None:
            tool.failure = ("tool_error", text if call.capture_content else "")

    return tool, observe


def _read_tool_fields(call: Call, arguments: object) -> dict[str, Any]:
    id = call.argument("call_id")
    return {
        "type": tool_type(call.args[0]),
        "call_id": id if isinstance(id, str) and id else None,
        "input": to_plain_data(dict(arguments)) if call.capture_content and isinstance(arguments, Mapping) else None,
    }


def begin_code(call: Call) -> BegunCall:
    """Begin a call of ``execute_code_blocks``. An exit code other than 0 is a failure."""
    tool = Tool(name=type(call.args[0]).__name__, type="extension")
    if call.capture_content:
        blocks = call.argument("code_blocks") or ()
        tool.input = [{"language": get_field(block, "language"), "code": get_field(block, "code")} for block in blocks]

    def observe(tool: Tool, got: object) -> None:
        code, output = (
            get_nested(got, "exit_code", int),
            get_nested(got, "output", str) if call.capture_content else None,
        )
        tool.output = {"exit_code": code, "output": output} if call.capture_content else None
        if code:
            tool.failure = ("exit_code", f"exit code {code}")

    return tool, observe


def begin_memory_query(call: Call) -> BegunCall:
    """Begin a call of ``query`` of a memory."""
    return _begin_retrieval(call, call.argument("query"))


def begin_context_update(call: Call) -> BegunCall:
    """Begin a call of ``update_context`` of a memory, which adds matching entries to a model's context."""
    return _begin_retrieval(call, None)


def _begin_retrieval(call: Call, query: object) -> BegunCall:
    memory = call.args[0]
    retrieval = Retrieval(source=get_nested(memory, "name", str) or type(memory).__name__)
    if call.capture_content and query is not None:
        retrieval.input = query if isinstance(query, str) else get_field(query, "content")

    def observe(retrieval: Retrieval, got: object) -> None:
        found = get_list(got, "results") or get_list(got, "memories.results")
        if call.capture_content:
            retrieval.output = [_convert_memory_item(index, one) for index, one in enumerate(found)]

    return retrieval, observe


def _convert_memory_item(index: int, raw: object) -> dict[str, object]:
    metadata, content = get_nested(raw, "metadata", dict) or {}, get_field(raw, "content")
    document: dict[str, object] = {
        "id": str(metadata.get("id", index)),
        "content": content if isinstance(content, (str, dict)) else None,
    }
    score: Any = metadata.get("score")
    document["score"] = (
        float(score) if is_a(score, (int, float)) else 1.0
    )  # memories without a ranking return every entry
    return document


def begin_memory_add(call: Call) -> BegunCall:
    """Begin a call of ``add`` of a memory."""
    memory = call.args[0]
    step = Step(type="memory", name=f"add to {get_nested(memory, 'name', str) or type(memory).__name__}")
    if call.capture_content:
        content = get_field(call.argument("content"), "content")
        step.input = content if isinstance(content, (str, dict)) else type(content).__name__
    return step, None
