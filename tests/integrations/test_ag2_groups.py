"""The classic API of AG2: groups, queues and nests of chats, hand-offs, and runs in threads."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

autogen = pytest.importorskip("autogen", reason="AG2 0.x is not installed")  # before autolog: classes are there already

from ag2_pairs import config, pair

from mlspan import tracing
from mlspan.testing import Spans, content

pytestmark = pytest.mark.usefixtures("ag2_on")


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


@pytest.mark.parametrize("start", ["initiate", "run"])
def test_a_handoff_in_a_group(start: str, aimock: str, spans: Spans) -> None:
    """The turn of the agent that a tool hands over to is linked to the tool; a run in a thread is the same."""
    group = pytest.importorskip("autogen.agentchat.group")
    from autogen.agentchat import initiate_group_chat, run_group_chat
    from autogen.agentchat.group.patterns import DefaultPattern

    def hand_over(city: str) -> Any:
        return group.ReplyResult(message="hello", target=group.AgentNameTarget("bob"))

    hand_over.__name__ = "get_weather"
    ada = autogen.ConversableAgent("ada", llm_config=config(aimock), functions=[hand_over])
    bob = autogen.ConversableAgent("bob", llm_config=config(aimock))
    bob.register_reply([autogen.Agent, None], lambda *_, **__: (True, "done"))
    pattern = DefaultPattern(initial_agent=ada, agents=[ada, bob])
    with tracing.span("caller"):
        if start == "initiate":
            initiate_group_chat(pattern, messages="weather in Paris?", max_rounds=4)
        else:
            run_group_chat(pattern, messages="weather in Paris?", max_rounds=4).process()
    for thread in threading.enumerate():
        if "_initiate_group_chat" in thread.name:
            thread.join(5)
    assert spans.tree() == (
        "caller\n"
        "  invoke_workflow _User to chat_manager\n"
        "    invoke_agent chat_manager\n"
        "      invoke_agent ada\n"
        "        chat gpt-4o-mini [12 in, 7 out]\n"
        "      invoke_agent _Group_Tool_Executor\n"
        "        execute_tool get_weather\n"
        "      invoke_agent bob"
    )
    (tool,), (turn,) = spans.named("execute_tool get_weather"), spans.named("invoke_agent bob")
    assert content(tool, "gen_ai.tool.call.result") == {"target": "bob", "message": "hello"}
    assert [(link.context.span_id, dict(link.attributes)) for link in turn.links] == [
        (tool.context.span_id, {"mlspan.link": "handed_off_by"})
    ]


def test_nested_chats_nest(aimock: str, spans: Spans) -> None:
    """A reply that is made by chats of the agent's own has them below it."""
    inner = autogen.ConversableAgent("inner", llm_config=config(aimock))
    outer = autogen.ConversableAgent("outer", llm_config=False)
    user = autogen.UserProxyAgent("user", human_input_mode="NEVER", code_execution_config=False)
    outer.register_nested_chats([{"recipient": inner, "message": "hello", "max_turns": 1}], trigger=user)
    user.initiate_chat(outer, message="go", max_turns=1, silent=True)
    assert spans.tree() == (
        "invoke_workflow user to outer\n"
        "  invoke_agent outer\n"
        "    invoke_workflow outer to inner\n"
        "      invoke_agent inner\n"
        "        chat gpt-4o-mini [12 in, 5 out]"
    )


def test_a_handoff_in_a_swarm(aimock: str, spans: Spans) -> None:
    """Swarms, which later versions have not, say it in other words."""
    swarm = pytest.importorskip("autogen.agentchat.contrib.swarm_agent")

    def hand_over(city: str) -> Any:
        return swarm.SwarmResult(values="hello", agent="bob")

    hand_over.__name__ = "get_weather"
    ada = autogen.ConversableAgent("ada", llm_config=config(aimock), functions=[hand_over])
    bob = autogen.ConversableAgent("bob", llm_config=config(aimock))
    bob.register_reply([autogen.Agent, None], lambda *_, **__: (True, "done"))
    swarm.initiate_swarm_chat(initial_agent=ada, agents=[ada, bob], messages="weather in Paris?", max_rounds=4)
    (tool,), (turn,) = spans.named("execute_tool get_weather"), spans.named("invoke_agent bob")
    assert content(tool, "gen_ai.tool.call.result") == {"target": "bob", "message": "hello"}
    assert [link.context.span_id for link in turn.links] == [tool.context.span_id]
    assert len({span.context.trace_id for span in spans.all}) == 1


