"""Calls of AutoGen's tools, workbenches, code executors and memories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..._shape import dig, get, is_a, items
from ...hooks.hook import Call
from ...tracing.operations.content import snapshot
from ...tracing.operations.records import Observe, Record, Retrieval, Step, Tool
from .wrappers import argument, tool_type


def begin(call: Call) -> tuple[Record, Observe[Any] | None]:
    """Begin a call of ``run_json`` of a tool."""
    own = call.args[0]
    described = dig(own, "description", str) or None
    tool = Tool(name=dig(own, "name", str), description=described, **_asked(call, argument(call, 1, "args"), 3))

    def observe(tool: Tool, got: Any) -> None:
        tool.output = own.return_value_as_string(got)

    return tool, observe if call.content else None


def begin_stream(call: Call) -> tuple[Record, Observe[Any] | None]:
    """Begin a call of ``run_json_stream``, which yields events and, last, the tool's return value."""
    tool, observe = begin(call)
    kind = call.args[0].return_type()

    def observe_last(tool: Tool, got: Any) -> None:
        if observe is not None and isinstance(kind, type) and isinstance(got, kind):
            observe(tool, got)

    return tool, observe_last


def begin_workbench(call: Call) -> tuple[Record, Observe[Any]]:
    """Begin a call of ``call_tool`` of a workbench, whose tool may run on an MCP server."""
    tool = Tool(name=argument(call, 1, "name"), **_asked(call, argument(call, 2, "arguments"), 4))

    def observe(tool: Tool, got: Any) -> None:
        if not hasattr(got, "to_text") or not hasattr(got, "is_error"):
            return  # an event of a streaming tool
        text = got.to_text(replace_image="[image]")
        if call.content:
            tool.output = text
        if got.is_error and tool.failure is None:
            tool.failure = ("tool_error", text if call.content else "")

    return tool, observe


def _asked(call: Call, arguments: Any, call_id: int) -> dict[str, Any]:
    id = argument(call, call_id, "call_id")
    return {
        "type": tool_type(call.args[0]),
        "call_id": id if isinstance(id, str) and id else None,
        "input": snapshot(dict(arguments)) if call.content and isinstance(arguments, Mapping) else None,
    }


def begin_code(call: Call) -> tuple[Record, Observe[Any]]:
    """Begin a call of ``execute_code_blocks``. An exit code other than 0 is a failure."""
    tool = Tool(name=type(call.args[0]).__name__, type="extension")
    if call.content:
        blocks = argument(call, 1, "code_blocks") or ()
        tool.input = [{"language": get(block, "language"), "code": get(block, "code")} for block in blocks]

    def observe(tool: Tool, got: Any) -> None:
        code, output = dig(got, "exit_code", int), dig(got, "output", str) if call.content else None
        tool.output = {"exit_code": code, "output": output} if call.content else None
        if code:
            tool.failure = ("exit_code", f"exit code {code}")

    return tool, observe


def begin_query(call: Call) -> tuple[Record, Observe[Any]]:
    """Begin a call of ``query`` of a memory."""
    return _begin_retrieval(call, argument(call, 1, "query"))


def begin_recall(call: Call) -> tuple[Record, Observe[Any]]:
    """Begin a call of ``update_context`` of a memory, which adds matching entries to a model's context."""
    return _begin_retrieval(call, None)


def _begin_retrieval(call: Call, query: Any) -> tuple[Record, Observe[Any]]:
    memory = call.args[0]
    retrieval = Retrieval(source=dig(memory, "name", str) or type(memory).__name__)
    if call.content and query is not None:
        retrieval.input = query if isinstance(query, str) else get(query, "content")

    def observe(retrieval: Retrieval, got: Any) -> None:
        found = items(got, "results") or items(got, "memories.results")
        if call.content:
            retrieval.output = [_document(index, one) for index, one in enumerate(found)]

    return retrieval, observe


def _document(index: int, raw: Any) -> dict[str, Any]:
    metadata, content = dig(raw, "metadata", dict) or {}, get(raw, "content")
    document: dict[str, Any] = {
        "id": str(metadata.get("id", index)),
        "content": content if isinstance(content, (str, dict)) else None,
    }
    score: Any = metadata.get("score")
    document["score"] = (
        float(score) if is_a(score, (int, float)) else 1.0
    )  # memories without a ranking return every entry
    return document


def begin_remember(call: Call) -> tuple[Record, Observe[Any] | None]:
    """Begin a call of ``add`` of a memory."""
    memory = call.args[0]
    step = Step(type="memory", name=f"add to {dig(memory, 'name', str) or type(memory).__name__}")
    if call.content:
        content = get(argument(call, 1, "content"), "content")
        step.input = content if isinstance(content, (str, dict)) else type(content).__name__
    return step, None
