"""AutoGen's teams: each kind one workflow, across the message loop, apart from its neighbours."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from dataclasses import dataclass

import pytest

pytest.importorskip("autogen_agentchat")
pytest.importorskip("autogen_ext.models.openai")

from autogen_agentchat.agents import AssistantAgent, SocietyOfMindAgent
from autogen_agentchat.conditions import HandoffTermination, TextMentionTermination
from autogen_agentchat.teams import (
    DiGraphBuilder,
    GraphFlow,
    MagenticOneGroupChat,
    RoundRobinGroupChat,
    SelectorGroupChat,
    Swarm,
)
from autogen_agentchat.tools import AgentTool, TeamTool
from autogen_core import (
    AgentId,
    DefaultTopicId,
    MessageContext,
    RoutedAgent,
    SingleThreadedAgentRuntime,
    default_subscription,
    message_handler,
)
from autogen_core.models import CreateResult, RequestUsage, UserMessage
from autogen_kit import asks_for, classes, replay
from opentelemetry.instrumentation.utils import suppress_instrumentation

from mlspan import tracing
from mlspan.testing import Spans

pytestmark = pytest.mark.usefixtures("autogen_on")

DONE = TextMentionTermination("sunny")


async def test_a_handoff_is_a_link(spans: Spans) -> None:
    """Swarm: the turn that takes over points to the one that gave, and the handoff's tool to who asked for it."""
    front = AssistantAgent("front", replay(asks_for("transfer_to_back")), handoffs=["back"])
    back = AssistantAgent("back", replay("sunny"))
    await Swarm([front, back], termination_condition=DONE).run(task="weather?")
    assert spans.tree() == (
        "invoke_workflow Swarm\n"
        "  invoke_agent front\n"
        "    chat [3 in, 4 out]\n"
        "    execute_tool transfer_to_back\n"
        "  invoke_agent back\n"
        "    chat"
    )
    _, giving, asked, tool, taking, _ = spans.all
    assert [(link.context.span_id, link.attributes) for link in taking.links] == [
        (giving.context.span_id, {"mlspan.link": "handed_off_by"})
    ]
    assert [link.context.span_id for link in tool.links] == [asked.context.span_id]


async def test_a_selector_thinks_below_the_team(spans: Spans) -> None:
    """The model that chooses who speaks is called by the team itself."""
    agents = [AssistantAgent(name, replay("sunny")) for name in ("ada", "bob")]
    await SelectorGroupChat(list(agents), replay("bob"), termination_condition=DONE).run(task="weather?")
    assert spans.tree() == "invoke_workflow SelectorGroupChat\n  chat\n  invoke_agent bob\n    chat"


async def test_a_graph_runs_its_branches_side_by_side(spans: Spans) -> None:
    """GraphFlow: turns that overlap have the same parent, and each its own model call."""
    ada, bob, cyd = (AssistantAgent(name, replay("fine")) for name in ("ada", "bob", "cyd"))
    graph = DiGraphBuilder().add_node(ada).add_node(bob).add_node(cyd).add_edge(ada, bob).add_edge(ada, cyd).build()
    await GraphFlow([ada, bob, cyd], graph).run(task="weather?")
    lines = spans.tree().split("\n")
    assert lines[0] == "invoke_workflow GraphFlow"
    assert sorted(lines[1:]) == sorted(line for name in ("ada", "bob", "cyd") for line in turn_of(name))


def turn_of(name: str) -> list[str]:
    return [f"  invoke_agent {name}", "    chat"]


