"""An MCP server in a process of its own, whose spans go to a file: ``python mcp_server.py FILE [PORT [TRANSPORT]]``."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from mlspan import integrations


class FileExporter(SpanExporter):
    """Appends each span to a file, as a line of JSON."""

    def __init__(self, path: str) -> None:
        self.path = path

    def export(self, spans: Any) -> SpanExportResult:
        with Path(self.path).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(describe(span)) + "\n" for span in spans)
        return SpanExportResult.SUCCESS


def describe(span: Any) -> dict[str, Any]:
    return {
        "name": span.name,
        "kind": span.kind.name,
        "scope": span.instrumentation_scope.name,
        "trace": span.context.trace_id,
        "id": span.context.span_id,
        "parent": span.parent and span.parent.span_id,
        "status": span.status.status_code.name,
        "attributes": dict(span.attributes),
    }


def make_server(port: int) -> Any:
    try:
        from mcp.server.mcpserver import Context, MCPServer

        server = MCPServer("weather")
    except ImportError:
        from mcp.server.fastmcp import Context, FastMCP

        server = FastMCP("weather", host="127.0.0.1", port=port)

    @server.tool()
    async def weather(city: str) -> str:
        """The weather of a city."""
        with trace.get_tracer("app").start_as_current_span("look up"):
            return f"sunny in {city}"

    @server.tool()
    async def fail(city: str) -> str:
        raise ValueError(f"no {city}")

    @server.tool()
    async def wait() -> str:
        await asyncio.sleep(30)
        return "late"

    @server.tool()
    async def die() -> str:
        os._exit(3)

    @server.tool()
    async def ask(ctx: Context) -> str:
        from mcp.types import SamplingMessage, TextContent

        message = SamplingMessage(role="user", content=TextContent(type="text", text="which city?"))
        answer = await ctx.session.create_message(messages=[message], max_tokens=5)
        content = answer.content
        return content.text if not isinstance(content, list) else content[0].text

    @server.prompt()
    def greet(name: str) -> str:
        return f"Greet {name}."

    @server.resource("city://paris")
    def paris() -> str:
        return "Paris"

    return server


def main() -> None:
    path, port = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
    provider = TracerProvider()
    trace.set_tracer_provider(provider)
    if path != "-":  # for a server that is not traced
        provider.add_span_processor(SimpleSpanProcessor(FileExporter(path)))
        integrations.mcp.autolog(log_traces=True)
    server = make_server(port)
    transport: Any = sys.argv[3] if len(sys.argv) > 3 else "streamable-http"
    if not port:
        server.run("stdio")
    elif type(server).__name__ == "FastMCP":
        server.run(transport)
    else:
        server.run(transport, host="127.0.0.1", port=port)


if __name__ == "__main__":
    main()
