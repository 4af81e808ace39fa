"""A client of MCP and the server that it starts, as one trace.

Needs ``pip install '.[mlflow,mcp]'`` in a checkout of mlspan; no key. Then ``mlspan show`` prints the trace, and
``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import asyncio
import os
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from mlspan import integrations, tracing

integrations.mcp.autolog(log_traces=True)


def serve() -> None:
    """Serve one tool by standard input and output."""
    try:
        from mcp.server.mcpserver import MCPServer
    except ImportError:  # version 1
        from mcp.server.fastmcp import FastMCP as MCPServer

    server = MCPServer("weather")

    @server.tool()
    def get_weather(city: str) -> str:
        """Return the weather in a city."""
        return f"sunny in {city}, 21 degrees"

    server.run("stdio")


@tracing.trace(name="weather assistant", kind="agent")
async def assistant(city: str) -> str:
    command = StdioServerParameters(command=sys.executable, args=[__file__, "serve"], env=dict(os.environ))
    async with stdio_client(command) as streams, ClientSession(*streams) as session:
        await session.initialize()
        result = await session.call_tool("get_weather", {"city": city})
    return " ".join(part.text for part in result.content if part.type == "text")


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        with tracing.session("demo"), tracing.user("ada"):
            print(asyncio.run(assistant("Paris")))
    tracing.flush()
