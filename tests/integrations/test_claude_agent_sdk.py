"""The Claude Agent SDK: turns, calls to the model, tools, subagents and hooks, as a script plays them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("claude_agent_sdk", reason="in the nox session claude_agent_sdk")
import claude_agent_sdk as sdk
from claude_kit import Script, answer, request, result, text, tool_result, tool_use
from opentelemetry import trace

from mlspan import integrations, tracing
from mlspan.testing import Spans, content
from mlspan.tracing.export.cost import compute_span_cost
from mlspan.tracing.operations import semconv as sc


@pytest.fixture(autouse=True)
def _hook(spans: Spans) -> Iterator[None]:
    integrations.claude_agent_sdk.autolog(log_traces=True)
    yield
    integrations.claude_agent_sdk.autolog(disable=True)


async def ask(*turn: Any, prompt: Any = "a greeting", **options: Any) -> list[Any]:
    given = sdk.ClaudeAgentOptions(**options)
    return [one async for one in sdk.query(prompt=prompt, options=given, transport=Script(list(turn)))]


def read_attributes(spans: Spans, name: str) -> dict[str, Any]:
    return dict(spans.named(name)[-1].attributes or {})


def list_links(spans: Spans, name: str) -> list[tuple[str, str]]:
    """Return each link of the spans *name*: its kind, and the name of the span that it leads to."""
    names = {span.context.span_id: span.name for span in spans.all if span.context is not None}
    links = [link for span in spans.named(name) for link in span.links]
    return [(str((link.attributes or {})[sc.LINK]), names[link.context.span_id]) for link in links]


TURN = "invoke_agent claude_code [12 in, 5 out]"


def test_a_turn(spans: Spans) -> None:
    """Its tokens and its cost are those of the result; a call to the model is one span, however many blocks it has."""
    thought = {"type": "thinking", "thinking": "hm", "signature": "x"}
    messages = asyncio.run(ask(answer(thought), answer(text("One two.")), result()))
    assert [type(one).__name__ for one in messages] == ["AssistantMessage", "AssistantMessage", "ResultMessage"]
    assert spans.tree().splitlines() == [TURN, "  chat claude-x"]
    got, said = (
        read_attributes(spans, "invoke_agent claude_code"),
        content(spans.named("chat claude-x")[0], "gen_ai.output.messages"),
    )
    assert (got["mlspan.input"], got["mlspan.output"]) == ("a greeting", "One two.")
    assert got["gen_ai.conversation.id"] == "s-1"
    assert (got[sc.USAGE_CACHE_READ_INPUT_TOKENS], got[sc.USAGE_CACHE_WRITE_INPUT_TOKENS]) == (4, 3)
    assert compute_span_cost(got) == {"total_cost": 0.25}
    assert [part["type"] for part in said[0]["parts"]] == ["reasoning", "text"]
    assert read_attributes(spans, "chat claude-x")["gen_ai.response.finish_reasons"] == ("stop",)


def test_times_of_a_call_to_the_model(spans: Spans) -> None:
    """It lasts from the prompt, or from the result of the last tool, to its last block; not as long as its tools."""

    async def read() -> None:
        played = Script([answer(tool_use("t1")), tool_result("t1"), answer(text("Hi"), id="msg_2"), result()])
        async for message in sdk.query(prompt="a", options=sdk.ClaudeAgentOptions(), transport=played):
            if type(message).__name__ == "AssistantMessage":
                await asyncio.sleep(0.05)  # a tool takes its time

    asyncio.run(read())
    first, second = spans.named("chat claude-x")
    (tool,) = spans.named("execute_tool Bash")
    assert first.start_time is not None
    assert first.end_time is not None
    assert tool.end_time is not None
    assert second.start_time is not None
    assert first.start_time <= first.end_time <= tool.end_time
    assert tool.end_time - first.end_time >= 0.04e9
    assert second.start_time >= first.end_time


def test_tools_and_their_links(spans: Spans) -> None:
    """A tool is below its turn, and linked to the call that asked for it; one that fails says so."""
    asked = answer(tool_use("t1", command="ls")), answer(tool_use("t2", "Read", file_path="a"))
    told = tool_result("t2", [text("a"), text("b")]), tool_result("t1", "no", failed=True)
    asyncio.run(ask(*asked, *told, answer(text("Hi"), id="msg_2"), result()))
    assert sorted(spans.tree().splitlines()) == sorted(
        [
            TURN,
            "  chat claude-x",
            "  execute_tool Bash [ERROR _OTHER]",
            "  execute_tool Read",
            "  chat claude-x",
        ]
    )
    assert list_links(spans, "execute_tool Bash") == [("asked_by", "chat claude-x")]
    got = read_attributes(spans, "execute_tool Read")
    assert (got["gen_ai.tool.call.arguments"], got["gen_ai.tool.call.result"]) == ('{"file_path":"a"}', "ab")


def test_subagents(spans: Spans) -> None:
    """What a subagent does is below the tool call that has started it."""
    task = tool_use("t1", "Task", subagent_type="reviewer", prompt="Look.")
    inside = answer(tool_use("t2"), id="msg_2", parent="t1"), tool_result("t2", parent="t1")
    asyncio.run(ask(answer(task), *inside, answer(text("Fine."), id="msg_3", parent="t1"), tool_result("t1"), result()))
    assert spans.tree().splitlines() == [
        TURN,
        "  chat claude-x",
        "  execute_tool Task",
        "    invoke_agent reviewer",
        "      chat claude-x",
        "      execute_tool Bash",
        "      chat claude-x",
    ]
    assert read_attributes(spans, "invoke_agent reviewer")["mlspan.input"] == "Look."


def test_a_tool_of_the_programs_own_and_a_hook(spans: Spans) -> None:
    """What they do is below the tool's span, although another task of the SDK's runs them."""

    @sdk.tool("look_up", "Look up.", {"city": str})
    async def look_up(arguments: Any) -> Any:
        with tracing.span("inside"):
            return {"content": [{"type": "text", "text": f"sunny in {arguments['city']}"}]}

    async def check(given: Any, identifier: Any, context: Any) -> Any:
        with tracing.span("checked"):
            return {}

    called = {"name": "look_up", "arguments": {"city": "Paris"}, "_meta": {"claudecode/toolUseId": "t1"}}
    info = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "claude", "version": "1"}}
    begun = {"jsonrpc": "2.0", "id": 6, "method": "initialize", "params": info}
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": called}
    input = {"hook_event_name": "PreToolUse", "tool_name": "mcp__weather__look_up"}
    asyncio.run(
        ask(
            answer(tool_use("t1", "mcp__weather__look_up", city="Paris")),
            request("mcp_message", server_name="weather", message=begun),
            request("mcp_message", server_name="weather", message=ready),
            request("hook_callback", callback_id="hook_0", tool_use_id="t1", input=input),
            request("mcp_message", server_name="weather", message=message),
            tool_result("t1", [text("sunny in Paris")]),
            result(),
            mcp_servers={"weather": sdk.create_sdk_mcp_server("weather", tools=[look_up])},
            hooks={"PreToolUse": [sdk.HookMatcher(hooks=[check])]},
        )
    )
    lines = spans.tree().splitlines()
    assert "  execute_tool mcp__weather__look_up" in lines
    assert any(line.endswith("  inside") for line in lines[lines.index("  execute_tool mcp__weather__look_up") :])
    assert "      checked" in lines[lines.index("    hook PreToolUse") :]
    assert list_links(spans, "execute_tool mcp__weather__look_up") == [("asked_by", "chat claude-x")]


def test_a_client_with_several_turns(spans: Spans) -> None:
    """Each prompt is a turn below the caller's span, with what is received for it; another may be sent meanwhile."""

    async def converse() -> None:
        played = Script([answer(text("One")), result()], [answer(text("Two"), id="msg_2"), result(result="Two")])
        async with sdk.ClaudeSDKClient(sdk.ClaudeAgentOptions(), transport=played) as client:
            for prompt in ("first", "second"):
                with tracing.span(prompt):
                    await client.query(prompt)
                    assert [type(one).__name__ async for one in client.receive_response()][-1] == "ResultMessage"

    asyncio.run(converse())
    assert spans.tree().splitlines() == [
        *("first", "  " + TURN, "    chat claude-x", "second", "  " + TURN, "    chat claude-x"),
    ]
    assert [dict(span.attributes or {})["mlspan.input"] for span in spans.named("invoke_agent claude_code")] == [
        *("first", "second"),
    ]


