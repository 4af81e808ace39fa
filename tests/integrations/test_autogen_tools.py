"""What AutoGen's agents use: tools, workbenches, MCP, memory, code, caches, clients of every make."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("autogen_agentchat")
pytest.importorskip("autogen_ext.models.openai")

from autogen_agentchat.agents import AssistantAgent, CodeExecutorAgent
from autogen_core import CancellationToken
from autogen_core.code_executor import CodeBlock
from autogen_core.memory import ListMemory, Memory, MemoryContent, MemoryQueryResult, UpdateContextResult
from autogen_core.models import ChatCompletionClient, CreateResult, RequestUsage, UserMessage
from autogen_core.tools import FunctionTool, StaticWorkbench, ToolResult
from autogen_ext.models.cache import ChatCompletionCache
from autogen_kit import INFO, MODEL, asks_for, get_weather, openai_model, replay

from mlspan.hooks.call import Call
from mlspan.integrations.autogen import models
from mlspan.testing import Spans, content

pytestmark = pytest.mark.usefixtures("autogen_on")


async def test_a_workbench_and_its_tool_are_one_call(spans: Spans) -> None:
    """The tool's error, which the workbench turns into an answer, is the span's; a tool within a tool is its own."""

    async def divide() -> str:
        await FunctionTool(get_weather, description="").run_json({"city": "Rome"}, CancellationToken())
        raise ZeroDivisionError("by nothing")

    bench = StaticWorkbench([FunctionTool(divide, description="Divides.")])
    result = await bench.call_tool("divide", {}, call_id="call_3")
    missing = await bench.call_tool("multiply", {})
    assert (result.is_error, missing.is_error) == (True, True)
    assert spans.tree("gen_ai.tool.description") == (
        "execute_tool divide [ERROR ZeroDivisionError, gen_ai.tool.description=Divides.]\n"
        "  execute_tool get_weather\n"
        "execute_tool multiply [ERROR tool_error]"
    )


async def test_a_workbench_in_front_of_another_is_the_same_call(spans: Spans) -> None:
    """One that passes calls on, as to check or to count them, is no second call; another tool that it asks is."""

    class Front(StaticWorkbench):
        async def call_tool(self, name: str, *args: Any, **kwargs: Any) -> ToolResult:
            await behind.call_tool("allowed", {"what": name})
            return await behind.call_tool(name, *args, **kwargs)

    def allowed(what: str) -> bool:
        return bool(what)

    behind = StaticWorkbench([FunctionTool(get_weather, description="Looks."), FunctionTool(allowed, description="")])
    await Front([]).call_tool("get_weather", {"city": "Rome"}, call_id="call_5")
    assert spans.tree("gen_ai.tool.description", "gen_ai.tool.call.result") == (
        "execute_tool get_weather [gen_ai.tool.description=Looks., gen_ai.tool.call.result=sunny in Rome]\n"
        "  execute_tool allowed [gen_ai.tool.call.result=True]"
    )


async def test_memory_is_retrieval(spans: Spans) -> None:
    """What is remembered, asked for, and put into a model's context."""
    from autogen_core.model_context import UnboundedChatCompletionContext

    memory = ListMemory(name="diary")
    await memory.add(MemoryContent(content="it rained", mime_type="text/plain"))
    await memory.query("weather")
    await memory.update_context(UnboundedChatCompletionContext())
    assert spans.tree("gen_ai.retrieval.query.text") == (
        "add to diary\nretrieval diary [gen_ai.retrieval.query.text=weather]\nretrieval diary"
    )
    for span in spans.named("retrieval diary"):
        assert content(span, "gen_ai.retrieval.documents")[0]["content"] == "it rained"


@pytest.mark.filterwarnings("ignore:Using LocalCommandLineCodeExecutor")
async def test_code_is_a_tool(spans: Spans, tmp_path: Path) -> None:
    """A program's language, text, output and exit code; one that fails is an error."""
    from autogen_ext.code_executors.local import LocalCommandLineCodeExecutor

    executor = LocalCommandLineCodeExecutor(work_dir=tmp_path)
    for code in ("print(6 * 7)", "raise SystemExit(3)"):
        await executor.execute_code_blocks([CodeBlock(code=code, language="python")], CancellationToken())
    assert spans.tree() == (
        "execute_tool LocalCommandLineCodeExecutor\nexecute_tool LocalCommandLineCodeExecutor [ERROR exit_code]"
    )
    first = spans.all[0]
    assert content(first, "gen_ai.tool.call.arguments") == [{"language": "python", "code": "print(6 * 7)"}]
    assert content(first, "gen_ai.tool.call.result") == {"exit_code": 0, "output": "42\n"}


async def test_a_cache_counts_what_was_billed(model: Any, spans: Spans) -> None:
    """A cache in front of a client is the same call; what it gives by itself costs nothing."""
    cache: Any = ChatCompletionCache(model)
    for _ in range(2):
        await cache.create([UserMessage(content="hello", source="user")])
    assert spans.tree() == f"chat {MODEL} [12 in, 5 out]\nchat {MODEL}"


