"""MCP under a hostile peer, a dying one, and many at once: the protocol goes on as without us, and each span ends."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp_kit import IS_FIRST, SERVER, ServerSpans, connect, connect_by_pipe, leave_lists_out, serve_by_pipe
from servers.process import BoundedPopen

from mlspan import tracing
from mlspan.hooks.patching import replace_method
from mlspan.integrations.mcp import HOOK, connections, sending
from mlspan.testing import Spans
from mlspan.tracing.operations.exceptions import get_error_type

HANDSHAKE = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "odd", "version": "0"},
}
WEATHER = {"name": "weather", "arguments": {"city": "Paris"}}
# Parameters of requests, right and wrong, by method; each is sent in a request of its own.
ODD: list[tuple[str, Any]] = [
    ("tools/call", None),
    ("tools/call", []),
    ("tools/call", ["weather"]),
    ("tools/call", "weather"),
    ("tools/call", {}),
    *(("tools/call", {**WEATHER, "name": name}) for name in (None, 5, ["weather"], "", "no such tool", "\x00")),
    *(("tools/call", {**WEATHER, "arguments": given}) for given in (None, [], "Paris", 5, {"city": ["x"] * 200})),
    ("tools/call", {"name": "weather", "arguments": {"city": "\udcff"}}),
    *(
        ("tools/call", {**WEATHER, "_meta": meta})
        for meta in (
            None,
            [],
            "traceparent",
            {"traceparent": 5},
            {"traceparent": "00-zz-zz-zz"},
            {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"},
            {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "tracestate": "=,=" * 500},
            {"traceparent": ["00"], "baggage": "a=" + "x" * 10_000},
            {"progressToken": {"a": 1}},
            {"": "", "tracestate": None},
        )
    ),
    *(("prompts/get", params) for params in (None, {}, {"name": 5}, {"name": "greet", "arguments": ["Ada"]})),
    *(("resources/read", params) for params in (None, {"uri": 5}, {"uri": "no uri"}, {"uri": "city://nowhere"})),
    *(("completion/complete", params) for params in (None, {"ref": 5})),
    ("no/such/method", {"name": "weather"}),
    ("", None),
    ("initialize", {"protocolVersion": 5}),
    ("ping", {"_meta": {"traceparent": "x"}}),
]


def exchange(path: str, log: Path) -> tuple[list[Any], str]:
    """Return all that the server answers at the end of a pipe, by id, and what it writes besides, by way of *log*."""
    command = [sys.executable, str(SERVER), path]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    with (
        log.open("wb") as said,
        BoundedPopen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, env=environment) as server,
    ):
        answers: list[Any] = []

        def send(message: dict[str, Any]) -> None:
            server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
            server.stdin.flush()

        def ask(method: str, params: Any, number: Any) -> None:
            """Send a request; a ping behind it is answered even where the request is not."""
            send({"id": number, "method": method, **({} if params is None else {"params": params})})
            send({"id": f"after {number}", "method": "ping"})
            while line := server.stdout.readline():
                answers.append(json.loads(line))
                if answers[-1].get("id") == f"after {number}":
                    return
            raise AssertionError(f"the server is gone after {method} {params}")

        ask("initialize", HANDSHAKE, 0)
        send({"method": "notifications/initialized"})
        for number, (method, params) in enumerate(ODD, 1):
            ask(method, params, number)
        for number in ("a name", -1, 2**70):
            ask("tools/call", WEATHER, number)
        ask("tools/list", {}, "the last")
        server.stdin.close()
        left = server.stdout.read()
        answers += [json.loads(line) for line in left.splitlines()]
    return sorted(answers, key=lambda answer: str(answer.get("id"))), log.read_text(encoding="utf-8")


class _Unhashable:
    """What compares by its fields, as a dataclass does, and is no key of a dict."""

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = None  # type: ignore[assignment]


class _Answer(_Unhashable):
    """A result that cannot be read."""

    root = None

    def model_dump(self, **_: Any) -> dict[str, Any]:
        raise LookupError("gone")


class _Session(_Unhashable):
    """A session of the first version's, whose request tells less than it should."""

    @property
    def _request_id(self) -> int:
        raise LookupError("gone")

    async def send_request(self, request: Any) -> Any:
        return request.answer


