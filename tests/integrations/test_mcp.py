"""MCP: a client here, a server in another process, by both transports; each request is one span of either side."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from mcp_kit import IS_FIRST, ServerSpans, connect, connect_by_pipe, connect_in_process, get_both, leave_lists_out
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import SpanKind, StatusCode

from mlspan import integrations, tracing
from mlspan.testing import Spans, content


async def test_a_server_at_the_end_of_a_pipe(spans: Spans, mcp_on: None, tmp_path: Path) -> None:
    """One span of the client and one of the server, in one trace, with arguments, result and the tool's own spans."""
    served = ServerSpans(tmp_path / "spans.jsonl")
    async with connect_by_pipe(served.path) as session:
        result = await session.call_tool("weather", {"city": "Paris"})
    assert result.content[0].text == "sunny in Paris"
    client, server = get_both(served, spans, "tools/call weather")
    assert client.kind is SpanKind.CLIENT
    assert server["kind"] == "SERVER"
    assert server["trace"] == client.context.trace_id
    assert server["parent"] == client.context.span_id
    (inner,) = served.named("look up")
    assert inner["parent"] == server["id"]
    for attributes in (dict(client.attributes), server["attributes"]):
        assert attributes["mcp.method.name"] == "tools/call"
        assert attributes["gen_ai.operation.name"] == "execute_tool"
        assert attributes["gen_ai.tool.name"] == "weather"
        assert attributes["mcp.protocol.version"]
        assert json.loads(attributes["gen_ai.tool.call.arguments"]) == {"city": "Paris"}
        assert json.loads(attributes["gen_ai.tool.call.result"])["content"][0]["text"] == "sunny in Paris"
    assert client.attributes["network.transport"] == "pipe"
    assert client.attributes["jsonrpc.request.id"] == server["attributes"]["jsonrpc.request.id"]
    assert {span["scope"] for span in served.all()} <= {"mlspan", "app", "mcp-python-sdk"}
    assert not [s for s in served.all() if s["scope"] == "mcp-python-sdk" and "jsonrpc.request.id" in s["attributes"]]


async def test_a_server_behind_http(spans: Spans, mcp_on: None, served: ServerSpans) -> None:
    """The spans say which server, and which session of it."""
    async with connect(served) as session:
        await session.call_tool("weather", {"city": "Paris"})
    client, server = get_both(served, spans, "tools/call weather")
    assert server["trace"] == client.context.trace_id
    assert server["parent"] == client.context.span_id
    assert client.attributes["server.address"] == "127.0.0.1"
    assert f":{client.attributes['server.port']}/" in served.url
    assert server["attributes"]["client.address"] == "127.0.0.1"
    for attributes in (client.attributes, server["attributes"]):
        assert attributes["network.transport"] == "tcp"
        assert attributes["network.protocol.name"] == "http"
    assert client.attributes["mcp.session.id"] == server["attributes"]["mcp.session.id"]


async def test_lists_prompts_and_resources(spans: Spans, mcp_on: None, served: ServerSpans) -> None:
    async with connect(served) as session:
        await session.list_tools()
        await session.get_prompt("greet", {"name": "Ada"})
        await session.read_resource("city://paris")  # type: ignore[arg-type]
    names = ["initialize", "tools/list", "prompts/get greet", "resources/read"]
    assert [span.name for span in spans.all] == names[1:]  # no trace is made of a handshake
    assert served.named(names[-1])
    assert [span["name"] for span in served.all() if span["scope"] == "mlspan"] == names[1:]
    prompt, resource = spans.all[1:]
    assert prompt.attributes["gen_ai.prompt.name"] == "greet"
    assert content(prompt, "mlspan.output")["messages"][0]["content"]["text"] == "Greet Ada."
    assert resource.attributes["mcp.resource.uri"] == "city://paris"
    assert resource.attributes["mlspan.kind"] == "retriever"
    assert content(resource, "mlspan.output")["contents"][0]["text"] == "Paris"


async def test_the_handshake_is_part_of_a_trace(spans: Spans, mcp_on: None, served: ServerSpans) -> None:
    with tracing.span("job"):
        async with connect(served) as session:
            await session.send_ping()
    assert [span.name for span in spans.all] == ["job", "initialize", "ping"]
    assert len({span["trace"] for span in served.all()} - {spans.named("job")[0].context.trace_id}) <= 1
    assert spans.named("ping")[0].attributes["mcp.protocol.version"]


