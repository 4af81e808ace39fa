"""MCP with us and without us: the same results, the same errors, and the same messages apart from the context."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

pytest.importorskip("mcp", reason="in the nox sessions mcp")
from mcp import ClientSession, types
from mcp.shared.memory import create_client_server_memory_streams
from mcp_kit import IS_FIRST

from mlspan import integrations
from mlspan.testing import Spans

if IS_FIRST:
    from mcp.server.fastmcp import Context, FastMCP, Image
else:
    from mcp.server.mcpserver import Context, Image
    from mcp.server.mcpserver import MCPServer as FastMCP

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is deprecated as of 2026"),
    pytest.mark.filterwarnings("ignore:Field 'lifespan' has an incomplete definition"),  # of version 1.10
    # Version 1 leaves its streams to the collector where a request cannot be sent.
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*<function MemoryObject:pytest.PytestUnraisableExceptionWarning"),
]
TEXT = {"type": "text", "text": "x"}


def make_result(**fields: Any) -> Any:
    return types.CallToolResult.model_validate({"content": [TEXT], **fields})


VALUES: dict[str, Callable[[], Any]] = {  # what a tool returns
    "nothing": lambda: None,
    "no list": list,
    "not a number": lambda: [float("nan"), float("inf")],
    "bytes that are no text": lambda: b"\xff\xfe",
    "much": lambda: "x" * 2_000_000,
    "a picture": lambda: Image(data=b"\x89PNG" * 10, format="png"),
    "a resource": lambda: types.EmbeddedResource.model_validate(
        {"type": "resource", "resource": {"uri": "city://paris", "text": "Paris"}}
    ),
    "a mixture": lambda: [1, "a", None, {"b": [None]}],
    "what looks like an error": lambda: {"code": 5, "message": "m", "isError": True},
    "an error": lambda: make_result(isError=True),
    "an error without a word": lambda: make_result(isError=True, content=[]),
    "structured": lambda: make_result(structuredContent={"code": 5, "message": "x"}, _meta={"mine": 1}),
}


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise LookupError("no text")


ERRORS: dict[str, Callable[[], BaseException]] = {  # what a tool raises
    "plain": lambda: ValueError("no"),
    "without text": UnprintableError,
    "a timeout": TimeoutError,
    "the end of an iterator": lambda: StopAsyncIteration("over"),
    "long": lambda: ValueError("x" * 100_000),
}
ARGUMENTS: list[Any] = [
    {"a": "x", "c": {"none": None, "list": [None, {"deep": None}], "_meta": {"traceparent": "z"}}},
    {"a": "x", "c": {1: 2}},
    {"a": float("nan")},
    {"a": "\udcff"},
    {"a": b"\xff"},
    {"a": (1, 2)},
    {"a": object()},
    {"a": "x" * 1_000_000},
    {},
    None,
]


def make_server() -> Any:
    server = FastMCP("odd")

    @server.tool(structured_output=False)
    async def give(kind: str) -> Any:
        return VALUES[kind]()

    @server.tool(structured_output=False)
    async def fail(kind: str) -> Any:
        error = ERRORS[kind]()
        raise error from ZeroDivisionError("the cause")

    @server.tool()
    async def echo(a: Any, c: dict[str, Any] | None = None) -> str:
        return f"{a!r} {c!r}"

    @server.tool()
    async def report(ctx: Context) -> str:
        for step in range(3):
            await ctx.report_progress(step, 3)
        return "reported"

    @server.tool()
    async def ask(ctx: Context) -> str:
        message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text="which city?"))
        return repr((await ctx.session.create_message(messages=[message], max_tokens=5)).content)

    return server


class Recorder:
    """A stream that notes what is sent by it."""

    def __init__(self, own: Any, sent: list[str]) -> None:
        self._own, self._sent = own, sent

    async def send(self, message: Any) -> None:
        said = message.message.model_dump(by_alias=True, mode="json", exclude_none=True)
        meta = (said.get("params") or {}).get("_meta")
        for name in ("traceparent", "tracestate"):
            (meta or {}).pop(name, None)
        if meta == {}:
            del said["params"]["_meta"]
        if said.get("params") == {}:
            del said["params"]
        self._sent.append(json.dumps(said, sort_keys=True))
        await self._own.send(message)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    async def __aenter__(self) -> "Recorder":
        await self._own.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> Any:
        return await self._own.__aexit__(*error)


@asynccontextmanager
async def connect(sent: list[str], **options: Any) -> AsyncIterator[ClientSession]:
    server: Any = make_server()
    low = server._mcp_server if IS_FIRST else server._lowlevel_server
    async with create_client_server_memory_streams() as (ours, theirs), anyio.create_task_group() as group:
        start = low.create_initialization_options()
        group.start_soon(low.run, theirs[0], Recorder(theirs[1], sent), start)
        async with ClientSession(ours[0], Recorder(ours[1], sent), **options) as session:
            await session.initialize()
            yield session
        group.cancel_scope.cancel()


def describe(got: Any) -> Any:
    """Return a result, or an exception with those that it comes from, as what compares."""
    chain = []
    while isinstance(got, BaseException):
        chain.append((type(got), str(got), got.__suppress_context__, repr(getattr(got, "error", None))))
        got = got.__cause__ or got.__context__
    return chain or got.model_dump_json(by_alias=True)


Act = Callable[[Any], Awaitable[Any]]


async def act_with_and_without(act: Act, spans: Spans, **options: Any) -> Any:
    """Compare what *act* gets from a session, what goes over the wire, and which tasks are left."""
    seen = []
    for traced in (False, True):
        integrations.mcp.autolog(disable=not traced, log_traces=traced)
        spans.clear()
        sent: list[str] = []
        before = asyncio.all_tasks()
        with anyio.fail_after(30):
            async with connect(sent, **options) as session:
                try:
                    got = await act(session)
                except Exception as error:
                    got = error
        assert asyncio.all_tasks() == before
        seen.append((describe(got), sorted(sent)))
    integrations.mcp.autolog(disable=True)
    assert seen[1] == seen[0]
    is_sent = any("tools/call" in message for message in seen[1][1])
    names = {span.name.split()[0] for span in spans.all}
    assert ("tools/call" in names) is (is_sent or IS_FIRST), "version 2 tells what it cannot send before it sends"
    return got


@pytest.mark.parametrize("kind", VALUES)
async def test_whatever_a_tool_returns(kind: str, spans: Spans) -> None:
    got = await act_with_and_without(lambda session: session.call_tool("give", {"kind": kind}), spans)
    failed = isinstance(got, Exception) or (got.isError if IS_FIRST else got.is_error)
    for span in spans.named("tools/call give"):
        assert (span.status.status_code.name == "ERROR") is failed


@pytest.mark.parametrize("kind", ERRORS)
async def test_whatever_a_tool_raises(kind: str, spans: Spans) -> None:
    await act_with_and_without(lambda session: session.call_tool("fail", {"kind": kind}), spans)
    told = [(span.status.status_code.name, span.attributes["error.type"]) for span in spans.named("tools/call fail")]
    assert told == [("ERROR", "tool_error")] * 2


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=[str(number) for number, _ in enumerate(ARGUMENTS)])
async def test_whatever_is_sent(arguments: Any, spans: Spans) -> None:
    """What cannot be sent raises the SDK's own error; what the SDK makes of the rest is what goes over the wire."""
    await act_with_and_without(lambda session: session.call_tool("echo", arguments), spans)


