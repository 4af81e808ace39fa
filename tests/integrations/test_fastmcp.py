"""The package ``fastmcp``, clients and servers: each request is one span on each side, with arguments and result."""

from __future__ import annotations

from typing import Any

import pytest

fastmcp: Any = pytest.importorskip("fastmcp", reason="in the nox sessions fastmcp")

from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from mlspan import integrations, tracing
from mlspan.testing import Spans

pytestmark = [pytest.mark.usefixtures("mcp_on"), pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture
def server() -> Any:
    made = fastmcp.FastMCP("weather")

    @made.tool
    async def weather(city: str) -> str:
        """The weather of a city."""
        with trace.get_tracer("app").start_as_current_span("look up"):
            return f"sunny in {city}"

    @made.tool
    async def fail(city: str) -> str:
        raise ValueError(f"no {city}")

    @made.tool
    async def ask_again(city: str) -> str:
        """Call another tool of the server, by a client."""
        async with fastmcp.Client(made) as inner:
            return str((await inner.call_tool("weather", {"city": city})).data)

    @made.prompt
    def greet(name: str) -> str:
        return f"Greet {name}."

    @made.resource("city://paris")
    def paris() -> str:
        return "Paris"

    return made


def describe(spans: Spans) -> list[tuple[str, str, str]]:
    """Return the spans of a trace, in the order of their begin: the scope that tells of each, its kind and its name."""
    by_start = sorted(spans.all, key=lambda span: span.start_time or 0)
    return [
        (str(one.instrumentation_scope and one.instrumentation_scope.name), one.kind.name, one.name) for one in by_start
    ]


def find(spans: Spans, name: str, kind: SpanKind) -> Any:
    (found,) = [one for one in spans.named(name) if one.kind is kind]
    return found


async def test_a_tool_is_one_span_on_each_side(server: Any, spans: Spans) -> None:
    """With arguments and result; what the tool does is below the server's span, and all of it is one trace."""
    async with fastmcp.Client(server) as client:
        with tracing.span("around"):
            await client.call_tool("weather", {"city": "Paris"})
    told = [one for one in describe(spans) if "tools/list" not in one[2] and "initialize" not in one[2]]
    assert told == [
        ("mlspan", "INTERNAL", "around"),
        ("mlspan", "CLIENT", "tools/call weather"),
        ("mlspan", "SERVER", "tools/call weather"),
        ("app", "INTERNAL", "look up"),
    ]
    for kind in (SpanKind.CLIENT, SpanKind.SERVER):
        said = dict(find(spans, "tools/call weather", kind).attributes)
        assert said["gen_ai.operation.name"] == "execute_tool"
        assert said["gen_ai.tool.call.arguments"] == '{"city":"Paris"}'
        assert "sunny in Paris" in said["gen_ai.tool.call.result"]
        assert said["mcp.method.name"] == "tools/call"
    sent, handled = (find(spans, "tools/call weather", kind) for kind in (SpanKind.CLIENT, SpanKind.SERVER))
    assert handled.parent.span_id == sent.context.span_id
    assert find(spans, "look up", SpanKind.INTERNAL).parent.span_id == handled.context.span_id
    assert len({one.get_span_context().trace_id for one in spans.all}) == 1


async def test_a_tool_that_raises(server: Any, spans: Spans) -> None:
    async with fastmcp.Client(server) as client:
        with pytest.raises(Exception, match="no Paris"):
            await client.call_tool("fail", {"city": "Paris"})
    for kind in (SpanKind.CLIENT, SpanKind.SERVER):
        span = find(spans, "tools/call fail", kind)
        assert (span.status.status_code, span.attributes["error.type"]) == (StatusCode.ERROR, "tool_error")
        assert "no Paris" in str(span.status.description)


async def test_lists_prompts_and_resources(server: Any, spans: Spans) -> None:
    """Whatever is asked for is one span on each side, and none of them is fastmcp's."""
    async with fastmcp.Client(server) as client:
        await client.list_tools()
        await client.list_prompts()
        await client.list_resources()
        await client.get_prompt("greet", {"name": "Ada"})
        await client.read_resource("city://paris")
    for name in ("tools/list", "prompts/list", "resources/list", "prompts/get greet", "resources/read"):
        for kind in (SpanKind.CLIENT, SpanKind.SERVER):
            assert find(spans, name, kind).instrumentation_scope.name == "mlspan"
    assert "Greet Ada." in find(spans, "prompts/get greet", SpanKind.SERVER).attributes["mlspan.output"]
    assert "Paris" in find(spans, "resources/read", SpanKind.SERVER).attributes["mlspan.output"]
    assert {one[0] for one in describe(spans)} == {"mlspan"}


async def test_a_tool_that_calls_a_tool(server: Any, spans: Spans) -> None:
    """The inner call has spans of its own, below those of the outer one."""
    async with fastmcp.Client(server) as client:
        assert (await client.call_tool("ask_again", {"city": "Paris"})).data == "sunny in Paris"
    outer = find(spans, "tools/call ask_again", SpanKind.SERVER)
    sent = find(spans, "tools/call weather", SpanKind.CLIENT)
    handled = find(spans, "tools/call weather", SpanKind.SERVER)
    assert sent.parent.span_id == outer.context.span_id
    assert handled.parent.span_id == sent.context.span_id


async def test_a_call_that_no_client_makes_keeps_the_packages_own_span(server: Any, spans: Spans) -> None:
    """The server's own method sends no request: what the package tells of it is all that there is."""
    try:
        await server.call_tool("weather", {"city": "Paris"})
    except AttributeError:
        pytest.skip("this version's server has no such method")
    assert [one for one in describe(spans) if one[0] == "mlspan"] == []
    assert spans.named("look up")


async def test_turned_off_the_packages_own_spans_are_there(server: Any, spans: Spans) -> None:
    integrations.mcp.autolog(disable=True)
    async with fastmcp.Client(server) as client:
        assert (await client.call_tool("weather", {"city": "Paris"})).data == "sunny in Paris"
    assert "mlspan" not in {one[0] for one in describe(spans)}
    if not fastmcp.__version__.startswith("2."):
        assert ("fastmcp", "SERVER", "tools/call weather") in describe(spans)
