"""The classic API of AG2: groups, queues and nests of chats, hand-offs, and runs in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

autogen = pytest.importorskip("autogen", reason="AG2 0.x is not installed")  # before autolog: classes are there already

from ag2_pairs import config, pair

from mlspan import tracing
from mlspan.integrations import ag2
from mlspan.testing import Spans


@pytest.fixture(autouse=True)
def _ag2_on(spans: Spans) -> Iterator[None]:
    ag2.autolog(log_traces=True)
    yield
    ag2.autolog(disable=True)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_run_in_a_thread_stands_below_its_caller(colour: str, aimock: str, spans: Spans) -> None:
    """run() starts a thread and returns; what happens there belongs to whoever called it."""
    both = pair(aimock)

    async def run() -> None:
        response = await both.user.a_run(both.assistant, message="hello", max_turns=1)
        await response.process()

    with tracing.session("s1"), tracing.span("caller"):
        if colour == "sync":
            both.user.run(both.assistant, message="hello", max_turns=1).process()
        else:
            asyncio.run(run())
    for thread in threading.enumerate():
        if thread.daemon and "initiate_chat" in thread.name:
            thread.join(5)
    assert spans.tree("session.id") == (
        "caller [session.id=s1]\n"
        "  invoke_workflow user to assistant [session.id=s1]\n"
        "    invoke_agent assistant [session.id=s1]\n"
        "      chat gpt-4o-mini [12 in, 5 out, session.id=s1]"
    )


def test_a_group_chat_is_one_tree(aimock: str, spans: Spans) -> None:
    """Each speaker's turn stands below that of the manager who gave it the word."""
    ada, bob = (autogen.ConversableAgent(name, llm_config=config(aimock)) for name in ("ada", "bob"))
    user = autogen.UserProxyAgent("user", human_input_mode="NEVER", code_execution_config=False)
    group = autogen.GroupChat([user, ada, bob], max_round=3, speaker_selection_method="round_robin")
    manager = autogen.GroupChatManager(group, llm_config=False)
    ada.register_reply([autogen.Agent, None], lambda *_, **__: (True, "hello, bob"))
    user.initiate_chat(manager, message="hello", silent=True, max_turns=1)
    assert spans.tree() == (
        "invoke_workflow user to chat_manager\n"
        "  invoke_agent chat_manager\n"
        "    invoke_agent ada\n"
        "    invoke_agent bob\n"
        "      chat gpt-4o-mini [12 in, 5 out]"
    )


def test_a_handoff_in_a_group(aimock: str, spans: Spans) -> None:
    """A tool that hands over to another agent, as AG2's group chats have them instead of swarms."""
    group = pytest.importorskip("autogen.agentchat.group")
    from autogen.agentchat import initiate_group_chat
    from autogen.agentchat.group.patterns import DefaultPattern

    def hand_over(city: str) -> Any:
        return group.ReplyResult(message="hello", target=group.AgentNameTarget("bob"))

    hand_over.__name__ = "get_weather"
    ada = autogen.ConversableAgent("ada", llm_config=config(aimock), functions=[hand_over])
    bob = autogen.ConversableAgent("bob", llm_config=config(aimock))
    bob.register_reply([autogen.Agent, None], lambda *_, **__: (True, "done"))
    pattern = DefaultPattern(initial_agent=ada, agents=[ada, bob])
    initiate_group_chat(pattern, messages="weather in Paris?", max_rounds=4)
    lines = [line.split(" [")[0].strip() for line in spans.tree().split("\n")]
    assert lines[0].startswith("invoke_workflow")
    assert lines.count("execute_tool get_weather") == 1
    assert lines.index("invoke_agent ada") < lines.index("execute_tool get_weather") < lines.index("invoke_agent bob")
    assert len({span.context.trace_id for span in spans.all}) == 1


def test_nested_chats_nest(aimock: str, spans: Spans) -> None:
    """A reply that is made by chats of the agent's own has them below it."""
    inner = autogen.ConversableAgent("inner", llm_config=config(aimock))
    outer = autogen.ConversableAgent("outer", llm_config=False)
    user = autogen.UserProxyAgent("user", human_input_mode="NEVER", code_execution_config=False)
    outer.register_nested_chats([{"recipient": inner, "message": "hello", "max_turns": 1}], trigger=user)
    user.initiate_chat(outer, message="go", max_turns=1, silent=True)
    lines = [line for line in spans.tree().split("\n") if "chats of" not in line]
    assert [line.strip() for line in lines] == [
        "invoke_workflow user to outer",
        "invoke_agent outer",
        "invoke_workflow outer to inner",
        "invoke_agent inner",
        "chat gpt-4o-mini [12 in, 5 out]",
    ]
    assert lines[-1].startswith("        ")