def test_a_group_in_a_group_is_two_managers(spans: Spans) -> None:
    """Managers are all of the same name unless somebody says otherwise: each has a turn all the same."""
    user = autogen.UserProxyAgent("user", human_input_mode="NEVER", code_execution_config=False)
    ada, bob = (autogen.ConversableAgent(name, llm_config=False, default_auto_reply="hello") for name in ("ada", "bob"))
    group = autogen.GroupChat([ada, bob], [], max_round=2, speaker_selection_method="round_robin")
    inner = autogen.GroupChatManager(group, llm_config=False)
    outer = autogen.GroupChat([user, inner], [], max_round=2, speaker_selection_method="round_robin")
    user.initiate_chat(autogen.GroupChatManager(outer, llm_config=False), message="go", max_turns=1, silent=True)
    assert spans.tree().split("\n")[:4] == [
        "invoke_workflow user to chat_manager",
        "  invoke_agent chat_manager",
        "    invoke_agent chat_manager",
        "      invoke_agent ada",
    ]


def test_a_method_that_calls_its_parents_is_one_operation(aimock: str, spans: Spans) -> None:
    """Classes of the user's, defined after autolog: what they override is traced, and counted once."""

    class Patient(autogen.ConversableAgent):
        def generate_reply(self, *args: Any, **kwargs: Any) -> Any:
            return super().generate_reply(*args, **kwargs)

        def initiate_chat(self, *args: Any, **kwargs: Any) -> Any:
            return super().initiate_chat(*args, **kwargs)

    class Canned(autogen.ConversableAgent):
        def generate_reply(self, *_: Any, **__: Any) -> Any:
            return "hello"

    Patient("ada", llm_config=config(aimock)).initiate_chat(
        Canned("bob", llm_config=False), message="hello", max_turns=2, silent=True
    )
    assert spans.tree() == (
        "invoke_workflow ada to bob\n"
        "  invoke_agent bob\n"
        "  invoke_agent ada\n"
        "    chat gpt-4o-mini [12 in, 5 out]\n"
        "  invoke_agent bob"
    )


def test_a_queue_of_chats_is_one_tree(aimock: str, spans: Spans) -> None:
    """initiate_chats, of an agent and alone, sync and async."""
    user = autogen.UserProxyAgent("user", human_input_mode="NEVER", code_execution_config=False)
    ada, bob = (autogen.ConversableAgent(name, llm_config=config(aimock)) for name in ("ada", "bob"))
    queue = [{"recipient": agent, "message": "hello", "max_turns": 1, "silent": True} for agent in (ada, bob)]
    both = "".join(
        f"\n  invoke_workflow user to {name}\n    invoke_agent {name}\n      chat gpt-4o-mini [12 in, 5 out]"
        for name in ("ada", "bob")
    )
    user.initiate_chats(queue)
    autogen.initiate_chats([{"sender": user, **one} for one in queue])
    assert spans.tree() == "\n".join([f"invoke_workflow chats of user{both}"] * 2)
    assert content(spans.all[0], "mlspan.output") == ["Hi there!", "Hi there!"]
    spans.clear()
    asyncio.run(user.a_initiate_chats([{"chat_id": number, **one} for number, one in enumerate(queue)]))
    assert sorted(spans.tree().split("\n")) == sorted(f"invoke_workflow chats of user{both}".split("\n"))


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_run_left_early_ends(colour: str, aimock: str, spans: Spans) -> None:
    """run_iter and a_run_iter: whoever leaves after the first event leaves a thread that runs to its end."""
    if not hasattr(autogen.ConversableAgent, "run_iter"):
        pytest.skip("this version has no run_iter")
    both = pair(aimock)

    async def leave() -> None:
        async for _ in both.user.a_run_iter(both.assistant, message="hello", max_turns=1):
            break

    with tracing.span("caller"):
        if colour == "sync":
            for _ in both.user.run_iter(both.assistant, message="hello", max_turns=1):
                break
        else:
            asyncio.run(leave())
    for thread in threading.enumerate():
        if thread.daemon and ("initiate_chat" in thread.name or "run_in_thread" in thread.name):
            thread.join(5)
    assert spans.tree() == (
        "caller\n  invoke_workflow user to assistant\n    invoke_agent assistant\n      chat gpt-4o-mini [12 in, 5 out]"
    )