async def test_magentic_one_is_one_tree(spans: Spans) -> None:
    """The orchestrator's plans, ledger and last word stand below the team."""
    reasoned = {"reason": "r", "answer": False}
    ledger = {
        "is_request_satisfied": reasoned,
        "is_in_loop": reasoned,
        "is_progress_being_made": {"reason": "r", "answer": True},
        "next_speaker": {"reason": "r", "answer": "ada"},
        "instruction_or_question": {"reason": "r", "answer": "go"},
    }
    done = {**ledger, "is_request_satisfied": {"reason": "r", "answer": True}}
    planner = replay("facts", "plan", json.dumps(ledger), json.dumps(done), "sunny")
    await MagenticOneGroupChat([AssistantAgent("ada", replay("fine"))], planner).run(task="weather?")
    assert spans.tree() == (
        "invoke_workflow MagenticOneGroupChat\n  chat\n  chat\n  chat\n  invoke_agent ada\n    chat\n  chat\n  chat"
    )


async def test_teams_nest(spans: Spans) -> None:
    """A team that takes part in another, is an agent's mind, or its tool, is a workflow below it."""
    inner = RoundRobinGroupChat([AssistantAgent("ada", replay("fine"))], max_turns=1, name="inner")
    mind = SocietyOfMindAgent(
        "mind", RoundRobinGroupChat([AssistantAgent("bob", replay("fine"))], max_turns=1), replay("fine")
    )
    tool = AgentTool(AssistantAgent("cyd", replay("fine")))
    user = AssistantAgent("dan", replay(asks_for("cyd", task="?")), tools=[tool])
    await RoundRobinGroupChat([inner, mind, user], max_turns=3).run(task="weather?")
    assert spans.tree() == (
        "invoke_workflow RoundRobinGroupChat\n"
        "  invoke_workflow inner\n"
        "    invoke_agent ada\n"
        "      chat\n"
        "  invoke_agent mind\n"
        "    invoke_workflow RoundRobinGroupChat\n"
        "      invoke_agent bob\n"
        "        chat\n"
        "    chat\n"
        "  invoke_agent dan\n"
        "    chat [3 in, 4 out]\n"
        "    execute_tool cyd\n"
        "      invoke_agent cyd\n"
        "        chat"
    )


async def test_a_team_as_a_tool(spans: Spans) -> None:
    """A team that an agent asks as its tool is a workflow below that call, and each model's tokens count once."""
    usage = RequestUsage(prompt_tokens=5, completion_tokens=6)
    fine = CreateResult(finish_reason="stop", content="fine", usage=usage, cached=False)
    team = RoundRobinGroupChat([AssistantAgent("ada", replay(fine))], max_turns=1)
    tool = TeamTool(team, "weather_team", "Knows the weather.")
    await AssistantAgent("dan", replay(asks_for("weather_team", task="?")), tools=[tool]).run(task="weather?")
    assert spans.tree() == (
        "invoke_agent dan\n"
        "  chat [3 in, 4 out]\n"
        "  execute_tool weather_team\n"
        "    invoke_workflow RoundRobinGroupChat\n"
        "      invoke_agent ada\n"
        "        chat [5 in, 6 out]"
    )


# The message loop.


async def test_many_teams_in_one_loop_keep_apart(spans: Spans) -> None:
    """Forty runs at once, half of them on one runtime that was started elsewhere: each is a trace of its own, under
    its caller, in its caller's session.
    """
    with tracing.span("starts the runtime"):
        runtime = SingleThreadedAgentRuntime(ignore_unhandled_exceptions=False)
        runtime.start()

    async def run(number: int) -> None:
        agents = [AssistantAgent(f"{name}{number}", replay("fine")) for name in ("ada", "bob")]
        shared = runtime if number % 2 else None
        with tracing.session(f"s{number}"), tracing.span(f"caller {number}"):
            await RoundRobinGroupChat(list(agents), max_turns=2, runtime=shared).run(task="weather?")

    await asyncio.gather(*map(run, range(40)))
    await runtime.stop_when_idle()
    assert sorted(spans.tree("session.id").split("\n")) == sorted(
        ["starts the runtime", *(line for number in range(40) for line in lines_of(number))]
    )
    traces = Counter(span.context.trace_id for span in spans.all)
    assert sorted(traces.values()) == [1, *[6] * 40]
    for trace_id in traces:
        sessions = {
            (span.attributes or {}).get("session.id") for span in spans.all if span.context.trace_id == trace_id
        }
        assert len(sessions) == 1