async def test_a_cached_stream_costs_nothing(aimock: str, spans: Spans) -> None:
    """What a cache streams is the same call, without tokens."""
    model = openai_model(aimock, stream_options={"include_usage": True})
    cache: Any = ChatCompletionCache(model)
    for _ in range(2):
        async for _ in cache.create_stream([UserMessage(content="hello", source="user")]):
            pass
    await model.close()
    assert spans.tree() == f"chat {MODEL} [12 in, 5 out]\nchat {MODEL}"


# MCP.

SERVER = """
from mcp.server.fastmcp import FastMCP
app = FastMCP("test")
@app.tool()
def get_weather(city: str) -> str:
    "The weather in a city."
    if city == "Nowhere":
        raise ValueError("no such city")
    return f"It is sunny in {city}"
app.run()
"""


@pytest.fixture
def mcp_server(tmp_path: Path) -> Any:
    """How to start an MCP server with a tool."""
    mcp = pytest.importorskip("autogen_ext.tools.mcp")
    (tmp_path / "server.py").write_text(SERVER)
    return mcp.StdioServerParams(command=sys.executable, args=[str(tmp_path / "server.py")], read_timeout_seconds=60)


async def test_a_tool_of_an_mcp_server(mcp_server: Any, model: Any, spans: Spans) -> None:
    """An agent calls a tool in another process through a workbench: one span, linked to who asked."""
    from autogen_ext.tools.mcp import McpWorkbench

    async with McpWorkbench(mcp_server) as bench:
        await AssistantAgent("scout", model, workbench=bench).run(task="weather in Paris?")
        await bench.call_tool("get_weather", {"city": "Nowhere"})
    assert spans.tree("gen_ai.tool.type").startswith(
        "invoke_agent scout\n"
        f"  chat {MODEL} [34 in, 7 out]\n"
        "  execute_tool get_weather [gen_ai.tool.type=extension]\n"
        "execute_tool get_weather [ERROR tool_error, gen_ai.tool.type=extension"
    )
    _, asked, tool, _ = spans.all
    assert (tool.attributes or {})["gen_ai.tool.call.result"] == "It is sunny in Paris"
    assert [link.context.span_id for link in tool.links] == [asked.context.span_id]


async def test_a_tool_made_of_an_mcp_servers(mcp_server: Any, model: Any, spans: Spans) -> None:
    """The same by AutoGen's adapter, a tool of the agent's own: its description is known here."""
    from autogen_ext.tools.mcp import mcp_server_tools

    tools: Any = await mcp_server_tools(mcp_server)
    await AssistantAgent("scout", model, tools=tools).run(task="weather in Paris?")
    assert spans.tree("gen_ai.tool.type", "gen_ai.tool.description") == (
        "invoke_agent scout\n"
        f"  chat {MODEL} [34 in, 7 out]\n"
        "  execute_tool get_weather"
        " [gen_ai.tool.type=extension, gen_ai.tool.description=The weather in a city.]"
    )


# What agents do with them.


async def test_tools_side_by_side_are_linked_to_one_answer(model: Any, spans: Spans) -> None:
    """Two calls that one answer asks for run at once, each with its own id."""
    met = asyncio.Barrier(2) if hasattr(asyncio, "Barrier") else None  # none in Python 3.10

    async def get_weather(city: str) -> str:
        if met is not None:
            await asyncio.wait_for(met.wait(), 30)
        return f"sunny in {city}"

    await AssistantAgent("scout", model, tools=[get_weather]).run(task="both cities")
    assert spans.tree("gen_ai.tool.call.id", "gen_ai.tool.call.result") == (
        "invoke_agent scout\n"
        f"  chat {MODEL} [32 in, 14 out]\n"
        "  execute_tool get_weather [gen_ai.tool.call.id=call_1, gen_ai.tool.call.result=sunny in Paris]\n"
        "  execute_tool get_weather [gen_ai.tool.call.id=call_2, gen_ai.tool.call.result=sunny in Rome]"
    )
    _, asked, *tools = spans.all
    assert [[link.context.span_id for link in tool.links] for tool in tools] == [[asked.context.span_id]] * 2


@pytest.mark.filterwarnings("ignore:Using LocalCommandLineCodeExecutor", "ignore:No approval function set")
async def test_an_agent_that_runs_code(spans: Spans, tmp_path: Path) -> None:
    """The program stands below the turn; below the tool, where a tool runs it."""
    from autogen_ext.code_executors.local import LocalCommandLineCodeExecutor
    from autogen_ext.tools.code_execution import PythonCodeExecutionTool

    executor = LocalCommandLineCodeExecutor(work_dir=tmp_path)
    writes = replay("```python\nprint(6 * 7)\n```", "It is 42.")
    await CodeExecutorAgent("coder", executor, model_client=writes).run(task="6 * 7?")
    tool: Any = PythonCodeExecutionTool(executor)
    await AssistantAgent("user", replay(asks_for("CodeExecutor", code="print(42)")), tools=[tool]).run(task="?")
    assert spans.tree() == (
        "invoke_agent coder\n"
        "  chat\n"
        "  execute_tool LocalCommandLineCodeExecutor\n"
        "  chat\n"
        "invoke_agent user\n"
        "  chat [3 in, 4 out]\n"
        "  execute_tool CodeExecutor\n"
        "    execute_tool LocalCommandLineCodeExecutor"
    )


