"""The agents of AG2 1.x: turns, tools, people, subagents, and networks of them."""

from __future__ import annotations

import asyncio
import importlib.util
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

if importlib.util.find_spec("ag2") is None:
    pytest.skip("AG2 1.x is not installed", allow_module_level=True)

from ag2_pairs import counted, get_weather, journal, told

from mlspan import integrations, tracing
from mlspan.integrations import ag2
from mlspan.testing import Spans, content


@pytest.fixture(autouse=True)
def _ag2_on(spans: Spans) -> Iterator[None]:
    ag2.autolog(log_traces=True)
    yield
    ag2.autolog(disable=True)


@pytest.fixture
async def http() -> Any:
    """AG2 closes no client of its own, so the tests give it one that they close."""
    import openai

    async with openai.DefaultAsyncHttpxClient() as client:
        yield client


def assistant(base_url: str, http: Any, *, streaming: bool = False, **more: Any) -> Any:
    from ag2 import Agent
    from ag2.config import OpenAIConfig

    options = {"api_key": "test", "max_retries": 0, "streaming": streaming, "http_client": http}
    return Agent("assistant", "Be brief.", config=OpenAIConfig("gpt-4o-mini", base_url=base_url, **options), **more)


TURN = """\
invoke_agent assistant
  chat gpt-4o-mini [7 in, 7 out]
  execute_tool get_weather
  chat gpt-4o-mini [10 in, 6 out]"""


@pytest.mark.parametrize("openai_too", [False, True])
async def test_an_agent_with_a_tool_is_one_tree(aimock: str, http: Any, spans: Spans, *, openai_too: bool) -> None:
    """A turn, its calls of the model and of tools; the tokens are the server's, with the OpenAI hook on and off."""
    if openai_too:
        integrations.openai.autolog()
    before = len(journal(aimock))
    try:
        reply = await assistant(aimock, http, tools=[get_weather]).ask("weather in Paris?")
    finally:
        integrations.openai.autolog(disable=True)
    assert reply.body == "It is sunny in Paris."
    assert spans.tree() == TURN
    requests = journal(aimock)[before:]
    assert len(requests) == 2
    assert told(spans) == counted(aimock, requests)
    turn, asked, tool, answered = spans.all
    assert (content(turn, "mlspan.input"), content(turn, "mlspan.output")) == ("weather in Paris?", reply.body)
    assert content(asked, "gen_ai.output.messages")[0]["parts"][0]["arguments"] == {"city": "Paris"}
    assert content(asked, "gen_ai.tool.definitions")[0]["name"] == "get_weather"
    assert content(answered, "gen_ai.input.messages")[-1]["parts"] == [
        {"type": "tool_call_response", "response": "sunny in Paris", "id": "call_1"}
    ]
    assert (tool.attributes or {})["gen_ai.tool.call.result"] == "sunny in Paris"
    assert [link.context.span_id for link in tool.links] == [asked.context.span_id]


@pytest.mark.any_span  # a scripted model has neither a provider nor a name
async def test_agents_below_agents(spans: Spans) -> None:
    """An agent as another's tool; a tool that fails; a person who is asked."""
    from ag2 import Agent, Context
    from ag2.events import ToolCallEvent
    from ag2.testing import TestConfig

    def divide() -> float:
        return 1 / 0

    async def ask_person(context: Context) -> str:
        return await context.input("May I?")

    def answer(_: Any) -> str:
        return "yes"

    helper = Agent("helper", config=TestConfig("done"))
    calls = [
        ToolCallEvent("divide", arguments="{}"),
        ToolCallEvent("ask_person", arguments="{}"),
        ToolCallEvent(helper.as_tool(description="Helps.").name, arguments='{"objective": "help"}'),
    ]
    model = TestConfig(*calls, "finished", raise_tool_errors=False)
    tools = [divide, ask_person, helper.as_tool(description="Helps.")]
    await Agent("boss", config=model, tools=tools, hitl_hook=answer).ask("go")
    assert spans.tree() == (
        "invoke_agent boss\n"
        "  chat\n"
        "  execute_tool divide [ERROR ZeroDivisionError]\n"
        "  chat\n"
        "  execute_tool ask_person\n"
        "    human input\n"
        "  chat\n"
        "  execute_tool task_helper\n"
        "    invoke_agent helper\n"
        "      chat\n"
        "  chat"
    )


async def test_many_agents_in_one_loop_keep_apart(aimock: str, http: Any, spans: Spans) -> None:
    """Twenty turns at once, of one agent, by ask and by run: each a trace of its own, in its caller's session."""
    agent = assistant(aimock, http)

    async def turn(number: int) -> None:
        with tracing.session(f"s{number}"):
            if number % 2:
                await agent.ask("hello")
            else:
                async with agent.run("hello") as run:
                    await run.result()

    await asyncio.gather(*map(turn, range(20)))
    assert sorted(spans.tree("session.id").split("\n")) == sorted(
        f"{line}session.id=s{number}]"
        for number in range(20)
        for line in ("invoke_agent assistant [", "  chat gpt-4o-mini [12 in, 5 out, ")
    )
    assert sorted(Counter(span.context.trace_id for span in spans.all).values()) == [2] * 20


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_cancelled_turn_says_so(scripted: Any, http: Any, spans: Spans, *, streaming: bool) -> None:
    """Cancelled while the model thinks: the call says so, and the turn above it."""
    scripted.reply({}, delay=0.5)
    turn = asyncio.create_task(assistant(scripted.base_url, http, streaming=streaming).ask("hello"))
    await asyncio.sleep(0.3)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    cancelled = "ERROR asyncio.exceptions.CancelledError"
    assert spans.tree() == f"invoke_agent assistant [{cancelled}]\n  chat gpt-4o-mini [{cancelled}]"


async def test_agents_disabled_are_as_they_were(aimock: str, http: Any, spans: Spans) -> None:
    """disable=True brings the very original back; an agent that was made before is silent."""
    from ag2 import Agent

    agent = assistant(aimock, http)
    ag2.autolog(disable=True)
    assert Agent._drive_scope.__module__ == "ag2.agent"
    assert "mlspan" not in Agent._drive_scope.__code__.co_filename
    await agent.ask("hello")
    assert spans.all == []