def lines_of(number: int) -> list[str]:
    mark = f"session.id=s{number}"
    turns = [
        line
        for name in ("ada", "bob")
        for line in (f"    invoke_agent {name}{number} [{mark}]", f"      chat [{mark}]")
    ]
    return [f"caller {number} [{mark}]", f"  invoke_workflow RoundRobinGroupChat [{mark}]", *turns]


def test_teams_in_threads_keep_apart(spans: Spans) -> None:
    """Three threads, each with a loop of its own, give three traces."""

    async def run(number: int) -> None:
        agents = [AssistantAgent(f"{name}{number}", replay("fine")) for name in ("ada", "bob")]
        await RoundRobinGroupChat(list(agents), max_turns=2).run(task="weather?")

    threads = [threading.Thread(target=lambda number=number: asyncio.run(run(number))) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    names: dict[int, set[str]] = {}
    for span in spans.all:
        names.setdefault(span.context.trace_id, set()).add(span.name)
    assert sorted(map(sorted, names.values())) == [
        ["chat", f"invoke_agent ada{number}", f"invoke_agent bob{number}", "invoke_workflow RoundRobinGroupChat"]
        for number in range(3)
    ]


@dataclass
class Note:
    text: str


async def test_agents_of_the_core_stand_below_who_wrote_to_them(spans: Spans) -> None:
    """Without teams: what handles a message, sent or published, stands where its sender stood."""

    class Clerk(RoutedAgent):
        @message_handler
        async def take(self, message: Note, ctx: MessageContext) -> Note:
            with tracing.span("clerk"):
                await self.publish_message(message, DefaultTopicId())
            return message

    @default_subscription
    class Scribe(RoutedAgent):
        @message_handler
        async def take(self, message: Note, ctx: MessageContext) -> None:
            await replay("fine").create([UserMessage(content=message.text, source="user")])

    runtime = SingleThreadedAgentRuntime()
    await Clerk.register(runtime, "clerk", lambda: Clerk("a clerk"))
    await Scribe.register(runtime, "scribe", lambda: Scribe("a scribe"))
    runtime.start()
    with tracing.span("caller"):
        await runtime.send_message(Note("hello"), AgentId("clerk", "default"))
    await runtime.stop_when_idle()
    assert spans.tree() == "caller\n  clerk\n    chat"


async def test_what_is_suppressed_stays_so_across_the_loop(spans: Spans) -> None:
    """A team inside suppress_instrumentation is recorded by us nowhere, on a runtime started elsewhere too."""
    runtime = SingleThreadedAgentRuntime()
    runtime.start()
    with suppress_instrumentation():
        await RoundRobinGroupChat([AssistantAgent("ada", replay("fine"))], max_turns=1, runtime=runtime).run(task="?")
    await runtime.stop_when_idle()
    assert {(span.instrumentation_scope or spans).name for span in spans.all} <= {  # AutoGen's own, as ever
        "autogen-core",
        "autogen SingleThreadedAgentRuntime",
    }
    spans.clear()


async def test_a_handoff_by_hand_is_a_link_too(spans: Spans) -> None:
    """A team that stops to hand over to its user, and the agent that the application then calls."""
    front = AssistantAgent("front", replay(asks_for("transfer_to_user")), handoffs=["user"])
    stopped = await Swarm([front], termination_condition=HandoffTermination("user")).run(task="weather?")
    await classes()["bare"]("user").run(task=stopped.messages[-1])  # type: ignore[call-arg]
    assert spans.tree("mlspan.stop_reason") == (
        "invoke_workflow Swarm [mlspan.stop_reason=Handoff to user from front detected.]\n"
        "  invoke_agent front\n"
        "    chat [3 in, 4 out]\n"
        "    execute_tool transfer_to_user\n"
        "invoke_agent user"
    )
    _, giving, _, _, taking = spans.all
    assert [link.context.span_id for link in taking.links] == [giving.context.span_id]
