"""AutoGen's agents and models: one tree for a run, whatever class, method or neighbour it has."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections import Counter
from typing import Any

import pytest

pytest.importorskip("autogen_agentchat")
pytest.importorskip("autogen_ext.models.openai")

from autogen_agentchat.agents import AssistantAgent, BaseChatAgent
from autogen_agentchat.base import Response
from autogen_agentchat.conditions import TextMentionTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import SingleThreadedAgentRuntime, trace_invoke_agent_span, trace_tool_span
from autogen_core._telemetry import TraceHelper
from autogen_core.models import UserMessage
from autogen_core.tools import FunctionTool, StaticWorkbench
from autogen_ext.models.openai import OpenAIChatCompletionClient
from autogen_kit import METHODS, MODEL, asks_for, classes, get_weather, openai_model, replay, take_turn, weather_team
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mlspan import integrations, tracing
from mlspan.integrations import autogen
from mlspan.testing import Spans, content

pytestmark = pytest.mark.usefixtures("autogen_on")


async def test_a_team_with_a_tool_is_one_tree(model: Any, spans: Spans) -> None:
    """The team is the root, a turn of an agent below it, the model and the tool below the turn."""
    team = RoundRobinGroupChat(
        [AssistantAgent("scout", model, tools=[get_weather], reflect_on_tool_use=True, description="Looks outside.")],
        termination_condition=TextMentionTermination("It is sunny"),
    )
    result = await team.run(task="weather in Paris?")
    assert spans.tree("mlspan.stop_reason") == (
        "invoke_workflow RoundRobinGroupChat [mlspan.stop_reason=Text 'It is sunny' mentioned]\n"
        "  invoke_agent scout\n"
        f"    chat {MODEL} [34 in, 7 out]\n"
        "    execute_tool get_weather\n"
        f"    chat {MODEL} [37 in, 6 out]"
    )
    run, turn, asked, tool, _ = spans.all
    assert result.stop_reason == "Text 'It is sunny' mentioned"
    assert (content(run, "mlspan.input"), content(run, "mlspan.output")) == (
        "weather in Paris?",
        "It is sunny in Paris.",
    )
    assert content(turn, "mlspan.output") == "It is sunny in Paris."
    assert (turn.attributes or {})["gen_ai.agent.description"] == "Looks outside."
    assert content(asked, "gen_ai.input.messages")[1] == {
        "role": "user",
        "name": "user",
        "parts": [{"type": "text", "content": "weather in Paris?"}],
    }
    (answer,) = content(asked, "gen_ai.output.messages")
    assert answer["parts"][0]["arguments"] == {"city": "Paris"}
    assert content(asked, "gen_ai.tool.definitions")[0]["name"] == "get_weather"
    assert {
        name: (tool.attributes or {})[f"gen_ai.tool.{name}"]
        for name in ("call.id", "type", "description", "call.arguments", "call.result")
    } == {
        "call.id": "call_1",
        "type": "function",
        "description": "The weather in a city.",
        "call.arguments": '{"city":"Paris"}',
        "call.result": "sunny in Paris",
    }
    (link,) = tool.links
    assert link.context.span_id == asked.context.span_id


async def test_a_streamed_team_is_the_same_tree(aimock: str, spans: Spans) -> None:
    """run_stream of a team whose agents stream: the spans differ in their times alone."""
    model = openai_model(aimock, stream_options={"include_usage": True})
    agent = AssistantAgent("scout", model, tools=[get_weather], reflect_on_tool_use=True, model_client_stream=True)
    team = RoundRobinGroupChat([agent], termination_condition=TextMentionTermination("It is sunny"))
    kinds = Counter([type(item).__name__ async for item in team.run_stream(task="weather in Paris?")])
    assert kinds["ModelClientStreamingChunkEvent"] > 0
    assert spans.tree("gen_ai.request.stream") == (
        "invoke_workflow RoundRobinGroupChat\n"
        "  invoke_agent scout\n"
        f"    chat {MODEL} [34 in, 7 out, gen_ai.request.stream=True]\n"
        "    execute_tool get_weather\n"
        f"    chat {MODEL} [37 in, 6 out, gen_ai.request.stream=True]"
    )
    last = spans.named(f"chat {MODEL}")[-1]
    assert content(last, "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "It is sunny in Paris."}]
    assert (last.attributes or {})["gen_ai.response.time_to_first_chunk"] > 0
    await model.close()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("openai_too", [False, True])
async def test_each_token_is_counted_once(aimock: str, spans: Spans, *, openai_too: bool, stream: bool) -> None:
    """A request is one chat span, and the spans' tokens are those that the server counts for its journal's requests,
    with the hook of the OpenAI client on and off.
    """
    if openai_too:
        integrations.openai.autolog()
    model = openai_model(aimock, **({"stream_options": {"include_usage": True}} if stream else {}))
    before = len(journal(aimock))
    try:
        team = weather_team(model, model_client_stream=stream)
        await asyncio.gather(
            team.run(task="weather in Paris?"), AssistantAgent("alone", model).run(task="hello"), weather(model)
        )
    finally:
        integrations.openai.autolog(disable=True)
    requests = journal(aimock)[before:]
    chats = spans.named(f"chat {MODEL}")
    assert len(chats) == len(requests)
    counted = Counter[str]()
    for request in requests:
        counted += Counter(usage(aimock, request["body"]))
    recorded = {
        name: sum((span.attributes or {})[f"gen_ai.usage.{side}_tokens"] for span in chats)  # type: ignore[misc]
        for name, side in (("prompt_tokens", "input"), ("completion_tokens", "output"))
    }
    assert recorded == counted
    await model.close()


async def weather(model: Any) -> None:
    await model.create([UserMessage(content="hello", source="ada")])


def journal(aimock: str) -> list[Any]:
    with urllib.request.urlopen(aimock.replace("/v1", "/__aimock/journal"), timeout=30) as answer:
        return [one for one in json.load(answer) if one["path"] == "/v1/chat/completions"]


def usage(aimock: str, body: dict[str, Any]) -> dict[str, int]:
    """What the server counts for a request, asked once more, without us."""
    plain = {name: body[name] for name in ("model", "messages", "tools") if name in body}
    request = urllib.request.Request(
        f"{aimock}/chat/completions", json.dumps(plain).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        usage = json.load(answer)["usage"]
    return {name: usage[name] for name in ("prompt_tokens", "completion_tokens")}


# Every class of agent.

BEFORE = classes()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", sorted(BEFORE))
async def test_every_agent_by_every_method_is_one_turn(kind: str, method: str, spans: Spans) -> None:
    """A class defined before autolog or after it, called by any of the four methods, gives one span."""
    for cls in (BEFORE[kind], classes()[kind]):
        await take_turn(cls(), method)
        assert spans.tree() == "invoke_agent echo"
        assert content(spans.one(), "mlspan.input") == "hello"
        assert content(spans.one(), "mlspan.output") == "echo"
        spans.clear()


async def test_an_agent_that_its_own_tool_calls_has_another_turn(spans: Spans) -> None:
    """The call that an agent makes to itself is folded; one that comes back through a tool is not."""
    depth = iter([1, 2])

    class Again(classes()["bare"]):  # type: ignore[misc]
        async def on_messages(self, messages: Any, cancellation_token: Any) -> Response:
            async def ask_again() -> str:
                await take_turn(self, "run")
                return "asked"

            if next(depth) == 1:
                await FunctionTool(ask_again, description="").run_json({}, cancellation_token)
            return await super().on_messages(messages, cancellation_token)  # type: ignore[no-any-return]

    await take_turn(Again(), "run")
    assert spans.tree() == "invoke_agent echo\n  execute_tool ask_again\n    invoke_agent echo"


async def test_what_stands_off_is_as_it_was(spans: Spans) -> None:
    """disable=True brings the very originals back, of classes old and new, and nothing is recorded."""
    late = classes()["mixed"]
    autogen.autolog(disable=True)
    for cls in (*BEFORE.values(), late, BaseChatAgent, AssistantAgent, OpenAIChatCompletionClient, StaticWorkbench):
        assert not [name for one in cls.__mro__ for name, fn in vars(one).items() if hasattr(fn, "_mlspan_on")]
    assert "on_messages" not in vars(late)
    await take_turn(BEFORE["bare"](), "run")  # type: ignore[call-arg]
    assert [span.name for span in spans.all if span.name.startswith("invoke_agent")] == ["invoke_agent echo"]
    assert (spans.named("invoke_agent echo")[0].attributes or {})["gen_ai.system"] == "autogen"  # AutoGen's own
    spans.clear()


async def test_autogens_own_spans_stay_back_while_ours_are_recorded(spans: Spans) -> None:
    """Nothing is told twice; with our recording off, AutoGen tells of itself as ever."""
    team = RoundRobinGroupChat([classes()["bare"]()], max_turns=1)  # type: ignore[call-arg]
    await team.run(task="hello")
    assert spans.tree() == "invoke_workflow RoundRobinGroupChat\n  invoke_agent echo"
    spans.clear()
    autogen.autolog(log_traces=False)
    await team.run(task="hello")
    names = [span.name for span in spans.all]
    assert "invoke_agent echo" in names
    assert any(name.startswith("autogen publish") for name in names)
    spans.clear()


async def test_a_runtime_with_a_provider_of_its_own_keeps_its_spans(spans: Spans) -> None:
    """Who has asked for AutoGen's spans elsewhere gets all of them, and ours are the same tree beside them."""

    async def run_team() -> Counter[str]:
        seen, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(seen))
        runtime = SingleThreadedAgentRuntime(tracer_provider=provider)
        runtime.start()
        team = RoundRobinGroupChat([AssistantAgent("ada", replay("fine"))], max_turns=1, runtime=runtime)
        await team.run(task="hello")
        await runtime.stop_when_idle()
        return Counter(span.name.partition("_")[0] for span in seen.get_finished_spans())

    own, traced = TraceHelper.trace_block, await run_team()
    assert spans.tree() == "invoke_workflow RoundRobinGroupChat\n  invoke_agent ada\n    chat"
    autogen.autolog(disable=True)
    assert own is not TraceHelper.trace_block
    assert not hasattr(TraceHelper.trace_block.__wrapped__, "__wrapped__")  # type: ignore[attr-defined]  # contextlib's
    assert traced == await run_team()
    assert traced["autogen publish group"] == 2
    spans.clear()


