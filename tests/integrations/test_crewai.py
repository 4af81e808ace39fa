"""CrewAI's crews, flows, agents and tools: one tree for a run, by the events of its bus."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

pytest.importorskip("crewai")

from crewai import LLM, Crew, Process
from crewai.events.event_bus import CrewAIEventsBus
from crewai.flow.flow import Flow, and_, listen, router, start
from crewai.flow.human_feedback import human_feedback
from crewai.llms.base_llm import BaseLLM
from crewai_kit import (
    ASK_WEATHER,
    MODEL,
    ask_for,
    get_weather,
    list_chunks,
    make_agent,
    make_model,
    make_task,
    make_trip,
    say,
    start_handler_threads,
)
from openai import BadRequestError

from mlspan import integrations, tracing
from mlspan.testing import Spans, content, contracts

TRIP = f"""\
invoke_workflow trip
  look
    invoke_agent scout
      chat {MODEL} [30 in, 9 out]
      execute_tool get_weather
      chat {MODEL} [20 in, 7 out]
  task
    invoke_agent writer
      chat {MODEL} [40 in, 11 out]"""


@pytest.fixture(scope="module", autouse=True)
def _handler_threads() -> None:
    start_handler_threads()


on = pytest.mark.usefixtures("crewai_on")
pytestmark = [  # CrewAI closes no client
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def answer_trip(server: Any) -> None:
    """Have the server answer what the trip asks: for a tool, and two texts."""
    for answer in (ASK_WEATHER, say("It is sunny."), say("Sunny it is.", (40, 11))):
        server.reply(answer)


def run_trip(way: str, model: Any) -> Any:
    crew = make_trip(model)
    return crew.kickoff() if way == "kickoff" else asyncio.run(getattr(crew, way)())


@on
@pytest.mark.parametrize("way", ["kickoff", "kickoff_async", "akickoff"])
@pytest.mark.parametrize("client", ["", "openai", "litellm"])
def test_a_crew_is_one_tree(way: str, client: str, scripted: Any, spans: Spans) -> None:
    """A crew is the root, its tasks below it, in each its agent with models and tools.

    The tokens are those that the server tells, whether CrewAI calls by OpenAI's client or by LiteLLM, and whether
    their hooks are on.
    """
    if client == "litellm":
        pytest.importorskip("litellm")
    if client:
        getattr(integrations, client).autolog()
    answer_trip(scripted)
    try:
        result = run_trip(way, make_model(scripted, is_litellm=client == "litellm"))
    finally:
        if client:
            getattr(integrations, client).autolog(disable=True)
    assert result.raw == "Sunny it is."
    assert len(scripted.requests) == 3
    assert spans.tree() == TRIP


@on
def test_litellm_without_its_hook(scripted: Any, spans: Spans) -> None:
    """CrewAI reports no end of a LiteLLM call whose answer asks for a tool; its answer and its tokens are there."""
    pytest.importorskip("litellm")
    answer_trip(scripted)
    make_trip(make_model(scripted, is_litellm=True)).kickoff()
    assert spans.tree() == TRIP
    (message,) = content(spans.named(f"chat {MODEL}")[0], "gen_ai.output.messages")
    assert message["parts"][0]["id"] == "call_1"


@on
def test_what_the_spans_of_a_crew_say(scripted: Any, spans: Spans) -> None:
    """Inputs and outputs as a person reads them, the tool's call, and the link to the answer that asked for it."""
    answer_trip(scripted)
    make_trip(make_model(scripted)).kickoff(inputs={"city": "Paris"})
    crew, task, agent, asked, tool, answered, *_ = spans.all
    assert (content(crew, "mlspan.input"), content(crew, "mlspan.output")) == ({"city": "Paris"}, "Sunny it is.")
    assert content(task, "mlspan.input") == {"description": "the weather in Paris?", "expected_output": "a line"}
    assert (task.attributes or {})["mlspan.kind"] == "task"
    assert content(agent, "mlspan.output") == "It is sunny."
    assert (agent.attributes or {})["gen_ai.agent.description"] == "be a scout"
    assert {
        name: (tool.attributes or {})[f"gen_ai.{name}"]
        for name in ("agent.name", "tool.call.id", "tool.description", "tool.call.arguments", "tool.call.result")
    } == {
        "agent.name": "scout",
        "tool.call.id": "call_1",
        "tool.description": "The weather in a city.",
        "tool.call.arguments": '{"city":"Paris"}',
        "tool.call.result": "sunny in Paris",
    }
    (link,) = tool.links
    assert (link.context.span_id, dict(link.attributes or {})) == (asked.context.span_id, {"mlspan.link": "asked_by"})
    *_, called, result = content(answered, "gen_ai.input.messages")
    assert called["parts"][-1] == {
        "type": "tool_call",
        "id": "call_1",
        "name": "get_weather",
        "arguments": {"city": "Paris"},
    }
    assert result["parts"] == [{"type": "tool_call_response", "id": "call_1", "response": "sunny in Paris"}]
    (definition,) = content(asked, "gen_ai.tool.definitions")
    assert definition["parameters"]["properties"]["city"]["type"] == "string"
    attributes = asked.attributes or {}
    assert {name: attributes[f"gen_ai.{name}"] for name in ("provider.name", "response.id", "request.model")} == {
        "provider.name": "openai",
        "response.id": "c-1",
        "request.model": MODEL,
    }
    assert attributes["server.address"] == "127.0.0.1"


