"""Agents and autolog in odd orders: made before it, turned on twice, off in the middle, copied, in two threads at once.

Each framework runs in the nox session of its own name.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import pickle
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, NamedTuple

import pytest
from openai_answers import answer

from mlspan import integrations
from mlspan.testing import Spans

if importlib.util.find_spec("crewai"):
    with warnings.catch_warnings(action="ignore"):  # its own import warns
        import crewai_kit  # here, as CrewAI keeps the folder that it finds when it is imported

ASKS: Final = answer(None, ("call_1", "get_weather", {"city": "Paris"}))
during: list[Callable[[], object]] = []  # what the tool of every agent calls


def get_weather(city: str) -> str:
    """Tell the weather in a city.

    Args:
        city: the city.
    """
    for call in during:
        call()
    return f"sunny in {city}"


class Kit(NamedTuple):
    """How an agent with the tool is made and run, and what the model says: one that asks, then one that ends."""

    make: Callable[[Any], Any]
    run: Callable[[Any], Any]
    asks: Any
    ends: Any
    run_async: Callable[[Any], Awaitable[Any]] | None = None  # None where the framework has no such way


def load_smolagents() -> Kit:
    import smolagents_kit as kit
    from smolagents import tool

    def make(server: Any) -> Any:
        return kit.make_agent(server, tools=[tool(get_weather)])

    return Kit(make, lambda agent: agent.run("weather?"), ASKS, kit.FINISHES)


def load_agno() -> Kit:
    os.environ["AGNO_TELEMETRY"] = "false"
    from agno.agent import Agent
    from agno.models.openai import OpenAIChat

    def make(server: Any) -> Any:
        model = OpenAIChat(id="m", base_url=server.base_url, api_key="test", max_retries=0)
        return Agent(model=model, tools=[get_weather], name="scout", telemetry=False)

    return Kit(
        make,
        lambda agent: agent.run("weather?").content,
        ASKS,
        answer("It is sunny."),
        lambda agent: agent.arun("weather?"),
    )


def load_haystack() -> Kit:
    import haystack_kit as kit
    from haystack.components.agents import Agent
    from haystack.tools import tool

    def make(server: Any) -> Any:
        return Agent(chat_generator=kit.make_generator(server), tools=[tool(get_weather)])

    return Kit(
        make,
        lambda agent: agent.run(messages=kit.ask())["last_message"].text,
        ASKS,
        answer("It is sunny."),
        lambda agent: agent.run_async(messages=kit.ask()),
    )


def load_dspy() -> Kit:
    import dspy

    def say(**fields: str) -> Any:
        text = "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())
        return answer(f"{text}\n\n[[ ## completed ## ]]")

    def make(server: Any) -> Any:
        agent = dspy.ReAct("question -> answer", tools=[get_weather])
        agent.set_lm(dspy.LM("openai/m", api_base=server.base_url, api_key="test", cache=False, num_retries=0))
        return agent

    asks = say(next_thought="look", next_tool_name="get_weather", next_tool_args=json.dumps({"city": "Paris"}))
    ends = say(next_thought="so", next_tool_name="finish", next_tool_args="{}", reasoning="so", answer="It is sunny.")
    return Kit(
        make,
        lambda agent: agent(question="weather?").answer,
        asks,
        ends,
        lambda agent: agent.acall(question="weather?"),
    )


def load_crewai() -> Kit:
    from crewai import Crew
    from crewai.tools import tool

    def make(server: Any) -> Any:
        agent = crewai_kit.make_agent(crewai_kit.make_model(server), tools=[tool(get_weather)])
        return Crew(agents=[agent], tasks=[crewai_kit.make_task(agent, "look")], name="trip")

    return Kit(
        make,
        lambda crew: crew.kickoff().raw,
        crewai_kit.ASK_WEATHER,
        crewai_kit.say("It is sunny."),
        lambda crew: crew.akickoff(),
    )


LOADERS: Final = {
    "agno": load_agno,
    "crewai": load_crewai,
    "dspy": load_dspy,
    "haystack": load_haystack,
    "smolagents": load_smolagents,
}
# They leave the clients of their models to the collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:(?s).*ReadOnly:UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Subject(NamedTuple):
    """A framework, its integration, and the tree of a run that is recorded from its beginning to its end."""

    kit: Kit
    integration: Any
    server: Any

    def script(self, *answers: Any) -> None:
        self.server.clear()
        for one in answers or (self.kit.asks, self.kit.ends):
            self.server.reply(one)


@pytest.fixture(scope="module", autouse=True)
def handler_threads() -> None:
    """Start the threads of CrewAI's event bus, which stay, and are none that a test leaves."""
    if importlib.util.find_spec("crewai"):
        crewai_kit.start_handler_threads()


