"""However a run of AutoGen's ends, its spans end once and say how."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

pytest.importorskip("autogen_agentchat")
pytest.importorskip("autogen_ext.models.openai")

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import Response
from autogen_agentchat.messages import TextMessage
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import CancellationToken
from autogen_core.models import CreateResult, RequestUsage, UserMessage
from autogen_ext.models.replay import ReplayChatCompletionClient
from autogen_kit import INFO, MODEL, asks_for, classes, openai_model, replay
from opentelemetry import trace

from mlspan.testing import Spans, content

pytestmark = pytest.mark.usefixtures("autogen_on")

ENDS = {
    "exhausted": "",
    "break": " [stream closed]",
    "aclose": " [stream closed]",
    "cancelled": " [ERROR asyncio.exceptions.CancelledError]",
    "exception": " [ERROR ZeroDivisionError]",
    "thrown": " [ERROR KeyError]",
}


async def leave(stream: AsyncGenerator[Any, None], end: str) -> None:
    """Read *stream* to the end that is named."""
    if end == "aclose":
        await anext(stream)
        await stream.aclose()
    elif end == "break":
        async for _ in stream:
            break
        del stream
        await asyncio.sleep(0.05)  # the loop closes what nobody holds any more
    elif end == "thrown":
        await anext(stream)
        with pytest.raises(KeyError):
            await stream.athrow(KeyError("thrown"))
    elif end == "cancelled":
        reading = asyncio.create_task(read_all(stream))
        await asyncio.sleep(0.05)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    elif end == "exception":
        with pytest.raises(ZeroDivisionError):
            await read_all(stream)
    else:
        await read_all(stream)


async def read_all(stream: AsyncGenerator[Any, None]) -> None:
    async for _ in stream:
        assert not trace.get_current_span().get_span_context().is_valid, "a span of ours is current in the caller"


class Talking(classes()["bare"]):  # type: ignore[misc]
    """An agent that says one word, and then what the test wants."""

    end = ""

    async def on_messages_stream(self, messages: Any, cancellation_token: Any) -> AsyncGenerator[Any, None]:
        assert trace.get_current_span().get_span_context().is_valid
        yield TextMessage(content="word", source=self.name)
        assert trace.get_current_span().get_span_context().is_valid
        if self.end == "cancelled":
            await asyncio.sleep(60)
        if self.end == "exception":
            raise ZeroDivisionError
        yield await self.on_messages(messages, cancellation_token)


class Dictating(ReplayChatCompletionClient):
    """A model that says one word, and then what the test wants."""

    end = ""

    async def create_stream(self, *_: Any, **__: Any) -> AsyncGenerator[Any, None]:
        yield "word"
        if self.end == "cancelled":
            await asyncio.sleep(60)
        if self.end == "exception":
            raise ZeroDivisionError
        yield CreateResult(finish_reason="stop", content="word", usage=RequestUsage(1, 1), cached=False)


@pytest.mark.parametrize("end", sorted(ENDS))
async def test_every_end_of_an_agents_stream(end: str, spans: Spans) -> None:
    """However the caller leaves it, the turn's span ends once, says how, and is current only in the agent's code."""
    agent = Talking()
    agent.end = end
    await leave(agent.run_stream(task="hello", output_task_messages=False), end)
    assert spans.tree() == f"invoke_agent echo{ENDS[end]}"


@pytest.mark.parametrize("end", sorted(ENDS))
async def test_every_end_of_a_models_stream(end: str, spans: Spans) -> None:
    """A stream of a model that is left early still says what was said until then."""
    model = Dictating([], model_info=INFO)
    model.end = end
    await leave(model.create_stream([UserMessage(content="hello", source="user")]), end)
    tokens = "1 in, 1 out" if end == "exhausted" else ""
    assert spans.tree() == "chat" + (f" [{tokens}]" if tokens else ENDS[end])
    assert content(spans.one(), "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "word"}]


@pytest.mark.parametrize("end", ["aclose", "break", "thrown"])
async def test_every_end_of_a_teams_stream(end: str, spans: Spans) -> None:
    """A team whose stream is left goes on by itself until it is idle; its span waits for the turns below it."""
    team = RoundRobinGroupChat([Talking()], max_turns=1)
    await leave(team.run_stream(task="hello"), end)
    assert spans.tree() == f"invoke_workflow RoundRobinGroupChat{ENDS[end]}\n  invoke_agent echo"


# What fails, and what is cancelled.


async def test_an_agent_that_fails_fails_its_team(spans: Spans) -> None:
    """The turn has the error itself, the team the one that AutoGen makes of it."""

    def fail() -> None:
        raise ZeroDivisionError("no")

    with pytest.raises(RuntimeError):
        await RoundRobinGroupChat([classes(fail)["bare"]()], max_turns=1).run(task="hello")  # type: ignore[call-arg]
    assert spans.tree() == (
        "invoke_workflow RoundRobinGroupChat [ERROR RuntimeError]\n  invoke_agent echo [ERROR ZeroDivisionError]"
    )


@pytest.mark.parametrize("by", ["token", "task"])
async def test_a_cancelled_run_says_so(by: str, scripted: Any, spans: Spans) -> None:
    """Cancelled by AutoGen's token or by asyncio, while the model thinks: the call says so, and the turn above it."""
    scripted.reply({}, delay=0.5)
    model, token = openai_model(scripted.base_url), CancellationToken()
    run = asyncio.create_task(AssistantAgent("ada", model).run(task="hello", cancellation_token=token))
    await asyncio.sleep(0.2)
    (token if by == "token" else run).cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    cancelled = "ERROR asyncio.exceptions.CancelledError"
    assert spans.tree() == f"invoke_agent ada [{cancelled}]\n  chat {MODEL} [{cancelled}]"
    await model.close()


async def test_a_cancelled_tool_says_so(spans: Spans) -> None:
    """A token that is cancelled in the middle of a tool; the agent itself waits on for ever: AutoGen 0.7 has it so."""

    async def wait() -> str:
        started.set()
        await asyncio.sleep(60)
        return ""

    started, token = asyncio.Event(), CancellationToken()
    agent = AssistantAgent("ada", replay(asks_for("wait")), tools=[wait])
    run = asyncio.create_task(agent.run(task="hello", cancellation_token=token))
    await asyncio.wait_for(started.wait(), 30)
    token.cancel()
    await asyncio.sleep(0.05)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    cancelled = "ERROR asyncio.exceptions.CancelledError"
    assert spans.tree() == (f"invoke_agent ada [{cancelled}]\n  chat [3 in, 4 out]\n  execute_tool wait [{cancelled}]")


async def test_a_cancelled_team_says_so(spans: Spans) -> None:
    """A team's token reaches the turn and the team."""

    class Waiting(classes()["bare"]):  # type: ignore[misc]
        async def on_messages(self, messages: Any, cancellation_token: Any) -> Response:
            waiting = asyncio.ensure_future(asyncio.sleep(60))
            cancellation_token.link_future(waiting)
            started.set()
            await waiting
            return await super().on_messages(messages, cancellation_token)  # type: ignore[no-any-return]

    started, token = asyncio.Event(), CancellationToken()
    run = asyncio.create_task(RoundRobinGroupChat([Waiting()]).run(task="hello", cancellation_token=token))
    await asyncio.wait_for(started.wait(), 30)
    token.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    cancelled = "ERROR asyncio.exceptions.CancelledError"
    assert spans.tree() == f"invoke_workflow RoundRobinGroupChat [{cancelled}]\n  invoke_agent echo [{cancelled}]"