@on
def test_without_content(scripted: Any, spans: Spans) -> None:
    """With ``capture_content=False`` there are the same spans, and nothing of what was said."""
    answer_trip(scripted)
    tracing.configure(capture_content=False)
    try:
        make_trip(make_model(scripted)).kickoff()
    finally:
        tracing.configure(capture_content=True)
    assert spans.tree() == TRIP
    said = json.dumps([dict(span.attributes or {}) for span in spans.all])
    assert [word for word in ("sunny", "Paris", "write it down", "Brief") if word in said] == []


@on
def test_a_tool_that_fails(scripted: Any, spans: Spans) -> None:
    """The tool's span has the exception itself, and whoever goes on is no error."""
    scripted.reply(ask_for(("call_1", "get_weather", {"city": "Atlantis"})))
    scripted.reply(say("I do not know."))
    agent = make_agent(make_model(scripted), tools=[get_weather])
    Crew(agents=[agent], tasks=[make_task(agent)]).kickoff()
    assert spans.tree() == (
        "invoke_workflow crew\n"
        "  task\n"
        "    invoke_agent scout\n"
        f"      chat {MODEL} [30 in, 9 out]\n"
        "      execute_tool get_weather [ERROR LookupError]\n"
        f"      chat {MODEL} [20 in, 7 out]"
    )
    (event,) = spans.named("execute_tool get_weather")[0].events
    assert (event.attributes or {})["exception.message"] == "there is no Atlantis"


@on
@pytest.mark.parametrize("way", ["kickoff", "akickoff"])
def test_a_refused_request_is_the_error_of_all_above(way: str, scripted: Any, spans: Spans) -> None:
    """What was raised to the program is on each span, although CrewAI tells its events no more than its text."""
    scripted.reply({"error": {"message": "not today", "code": "no"}}, status=400)
    try:
        raise KeyError("handled before")
    except KeyError:
        with pytest.raises(BadRequestError, match="not today"):
            run_trip(way, make_model(scripted))
    assert spans.tree() == (
        "invoke_workflow trip [ERROR openai.BadRequestError]\n"
        "  look [ERROR openai.BadRequestError]\n"
        "    invoke_agent scout [ERROR openai.BadRequestError]\n"
        f"      chat {MODEL} [ERROR openai.BadRequestError]"
    )


@on
def test_a_request_that_is_tried_again(scripted: Any, spans: Spans) -> None:
    """CrewAI's own second try is a call of its own; the first has the error that it has got."""
    scripted.reply({"error": {"message": "slow down"}}, status=429, headers={"retry-after": "0"})
    scripted.reply(say("hello"))
    make_model(scripted).call("hello")
    assert spans.tree() in {  # older versions do not try again by themselves
        f"chat {MODEL} [ERROR openai.RateLimitError]\nchat {MODEL} [20 in, 7 out]",
        f"chat {MODEL} [20 in, 7 out]",
    }


@on
def test_delegation_is_below_the_tool_that_delegates(scripted: Any, spans: Spans) -> None:
    """The coworker's turn is inside of the tool by which it was asked."""
    arguments = {"task": "write it", "context": "sunny", "coworker": "writer"}
    scripted.reply(ask_for(("call_9", "delegate_work_to_coworker", arguments)))
    for text in ("written", "done"):
        scripted.reply(say(text))
    model = make_model(scripted)
    boss, writer = make_agent(model, "boss", allow_delegation=True), make_agent(model, "writer")
    Crew(agents=[boss, writer], tasks=[make_task(boss)]).kickoff()
    assert spans.tree("gen_ai.tool.call.id") == (
        "invoke_workflow crew\n"
        "  task\n"
        "    invoke_agent boss\n"
        f"      chat {MODEL} [30 in, 9 out]\n"
        "      execute_tool delegate_work_to_coworker [gen_ai.tool.call.id=call_9]\n"
        "        invoke_agent writer\n"
        f"          chat {MODEL} [20 in, 7 out]\n"
        f"      chat {MODEL} [20 in, 7 out]"
    )


