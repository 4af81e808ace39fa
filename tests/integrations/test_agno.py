"""Agno's agents, teams and workflows: one tree for a run, with the hook of the client below it or without."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

os.environ["AGNO_TELEMETRY"] = "false"
pytest.importorskip("agno", reason="in the nox session agno")
pytest.importorskip("openai")

import contextlib

from agno.agent import Agent
from agno.models.openai import OpenAIChat
from agno.team import Team
from agno.tools import tool
from agno.workflow import Parallel, Step, Workflow
from openai_answers import answer, count_tokens, list_links, stream
from openai_chunks import REFUSAL
from opentelemetry import trace
from scripted_client import ScriptedAsyncCalls, ScriptedCalls, ScriptedClient

from mlspan import integrations, tracing
from mlspan.testing import Spans, content, contracts

ASKS = answer(None, ("call_1", "get_weather", {"city": "Paris"}))
ENDS = answer("It is sunny.")
TREE = "invoke_agent scout\n  chat m [12 in, 5 out]\n  execute_tool get_weather\n  chat m [12 in, 5 out]"


def get_weather(city: str) -> str:
    """The weather in a city."""
    if city == "Nowhere":
        raise LookupError("no such city")
    return f"sunny in {city}"


_models: list[OpenAIChat] = []


def make_model(server: Any) -> OpenAIChat:
    _models.append(OpenAIChat(id="m", base_url=server.base_url, api_key="test", max_retries=0))
    return _models[-1]


def make_agent(server: Any, tools: Any = (get_weather,), name: str = "scout", **options: Any) -> Agent:
    return Agent(model=make_model(server), tools=[*tools], name=name, telemetry=False, **options)


@pytest.fixture(params=["alone", "with openai"])
def _on(request: pytest.FixtureRequest, spans: Spans) -> Iterator[None]:
    integrations.agno.autolog()
    if request.param == "with openai":
        integrations.openai.autolog()
    yield
    _models.clear()
    integrations.agno.autolog(disable=True)
    integrations.openai.autolog(disable=True)


on = pytest.mark.usefixtures("_on")
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
]  # Agno keeps its clients for the length of the process


class Runs(ScriptedClient):
    """An agent without tools, its hook and a server. Agno answers with an error in place of an exception."""

    span: ClassVar[str] = "invoke_agent scout"
    tokens = None
    texts: ClassVar[tuple[str, ...]] = ("a greeting", "It is sunny.")
    answer, refusal, events = ENDS, REFUSAL, stream("One two.")

    def make_client(self) -> Any:
        return make_agent(self.server, tools=())

    make_async_client = make_client

    def release_client(self) -> None:
        pass

    def find_span(self) -> Any:
        (root,) = self.spans.named(self.span)  # type: ignore[attr-defined]
        return root

    def read_answer(self, answer: Any) -> Any:
        return answer.content

    def autolog(self, **options: Any) -> None:
        integrations.agno.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(Agent, "run"), (Agent, "arun"), (Team, "run"), (Workflow, "arun"), (OpenAIChat, "invoke")]

    def test_the_caller_gets_the_same_exception(self) -> None:
        """A run that fails says so in its output, and its span does."""
        self.call_and_fail()  # type: ignore[attr-defined]
        assert self.spans.tree() == (  # type: ignore[attr-defined]
            "invoke_agent scout [ERROR openai.BadRequestError]\n  chat m [ERROR openai.BadRequestError]"
        )


class TestCalls(Runs, ScriptedCalls, contracts.CallContract):
    def ask(self, client: Any, **more: Any) -> Any:
        return client.run("a greeting")


class TestAsyncCalls(Runs, ScriptedAsyncCalls, contracts.AsyncCallContract):
    async def ask(self, client: Any, **more: Any) -> Any:
        return await client.arun("a greeting")

    def test_a_call_that_times_out(self) -> None:
        """Agno answers to a cancellation with a run that is cancelled; every span ends."""

        async def give_up() -> None:
            with contextlib.suppress(asyncio.TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(self.make_hanging_call(), 0.1)

        self._run(give_up)
        assert [span.name for span in self.spans.all] == ["invoke_agent scout", "chat m"]

    def test_calls_at_once(self) -> None:
        async def call_thrice() -> None:
            await asyncio.gather(*(self.make_call() for _ in range(3)))

        self._run(call_thrice)
        assert self.spans.tree() == "\n".join(["invoke_agent scout\n  chat m [12 in, 5 out]"] * 3)


@on
@pytest.mark.parametrize("way", ["run", "stream", "arun", "astream"])
def test_an_agent_with_a_tool(way: str, scripted: Any, spans: Spans) -> None:
    """Agent, model, tool, model; the tool is linked to the call that asked for it."""
    if "stream" in way:
        scripted.stream(*stream(None, ("call_1", "get_weather", {"city": "Paris"})))
        scripted.stream(*stream("It is sunny."))
    else:
        scripted.reply(ASKS)
        scripted.reply(ENDS)
    agent = make_agent(scripted)
    asked: Any = {"session_id": "s-1", "user_id": "u-1"}

    async def run_async() -> None:
        if way == "arun":
            await agent.arun("weather?", **asked)
        else:
            async for _ in agent.arun("weather?", stream=True, **asked):
                assert not trace.get_current_span().get_span_context().is_valid

    if way == "run":
        agent.run("weather?", **asked)
    elif way == "stream":
        for _ in agent.run("weather?", stream=True, **asked):
            assert not trace.get_current_span().get_span_context().is_valid
    else:
        asyncio.run(run_async())
    assert spans.tree() == TREE
    assert list_links(spans, "execute_tool get_weather") == [("asked_by", "chat m")]
    assert count_tokens(spans) == (24, 10)
    root = spans.named("invoke_agent scout")[0]
    known = dict(root.attributes or {})
    assert (content(root, "mlspan.input"), content(root, "mlspan.output")) == ("weather?", "It is sunny.")
    assert (known["gen_ai.conversation.id"], known["user.id"]) == ("s-1", "u-1")
    tool_span = dict(spans.named("execute_tool get_weather")[0].attributes or {})
    assert tool_span["gen_ai.tool.call.result"] == "sunny in Paris"
    first = spans.named("chat m")[0]
    assert content(first, "gen_ai.output.messages")[0]["parts"][0]["arguments"] == {"city": "Paris"}
    assert content(first, "gen_ai.tool.definitions")[0]["name"] == "get_weather"


@on
def test_a_tool_that_fails(scripted: Any, spans: Spans) -> None:
    """Its span says what the tool has raised; the agent goes on."""
    scripted.reply(answer(None, ("call_1", "get_weather", {"city": "Nowhere"})))
    scripted.reply(ENDS)
    make_agent(scripted).run("weather?")
    assert spans.tree() == TREE.replace("get_weather\n", "get_weather [ERROR LookupError]\n")
    assert spans.named("execute_tool get_weather")[0].status.description == "no such city"


@on
def test_a_stream_that_is_left(scripted: Any, spans: Spans) -> None:
    """Every span ends, and nothing is current afterwards."""
    scripted.stream(*stream("It is sunny."))
    for _ in make_agent(scripted).run("weather?", stream=True):
        break
    gc.collect()
    assert not trace.get_current_span().get_span_context().is_valid
    assert spans.tree().splitlines()[0].startswith("invoke_agent scout [stream ")


@on
@pytest.mark.parametrize("way", ["run", "arun"])
def test_a_team(way: str, scripted: Any, spans: Spans) -> None:
    """A member that the leader hands over to is below the tool that does so."""
    asks = ("call_1", "delegate_task_to_member", {"member_id": "scout", "task": "look"})
    scripted.reply(answer(None, asks))
    scripted.reply(ENDS)
    team = Team(members=[make_agent(scripted)], model=make_model(scripted), name="trip", telemetry=False)
    if way == "run":
        team.run("weather?")
    else:
        asyncio.run(team.arun("weather?"))
    assert spans.tree() == (
        "invoke_agent trip\n  chat m [12 in, 5 out]\n  execute_tool delegate_task_to_member\n"
        "    invoke_agent scout\n      chat m [12 in, 5 out]\n  chat m [12 in, 5 out]"
    )
    assert list_links(spans, "execute_tool delegate_task_to_member") == [("asked_by", "chat m")]


@on
@pytest.mark.parametrize("way", ["run", "stream", "arun"])
def test_a_workflow(way: str, scripted: Any, spans: Spans) -> None:
    """Its steps are below it, those that run side by side too."""
    if way == "stream":
        scripted.stream(*stream("It is sunny."))
    else:
        scripted.reply(ENDS)
    agents = [make_agent(scripted, tools=(), name=name) for name in ("one", "two", "three")]
    both = Parallel(Step(name="a", agent=agents[1]), Step(name="b", agent=agents[2]), name="both")
    flow = Workflow(name="flow", steps=[Step(name="look", agent=agents[0]), both], telemetry=False)
    with tracing.session("s-1"):
        if way == "run":
            flow.run("weather?")
        elif way == "stream":
            for _ in flow.run("weather?", stream=True):
                assert not trace.get_current_span().get_span_context().is_valid
        else:
            asyncio.run(flow.arun("weather?"))
    lines = spans.tree().splitlines()
    assert lines[:4] == ["invoke_workflow flow", "  look", "    invoke_agent one", "      chat m [12 in, 5 out]"]
    assert lines[4] == "  both"
    assert sorted(lines[5:]) == sorted(
        ["    a", "      invoke_agent two", "    b", "      invoke_agent three", *["        chat m [12 in, 5 out]"] * 2]
    )
    assert content(spans.named("look")[0], "mlspan.output") == "It is sunny."


@tool(requires_confirmation=True)
def book(city: str) -> str:
    """Book a room."""
    return f"booked in {city}"


@on
def test_a_person_in_the_loop(scripted: Any, spans: Spans) -> None:
    """A run that waits for a person is no failure, and the run that goes on is linked to it."""
    scripted.reply(answer(None, ("call_1", "book", {"city": "Paris"})))
    scripted.reply(ENDS)
    agent = make_agent(scripted, tools=(book,))
    paused = agent.run("book!")
    assert paused.is_paused
    assert spans.tree("mlspan.agno.status", "mlspan.interrupted") == (
        "invoke_agent scout [mlspan.agno.status=paused, mlspan.interrupted=True]\n  chat m [12 in, 5 out]"
    )
    for one in paused.tools:
        one.confirmed = True
    agent.continue_run(run_response=paused)
    assert spans.tree().splitlines()[2:] == [
        "invoke_agent scout",
        "  execute_tool book",
        "  chat m [12 in, 5 out]",
    ]
    assert list_links(spans, "invoke_agent scout") == [("resumes", "invoke_agent scout")]
    assert list_links(spans, "execute_tool book") == [("asked_by", "chat m")]
