"""MCP: requests of its SDK and of FastMCP, by the name of the method."""

from __future__ import annotations

from typing import Final

from ...operations import semconv as sc
from .dialect import Dialect, ForeignSpan, JsonObject

_TOOL_CALL: Final = "tools/call"
_METHOD: Final = "mcp.method.name"


def _read(span: ForeignSpan) -> JsonObject:
    method = str(span.get(_METHOD) or "")
    if method != _TOOL_CALL:
        return {sc.KIND: "retriever"} if method == "resources/read" else {}
    _, found, tool = span.name.partition(f"{_TOOL_CALL} ")
    return {sc.OPERATION: sc.EXECUTE_TOOL, **({sc.TOOL_NAME: tool} if found and tool else {})}


MCP: Final = Dialect(
    prefixes=(_METHOD,),
    is_genai=False,  # or each ping would be a trace; a call of a tool or a prompt bears GenAI's own names too
    names={
        "mcp.request.argument": sc.TOOL_CALL_ARGUMENTS,
        "mcp.tool.arguments": sc.TOOL_CALL_ARGUMENTS,
        "mcp.tool.result": sc.TOOL_CALL_RESULT,
        "mcp.response.value": sc.TOOL_CALL_RESULT,
    },
    read=_read,
    content=("mcp.request.argument", "mcp.tool.arguments", "mcp.tool.result", "mcp.response.value"),
)