@on
def test_a_hierarchical_crew(scripted: Any, spans: Spans) -> None:
    """The manager does each task, and says so."""
    scripted.reply(say("managed"))
    model = make_model(scripted)
    crew = Crew(
        agents=[make_agent(model)],
        tasks=[make_task(None)],
        process=Process.hierarchical,
        manager_llm=make_model(scripted),
    )
    crew.kickoff()
    assert spans.tree("mlspan.crewai.process") == (
        "invoke_workflow crew [mlspan.crewai.process=hierarchical]\n"
        "  task\n"
        "    invoke_agent Crew Manager\n"
        f"      chat {MODEL} [20 in, 7 out]"
    )


@on
def test_tools_at_once(scripted: Any, spans: Spans) -> None:
    """Tools that run side by side in threads are below their agent, each with the id of its own call."""
    scripted.reply(ask_for(*((f"call_{city}", "get_weather", {"city": city}) for city in ("Rome", "Paris"))))
    scripted.reply(say("sunny in both"))
    agent = make_agent(make_model(scripted), tools=[get_weather])
    Crew(agents=[agent], tasks=[make_task(agent)]).kickoff()
    assert sorted(
        (str((span.attributes or {})["gen_ai.tool.call.id"]), content(span, "gen_ai.tool.call.arguments")["city"])
        for span in spans.named("execute_tool get_weather")
    ) == [("call_Paris", "Paris"), ("call_Rome", "Rome")]
    (agent_span,) = spans.named("invoke_agent scout")
    assert {span.parent.span_id for span in spans.named("execute_tool get_weather")} == {agent_span.context.span_id}


@on
@pytest.mark.parametrize("way", ["kickoff", "akickoff"])
def test_tasks_at_once(way: str, scripted: Any, spans: Spans) -> None:
    """Tasks that run side by side are below their crew, each with its own agent and call."""
    scripted.reply(say("done"))
    model = make_model(scripted)
    agents = [make_agent(model, role) for role in ("one", "two", "last")]
    first = [make_task(agent, agent.role, async_execution=True) for agent in agents[:2]]
    crew = Crew(agents=agents, tasks=[*first, make_task(agents[2], "last", context=first)])
    asyncio.run(crew.akickoff()) if way == "akickoff" else crew.kickoff()
    lines = spans.tree().splitlines()
    assert lines[0] == "invoke_workflow crew"
    assert sorted(zip(*(lines[start::3] for start in (1, 2, 3)), strict=True)) == [
        (f"  {role}", f"    invoke_agent {role}", f"      chat {MODEL} [20 in, 7 out]")
        for role in ("last", "one", "two")
    ]


@on
def test_one_crew_for_each_input(scripted: Any, spans: Spans) -> None:
    """Crews that run side by side are a trace each."""
    scripted.reply(say("done"))
    agent = make_agent(make_model(scripted))
    crew = Crew(agents=[agent], tasks=[make_task(agent, "look")], name="each")
    asyncio.run(crew.akickoff_for_each([{"city": "Rome"}, {"city": "Paris"}]))
    one = f"invoke_workflow each\n  look\n    invoke_agent scout\n      chat {MODEL} [20 in, 7 out]"
    assert spans.tree() == f"{one}\n{one}"
    assert len({span.context.trace_id for span in spans.all}) == 2


@on
@pytest.mark.parametrize("way", ["kickoff", "kickoff_async"])
def test_an_agent_by_itself(way: str, scripted: Any, spans: Spans) -> None:
    """An agent without a crew is the root."""
    scripted.reply(ASK_WEATHER)
    scripted.reply(say("It is sunny."))
    agent = make_agent(make_model(scripted), tools=[get_weather])
    asyncio.run(agent.kickoff_async("weather?")) if way == "kickoff_async" else agent.kickoff("weather?")
    assert spans.tree() == (
        f"invoke_agent scout\n  chat {MODEL} [30 in, 9 out]\n  execute_tool get_weather\n  chat {MODEL} [20 in, 7 out]"
    )
    root = spans.all[0]
    assert (content(root, "mlspan.input"), content(root, "mlspan.output")) == ("weather?", "It is sunny.")


