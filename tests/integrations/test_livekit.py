"""LiveKit's sessions in text mode, against a model server: their own spans, joined."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("livekit.agents")
pytest.importorskip("livekit.plugins.openai")

from livekit.agents import Agent, AgentSession, function_tool, telemetry
from livekit.plugins.openai import LLM
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from self_tracing_kit import QUESTION, stream_answer, stream_tool_call, tell_traces

from mlspan import integrations, tracing
from mlspan.integrations import livekit
from mlspan.testing import Spans
from mlspan.tracing.export.redaction import SpanRedactor

pytestmark = pytest.mark.any_span  # LiveKit's own do not keep to the conventions

AROUND = (  # what a session does besides its turns
    *("session_start", "start_agent_activity", "setup_toolsets", "on_enter", "on_exit", "session_close"),
    *("drain_agent_activity", "agent_speaking", "end_agent_activity", "llm_request_run"),
)


@function_tool
async def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


@function_tool
async def ask_billing() -> Any:
    """Hand over to billing."""
    return Billing(), "handed over"


class Billing(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="You write bills.")


class FrontDesk(Agent):
    """An agent that has both tools."""

    def __init__(self) -> None:
        super().__init__(instructions="Be brief.", tools=[get_weather, ask_billing])


class Model(LLM):
    async def _prewarm_impl(self) -> None:
        """Send no request that the test has not asked for."""


@pytest.fixture(autouse=True)
def _on(spans: Spans, no_global_provider: None) -> Iterator[None]:
    """The hook; there is no global provider, which would have the spans by itself."""
    integrations.livekit.autolog(log_traces=True)
    yield
    integrations.livekit.autolog(disable=True)


async def talk(server: Any, *questions: str) -> None:
    """Ask an agent the questions in one session."""
    async with Model(model="m", base_url=server.base_url, api_key="test") as model, AgentSession(llm=model) as session:
        await session.start(FrontDesk())
        for question in questions:
            await session.run(user_input=question)


TURN = """\
agent_session [WORKFLOW]
  agent_turn [AGENT]
    llm_node [TASK] m ({0})
      llm_request [CHAT_MODEL] 12/5 m ({0})
    function_tool [TOOL]
    llm_node [TASK] m ({0})
      llm_request [CHAT_MODEL] 12/5 m ({0})
How is the sky over Paris? -> One two."""


@pytest.mark.parametrize("below", [False, True], ids=["alone", "with the client's hook"])
async def test_a_turn_with_a_tool(spans: Spans, scripted: Any, below: bool) -> None:
    """Each call counts once, and the turn has its question and answer."""
    stream_tool_call(scripted, "get_weather", city="Paris")
    stream_answer(scripted)
    if below:
        integrations.openai.autolog(log_traces=True)
    try:
        await talk(scripted, QUESTION)
    finally:
        integrations.openai.autolog(disable=True)
    expected = TURN.format(scripted.base_url.split("/")[2])
    if below:
        expected = expected.replace("llm_request [CHAT_MODEL] 12/5", "llm_request [CHAT_MODEL]")
    seen = tell_traces(spans.all, without=AROUND)
    ours = [line for line in seen.splitlines() if line.lstrip().startswith("chat m")]
    assert [line.strip() for line in ours] == ["chat m [CHAT_MODEL] 12/5 m (openai)"] * 2 * below
    theirs = [line for line in seen.splitlines() if line not in ours]
    turns = [at for at, line in enumerate(theirs) if line == "  agent_turn [AGENT]"]
    if len(turns) == 2:  # 1.8.0 has one for each answer of the model
        del theirs[turns[1]]
    assert "\n".join(theirs) == expected


async def test_a_tool_has_its_arguments_and_result(spans: Spans, scripted: Any) -> None:
    stream_tool_call(scripted, "get_weather", city="Paris")
    stream_answer(scripted)
    await talk(scripted, QUESTION)
    (tool,) = [dict(span.attributes or {}) for span in spans.all if span.name == "function_tool"]
    assert json.loads(str(tool["gen_ai.tool.call.arguments"])) == {"city": "Paris"}
    assert json.loads(str(tool["gen_ai.tool.call.result"])) == "sunny in Paris"


async def test_a_hand_off(spans: Spans, scripted: Any) -> None:
    """Both agents' turns are in the one trace, each under its name."""
    stream_tool_call(scripted, "ask_billing")
    stream_answer(scripted)
    stream_answer(scripted)
    await talk(scripted, "I need a bill", "Thank you")
    (root,) = [span for span in spans.all if span.parent is None]
    assert root.context is not None
    assert {span.context.trace_id for span in spans.all if span.context} == {root.context.trace_id}
    turns = [dict(span.attributes or {}) for span in spans.all if span.name == "agent_turn"]
    assert [turn["gen_ai.agent.name"] for turn in turns][-1] == "billing"
    changes = [dict(span.attributes or {}) for span in spans.all if span.name == "update_agent"]  # none in 1.8.0
    told = [(change["lk.previous_agent_label"], change["lk.agent_label"]) for change in changes]
    assert told in ([], [("front_desk", "billing")])
    assert tell_traces(spans.all).splitlines()[-1].startswith("I need a bill -> One two.")


async def test_content_that_is_not_wanted(spans: Spans, scripted: Any) -> None:
    """Nothing of what was said, and of a tool's arguments and result, is left on any span that is sent."""
    stream_tool_call(scripted, "get_weather", city="Paris")
    stream_answer(scripted)
    await talk(scripted, QUESTION)
    redactor = SpanRedactor(capture=False)
    for span in spans.all:
        sent = str(dict(redactor(span).attributes or {}))
        assert not [text for text in ("Paris", "One two", "Be brief") if text in sent], sent


async def test_a_session_is_in_the_callers_trace_and_session(spans: Spans, scripted: Any) -> None:
    stream_answer(scripted)
    with tracing.session("s-1"), tracing.span("request"):
        await talk(scripted, "hello")
    assert tell_traces(spans.all, without=AROUND).splitlines()[-1] == "hello -> One two. (s-1)"


async def test_a_provider_that_livekit_is_given(spans: Spans, scripted: Any) -> None:
    """As its documentation has it set: the provider keeps the spans, and mlspan has them too until it is turned off."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    before = telemetry.traces.tracer._tracer_provider
    try:
        telemetry.set_tracer_provider(provider)
        stream_answer(scripted)
        await talk(scripted, "hello")
        theirs = [span.name for span in exporter.get_finished_spans()]
        assert "agent_session" in theirs
        assert sorted(span.name for span in spans.all) == sorted(theirs)

        integrations.livekit.autolog(disable=True)
        stream_answer(scripted)
        await talk(scripted, "hello")
        assert len(exporter.get_finished_spans()) == 2 * len(theirs)
        assert len(spans.all) == len(theirs)
    finally:
        telemetry.traces.tracer.set_provider(before)


async def test_it_is_silent_again(spans: Spans, scripted: Any) -> None:
    integrations.livekit.autolog(log_traces=False)
    stream_answer(scripted)
    await talk(scripted, "hello")
    integrations.livekit.autolog(disable=True)
    stream_answer(scripted)
    await talk(scripted, "hello")
    assert spans.all == []


def test_a_name_that_livekit_has_no_longer(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A warning names what is lost."""
    integrations.livekit.autolog(disable=True)
    monkeypatch.delattr(telemetry.traces.tracer, "_tracer")
    integrations.livekit.autolog(log_traces=True)
    assert livekit.PRIVATE_NAMES["_tracer"] in caplog.text