class _Question:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def model_dump(self, **_: Any) -> dict[str, Any]:
        return {"method": "initialize", "params": {}}


@pytest.mark.parametrize("answer", [_Answer(), {"protocolVersion": "1"}, {"protocolVersion": _Unhashable()}, None])
async def test_an_odd_session_gets_its_answer(spans: Spans, monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    """What is read of a session, a request and a result costs the caller nothing."""
    monkeypatch.delenv("MLSPAN_STRICT", raising=False)
    undo = replace_method(f"{__name__}:_Session.send_request", partial(sending._trace_session, HOOK))
    try:
        with tracing.span("job"):
            assert await _Session().send_request(_Question(answer)) is answer
    finally:
        undo()
    assert {span.status.status_code.name for span in spans.all} == {"UNSET"}


async def test_a_session_that_is_no_key(spans: Spans, mcp_on: None, tmp_path: Path) -> None:
    """The handshake and the calls of a client's own subclass, which compares by its fields."""
    from mcp import ClientSession
    from mcp.client.stdio import stdio_client

    class Session(_Unhashable, ClientSession):
        __hash__ = None  # type: ignore[assignment]

    command = serve_by_pipe(tmp_path / "spans.jsonl")
    with tracing.span("job"):
        async with stdio_client(command) as pipe, Session(pipe[0], pipe[1]) as session:
            await session.initialize()
            await session.call_tool("weather", {"city": "Paris"})
    assert [span.name for span in leave_lists_out(spans) if "/" in span.name] == ["tools/call weather"]


@pytest.mark.timeout(180)
def test_odd_requests_are_answered_as_without_us(tmp_path: Path) -> None:
    """Whatever a client sends: the same answers, no error of ours, and a span for each request that is handled."""
    served = ServerSpans(tmp_path / "spans.jsonl")
    bare, _ = exchange("-", tmp_path / "bare.log")
    traced, told = exchange(str(served.path), tmp_path / "traced.log")
    assert traced == bare
    for folder in (sys.prefix, str(SERVER.parents[2])):  # which may have the name
        told = told.replace(folder, "")
    assert "mlspan" not in told
    spans = [span for span in served.all() if span["scope"] == "mlspan"]
    answered = [answer for answer in bare if "result" in answer and "content" in answer["result"]]
    assert len([span for span in spans if span["name"].startswith("tools/call")]) >= len(answered) > 10
    ids = {span["trace"] for span in spans}
    assert int("a" * 32, 16) in ids, "the one sender that names its span"
    assert 0 not in ids


async def test_two_connections_that_open_before_their_sessions(
    spans: Spans, mcp_on: None, served: ServerSpans, tmp_path: Path
) -> None:
    """A request tells the connection that it takes, not the one that was opened last; so does its handshake."""
    from mcp import ClientSession
    from mcp.client import streamable_http
    from mcp.client.stdio import stdio_client

    open_streams = getattr(streamable_http, "streamable_http_client", None) or streamable_http.streamablehttp_client
    command = serve_by_pipe(tmp_path / "spans.jsonl")
    with tracing.span("job"):
        async with (
            open_streams(served.url) as http,
            stdio_client(command) as pipe,
            ClientSession(pipe[0], pipe[1]) as first,
            ClientSession(http[0], http[1]) as second,
        ):
            for session, city in ((second, "behind HTTP"), (first, "behind a pipe")):
                await session.initialize()
                await session.call_tool("weather", {"city": city})
    for number, name in enumerate(("initialize", "tools/call weather")):
        by_http, by_pipe = spans.named(name)
        assert by_http.attributes["network.transport"] == "tcp", number
        assert by_http.attributes["server.address"] == "127.0.0.1"
        assert by_http.attributes["mcp.session.id"]
        assert by_pipe.attributes["network.transport"] == "pipe"
        assert "server.address" not in by_pipe.attributes


async def test_a_connection_that_another_task_has_opened(spans: Spans, mcp_on: None, tmp_path: Path) -> None:
    """A session tells the streams that it was given, whoever opened them; one over other streams tells no pipe."""
    from mcp import ClientSession
    from mcp.client.stdio import stdio_client

    opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    is_done = asyncio.Event()

    async def hold() -> int:
        async with stdio_client(serve_by_pipe(tmp_path / "spans.jsonl")) as pipe:
            opened.set_result(pipe)
            to_nobody, from_nobody = anyio.create_memory_object_stream[Any](0)
            with to_nobody, from_nobody:
                before = len(connections._transports)
                other = ClientSession(from_nobody, to_nobody)
                assert len(connections._transports) == before, other
            await asyncio.wait_for(is_done.wait(), 60)
        return len(connections._unclaimed)

    holder = asyncio.create_task(hold())
    try:
        async with ClientSession(*(await asyncio.wait_for(opened, 60))) as session:
            await session.initialize()
            await session.call_tool("weather", {"city": "Paris"})
    finally:
        is_done.set()
        assert await asyncio.wait_for(holder, 60) == 0
    (called,) = spans.named("tools/call weather")
    assert called.attributes["network.transport"] == "pipe"


async def test_a_server_that_dies(spans: Spans, mcp_on: None, tmp_path: Path) -> None:
    """The call in flight ends with the error that the caller gets, and so do those after it."""
    with anyio.fail_after(60):
        async with connect_by_pipe(tmp_path / "spans.jsonl") as session:
            for tool in ("die", "weather"):
                with pytest.raises(Exception) as caught:
                    await session.call_tool(tool, {"city": "Paris"} if tool == "weather" else {})
                (span,) = spans.named(f"tools/call {tool}")
                code = getattr(getattr(caught.value, "error", None), "code", None)
                name = get_error_type(caught.value) if code is None else str(code)
                assert span.attributes["error.type"] == name
                assert "rpc.response.status_code" not in span.attributes, "nobody has responded"


async def test_many_calls_of_two_clients_at_once(
    spans: Spans, mcp_on: None, served: ServerSpans, tmp_path: Path
) -> None:
    """Each span of a server is below that of the call that it answers, however they overlap."""
    piped = ServerSpans(tmp_path / "spans.jsonl")

    async def call(session: Any, city: str) -> None:
        with tracing.span(f"ask for {city}"):
            assert (await session.call_tool("weather", {"city": city})).content[0].text == f"sunny in {city}"

    async with connect(served) as first, connect_by_pipe(piped.path) as second:
        calls = [
            call(session, f"{side} {number}")
            for number in range(12)
            for side, session in zip("ab", (first, second), strict=True)
        ]
        await asyncio.gather(*calls)
    theirs = {
        span["parent"]: span for one in (served, piped) for span in one.all() if span["name"] == "tools/call weather"
    }
    ours = spans.named("tools/call weather")
    assert len(ours) == len(theirs) == 24
    for span in ours:
        answer = theirs[span.context.span_id]
        assert answer["trace"] == span.context.trace_id
        asked = span.attributes["gen_ai.tool.call.arguments"]
        assert answer["attributes"]["gen_ai.tool.call.arguments"] == asked
        (above,) = spans.named(f"ask for {json.loads(asked)['city']}")
        assert span.parent.span_id == above.context.span_id


@pytest.mark.skipif(IS_FIRST, reason="the client of version 1 tells the server nothing")
async def test_the_server_learns_that_a_call_is_cancelled(spans: Spans, mcp_on: None, tmp_path: Path) -> None:
    """Its span ends then, without a result, and does not wait for the tool."""
    served = ServerSpans(tmp_path / "spans.jsonl")
    async with connect_by_pipe(served.path) as session:
        task = asyncio.create_task(session.call_tool("wait", {}))
        await session.list_tools()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (server,) = await asyncio.to_thread(served.named, "tools/call wait")
    (client,) = [span for span in leave_lists_out(spans) if span.name == "tools/call wait"]
    assert server["parent"] == client.context.span_id
    assert server["status"] == "UNSET", "a client that has gone away is no error of the server's"
    assert "gen_ai.tool.call.result" not in server["attributes"]