def test_a_client_that_is_left(spans: Spans) -> None:
    """What is open when it disconnects ends there, and is no error."""

    async def leave() -> None:
        played = Script([answer(tool_use("t1")), result()])
        async with sdk.ClaudeSDKClient(sdk.ClaudeAgentOptions(), transport=played) as client:
            await client.query("a")
            async for _ in client.receive_response():
                break

    asyncio.run(leave())
    assert spans.tree().splitlines() == [
        "invoke_agent claude_code [stream closed]",
        "  chat claude-x",
        "  execute_tool Bash [stream closed]",
    ]


# The SDK leaves its inner generators to the event loop, and with them their streams.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("how", ["break", "close", "raise", "cancel"])
def test_a_query_that_is_left(how: str, spans: Spans) -> None:
    """Every end of the generator ends the turn, once; the caller's context is as it was."""

    async def read() -> None:
        around = trace.get_current_span()
        played = Script([answer(text("One"))], ends=how != "cancel")
        stream: Any = sdk.query(prompt="a", options=sdk.ClaudeAgentOptions(), transport=played)
        assert await anext(stream)
        assert trace.get_current_span() is around
        if how == "close":
            await stream.aclose()
        elif how == "raise":
            with pytest.raises(ZeroDivisionError):
                await stream.athrow(ZeroDivisionError())
        elif how == "cancel":
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(stream), 0.1)

    asyncio.run(read())
    turn, chat = spans.tree().splitlines()
    ends = {"cancel": "[ERROR asyncio.exceptions.CancelledError]"}
    assert turn == f"invoke_agent claude_code {ends.get(how, '[stream closed]')}"
    assert chat == "  chat claude-x"