@pytest.mark.parametrize("is_broken", [False, True])
async def test_progress(is_broken: bool, spans: Spans) -> None:
    """A tool tells how far it is, by the token of the request, also to a function that fails."""
    told: list[Any] = []

    async def note(*progress: Any) -> None:
        told.append(progress)
        if is_broken:
            raise LookupError("of the reader's own")

    await act_with_and_without(lambda session: session.call_tool("report", {}, progress_callback=note), spans)
    assert len(told) == 6
    assert told[:3] == told[3:]


@pytest.mark.parametrize("answer", ["result", "refusal", "exception", "nothing"])
async def test_whatever_a_client_answers(answer: str, spans: Spans) -> None:
    """The server asks in the middle of a call; both sides end, whatever the callback does."""

    async def reply(*_: Any) -> Any:
        if answer == "exception":
            raise LookupError("of the callback's own")
        if answer == "refusal":
            return types.ErrorData(code=-1, message="not now")
        content = types.TextContent(type="text", text="Paris")
        result = types.CreateMessageResult(role="assistant", content=content, model="m")
        return result if answer == "result" else None

    await act_with_and_without(lambda session: session.call_tool("ask", {}), spans, sampling_callback=reply)
    for span in spans.named("sampling/createMessage"):
        assert (span.status.status_code.name == "ERROR") is (answer in {"refusal", "exception"} or not _is_fine(span))


def _is_fine(span: Any) -> bool:
    """A callback that returns nothing is no error to itself; the server is told of one."""
    return "error.type" not in span.attributes


async def test_turned_off_and_on_under_way(spans: Spans) -> None:
    """A call that is under way then ends as it has begun."""
    go, is_asked = asyncio.Event(), asyncio.Event()

    async def wait(*_: Any) -> Any:
        is_asked.set()
        await asyncio.wait_for(go.wait(), 20)
        content = types.TextContent(type="text", text="Paris")
        return types.CreateMessageResult(role="assistant", content=content, model="m")

    with anyio.fail_after(30):
        async with connect([], sampling_callback=wait) as session:
            for before, after in ((True, False), (False, True)):
                integrations.mcp.autolog(disable=not before, log_traces=before)
                spans.clear()
                go.clear()
                is_asked.clear()
                task = asyncio.create_task(session.call_tool("ask", {}))
                await asyncio.wait_for(is_asked.wait(), 20)
                integrations.mcp.autolog(disable=not after, log_traces=after)
                go.set()
                assert "Paris" in (await task).content[0].text
                ours = [span.name for span in spans.all if span.instrumentation_scope.name == "mlspan"]
                assert ("tools/call ask" in ours) is before
    integrations.mcp.autolog(disable=True)
