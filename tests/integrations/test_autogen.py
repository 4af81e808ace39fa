"""AutoGen's teams, agents, models and tools: one tree for a run, whatever class, stream, end or neighbour it has."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.request
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("autogen_agentchat")
pytest.importorskip("autogen_ext.models.openai")

from autogen_agentchat.agents import AssistantAgent, BaseChatAgent, SocietyOfMindAgent
from autogen_agentchat.base import Response
from autogen_agentchat.conditions import MaxMessageTermination, TextMentionTermination
from autogen_agentchat.messages import BaseChatMessage, TextMessage
from autogen_agentchat.teams import (
    DiGraphBuilder,
    GraphFlow,
    MagenticOneGroupChat,
    RoundRobinGroupChat,
    SelectorGroupChat,
    Swarm,
)
from autogen_agentchat.tools import AgentTool
from autogen_core import CancellationToken, FunctionCall, SingleThreadedAgentRuntime
from autogen_core.code_executor import CodeBlock
from autogen_core.memory import ListMemory, MemoryContent
from autogen_core.models import CreateResult, ModelInfo, RequestUsage, UserMessage
from autogen_core.tools import FunctionTool, StaticWorkbench, ToolResult
from autogen_ext.models.cache import ChatCompletionCache
from autogen_ext.models.openai import OpenAIChatCompletionClient
from autogen_ext.models.replay import ReplayChatCompletionClient
from opentelemetry import trace

from mlspan import integrations, tracing
from mlspan.integrations import autogen
from mlspan.testing import Spans, content

MODEL = "gpt-4o-mini-2024-07-18"  # AutoGen warns where a server answers with another name than this
INFO: ModelInfo = {
    "vision": False,
    "function_calling": True,
    "json_output": True,
    "family": "unknown",
    "structured_output": True,
}
_invented = pytest.mark.any_span  # a replayed model has neither a provider nor a name
DONE = TextMentionTermination("sunny")


@pytest.fixture(autouse=True)
def _autogen_on(spans: Spans) -> Iterator[None]:
    autogen.autolog(log_traces=True)
    yield
    autogen.autolog(disable=True)


@pytest.fixture
async def model(aimock: str) -> Any:
    """A client of the server that we did not write."""
    client = openai_model(aimock)
    yield client
    await client.close()


def openai_model(aimock: str, **options: Any) -> OpenAIChatCompletionClient:
    return OpenAIChatCompletionClient(model=MODEL, base_url=aimock, api_key="test", max_retries=0, **options)


def replay(*answers: str | CreateResult) -> ReplayChatCompletionClient:
    return ReplayChatCompletionClient(list(answers), model_info=INFO)


def asks_for(name: str, id: str = "call_7", **arguments: Any) -> CreateResult:
    """A model's answer that asks for a tool."""
    call = FunctionCall(id=id, name=name, arguments=json.dumps(arguments))
    usage = RequestUsage(prompt_tokens=3, completion_tokens=4)
    return CreateResult(finish_reason="function_calls", content=[call], usage=usage, cached=False)


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def weather_team(model: Any, **options: Any) -> RoundRobinGroupChat:
    """Two agents: one asks a tool, the other has the last word."""
    summary = "hello, {result}"
    scout = AssistantAgent("scout", model, tools=[get_weather], tool_call_summary_format=summary, **options)
    host = AssistantAgent("host", model, system_message="Be brief.", **options)
    return RoundRobinGroupChat([scout, host], termination_condition=MaxMessageTermination(3))


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
    told = {
        name: sum((span.attributes or {})[f"gen_ai.usage.{side}_tokens"] for span in chats)  # type: ignore[misc]
        for name, side in (("prompt_tokens", "input"), ("completion_tokens", "output"))
    }
    assert told == counted
    await model.close()


async def weather(model: Any) -> None:
    await model.create([UserMessage(content="hello", source="ada")])


def journal(aimock: str) -> list[Any]:
    with urllib.request.urlopen(aimock.replace("/v1", "/__aimock/journal")) as answer:
        return [one for one in json.load(answer) if one["path"] == "/v1/chat/completions"]