@on
def test_a_guardrail_and_the_turn_that_it_demands(scripted: Any, spans: Spans) -> None:
    """A guardrail that rejects an answer is no error; the agent's next turn follows on it."""
    scripted.reply(say("far too long"))
    scripted.reply(say("ok"))

    def is_short(output):  # CrewAI reads annotations, but not those that are text
        return (True, output.raw) if len(output.raw) < 5 else (False, "too long")

    agent = make_agent(make_model(scripted))
    Crew(agents=[agent], tasks=[make_task(agent, guardrail=is_short)]).kickoff()
    assert spans.tree("mlspan.kind") == (
        "invoke_workflow crew\n"
        "  task [mlspan.kind=task]\n"
        "    invoke_agent scout\n"
        f"      chat {MODEL} [20 in, 7 out]\n"
        "    is_short [mlspan.kind=guardrail]\n"
        "    invoke_agent scout\n"
        f"      chat {MODEL} [20 in, 7 out]\n"
        "    is_short [mlspan.kind=guardrail]"
    )
    rejected, accepted = (content(span, "mlspan.output") for span in spans.named("is_short"))
    assert (rejected["success"], rejected["error"], accepted["success"]) == (False, "too long", True)


class Trip(Flow[Any]):
    """A flow whose methods are plain, asynchronous, joined and routed; it ends with a model."""

    model: Any = None

    @start()
    def pick(self) -> str:
        return "Paris"

    @start()
    async def count(self) -> int:
        await asyncio.sleep(0)
        return 2

    @listen(and_(pick, count))
    def look(self) -> str:
        return str(type(self).model.call("the weather?"))

    @router(look)
    def judge(self, said: str) -> str:
        return "good" if said else "bad"

    @listen("good")
    def write(self) -> str:
        return "It is good."


@on
@pytest.mark.parametrize("way", ["kickoff", "kickoff_async"])
def test_a_flow_and_its_methods(way: str, scripted: Any, spans: Spans) -> None:
    """A flow is a workflow, its methods are nodes, each linked to the one that has triggered it."""
    scripted.reply(say("sunny"))
    Trip.model = make_model(scripted)
    flow = Trip()
    asyncio.run(flow.kickoff_async({"day": 1})) if way == "kickoff_async" else flow.kickoff({"day": 1})
    assert sorted(spans.tree("mlspan.kind").splitlines()[1:3]) == [
        "  count [mlspan.kind=node]",
        "  pick [mlspan.kind=node]",
    ]
    assert [spans.tree().splitlines()[0], *spans.tree().splitlines()[3:]] == [
        "invoke_workflow Trip",
        "  look",
        f"    chat {MODEL} [20 in, 7 out]",
        "  judge",
        "  write",
    ]
    root, names = spans.all[0], {span.context.span_id: span.name for span in spans.all}
    assert (content(root, "mlspan.input"), content(root, "mlspan.output")) == ({"day": 1}, "It is good.")
    edges = {span.name: [names[link.context.span_id] for link in span.links] for span in spans.all if span.links}
    assert edges.pop("look")[0] in {"pick", "count"}
    assert edges == {"judge": ["look"], "write": ["judge"]}


@on
def test_a_method_that_fails(scripted: Any, spans: Spans) -> None:
    """The exception of a method is that of its flow."""

    class Broken(Flow[Any]):
        @start()
        def pick(self) -> str:
            return "Paris"

        @listen(pick)
        def look(self) -> str:
            raise LookupError("nowhere")

    with pytest.raises(LookupError, match="nowhere"):
        Broken().kickoff()
    assert spans.tree() == "invoke_workflow Broken [ERROR LookupError]\n  pick\n  look [ERROR LookupError]"


@on
def test_an_agent_inside_of_a_flow(scripted: Any, spans: Spans) -> None:
    """What a flow's method runs is below the method."""
    scripted.reply(say("sunny"))
    agent = make_agent(make_model(scripted))

    class Ask(Flow[Any]):
        @start()
        def pick(self) -> Any:
            return agent.kickoff("weather?")

    Ask().kickoff()
    assert spans.tree() == f"invoke_workflow Ask\n  pick\n    invoke_agent scout\n      chat {MODEL} [20 in, 7 out]"