def test_a_process_that_dies(spans: Spans) -> None:
    """Its exception reaches the caller, and ends what is open as an error."""
    with pytest.raises(Exception, match="gone"):
        asyncio.run(ask(answer(tool_use("t1")), sdk.ProcessError("gone", exit_code=1)))
    lines = spans.tree().splitlines()
    assert [line.split(" [ERROR")[0] for line in lines] == [
        *("invoke_agent claude_code", "  chat claude-x", "  execute_tool Bash"),
    ]
    assert ["[ERROR" in line for line in lines] == [True, False, True]


def test_a_result_that_is_a_failure(spans: Spans) -> None:
    failed = answer(text("API Error"), error="rate_limit", id=None)
    told = {"is_error": True, "api_error_status": 429, "result": "API Error", "usage": None, "stop_reason": None}
    asyncio.run(ask(failed, result(**told)))
    assert spans.tree().splitlines() == [
        "invoke_agent claude_code [ERROR 429]",
        "  chat claude-x [ERROR rate_limit]",
    ]


@pytest.mark.parametrize(
    "turn",
    [
        [result(usage=None, total_cost_usd=None, result=None)],
        [answer(id=None), result()],
        [answer(tool_use(""), id=None), tool_result(""), result()],
        [tool_result("nobody"), result()],
        [answer(text("x"), parent="nobody"), result()],
        [answer(tool_use("t1")), answer(tool_use("t1"), id="msg_2"), tool_result("t1"), tool_result("t1"), result()],
        [result(), answer(text("later"), id="msg_2"), result()],
        [{"type": "system", "subtype": "init"}, {"type": "new_kind"}, result(is_error=True, subtype="error_max_turns")],
    ],
)
def test_odd_messages(turn: list[Any], spans: Spans) -> None:
    """Whatever comes, nothing fails, nothing is left open, and there is a span for each result."""
    asyncio.run(ask(*turn))
    turns = spans.named("invoke_agent claude_code")
    assert len(turns) == sum(one["type"] == "result" for one in turn)


def test_without_content(spans: Spans, tracing_off: None) -> None:
    tracing.configure(capture_content=False)
    asyncio.run(ask(answer(tool_use("t1", command="secret")), tool_result("t1", "secret"), result(result="secret")))
    assert "secret" not in str([dict(span.attributes or {}) for span in spans.all])


PROCESS = """
import json, os, sys
def say(**message): print(json.dumps(message), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked["type"] == "control_request":
        told = {"subtype": "success", "request_id": asked["request_id"], "response": {}}
        say(type="control_response", response=told)
    elif asked["type"] == "user":
        told = {"subtype": "success", "duration_ms": 1, "duration_api_ms": 1, "is_error": False, "num_turns": 1}
        say(type="result", **told, session_id="s-1", result=os.environ.get("TRACEPARENT", ""))
        break
"""


@pytest.mark.parametrize("kind", ["query", "client"])
def test_the_process_is_in_the_same_trace(kind: str, spans: Spans, tmp_path: Path, monkeypatch: Any) -> None:
    """It is started with the span that it belongs below: the turn, or the caller's span where a client connects."""
    program, script = tmp_path / "claude", tmp_path / "claude.py"
    script.write_text(PROCESS)
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{script}'\n")  # its path may have spaces
    program.chmod(0o755)
    monkeypatch.setenv("CLAUDE_AGENT_SDK_SKIP_VERSION_CHECK", "1")
    options = sdk.ClaudeAgentOptions(cli_path=str(program))

    async def read() -> str:
        with tracing.span("caller"):
            if kind == "query":
                return [str(one.result) async for one in sdk.query(prompt="a", options=options)][-1]  # type: ignore[union-attr]
            async with sdk.ClaudeSDKClient(options) as client:
                await client.query("a")
                return [str(one.result) async for one in client.receive_response()][-1]  # type: ignore[union-attr]

    _, trace_id, span_id, _ = asyncio.run(read()).split("-")
    (above,) = spans.named("invoke_agent claude_code" if kind == "query" else "caller")
    assert above.context is not None
    assert (int(trace_id, 16), int(span_id, 16)) == (above.context.trace_id, above.context.span_id)