async def test_a_tool_that_raises(spans: Spans, mcp_on: None, served: ServerSpans) -> None:
    """MCP tells it in the result."""
    async with connect(served) as session:
        result = await session.call_tool("fail", {"city": "Atlantis"})
    client, server = get_both(served, spans, "tools/call fail")
    assert client.attributes["error.type"] == server["attributes"]["error.type"] == "tool_error"
    assert client.status.status_code is StatusCode.ERROR
    assert client.status.description == result.content[0].text
    assert server["status"] == "ERROR"


async def test_a_request_that_is_refused(spans: Spans, mcp_on: None, served: ServerSpans) -> None:
    """An error of JSON-RPC is told by its code, on both sides, and reaches the caller as it is."""
    async with connect(served) as session:
        with pytest.raises(Exception) as caught:
            await session.get_prompt("nobody", {})
    client, server = get_both(served, spans, "prompts/get nobody")
    code = str(caught.value.error.code)  # type: ignore[attr-defined]
    assert client.attributes["error.type"] == code
    assert client.attributes["rpc.response.status_code"] == code
    assert server["status"] == "ERROR"
    assert server["attributes"]["error.type"]


async def test_a_request_that_takes_too_long(spans: Spans, mcp_on: None, served: ServerSpans) -> None:
    limit: Any = timedelta(seconds=0.3) if IS_FIRST else 0.3
    async with connect(served) as session:
        with pytest.raises(Exception) as caught:
            await session.call_tool("wait", {}, read_timeout_seconds=limit)
    (client,) = spans.named("tools/call wait")
    assert client.attributes["error.type"] == str(caught.value.error.code)  # type: ignore[attr-defined]
    assert "rpc.response.status_code" not in client.attributes


async def test_a_request_that_is_cancelled(spans: Spans, mcp_on: None, served: ServerSpans) -> None:
    async with connect(served) as session:
        task = asyncio.create_task(session.call_tool("wait", {}))
        await session.list_tools()  # the call has been sent by now
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await session.list_tools()
    (client,) = spans.named("tools/call wait")
    assert client.attributes["error.type"].endswith("CancelledError")
    assert client.attributes["jsonrpc.request.id"]


async def test_a_server_asks_its_client(spans: Spans, mcp_on: None, served: ServerSpans) -> None:
    """The tool's call, what its server asks the client meanwhile, and the client's answer are one trace."""
    from mcp.types import CreateMessageResult, TextContent

    async def answer(*_: Any) -> Any:
        with tracing.span("model"):
            return CreateMessageResult(role="assistant", content=TextContent(type="text", text="Rome"), model="m")

    async with connect(served, sampling_callback=answer) as session:
        assert (await session.call_tool("ask", {})).content[0].text == "Rome"
    call = spans.named("tools/call ask")[0]
    (handled,), (asked,) = spans.named("sampling/createMessage"), served.named("sampling/createMessage")
    assert (handled.kind, asked["kind"]) == (SpanKind.SERVER, "CLIENT")
    assert handled.parent.span_id == asked["id"]
    assert asked["parent"] == served.named("tools/call ask")[0]["id"]
    assert {span.context.trace_id for span in leave_lists_out(spans)} == {call.context.trace_id}
    assert spans.named("model")[0].parent.span_id == handled.context.span_id


async def test_the_tool_span_of_a_framework_is_the_clients(spans: Spans, mcp_on: None, served: ServerSpans) -> None:
    """Where a span records the tool's call already, the request is told there, as the conventions ask."""
    from mlspan.hooks import Tool
    from mlspan.tracing import runtime
    from mlspan.tracing.operations.operation import start_operation

    async with connect(served) as session:
        now = runtime.get_runtime()
        assert now is not None
        with start_operation(now, Tool(name="weather")):
            await session.call_tool("weather", {"city": "Rome"})
    assert [span.name for span in leave_lists_out(spans)] == ["execute_tool weather"]
    (tool,) = leave_lists_out(spans)
    assert tool.attributes["mcp.method.name"] == "tools/call"
    assert tool.attributes["jsonrpc.request.id"]
    assert served.named("tools/call weather")[0]["parent"] == tool.context.span_id


