"""smolagents' agents: one tree for a run, with the hook of the client below it or without."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

pytest.importorskip("smolagents", reason="in the nox session smolagents")

import smolagents
from openai_answers import answer, count_tokens, list_links, stream
from openai_chunks import ANSWER, REFUSAL
from opentelemetry import trace
from scripted_client import ScriptedCalls
from smolagents import Model, MultiStepAgent, Tool, ToolCallingAgent
from smolagents.models import ChatMessage, MessageRole
from smolagents.utils import AgentGenerationError
from smolagents_kit import (
    ASKS,
    CODE,
    DONE,
    FINISHES,
    close_models,
    get_weather,
    make_agent,
    make_code_agent,
    make_model,
)

from mlspan import integrations, tracing
from mlspan.testing import Spans, content, contracts

TWO_STEPS = (
    "invoke_agent\n  step 1\n    chat m [12 in, 5 out]\n    execute_tool get_weather\n"
    "  step 2\n    chat m [12 in, 5 out]\n    execute_tool final_answer"
)


@pytest.fixture(params=["alone", "with openai"])
def _on(request: pytest.FixtureRequest, spans: Spans) -> Iterator[None]:
    integrations.smolagents.autolog()
    if request.param == "with openai":
        integrations.openai.autolog()
    yield
    close_models()
    integrations.smolagents.autolog(disable=True)
    integrations.openai.autolog(disable=True)


on = pytest.mark.usefixtures("_on")


class TestRuns(ScriptedCalls, contracts.CallContract):
    span: ClassVar[str] = "invoke_agent"
    tokens = None
    texts: ClassVar[tuple[str, ...]] = ("a greeting", "It is sunny.")
    answer, refusal, events = FINISHES, REFUSAL, stream("One two.")
    fails = AgentGenerationError

    def make_client(self) -> Any:
        return make_agent(self.server)

    def release_client(self) -> None:
        close_models()

    def ask(self, client: Any, **more: Any) -> Any:
        return client.run("a greeting")

    def find_span(self) -> Any:
        (root,) = self.spans.named(self.span)
        return root

    def autolog(self, **options: Any) -> None:
        integrations.smolagents.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        steps = [(cls, "_step_stream") for cls in (smolagents.CodeAgent, ToolCallingAgent)]
        return [(MultiStepAgent, "run"), (Tool, "__call__"), (smolagents.OpenAIServerModel, "generate"), *steps]


@on
@pytest.mark.parametrize("streamed", [False, True])
def test_an_agent_that_calls_tools(streamed: bool, scripted: Any, spans: Spans) -> None:
    """Run, steps, models and tools; each tool is linked to the call that asked for it."""
    if streamed:
        scripted.stream(*stream(None, ("call_1", "get_weather", {"city": "Paris"})))
        scripted.stream(*stream(None, DONE))
    else:
        scripted.reply(ASKS)
        scripted.reply(FINISHES)
    agent = make_agent(scripted, stream_outputs=streamed)
    found = [*agent.run("weather in Paris?", stream=True)][-1].output if streamed else agent.run("weather in Paris?")
    assert found == "It is sunny."
    assert spans.tree() == TWO_STEPS
    for name in ("get_weather", "final_answer"):
        assert list_links(spans, f"execute_tool {name}") == [("asked_by", "chat m")]
    assert count_tokens(spans) == (24, 10)
    root = spans.named("invoke_agent")[0]
    assert (content(root, "mlspan.input"), content(root, "mlspan.output")) == ("weather in Paris?", "It is sunny.")
    tool = dict(spans.named("execute_tool get_weather")[0].attributes or {})
    assert tool["gen_ai.tool.call.result"] == "sunny in Paris"
    asked = spans.named("chat m")[0]
    assert content(asked, "gen_ai.output.messages")[0]["parts"][-1]["name"] == "get_weather"
    assert content(asked, "gen_ai.tool.definitions")[0]["name"] == "get_weather"
    known = dict(asked.attributes or {})
    assert (known["gen_ai.provider.name"], known["server.address"]) == ("openai", "127.0.0.1")


@on
def test_an_agent_that_writes_code(scripted: Any, spans: Spans) -> None:
    """The code is a tool that the model has asked for; what the code calls is below it, from its thread too."""
    scripted.reply(CODE)
    assert make_code_agent(scripted).run("weather in Paris?") == "sunny in Paris"
    assert spans.tree() == (
        "invoke_agent\n  step 1\n    chat m [12 in, 5 out]\n    execute_tool python_interpreter\n"
        "      execute_tool get_weather\n      execute_tool final_answer"
    )
    assert list_links(spans, "execute_tool python_interpreter") == [("asked_by", "chat m")]
    code = dict(spans.named("execute_tool python_interpreter")[0].attributes or {})
    assert "get_weather(city=" in str(code["gen_ai.tool.call.arguments"])
    assert "sunny in Paris" in str(code["gen_ai.tool.call.result"])


@on
@pytest.mark.parametrize("writes_code", [False, True])
def test_a_tool_that_fails(writes_code: bool, scripted: Any, spans: Spans) -> None:
    """Its span says what the tool has raised; the step has failed, and the agent goes on."""
    if writes_code:
        scripted.reply(answer('<code>\nget_weather(city="Nowhere")\n</code>'))
        scripted.reply(CODE)
    else:
        scripted.reply(answer(None, ("call_1", "get_weather", {"city": "Nowhere"})))
        scripted.reply(FINISHES)
    (make_code_agent if writes_code else make_agent)(scripted).run("weather in Nowhere?")
    lines = spans.tree().splitlines()
    assert lines[0] == "invoke_agent"
    assert lines[1].startswith("  step 1 [ERROR smolagents.utils.Agent")
    assert next(line for line in lines if "get_weather" in line).endswith(
        "execute_tool get_weather [ERROR LookupError]"
    )
    assert spans.named("execute_tool get_weather")[0].status.description == "no such city"


@on
def test_a_model_that_fails(scripted: Any, spans: Spans) -> None:
    """Call, step and run are errors: the call says what the client has raised."""
    scripted.reply(REFUSAL, status=400)
    with pytest.raises(AgentGenerationError):
        make_agent(scripted).run("hello")
    error = "[ERROR smolagents.utils.AgentGenerationError]"
    assert spans.tree() == f"invoke_agent {error}\n  step 1 {error}\n    chat m [ERROR openai.BadRequestError]"


@on
def test_parallel_tools(scripted: Any, spans: Spans) -> None:
    """Tools that run in threads at the same time are below their step, each with the id of its own call."""
    scripted.reply(answer(None, *((f"call_{n}", "get_weather", {"city": f"City {n}"}) for n in range(3))))
    scripted.reply(FINISHES)
    make_agent(scripted).run("weather?")
    assert spans.tree().splitlines()[3:6] == ["    execute_tool get_weather"] * 3
    told = [dict(span.attributes or {}) for span in spans.named("execute_tool get_weather")]
    assert {(one["gen_ai.tool.call.id"], one["gen_ai.tool.call.arguments"]) for one in told} == {
        (f"call_{n}", f'{{"city":"City {n}"}}') for n in range(3)
    }


@on
@pytest.mark.parametrize("writes_code", [False, True])
def test_a_managed_agent(writes_code: bool, scripted: Any, spans: Spans) -> None:
    """An agent that another one manages is below the tool, or the code, that hands over to it."""
    if writes_code:
        scripted.reply(answer('<code>\nfinal_answer(expert("sun?"))\n</code>'))
        scripted.reply(FINISHES)
    else:
        scripted.reply(answer(None, ("call_1", "expert", {"task": "sun?", "additional_args": {}})))
        scripted.reply(FINISHES)
        scripted.reply(FINISHES)
    expert = make_agent(scripted, name="expert", description="Knows the sun.")
    make = make_code_agent if writes_code else make_agent
    make(scripted, tools=(), managed_agents=[expert]).run("sun?")
    above = "execute_tool python_interpreter" if writes_code else "execute_tool expert"
    assert (
        f"    {above}\n      invoke_agent expert\n        step 1\n          chat m [12 in, 5 out]\n"
        "          execute_tool final_answer"
    ) in spans.tree()
    assert (spans.named("invoke_agent expert")[0].attributes or {})["gen_ai.agent.description"] == "Knows the sun."
    assert count_tokens(spans) == ((24, 10) if writes_code else (36, 15))


@on
def test_plans_and_too_many_steps(scripted: Any, spans: Spans) -> None:
    """A plan is a span with its call; an agent that has used up its steps says so."""
    scripted.reply(answer("The plan."))
    scripted.reply(ASKS)
    scripted.reply(ANSWER)
    make_agent(scripted, planning_interval=5, max_steps=1).run("weather?")
    assert spans.tree("mlspan.stop_reason") == (
        "invoke_agent [mlspan.stop_reason=max_steps]\n  plan\n    chat m [12 in, 5 out]\n  step 1\n"
        "    chat m [12 in, 5 out]\n    execute_tool get_weather\n  chat m [12 in, 5 out]"
    )
    assert "The plan." in str(content(spans.named("plan")[0], "mlspan.output"))


@on
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # smolagents yields while it is closed
def test_a_run_that_is_left_early(scripted: Any, spans: Spans) -> None:
    """Every span ends, and nothing of the run is current between its steps, nor afterwards."""
    scripted.reply(ASKS)
    current = []
    for _ in make_agent(scripted).run("weather?", stream=True):
        current.append(trace.get_current_span().get_span_context().is_valid)
        break
    gc.collect()
    assert current == [False]
    assert not trace.get_current_span().get_span_context().is_valid
    assert spans.tree().splitlines()[0].startswith("invoke_agent [stream ")


@on
def test_parallel_agents_in_a_session(scripted: Any, spans: Spans) -> None:
    """Agents in threads are below the span around them, if the threads were told of it."""
    scripted.reply(FINISHES)
    with tracing.session("s-1"), tracing.span("all"):
        work = [threading.Thread(target=tracing.wrap(make_agent(scripted).run), args=("hello",)) for _ in range(2)]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join(30)
    one = "\n  invoke_agent\n    step 1\n      chat m [12 in, 5 out]\n      execute_tool final_answer"
    assert spans.tree() == "all" + one * 2
    assert {(span.attributes or {})["session.id"] for span in spans.all} == {"s-1"}


@on
def test_models_of_the_program(spans: Spans) -> None:
    """A model, an agent and a tool that are defined later, and that call what they override, make a span each."""

    class Echo(Model):
        def generate(self, messages: Any, **given: Any) -> ChatMessage:
            asked = ChatMessage(role=MessageRole.ASSISTANT, content='{"name": "final_answer", "arguments": "echo"}')
            asked.token_usage = smolagents.monitoring.TokenUsage(3, 4)
            return asked

    class Louder(Echo):
        def generate(self, *args: Any, **given: Any) -> ChatMessage:
            return super().generate(*args, **given)

    class Mine(ToolCallingAgent):
        def run(self, *args: Any, **given: Any) -> Any:
            return super().run(*args, **given)

        def _step_stream(self, memory_step: Any) -> Any:
            yield from super()._step_stream(memory_step)

    agent = Mine(tools=[get_weather], model=Louder(model_id="echo"), verbosity_level=smolagents.LogLevel.OFF)
    assert agent.run("hello") == "echo"
    assert spans.tree() == "invoke_agent\n  step 1\n    chat echo [3 in, 4 out]\n    execute_tool final_answer"
    assert list_links(spans, "execute_tool final_answer") == [("asked_by", "chat echo")]
    spans.clear()
    assert get_weather("Rome") == "sunny in Rome"
    assert spans.tree() == "execute_tool get_weather"
    assert content(spans.one(), "gen_ai.tool.call.arguments") == {"city": "Rome"}


@on
def test_a_model_without_an_agent(scripted: Any, spans: Spans) -> None:
    """A model that the program calls itself is one call."""
    scripted.reply(ANSWER)
    make_model(scripted, temperature=0.5).generate([ChatMessage(role=MessageRole.USER, content="a greeting")])
    assert spans.tree("gen_ai.request.temperature") == "chat m [12 in, 5 out, gen_ai.request.temperature=0.5]"
