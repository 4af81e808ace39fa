"""What the spans of MCP tell of their connections, and what of a connection makes no trace of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp_kit import IS_FIRST, SERVER, ServerSpans, connect, connect_by_pipe, get_both
from servers.process import Process, free_port

from mlspan import integrations, tracing
from mlspan.testing import Spans

NETWORK = ("network.transport", "network.protocol.name", "server.address", "server.port", "mcp.session.id")


@asynccontextmanager
async def connect_by_events(folder: Path, **options: Any) -> AsyncIterator[tuple[Any, ServerSpans, int]]:
    """A session by the transport of server-sent events, which was there before streamable HTTP."""
    from mcp import ClientSession
    from mcp.client.sse import sse_client

    served, port = ServerSpans(folder / "spans.jsonl"), free_port()
    command = [sys.executable, str(SERVER), str(served.path), str(port), "sse"]
    server = Process(command, port, folder / "log")
    try:
        await asyncio.to_thread(server.wait, 60)
        async with sse_client(f"http://127.0.0.1:{port}/sse") as streams, ClientSession(*streams, **options) as session:
            await session.initialize()
            yield session, served, port
    finally:
        await asyncio.to_thread(server.stop)


async def answer_question(*_: Any) -> Any:
    from mcp.types import CreateMessageResult, TextContent

    return CreateMessageResult(role="assistant", content=TextContent(type="text", text="Paris"), model="m")


def list_known(span: Any) -> dict[str, Any]:
    return {name: value for name, value in span.attributes.items() if name in NETWORK}


async def test_a_server_of_events(spans: Spans, mcp_on: None, tmp_path: Path) -> None:
    """Its client's spans tell the transport and the server, as they do by streamable HTTP."""
    async with connect_by_events(tmp_path) as (session, served, port):
        assert (await session.call_tool("weather", {"city": "Paris"})).content[0].text == "sunny in Paris"
        client, server = get_both(served, spans, "tools/call weather")
    assert server["parent"] == client.context.span_id
    assert list_known(client) == {
        "network.transport": "tcp",
        "network.protocol.name": "http",
        "server.address": "127.0.0.1",
        "server.port": port,
    }


async def test_a_connection_of_events_without_us(spans: Spans, tmp_path: Path) -> None:
    """Turned off, the transport's function is the SDK's own again, also for one that was imported before."""
    from mcp.client.sse import sse_client

    def get_cells() -> list[Any]:
        return [cell.cell_contents for cell in sse_client.__closure__]

    before = get_cells()
    integrations.mcp.autolog(log_traces=True)
    assert get_cells() != before
    integrations.mcp.autolog(disable=True)
    assert get_cells() == before


@pytest.mark.parametrize("transport", ["pipe", "http", "events"])
async def test_what_a_server_asks_tells_its_connection(
    transport: str, spans: Spans, mcp_on: None, served: ServerSpans, tmp_path: Path
) -> None:
    """The client that answers knows the connection, and names no server in the span of what it serves itself."""
    opened: dict[str, Any] = {
        "pipe": lambda: connect_by_pipe(tmp_path / "spans.jsonl", sampling_callback=answer_question),
        "http": lambda: connect(served, sampling_callback=answer_question),
        "events": lambda: connect_by_events(tmp_path, sampling_callback=answer_question),
    }
    async with opened[transport]() as made:
        session = made[0] if isinstance(made, tuple) else made
        assert (await session.call_tool("ask", {})).content[0].text == "Paris"
    (asked,) = spans.named("sampling/createMessage")
    (called,) = spans.named("tools/call ask")
    assert asked.kind.name == "SERVER"
    known = {name: value for name, value in list_known(called).items() if not name.startswith("server.")}
    assert known["network.transport"] == ("pipe" if transport == "pipe" else "tcp")
    assert list_known(asked) == known
    assert asked.attributes["mcp.protocol.version"] == called.attributes["mcp.protocol.version"]


async def test_notifications_make_no_traces(spans: Spans, mcp_on: None, served: ServerSpans) -> None:
    """A client tells that it is ready, and which call it gives up; the SDK's own spans of that would stand alone."""
    async with connect(served) as session:
        task = asyncio.create_task(session.call_tool("wait", {}))
        await session.list_tools()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await session.call_tool("weather", {"city": "Paris"})
        get_both(served, spans, "tools/call weather")
    assert [span for span in served.all() if span["name"].startswith("notifications/")] == []
    assert {span["scope"] for span in served.all()} == {"mlspan", "app"}