@pytest.mark.any_span  # AutoGen's own do not keep to the conventions
async def test_a_span_that_the_application_opens_by_autogens_helpers_stays(spans: Spans) -> None:
    """AutoGen offers its helpers to applications, who then tell of what we do not see."""
    with trace_invoke_agent_span("mine"), trace_tool_span("look up"):
        await AssistantAgent("ada", replay("fine")).run(task="hello")
    assert spans.tree() == "invoke_agent mine\n  execute_tool look up\n    invoke_agent ada\n      chat"


@pytest.mark.any_span  # AutoGen's own do not keep to the conventions
async def test_exclusive_leaves_the_runs_of_mlflow_to_others(spans: Spans) -> None:
    """With exclusive=True nothing of ours is recorded while a run is active, and AutoGen tells of itself as ever."""
    autogen.autolog(log_traces=True, exclusive=True)
    agent = classes()["bare"]()  # type: ignore[call-arg]
    with tracing.run("a-run"):
        await take_turn(agent, "run")
    await take_turn(agent, "run")
    theirs, ours = spans.all
    assert (theirs.name, ours.name) == ("invoke_agent echo", "invoke_agent echo")
    assert (theirs.instrumentation_scope.name, ours.instrumentation_scope.name) == ("autogen-core", "mlspan")  # type: ignore[union-attr]


