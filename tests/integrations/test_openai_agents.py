"""OpenAI's Agents SDK: a run is one tree, each call to a model one span, each tool linked to the call that asked."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest

from mlspan import integrations, tracing
from mlspan.testing import Spans, content

agents: Any = pytest.importorskip("agents")


class Theirs:
    """A processor that the user has added: it must go on hearing of everything."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def on_trace_start(self, trace: Any) -> None: ...
    def on_trace_end(self, trace: Any) -> None:
        self.events.append("trace")

    def on_span_start(self, span: Any) -> None: ...
    def on_span_end(self, span: Any) -> None:
        self.events.append(span.span_data.type)

    def shutdown(self) -> None: ...
    def force_flush(self) -> None: ...


@pytest.fixture
def theirs() -> Theirs:
    return Theirs()


@pytest.fixture(autouse=True)
def _on(theirs: Theirs, openai_on: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    integrations.openai.autolog(disable=True)
    agents.set_tracing_disabled(False)
    agents.set_trace_processors([theirs])  # rather than the one that sends everything to OpenAI
    integrations.openai.autolog()
    yield
    integrations.openai.autolog(disable=True)
    agents.set_trace_processors([])


@agents.function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    with tracing.span("look outside"):
        return f"sunny in {city}"


@pytest.fixture(params=["responses", "chat"])
async def model(request: pytest.FixtureRequest, aimock: str) -> AsyncIterator[Any]:
    kind = agents.OpenAIResponsesModel if request.param == "responses" else agents.OpenAIChatCompletionsModel
    async with openai.AsyncOpenAI(base_url=aimock, api_key="test") as client:
        yield kind("gpt-4o-mini", client)


TREE = """\
invoke_workflow Agent workflow
  invoke_agent Weather
    chat gpt-4o-mini
    execute_tool get_weather
      look outside
    chat gpt-4o-mini"""


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_run_is_one_tree(model: Any, spans: Spans, theirs: Theirs, streamed: bool) -> None:
    """Workflow, agent, calls to the model with the client's facts, and tools; the user's processor hears of all."""
    agent = agents.Agent(name="Weather", tools=[get_weather], model=model)
    if streamed:
        run = agents.Runner.run_streamed(agent, "weather in Paris?")
        async for _ in run.stream_events():
            pass
    else:
        run = await agents.Runner.run(agent, "weather in Paris?")
    assert run.final_output == "It is sunny in Paris."
    assert re.sub(r" \[\d+ in, \d+ out\]", "", spans.tree()) == TREE
    workflow, agent_span, asked, tool, _, _ = spans.all
    assert (tool.attributes or {})["gen_ai.tool.call.id"] == "call_1"
    assert [link.context.span_id for link in tool.links] == [asked.get_span_context().span_id]
    assert (asked.attributes or {})["server.address"] == "127.0.0.1"
    for span in (workflow, agent_span):
        assert content(span, "mlspan.input") == "weather in Paris?"
        assert content(span, "mlspan.output") == "It is sunny in Paris."
    assert theirs.events.count("agent") == theirs.events.count("trace") == 1


async def test_handoffs_guardrails_and_errors(model: Any, spans: Spans) -> None:
    """A guardrail that trips ends the run with the caller's exception, and every span with it."""

    @agents.input_guardrail
    async def polite(_context: Any, _agent: Any, _input: Any) -> Any:
        return agents.GuardrailFunctionOutput(output_info="rude", tripwire_triggered=True)

    agent = agents.Agent(name="Weather", model=model, input_guardrails=[polite])
    with pytest.raises(agents.InputGuardrailTripwireTriggered):
        await agents.Runner.run(agent, "hello")
    (guardrail,) = spans.named("polite")
    assert (guardrail.attributes or {})["mlspan.guardrail.triggered"] is True


async def test_runs_at_once_stay_apart(model: Any, spans: Spans) -> None:
    """Twenty runs in one event loop: each has its own tree."""
    agent = agents.Agent(name="Weather", tools=[get_weather], model=model)
    await asyncio.gather(*(agents.Runner.run(agent, "weather in Paris?") for _ in range(20)))
    by_trace: dict[int, list[str]] = {}
    for span in spans.all:
        by_trace.setdefault(span.get_span_context().trace_id, []).append(span.name)
    assert len(by_trace) == 20
    assert {len(names) for names in by_trace.values()} == {6}