@pytest.mark.skipif(IS_FIRST, reason="version 1 opens no spans")
@pytest.mark.filterwarnings("ignore:Client-to-server progress is deprecated")
@pytest.mark.parametrize("how", ["alone", "in a trace", "off"])
async def test_what_a_notification_sets_off(how: str, spans: Spans, mcp_on: None) -> None:
    """The spans of its handler stay: a trace of their own, or below the SDK's span where that is part of a trace."""
    from mcp import ClientSession
    from mcp.server.lowlevel import Server
    from mcp.shared.memory import create_client_server_memory_streams

    done = asyncio.Event()

    async def note_change(*_: Any) -> None:
        with tracing.span("look again"):
            done.set()

    if how == "off":
        integrations.mcp.autolog(disable=True)
    server: Any = Server("s", on_progress=note_change)

    async def exchange() -> None:
        async with create_client_server_memory_streams() as (ours, theirs), anyio.create_task_group() as group:
            group.start_soon(server.run, *theirs, server.create_initialization_options())
            async with ClientSession(*ours) as session:
                await session.initialize()
                await session.send_progress_notification("token", 1)
                await asyncio.wait_for(done.wait(), 20)
            group.cancel_scope.cancel()

    if how == "in a trace":
        with tracing.span("job"):
            await exchange()
    else:
        await exchange()
    (inner,) = spans.named("look again")
    told = spans.named("notifications/progress")
    assert len(told) == (how != "alone")
    assert (inner.parent is None) is (how == "alone")
    if told:
        assert inner.parent.span_id == told[0].context.span_id
    assert len(spans.named("notifications/initialized")) == (how != "alone")


@pytest.mark.skipif(IS_FIRST, reason="version 1 knows no such results")
@pytest.mark.parametrize("answer", ["accepts", "fails", "refuses"])
async def test_what_a_result_asks_for(answer: str, spans: Spans, mcp_on: None) -> None:
    """A result that asks the user for something: what answers it is a span, between the two requests of the call."""
    from mcp import types
    from mcp.client import Client
    from mcp.server.lowlevel import Server

    form = types.ElicitRequestFormParams(message="sure?", requested_schema={"type": "object", "properties": {}})
    question = types.ElicitRequest(method="elicitation/create", params=form)

    async def call(_: Any, params: Any) -> Any:
        if not params.input_responses:
            return types.InputRequiredResult(input_requests={"q": question}, request_state="1")
        return types.CallToolResult(content=[types.TextContent(type="text", text="done")])

    async def list_tools(*_: Any) -> Any:
        return types.ListToolsResult(tools=[types.Tool(name="book", input_schema={"type": "object"})])

    async def ask_user(*_: Any) -> Any:
        with tracing.span("ask the user"):
            if answer == "fails":
                raise LookupError("nobody there")
            if answer == "refuses":
                return types.ErrorData(code=-1, message="not now")
            return types.ElicitResult(action="accept", content={"ok": True})

    server = Server("s", on_call_tool=call, on_list_tools=list_tools)
    async with Client(server, elicitation_callback=ask_user) as client:
        with tracing.span("job"):
            try:
                assert (await client.call_tool("book", {})).content[0].text == "done"
            except Exception:
                assert answer != "accepts"
    (job,), (asked,), (inner,) = (spans.named(name) for name in ("job", "elicitation/create", "ask the user"))
    assert asked.parent.span_id == job.context.span_id
    assert inner.parent.span_id == asked.context.span_id
    assert asked.kind.name == "SERVER"
    assert asked.attributes["mcp.protocol.version"] >= "2026"
    failures = {"accepts": None, "fails": "LookupError", "refuses": "-1"}
    assert asked.attributes.get("error.type") == failures[answer]
    assert "sure?" in asked.attributes["mlspan.input"]
    if answer == "accepts":
        assert '"ok":true' in asked.attributes["mlspan.output"]
        assert len(spans.named("tools/call book")) == 4