LATE = """
import asyncio
from mlspan import integrations, tracing
integrations.{autolog}
import mlspan.testing
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_ext.models.replay import ReplayChatCompletionClient
info = dict(vision=False, function_calling=True, json_output=True, family="unknown", structured_output=True)
model = ReplayChatCompletionClient(["fine"], model_info=info)
with mlspan.testing.spans() as ended:
    asyncio.run(RoundRobinGroupChat([AssistantAgent("ada", model)], max_turns=1).run(task="hello"))
print(ended.tree())
"""


@pytest.mark.parametrize("autolog", ["autogen.autolog(log_traces=True)", "autolog()"])
def test_what_is_imported_after_autolog_is_watched(autolog: str) -> None:
    """Autolog imports nothing of AutoGen's; what the application then imports is traced."""
    done = subprocess.run(
        [sys.executable, "-c", LATE.format(autolog=autolog)], check=False, capture_output=True, text=True, timeout=100
    )
    assert done.stdout.strip() == "invoke_workflow RoundRobinGroupChat\n  invoke_agent ada\n    chat", done.stderr


async def test_nothing_that_is_said_leaves_without_leave(tracing_off: None, spans: Spans) -> None:
    """With capture_content=False no span holds a word of task, arguments, results or answers."""
    tracing.configure(capture_content=False)
    agent = AssistantAgent("ada", replay(asks_for("get_weather", city="Xanadu")), tools=[get_weather])
    await RoundRobinGroupChat([agent], max_turns=1).run(task="weather in Xanadu?")
    assert len(spans.all) == 4
    assert "Xanadu" not in "".join(span.to_json() for span in spans.all)


async def test_mlflow_knows_what_a_team_costs(
    model: Any, mlflow_store: str, tracing_off: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The team's trace has the tokens of all its calls, and their price."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLSPAN_TRACKING_URI", mlflow_store)
    tracing.configure()
    await weather_team(model).run(task="weather in Paris?")
    assert tracing.flush(30)
    (found,) = mlflow.MlflowClient(mlflow_store).search_traces(["0"])
    usage = {name: found.info.token_usage[f"{name}_tokens"] for name in ("input", "output")}
    assert (found.data.spans[0].name, usage) == ("invoke_workflow RoundRobinGroupChat", {"input": 46, "output": 12})
    assert found.info.cost["total_cost"] == pytest.approx(usage["input"] * 0.15e-6 + usage["output"] * 0.6e-6)