class Notes(Memory):
    """A memory that fills a context with the answer to a question that it asks itself, as vector stores do."""

    async def query(self, query: Any, cancellation_token: Any = None, **_: Any) -> MemoryQueryResult:
        note = MemoryContent(content=f"about {query}", mime_type="text/plain", metadata={"id": "n1", "score": 0.5})
        return MemoryQueryResult(results=[note])

    async def update_context(self, model_context: Any) -> UpdateContextResult:
        (*_, last) = await model_context.get_messages()
        return UpdateContextResult(memories=await self.query(last.content))

    async def add(self, content: Any, cancellation_token: Any = None) -> None: ...
    async def clear(self) -> None: ...
    async def close(self) -> None: ...


async def test_an_agent_that_remembers(model: Any, spans: Spans) -> None:
    """What an agent's memory is asked, and by itself, is one span with the question and what was found."""
    await AssistantAgent("ada", model, memory=[Notes()]).run(task="hello")
    assert spans.tree("gen_ai.retrieval.query.text", "gen_ai.retrieval.documents") == (
        "invoke_agent ada\n"
        "  retrieval Notes [gen_ai.retrieval.query.text=hello,"
        ' gen_ai.retrieval.documents=[{"id":"n1","content":"about hello","score":0.5}]]\n'
        f"  chat {MODEL} [12 in, 5 out]"
    )


# Clients of other makes.


class Own:
    """A client of somebody's own, which says of itself what every client must, and of its model what it likes."""

    def __init__(self, family: str, model: str | None = None) -> None:
        self.model_info, self._model = {**INFO, "family": family}, model

    async def create(self, *_: Any, **__: Any) -> CreateResult:
        return CreateResult(finish_reason="stop", content="word", usage=RequestUsage(3, 4), cached=False)

    def create_stream(self, *_: Any, **__: Any) -> Any:
        async def stream() -> Any:
            yield "word"
            yield await self.create()

        return stream()


@pytest.mark.parametrize(
    ("family", "provider"),
    [("claude-4-sonnet", "anthropic"), ("gemini-2.5-pro", "gcp.gemini"), ("gpt-4o", "openai"), ("unknown", "unknown")],
)
async def test_a_client_of_ones_own(family: str, provider: str, spans: Spans) -> None:
    """It has a span with its model, its tokens, and the provider that its model's family names."""
    methods = dict.fromkeys(ChatCompletionClient.__abstractmethods__, lambda *_: None)
    cls: Any = type("Client", (Own, ChatCompletionClient), {**methods, **{n: vars(Own)[n] for n in METHODS}})
    client = cls(family, "m1")
    await client.create([UserMessage(content="hello", source="user")])
    async for _ in client.create_stream([UserMessage(content="hello", source="user")]):
        pass
    assert spans.tree("gen_ai.provider.name", "gen_ai.request.stream") == (
        f"chat m1 [3 in, 4 out, gen_ai.provider.name={provider}]\n"
        f"chat m1 [3 in, 4 out, gen_ai.provider.name={provider}, gen_ai.request.stream=True]"
    )


METHODS = ("create", "create_stream")


@pytest.mark.parametrize(
    ("options", "provider"),
    [
        ({}, "openai"),
        ({"model": "gemini-1.5-flash"}, "gcp.gemini"),  # AutoGen knows where that one is
        ({"base_url": "https://api.groq.com/v1", "model_info": INFO}, "groq"),
    ],
)
def test_who_is_called_is_told_by_the_host(options: dict[str, Any], provider: str) -> None:
    """OpenAI's client calls many a server."""
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    client = OpenAIChatCompletionClient(**{"model": MODEL, "api_key": "test", **options})
    chat, _ = models.begin_model_call(Call((client, []), {}, capture_content=True, options={}))
    assert chat.provider == provider


async def test_what_was_asked_is_recorded(aimock: str, spans: Spans) -> None:
    """The options that the client was made with, and those of the call."""
    model = openai_model(aimock, temperature=0.5, stop=["END"], seed=7)
    await model.create([UserMessage(content="hello", source="user")], extra_create_args={"max_tokens": 9})
    await model.close()
    attributes = spans.one().attributes or {}
    assert {
        name: attributes[f"gen_ai.request.{name}"] for name in ("temperature", "stop_sequences", "seed", "max_tokens")
    } == {
        "temperature": 0.5,
        "stop_sequences": ("END",),
        "seed": 7,
        "max_tokens": 9,
    }