async def test_without_content(spans: Spans, mcp_on: None, served: ServerSpans) -> None:
    tracing.configure(capture_content=False)
    try:
        async with connect(served) as session:
            await session.call_tool("weather", {"city": "Paris"})
    finally:
        tracing.configure()
    (client,) = leave_lists_out(spans)
    assert "Paris" not in str(dict(client.attributes))


async def test_turned_off(spans: Spans, mcp_on: None, served: ServerSpans) -> None:
    """Then no span is made, and both sides work on; a session that was opened before is no exception."""
    async with connect(served) as session:
        integrations.mcp.autolog(disable=True)
        await session.call_tool("weather", {"city": "Paris"})
    assert {span.instrumentation_scope.name for span in spans.all} <= {"mcp-python-sdk"}


async def test_durations(spans: Spans, mcp_on: None, served: ServerSpans, monkeypatch: Any) -> None:
    """The metric of a request; a tool's execution is not measured besides, as either side would count it."""
    from mlspan.integrations.mcp import durations
    from mlspan.tracing.operations.metrics import Instruments

    measured: list[Any] = []
    monkeypatch.setattr(Instruments, "has_meter_provider", lambda _: True)
    monkeypatch.setattr(Instruments, "record_call", lambda _, one, **__: measured.append(one))
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    durations._get_histogram.cache_clear()
    async with connect(served) as session:
        await session.call_tool("weather", {"city": "Paris"})
        await session.call_tool("fail", {"city": "Paris"})
    durations._get_histogram.cache_clear()
    data = reader.get_metrics_data()
    found = {metric.name: metric for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    metric = found["mcp.client.operation.duration"]
    assert metric.unit == "s"
    points = {point.attributes.get("gen_ai.tool.name"): point.attributes for point in metric.data.data_points}
    assert points["fail"]["error.type"] == "tool_error"
    assert points["weather"]["mcp.method.name"] == "tools/call"
    assert points["weather"]["network.transport"] == "tcp"
    assert measured == []
    provider.shutdown()


@pytest.mark.filterwarnings("ignore:Field 'lifespan'")  # of the settings of the SDK's oldest server
async def test_durations_of_a_server(spans: Spans, mcp_on: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has a metric of its own, with the tool and its failure, and without the server's address."""
    from mcp_server import make_server

    from mlspan.integrations.mcp import durations

    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    durations._get_histogram.cache_clear()
    async with connect_in_process(make_server(1)) as session:
        await session.call_tool("weather", {"city": "Paris"})
        await session.call_tool("fail", {"city": "Paris"})
    durations._get_histogram.cache_clear()
    found = {one.name: one for one in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics}
    metric = found["mcp.server.operation.duration"]
    assert metric.unit == "s"
    points = {one.attributes.get("gen_ai.tool.name"): one for one in metric.data.data_points}
    assert (points["weather"].count, points["fail"].count) == (1, 1)
    assert points["weather"].sum > 0
    assert points["weather"].attributes["gen_ai.operation.name"] == "execute_tool"
    assert "error.type" not in points["weather"].attributes
    assert points["fail"].attributes["error.type"] == "tool_error"
    assert {"server.address", "server.port"}.isdisjoint(points["weather"].attributes)
    provider.shutdown()


async def test_without_a_provider_that_the_sdk_can_see(
    spans: Spans, mcp_on: None, served: ServerSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by default: version 2 makes no span of its own then, and ours are made and joined all the same."""
    if not IS_FIRST:
        monkeypatch.setattr("mcp.shared._otel._tracer", trace.NoOpTracer())
    async with connect(served) as session:
        await session.call_tool("weather", {"city": "Paris"})
    client, server = get_both(served, spans, "tools/call weather")
    assert server["parent"] == client.context.span_id


async def test_the_sdks_own_spans_are_folded(spans: Spans, mcp_on: None, served: ServerSpans) -> None:
    """Both processes have a provider that the SDK sees: a request is one span of either side for all that."""
    async with connect(served) as session:
        await session.call_tool("weather", {"city": "Paris"})
    assert [span["scope"] for span in served.named("tools/call weather")] == ["mlspan"]
    assert {span.instrumentation_scope.name for span in spans.all} == {"mlspan"}
