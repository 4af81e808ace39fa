"""Networks of AG2's agents: who is told something has its turn in the trace of who told it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

network = pytest.importorskip("ag2.network", reason="AG2 1.x is not installed")

from ag2 import Agent
from ag2.config import ModelProvider
from ag2.events import ToolCallEvent
from ag2.knowledge import MemoryKnowledgeStore
from ag2.testing import TestConfig

from mlspan import tracing
from mlspan.testing import Spans

pytestmark = pytest.mark.usefixtures("ag2_on")


def _model(*turns: Any) -> Any:
    return TestConfig(*turns, provider=ModelProvider.OPENAI, model="test")


@pytest.mark.parametrize("within", ["caller", "nothing"])
async def test_a_network_is_one_tree(within: str, spans: Spans) -> None:
    """Who is told something has its turn in the trace of who told it, and links to the hand-off that led to it."""

    def ask_bob() -> Any:
        return network.Handoff(target="bob", reason="knows better")

    async def say(hub: Any) -> None:
        ada = Agent("ada", config=_model(ToolCallEvent("ask_bob", arguments="{}"), "asked"), tools=[ask_bob])
        agents = [Agent("boss", config=_model("never")), ada, Agent("bob", config=_model("done"))]
        clients = [await hub.register(agent, attach_plugin=False) for agent in agents]
        graph = network.TransitionGraph.sequence([client.agent_id for client in clients])
        knobs = {"graph": graph.to_dict()}
        channel = await clients[0].open(type=network.WORKFLOW_TYPE, target=["ada", "bob"], knobs=knobs)
        await channel.send("go")
        for _ in range(500):
            await asyncio.sleep(0.01)
            if (await channel.info()).is_terminal():
                return

    hub = await network.Hub.open(MemoryKnowledgeStore())
    try:
        if within == "caller":
            with tracing.session("s1"), tracing.span("caller"):
                await say(hub)
        else:
            await say(hub)
    finally:
        await hub.close()
    turns = [
        "invoke_agent ada",
        "  chat test",
        "  execute_tool ask_bob",
        "  chat test",
        "invoke_agent bob",
        "  chat test",
    ]
    if within == "nothing":  # nothing that they could stand below
        assert spans.tree() == "\n".join(turns)
        return
    assert spans.tree("session.id").replace(" [session.id=s1]", "") == "\n".join(
        ["caller", *(f"  {one}" for one in turns)]
    )
    assert all((span.attributes or {})["session.id"] == "s1" for span in spans.all)
    (tool,), (turn,) = spans.named("execute_tool ask_bob"), spans.named("invoke_agent bob")
    assert [(link.context.span_id, dict(link.attributes)) for link in turn.links] == [
        (tool.context.span_id, {"mlspan.link": "handed_off_by"})
    ]