@on
def test_a_flow_that_waits_for_a_person(scripted: Any, spans: Spans, tmp_path: Any, monkeypatch: Any) -> None:
    """A flow that pauses is no error and says what it asks; the run that goes on is linked to it."""
    pending = pytest.importorskip("crewai.flow.async_feedback.types").HumanFeedbackPending
    monkeypatch.setenv("CREWAI_STORAGE_DIR", str(tmp_path))

    class Later:
        def request_feedback(self, context: Any, flow: Any) -> str:
            raise pending(context=context, callback_info={})

    class Review(Flow[Any]):
        @start()
        @human_feedback(message="Is it good?", provider=Later())
        def draft(self) -> str:
            return "Paris"

        @listen(draft)
        def publish(self, result: Any) -> str:
            return f"published: {result.feedback}"

    paused = Review().kickoff()
    assert spans.tree("mlspan.interrupted") == (
        "invoke_workflow Review [mlspan.interrupted=True]\n  draft [mlspan.interrupted=True]"
    )
    before = spans.all[0]
    assert content(before, "mlspan.output") == "Is it good?"
    spans.clear()
    assert Review.from_pending(paused.context.flow_id).resume("yes") == "published: yes"
    assert spans.tree() == "invoke_workflow Review\n  draft\n  publish"
    (link,) = spans.all[0].links
    assert (link.context.span_id, dict(link.attributes or {})) == (before.context.span_id, {"mlspan.link": "resumes"})


@on
def test_a_question_to_a_person(spans: Spans) -> None:
    """``Flow.ask`` is a span, as long as the person takes."""

    class Person:
        def request_input(self, message: str, flow: Any, metadata: Any = None) -> str:
            return "Rome"

    class Plan(Flow[Any]):
        input_provider = Person()

        @start()
        def pick(self) -> Any:
            return self.ask("Where to?")

    assert Plan().kickoff() == "Rome"
    assert spans.tree("mlspan.kind") == (
        "invoke_workflow Plan\n  pick [mlspan.kind=node]\n    ask a person [mlspan.kind=human]"
    )
    asked = spans.named("ask a person")[0]
    assert (content(asked, "mlspan.input"), content(asked, "mlspan.output")) == ({"message": "Where to?"}, "Rome")


@on
def test_the_callers_span_is_around_it_all(scripted: Any, spans: Spans) -> None:
    """A crew inside of a span is below it, and what the caller does next is no part of the crew."""
    answer_trip(scripted)
    with tracing.span("request"):
        make_trip(make_model(scripted)).kickoff()
        with tracing.span("afterwards"):
            pass
    lines = spans.tree().splitlines()
    assert (lines[0], lines[1], lines[-1]) == ("request", "  invoke_workflow trip", "  afterwards")


class OneCall:
    """A model of CrewAI that is called by itself."""

    span = f"chat {MODEL}"
    tokens = (20, 7)
    texts = ("a greeting", "hello there")
    fails = BadRequestError

    @pytest.fixture(autouse=True)
    def _serve(self, scripted: Any) -> None:
        self.server = scripted
        self.model = make_model(scripted)

    def autolog(self, **options: Any) -> None:
        integrations.crewai.autolog(**options)

    def list_targets(self) -> list[tuple[object, str]]:
        return [(CrewAIEventsBus, "emit")]

    def answer(self) -> None:
        self.server.clear()
        self.server.reply(say("hello there"))

    def refuse(self) -> None:
        self.server.clear()
        self.server.reply({"error": {"message": "no such model"}}, status=400)


class TestCalls(OneCall, contracts.CallContract):
    def make_call(self) -> object:
        self.answer()
        return self.model.call("a greeting")

    def make_failing_call(self) -> object:
        self.refuse()
        return self.model.call("a greeting")


class TestAsyncCalls(OneCall, contracts.AsyncCallContract):
    async def make_call(self) -> object:
        self.answer()
        return await make_model(self.server).acall("a greeting")

    async def make_failing_call(self) -> object:
        self.refuse()
        return await make_model(self.server).acall("a greeting")

    async def make_hanging_call(self) -> object:
        self.server.clear()
        self.server.reply(say("late"), delay=0.5)
        return await make_model(self.server).acall("a greeting")


@on
@pytest.mark.parametrize("is_litellm", [False, True])
def test_a_streamed_call(is_litellm: bool, scripted: Any, spans: Spans) -> None:
    """A stream that CrewAI reads to its end has its text, its tokens and the time to its first chunk."""
    if is_litellm:
        pytest.importorskip("litellm")
    scripted.stream(*list_chunks("It is ", "sunny."))
    model: LLM | BaseLLM = make_model(scripted, stream=True, is_litellm=is_litellm)
    assert model.call("weather?") == "It is sunny."
    assert spans.tree("gen_ai.request.stream") == f"chat {MODEL} [20 in, 7 out, gen_ai.request.stream=True]"
    (message,) = content(spans.one(), "gen_ai.output.messages")
    assert message["parts"] == [{"type": "text", "content": "It is sunny."}]
    assert (spans.one().attributes or {})["gen_ai.response.time_to_first_chunk"] > 0