def usage(aimock: str, body: dict[str, Any]) -> dict[str, int]:
    """What the server counts for a request, asked once more, without us."""
    plain = {name: body[name] for name in ("model", "messages", "tools") if name in body}
    request = urllib.request.Request(
        f"{aimock}/chat/completions", json.dumps(plain).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        told = json.load(answer)["usage"]
    return {name: told[name] for name in ("prompt_tokens", "completion_tokens")}


# Every class of agent.


def classes(before: Callable[[], None] = lambda: None) -> dict[str, type[BaseChatAgent]]:
    """Classes of agents, made anew: with nothing overridden, with everything, by a mixin, and by plain functions."""

    class Bare(BaseChatAgent):
        produced_message_types = (TextMessage,)

        def __init__(self, name: str = "echo") -> None:
            super().__init__(name, "Says echo.")

        async def on_messages(self, messages: Sequence[BaseChatMessage], cancellation_token: Any) -> Response:
            before()
            return Response(chat_message=TextMessage(content="echo", source=self.name))

        async def on_reset(self, cancellation_token: Any) -> None: ...

    class Overriding(Bare):
        async def run(self, **given: Any) -> Any:
            return await super().run(**given)

        async def run_stream(self, **given: Any) -> AsyncGenerator[Any, None]:
            async for item in super().run_stream(**given):
                yield item

        async def on_messages(self, messages: Any, cancellation_token: Any) -> Response:
            return await super().on_messages(messages, cancellation_token)

        async def on_messages_stream(self, messages: Any, cancellation_token: Any) -> AsyncGenerator[Any, None]:
            async for item in super().on_messages_stream(messages, cancellation_token):
                yield item

    class Mixin:
        async def on_messages(self, messages: Any, cancellation_token: Any) -> Response:
            return await super().on_messages(messages, cancellation_token)  # type: ignore[misc]

    class Mixed(Mixin, Bare): ...

    class Plain(Bare):
        def run(self, **given: Any) -> Any:
            return super().run(**given)

        def on_messages_stream(self, messages: Any, cancellation_token: Any) -> Any:
            return super().on_messages_stream(messages, cancellation_token)

    return {"bare": Bare, "overriding": Overriding, "mixed": Mixed, "plain": Plain}


BEFORE = classes()
METHODS = ["run", "run_stream", "on_messages", "on_messages_stream"]


async def take_turn(agent: Any, method: str) -> None:
    if method.startswith("run"):
        asked = getattr(agent, method)(task="hello")
    else:
        asked = getattr(agent, method)([TextMessage(content="hello", source="user")], CancellationToken())
    if method.endswith("_stream"):
        async for _ in asked:
            pass
    else:
        await asked


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


# Every kind of team.


@_invented
async def test_a_handoff_is_a_link(spans: Spans) -> None:
    """Swarm: the turn that takes over points to the one that gave, and the handoff's tool to who asked for it."""
    front = AssistantAgent("front", replay(asks_for("transfer_to_back")), handoffs=["back"])
    back = AssistantAgent("back", replay("sunny"))
    await Swarm([front, back], termination_condition=DONE).run(task="weather?")
    assert spans.tree() == (
        "invoke_workflow Swarm\n"
        "  invoke_agent front\n"
        "    chat [3 in, 4 out]\n"
        "    execute_tool transfer_to_back\n"
        "  invoke_agent back\n"
        "    chat"
    )
    _, giving, asked, tool, taking, _ = spans.all
    assert [(link.context.span_id, link.attributes) for link in taking.links] == [
        (giving.context.span_id, {"mlspan.link": "handed_off_by"})
    ]
    assert [link.context.span_id for link in tool.links] == [asked.context.span_id]


@_invented
async def test_a_selector_thinks_below_the_team(spans: Spans) -> None:
    """The model that chooses who speaks is called by the team itself."""
    agents = [AssistantAgent(name, replay("sunny")) for name in ("ada", "bob")]
    await SelectorGroupChat(list(agents), replay("bob"), termination_condition=DONE).run(task="weather?")
    assert spans.tree() == "invoke_workflow SelectorGroupChat\n  chat\n  invoke_agent bob\n    chat"


@_invented
async def test_a_graph_runs_its_branches_side_by_side(spans: Spans) -> None:
    """GraphFlow: turns that overlap have the same parent, and each its own model call."""
    ada, bob, cyd = (AssistantAgent(name, replay("fine")) for name in ("ada", "bob", "cyd"))
    graph = DiGraphBuilder().add_node(ada).add_node(bob).add_node(cyd).add_edge(ada, bob).add_edge(ada, cyd).build()
    await GraphFlow([ada, bob, cyd], graph).run(task="weather?")
    lines = spans.tree().split("\n")
    assert lines[0] == "invoke_workflow GraphFlow"
    assert sorted(lines[1:]) == sorted(line for name in ("ada", "bob", "cyd") for line in turn_of(name))


def turn_of(name: str) -> list[str]:
    return [f"  invoke_agent {name}", "    chat"]


@_invented
async def test_magentic_one_is_one_tree(spans: Spans) -> None:
    """The orchestrator's plans, ledger and last word stand below the team."""
    reasoned = {"reason": "r", "answer": False}
    ledger = {
        "is_request_satisfied": reasoned,
        "is_in_loop": reasoned,
        "is_progress_being_made": {"reason": "r", "answer": True},
        "next_speaker": {"reason": "r", "answer": "ada"},
        "instruction_or_question": {"reason": "r", "answer": "go"},
    }
    done = {**ledger, "is_request_satisfied": {"reason": "r", "answer": True}}
    planner = replay("facts", "plan", json.dumps(ledger), json.dumps(done), "sunny")
    await MagenticOneGroupChat([AssistantAgent("ada", replay("fine"))], planner).run(task="weather?")
    assert spans.tree() == (
        "invoke_workflow MagenticOneGroupChat\n  chat\n  chat\n  chat\n  invoke_agent ada\n    chat\n  chat\n  chat"
    )


@_invented
async def test_teams_nest(spans: Spans) -> None:
    """A team that takes part in another, is an agent's mind, or its tool, is a workflow below it."""
    inner = RoundRobinGroupChat([AssistantAgent("ada", replay("fine"))], max_turns=1, name="inner")
    mind = SocietyOfMindAgent(
        "mind", RoundRobinGroupChat([AssistantAgent("bob", replay("fine"))], max_turns=1), replay("fine")
    )
    tool = AgentTool(AssistantAgent("cyd", replay("fine")))
    user = AssistantAgent("dan", replay(asks_for("cyd", task="?")), tools=[tool])
    await RoundRobinGroupChat([inner, mind, user], max_turns=3).run(task="weather?")
    assert spans.tree() == (
        "invoke_workflow RoundRobinGroupChat\n"
        "  invoke_workflow inner\n"
        "    invoke_agent ada\n"
        "      chat\n"
        "  invoke_agent mind\n"
        "    invoke_workflow RoundRobinGroupChat\n"
        "      invoke_agent bob\n"
        "        chat\n"
        "    chat\n"
        "  invoke_agent dan\n"
        "    chat [3 in, 4 out]\n"
        "    execute_tool cyd\n"
        "      invoke_agent cyd\n"
        "        chat"
    )


# The message loop.


@_invented
async def test_many_teams_in_one_loop_keep_apart(spans: Spans) -> None:
    """Forty runs at once, half of them on one runtime that was started elsewhere: each is a trace of its own, under
    its caller, in its caller's session.
    """
    with tracing.span("starts the runtime"):
        runtime = SingleThreadedAgentRuntime(ignore_unhandled_exceptions=False)
        runtime.start()

    async def run(number: int) -> None:
        agents = [AssistantAgent(f"{name}{number}", replay("fine")) for name in ("ada", "bob")]
        shared = runtime if number % 2 else None
        with tracing.session(f"s{number}"), tracing.span(f"caller {number}"):
            await RoundRobinGroupChat(list(agents), max_turns=2, runtime=shared).run(task="weather?")

    await asyncio.gather(*map(run, range(40)))
    await runtime.stop_when_idle()
    assert sorted(spans.tree("session.id").split("\n")) == sorted(
        ["starts the runtime", *(line for number in range(40) for line in lines_of(number))]
    )
    traces = Counter(span.context.trace_id for span in spans.all)
    assert sorted(traces.values()) == [1, *[6] * 40]
    for trace_id in traces:
        sessions = {
            (span.attributes or {}).get("session.id") for span in spans.all if span.context.trace_id == trace_id
        }
        assert len(sessions) == 1


def lines_of(number: int) -> list[str]:
    mark = f"session.id=s{number}"
    turns = [
        line
        for name in ("ada", "bob")
        for line in (f"    invoke_agent {name}{number} [{mark}]", f"      chat [{mark}]")
    ]
    return [f"caller {number} [{mark}]", f"  invoke_workflow RoundRobinGroupChat [{mark}]", *turns]


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


# Every end of a stream.

ENDS = {
    "exhausted": "",
    "break": " [stream closed]",
    "aclose": " [stream closed]",
    "cancelled": " [ERROR asyncio.exceptions.CancelledError]",
    "exception": " [ERROR ZeroDivisionError]",
    "thrown": " [ERROR KeyError]",
}


async def leave(stream: AsyncGenerator[Any, None], end: str) -> None:
    """Read *stream* to the end that is named."""
    if end == "aclose":
        await anext(stream)
        await stream.aclose()
    elif end == "break":
        async for _ in stream:
            break
        del stream
        await asyncio.sleep(0.05)  # the loop closes what nobody holds any more
    elif end == "thrown":
        await anext(stream)
        with pytest.raises(KeyError):
            await stream.athrow(KeyError("thrown"))
    elif end == "cancelled":
        reading = asyncio.create_task(read_all(stream))
        await asyncio.sleep(0.05)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    elif end == "exception":
        with pytest.raises(ZeroDivisionError):
            await read_all(stream)
    else:
        await read_all(stream)


async def read_all(stream: AsyncGenerator[Any, None]) -> None:
    async for _ in stream:
        assert not trace.get_current_span().get_span_context().is_valid, "a span of ours is current in the caller"


class Talking(classes()["bare"]):  # type: ignore[misc]
    """An agent that says one word, and then what the test wants."""

    end = ""

    async def on_messages_stream(self, messages: Any, cancellation_token: Any) -> AsyncGenerator[Any, None]:
        assert trace.get_current_span().get_span_context().is_valid
        yield TextMessage(content="word", source=self.name)
        assert trace.get_current_span().get_span_context().is_valid
        if self.end == "cancelled":
            await asyncio.sleep(60)
        if self.end == "exception":
            raise ZeroDivisionError
        yield await self.on_messages(messages, cancellation_token)


class Dictating(ReplayChatCompletionClient):
    """A model that says one word, and then what the test wants."""

    end = ""

    async def create_stream(self, *_: Any, **__: Any) -> AsyncGenerator[Any, None]:
        yield "word"
        if self.end == "cancelled":
            await asyncio.sleep(60)
        if self.end == "exception":
            raise ZeroDivisionError
        yield CreateResult(finish_reason="stop", content="word", usage=RequestUsage(1, 1), cached=False)


@pytest.mark.parametrize("end", sorted(ENDS))
async def test_every_end_of_an_agents_stream(end: str, spans: Spans) -> None:
    """However the caller leaves it, the turn's span ends once, says how, and is current only in the agent's code."""
    agent = Talking()
    agent.end = end
    await leave(agent.run_stream(task="hello", output_task_messages=False), end)
    assert spans.tree() == f"invoke_agent echo{ENDS[end]}"


@_invented
@pytest.mark.parametrize("end", sorted(ENDS))
async def test_every_end_of_a_models_stream(end: str, spans: Spans) -> None:
    """A stream of a model that is left early still says what was said until then."""
    model = Dictating([], model_info=INFO)
    model.end = end
    await leave(model.create_stream([UserMessage(content="hello", source="user")]), end)
    tokens = "1 in, 1 out" if end == "exhausted" else ""
    assert spans.tree() == "chat" + (f" [{tokens}]" if tokens else ENDS[end])
    assert content(spans.one(), "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "word"}]


@pytest.mark.parametrize("end", ["aclose", "break", "thrown"])
async def test_every_end_of_a_teams_stream(end: str, spans: Spans) -> None:
    """A team whose stream is left goes on by itself until it is idle; its span waits for the turns below it."""
    team = RoundRobinGroupChat([Talking()], max_turns=1)
    await leave(team.run_stream(task="hello"), end)
    assert spans.tree() == f"invoke_workflow RoundRobinGroupChat{ENDS[end]}\n  invoke_agent echo"


# What fails, and what is cancelled.


async def test_an_agent_that_fails_fails_its_team(spans: Spans) -> None:
    """The turn has the error itself, the team the one that AutoGen makes of it."""

    def fail() -> None:
        raise ZeroDivisionError("no")

    with pytest.raises(RuntimeError):
        await RoundRobinGroupChat([classes(fail)["bare"]()], max_turns=1).run(task="hello")  # type: ignore[call-arg]
    assert spans.tree() == (
        "invoke_workflow RoundRobinGroupChat [ERROR RuntimeError]\n  invoke_agent echo [ERROR ZeroDivisionError]"
    )


@pytest.mark.parametrize("by", ["token", "task"])
async def test_a_cancelled_run_says_so(by: str, scripted: Any, spans: Spans) -> None:
    """Cancelled by AutoGen's token or by asyncio, while the model thinks: the call says so, and the turn above it."""
    scripted.reply({}, delay=0.5)
    model, token = openai_model(scripted.base_url), CancellationToken()
    run = asyncio.create_task(AssistantAgent("ada", model).run(task="hello", cancellation_token=token))
    await asyncio.sleep(0.2)
    (token if by == "token" else run).cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    cancelled = "ERROR asyncio.exceptions.CancelledError"
    assert spans.tree() == f"invoke_agent ada [{cancelled}]\n  chat {MODEL} [{cancelled}]"
    await model.close()


@_invented
async def test_a_cancelled_tool_says_so(spans: Spans) -> None:
    """A token that is cancelled in the middle of a tool; the agent itself then waits for ever, as AutoGen 0.7 has it."""

    async def wait() -> str:
        started.set()
        await asyncio.sleep(60)
        return ""

    started, token = asyncio.Event(), CancellationToken()
    agent = AssistantAgent("ada", replay(asks_for("wait")), tools=[wait])
    run = asyncio.create_task(agent.run(task="hello", cancellation_token=token))
    await started.wait()
    token.cancel()
    await asyncio.sleep(0.05)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    cancelled = "ERROR asyncio.exceptions.CancelledError"
    assert spans.tree() == (f"invoke_agent ada [{cancelled}]\n  chat [3 in, 4 out]\n  execute_tool wait [{cancelled}]")


@_invented
async def test_a_cancelled_team_says_so(spans: Spans) -> None:
    """A team's token reaches the turn and the team."""

    class Waiting(classes()["bare"]):  # type: ignore[misc]
        async def on_messages(self, messages: Any, cancellation_token: Any) -> Response:
            waiting = asyncio.ensure_future(asyncio.sleep(60))
            cancellation_token.link_future(waiting)
            started.set()
            await waiting
            return await super().on_messages(messages, cancellation_token)  # type: ignore[no-any-return]

    started, token = asyncio.Event(), CancellationToken()
    run = asyncio.create_task(RoundRobinGroupChat([Waiting()]).run(task="hello", cancellation_token=token))
    await started.wait()
    token.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    cancelled = "ERROR asyncio.exceptions.CancelledError"
    assert spans.tree() == f"invoke_workflow RoundRobinGroupChat [{cancelled}]\n  invoke_agent echo [{cancelled}]"


# Tools, memory, code, caches.


async def test_a_workbench_and_its_tool_are_one_call(spans: Spans) -> None:
    """The tool's error, which the workbench turns into an answer, is the span's; a tool within a tool is its own."""

    async def divide() -> str:
        await FunctionTool(get_weather, description="").run_json({"city": "Rome"}, CancellationToken())
        raise ZeroDivisionError("by nothing")

    bench = StaticWorkbench([FunctionTool(divide, description="Divides.")])
    result = await bench.call_tool("divide", {}, call_id="call_3")
    missing = await bench.call_tool("multiply", {})
    assert (result.is_error, missing.is_error) == (True, True)
    assert spans.tree("gen_ai.tool.description") == (
        "execute_tool divide [ERROR ZeroDivisionError, gen_ai.tool.description=Divides.]\n"
        "  execute_tool get_weather\n"
        "execute_tool multiply [ERROR tool_error]"
    )


async def test_memory_is_retrieval(spans: Spans) -> None:
    """What is remembered, asked for, and put into a model's context."""
    from autogen_core.model_context import UnboundedChatCompletionContext

    memory = ListMemory(name="diary")
    await memory.add(MemoryContent(content="it rained", mime_type="text/plain"))
    await memory.query("weather")
    await memory.update_context(UnboundedChatCompletionContext())
    assert spans.tree("gen_ai.retrieval.query.text") == (
        "add to diary\nretrieval diary [gen_ai.retrieval.query.text=weather]\nretrieval diary"
    )
    for span in spans.named("retrieval diary"):
        assert content(span, "gen_ai.retrieval.documents")[0]["content"] == "it rained"


@pytest.mark.filterwarnings("ignore:Using LocalCommandLineCodeExecutor")
async def test_code_is_a_tool(spans: Spans, tmp_path: Path) -> None:
    """A program's language, text, output and exit code; one that fails is an error."""
    from autogen_ext.code_executors.local import LocalCommandLineCodeExecutor

    executor = LocalCommandLineCodeExecutor(work_dir=tmp_path)
    for code in ("print(6 * 7)", "raise SystemExit(3)"):
        await executor.execute_code_blocks([CodeBlock(code=code, language="python")], CancellationToken())
    assert spans.tree() == (
        "execute_tool LocalCommandLineCodeExecutor\nexecute_tool LocalCommandLineCodeExecutor [ERROR exit_code]"
    )
    first = spans.all[0]
    assert content(first, "gen_ai.tool.call.arguments") == [{"language": "python", "code": "print(6 * 7)"}]
    assert content(first, "gen_ai.tool.call.result") == {"exit_code": 0, "output": "42\n"}


async def test_a_cache_counts_what_was_billed(model: Any, spans: Spans) -> None:
    """A cache in front of a client is the same call; what it gives by itself costs nothing."""
    cache: Any = ChatCompletionCache(model)
    for _ in range(2):
        await cache.create([UserMessage(content="hello", source="user")])
    assert spans.tree() == f"chat {MODEL} [12 in, 5 out]\nchat {MODEL}"


async def test_a_tool_of_an_mcp_server(spans: Spans, tmp_path: Path) -> None:
    """A tool in another process, called through its workbench."""
    mcp = pytest.importorskip("autogen_ext.tools.mcp")
    server = tmp_path / "server.py"
    server.write_text(
        "from mcp.server.fastmcp import FastMCP\n"
        "app = FastMCP('test')\n"
        "@app.tool()\n"
        "def double(number: int) -> int:\n"
        "    return 2 * number\n"
        "app.run()\n"
    )
    async with mcp.McpWorkbench(mcp.StdioServerParams(command=sys.executable, args=[str(server)])) as bench:
        result: ToolResult = await bench.call_tool("double", {"number": 21}, call_id="call_4")
        await bench.call_tool("double", {"number": "x"})
    assert result.to_text() == "42"
    assert spans.tree("gen_ai.tool.type", "gen_ai.tool.call.result").startswith(
        "execute_tool double [gen_ai.tool.type=extension, gen_ai.tool.call.result=42]\n"
        "execute_tool double [ERROR tool_error, gen_ai.tool.type=extension"
    )