@pytest.fixture(params=[name for name in LOADERS if importlib.util.find_spec(name)])
def subject(request: pytest.FixtureRequest, scripted: Any, spans: Spans) -> Iterator[Subject]:
    pytest.importorskip("openai")
    found = Subject(LOADERS[request.param](), getattr(integrations, request.param), scripted)
    found.script()
    yield found
    during.clear()
    found.integration.autolog(disable=True)


def read_tree(subject: Subject, spans: Spans) -> str:
    """Return the tree of a run of an agent that is made with the integration on."""
    subject.integration.autolog()
    subject.script()
    assert "sunny" in str(subject.kit.run(subject.kit.make(subject.server)))
    tree = spans.tree()
    spans.clear()
    subject.script()
    return tree


def test_an_agent_that_was_made_before(subject: Subject, spans: Spans) -> None:
    """It has the tree of one that is made later, once, however often autolog is called."""
    agent = subject.kit.make(subject.server)
    expected = read_tree(subject, spans)
    assert "execute_tool get_weather" in expected
    subject.integration.autolog()
    subject.integration.autolog(log_traces=True)
    subject.kit.run(agent)
    assert spans.tree() == expected


def test_off_in_the_middle_of_a_run(subject: Subject, spans: Spans) -> None:
    """The run ends as ever and leaves no span open; then nothing is recorded, and turned on again all is."""
    expected = read_tree(subject, spans)
    agent = subject.kit.make(subject.server)
    during.append(lambda: subject.integration.autolog(disable=True))
    assert "sunny" in str(subject.kit.run(agent))
    during.clear()
    assert spans.tree().partition("\n")[0] == expected.partition("\n")[0]
    spans.clear()
    subject.script()
    subject.kit.run(agent)
    assert spans.tree() == ""
    subject.integration.autolog()
    subject.script()
    subject.kit.run(agent)
    assert spans.tree() == expected


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda agent: pickle.loads(pickle.dumps(agent))])
def test_a_copy_of_an_agent(way: Callable[[Any], Any], subject: Subject, spans: Spans) -> None:
    """What can be copied without mlspan can be with it, after a run as well, and runs as the original does."""
    bare, expected = subject.kit.make(subject.server), read_tree(subject, spans)
    subject.integration.autolog(disable=True)
    outcome = copy_agent(way, bare)
    subject.integration.autolog()
    copied = copy_agent(way, agent := subject.kit.make(subject.server))
    assert type(copied) is type(outcome)
    if isinstance(copied, Exception):
        return
    for one in (copied, agent):
        subject.script()
        subject.kit.run(one)
        assert spans.tree() == expected
        spans.clear()


def copy_agent(way: Callable[[Any], Any], agent: Any) -> Any:
    """Return the copy, or why there is none."""
    try:
        return way(agent)
    except Exception as error:
        return error


def test_one_agent_in_two_threads(subject: Subject, spans: Spans) -> None:
    """Each run is a trace of its own, and each call to a model is below its own run."""
    subject.integration.autolog()
    agent = subject.kit.make(subject.server)
    subject.script(subject.kit.ends)
    together = threading.Barrier(2)

    def run() -> None:
        together.wait(60)
        subject.kit.run(agent)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    roots = [span for span in spans.all if span.parent is None]
    assert len({span.context.trace_id for span in spans.all}) == len(roots) == 2
    chats = [span for span in spans.all if (span.attributes or {}).get("gen_ai.operation.name") == "chat"]
    counts = [sum(span.context.trace_id == root.context.trace_id for span in chats) for root in roots]
    assert counts[0] == counts[1] > 0
