"""LlamaIndex's workflows and agents: steps where the application steers, turns and tools where a model does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("llama_index.core")
pytest.importorskip("llama_index.llms.openai")

from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent, base_agent
from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)
from opentelemetry import context as otel_context
from workflows.errors import WorkflowCancelledByUser

from mlspan import tracing
from mlspan.integrations.llama_index import workflows
from mlspan.testing import Spans, content

MODES = pytest.mark.parametrize("llama_on", ["alone", "with openai"], indirect=True)
pytestmark = pytest.mark.usefixtures("llama_on")
CANCELLED = "[ERROR asyncio.exceptions.CancelledError]"


class Part(Event):
    n: int


class Done(Event):
    n: int


class Parallel(Workflow):
    """Three parts at once."""

    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Part | None:
        for n in range(3):
            ctx.send_event(Part(n=n))
        return None

    @step(num_workers=3)
    async def work(self, ev: Part) -> Done:
        with tracing.span(f"own {ev.n}"):
            await asyncio.sleep(0.01 * (3 - ev.n))
        return Done(n=ev.n)

    @step(num_workers=1)
    async def join(self, ctx: Context, ev: Done) -> StopEvent | None:
        got = ctx.collect_events(ev, [Done] * 3)
        return None if got is None else StopEvent(result=sorted(one.n for one in got))


async def test_a_span_for_each_step(spans: Spans) -> None:
    """Parallel steps stand side by side, with the events that they take and give, and what runs inside below."""
    before = otel_context.get_current()
    handler = Parallel().run(topic="cats")
    assert otel_context.get_current() is before
    assert await handler == [0, 1, 2]
    root = spans.all[0]
    assert root.name == "invoke_workflow Parallel"
    assert (content(root, "mlspan.input"), content(root, "mlspan.output")) == ({"topic": "cats"}, [0, 1, 2])
    steps = [span for span in spans.all if span.parent and span.parent.span_id == root.context.span_id]
    names = [span.name for span in steps]
    assert names[:4] == ["split", "work", "work", "work"]
    assert set(names[4:]) == {"join"}  # LlamaIndex may run it again when it has collected one more
    assert {(span.attributes or {})["mlspan.kind"] for span in steps} == {"task"}
    for span in spans.named("work"):
        (own,) = [one for one in spans.all if one.parent and one.parent.span_id == span.context.span_id]
        n = content(span, "mlspan.input")["n"]
        assert own.name == f"own {n}"
        assert content(span, "mlspan.output") == {"event": "Done", "n": n}


class Fails(Workflow):
    @step
    async def bad(self, ev: StartEvent) -> StopEvent:
        raise ValueError("no")


class Sleeps(Workflow):
    @step
    async def sleep(self, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(30)
        return StopEvent()


class Sync(Workflow):
    @step
    def work(self, ev: StartEvent) -> StopEvent:
        with tracing.span("in a thread"):
            return StopEvent(result="done")


async def test_failure_timeout_and_cancellation(spans: Spans) -> None:
    """The step that failed and the run both say what it was; who is cancelled says so."""
    with pytest.raises(Exception, match="no"):
        await Fails().run()
    assert spans.tree() == "invoke_workflow Fails [ERROR ValueError]\n  bad [ERROR ValueError]"
    spans.clear()
    with pytest.raises(Exception, match="timed out"):
        await Sleeps(timeout=0.05).run()
    timeout = "[ERROR workflows.errors.WorkflowTimeoutError]"
    assert spans.tree() == f"invoke_workflow Sleeps {timeout}\n  sleep {CANCELLED}"
    spans.clear()
    handler = Sleeps().run()
    await asyncio.sleep(0.05)
    await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    assert spans.tree() == f"invoke_workflow Sleeps {CANCELLED}\n  sleep {CANCELLED}"


async def test_steps_in_threads_and_workflows_in_workflows(spans: Spans) -> None:
    """A step that is no coroutine runs in a thread, where its span is current; a run inside a step is below it."""

    class Outer(Workflow):
        @step
        async def run_it(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await Sync().run())

    assert await Outer().run() == "done"
    assert spans.tree() == (
        "invoke_workflow Outer\n  run_it\n    invoke_workflow Sync\n      work\n        in a thread"
    )


class Asks(Workflow):
    """A person is asked by an event, and answers by one."""

    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(prefix="Go on?")

    @step
    async def answered(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result=ev.response)


class Waits(Workflow):
    """A person is waited for in the middle of a step."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        got = await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent(prefix="Go on?"))
        return StopEvent(result=got.response)


async def answer(handler: Any) -> Any:
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            handler.ctx.send_event(HumanResponseEvent(response="yes"))
    return await handler


async def test_a_person_in_the_loop(spans: Spans) -> None:
    """Question and answer stand on the steps; one that stops to wait is no error, and says what it waits for."""
    assert await answer(Asks().run()) == "yes"
    assert spans.tree() == "invoke_workflow Asks\n  ask\n  answered"
    assert content(spans.all[1], "mlspan.output") == {"event": "InputRequiredEvent", "prefix": "Go on?"}
    assert content(spans.all[2], "mlspan.input") == {"event": "HumanResponseEvent", "response": "yes"}
    spans.clear()
    assert await answer(Waits().run()) == "yes"
    asked = spans.named("ask")
    assert content(asked[-1], "mlspan.output") == {"event": "StopEvent", "result": "yes"}
    if len(asked) > 1:  # before llama-index-workflows 2.14 a step waits where it stands
        assert (asked[0].attributes or {})["mlspan.interrupted"] is True
        waiting = {"waits_for": "HumanResponseEvent", "asks": {"event": "InputRequiredEvent", "prefix": "Go on?"}}
        assert content(asked[0], "mlspan.output") == waiting
    assert spans.tree() == "\n  ".join(["invoke_workflow Waits", *["ask"] * len(asked)])


async def test_two_hundred_runs_at_once(spans: Spans) -> None:
    """Each is a trace of its own with its own steps."""

    class Named(Workflow):
        @step
        async def first(self, ev: StartEvent) -> Part:
            await asyncio.sleep(0)
            return Part(n=ev.n)

        @step
        async def second(self, ev: Part) -> StopEvent:
            with tracing.span(f"own {ev.n}"):
                await asyncio.sleep(0.001 * (ev.n % 7))
            return StopEvent(result=ev.n)

    results = await asyncio.gather(*(Named().run(n=n) for n in range(200)))
    assert results == list(range(200))
    trees = re.split(r"\n(?! )", spans.tree())
    assert {re.sub(r"\d+", "", tree) for tree in trees} == {"invoke_workflow Named\n  first\n  second\n    own "}
    for root in [span for span in spans.all if span.parent is None]:
        (own,) = [one for one in spans.all if one.context.trace_id == root.context.trace_id and "own" in one.name]
        assert own.name == f"own {content(root, 'mlspan.input')['n']}"


def get_weather(city: str) -> str:
    """The weather in a city."""
    with tracing.span("inside"):
        return f"It is sunny in {city}."


@MODES
async def test_a_function_agent(aimock: str, spans: Spans, llama_openai: Callable[..., Any]) -> None:
    """One turn: the model, the tool that it asked for, the model again; its steps are machinery, and none is a span."""
    memory = ChatMemoryBuffer.from_defaults(chat_store_key="chat-42")
    agent = FunctionAgent(name="helper", description="Helps.", tools=[get_weather], llm=llama_openai(aimock))
    assert str(await agent.run("weather in Paris?", memory=memory)) == "It is sunny in Paris."
    tree = re.sub(r" \[.*?\]", "", spans.tree())
    assert tree == (
        "invoke_agent helper\n  chat gpt-4o-mini\n  execute_tool get_weather\n    inside\n  chat gpt-4o-mini"
    )
    root, chat, tool = spans.all[:3]
    assert content(root, "mlspan.input") == {"messages": [{"role": "user", "content": "weather in Paris?"}]}
    assert content(root, "mlspan.output") == "It is sunny in Paris."
    attributes = root.attributes or {}
    assert (attributes["gen_ai.agent.description"], attributes["gen_ai.conversation.id"]) == ("Helps.", "chat-42")
    assert content(tool, "gen_ai.tool.call.arguments") == {"city": "Paris"}
    assert content(tool, "gen_ai.tool.call.result") == "It is sunny in Paris."
    assert (tool.attributes or {})["gen_ai.tool.call.id"] == "call_1"
    assert (tool.attributes or {})["gen_ai.agent.name"] == "helper"
    assert "The weather in a city." in str((tool.attributes or {})["gen_ai.tool.description"])
    assert [link.context.span_id for link in tool.links] == [chat.context.span_id]
    assert content(chat, "gen_ai.tool.definitions")[0]["name"] == "get_weather"


def saying(text: str | None = None, **call: Any) -> tuple[dict[str, Any], ...]:
    """The chunks of an answer: a text, or ``name=..., arguments=...`` of a tool."""
    function = {"name": call.get("name"), "arguments": call.get("arguments")}
    called = [{"index": 0, "id": f"call_{call.get('name')}", "type": "function", "function": function}]
    delta = {"role": "assistant", "content": text} if text else {"role": "assistant", "tool_calls": called}
    chunk = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
    end = {"index": 0, "delta": {}, "finish_reason": "stop" if text else "tool_calls"}
    return (
        {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {**chunk, "choices": [end]},
    )


@MODES
async def test_agents_that_hand_over(scripted: Any, spans: Spans, llama_openai: Callable[..., Any]) -> None:
    """Each turn is an agent's own span, with its calls below; who takes over points to who has handed over."""
    llm = llama_openai(scripted.base_url)
    scripted.stream(*saying(name="handoff", arguments='{"to_agent": "writer", "reason": "words"}'), "[DONE]")
    scripted.stream(*saying(name="get_weather", arguments='{"city": "Rome"}'), "[DONE]")
    scripted.stream(*saying("Sunny."), "[DONE]")
    planner = FunctionAgent(name="planner", description="Plans.", llm=llm, can_handoff_to=["writer"])
    writer = FunctionAgent(name="writer", description="Writes.", llm=llm, tools=[get_weather])
    team = AgentWorkflow(agents=[planner, writer], root_agent="planner")
    before = otel_context.get_current()
    assert str(await team.run("Write about Rome")) == "Sunny."
    assert otel_context.get_current() is before
    assert spans.tree() == (
        "invoke_workflow\n"
        "  invoke_agent planner\n    chat gpt-4o-mini\n    execute_tool handoff\n"
        "  invoke_agent writer\n    chat gpt-4o-mini\n    execute_tool get_weather\n      inside\n    chat gpt-4o-mini"
    )
    root = spans.all[0]
    assert content(root, "mlspan.input") == {"messages": [{"role": "user", "content": "Write about Rome"}]}
    assert content(root, "mlspan.output") == "Sunny."
    (first,), (second,) = spans.named("invoke_agent planner"), spans.named("invoke_agent writer")
    assert content(second, "mlspan.output") == "Sunny."
    assert (second.attributes or {})["gen_ai.agent.description"] == "Writes."
    (link,) = second.links
    assert link.context.span_id == first.context.span_id
    assert (link.attributes or {})["mlspan.link"] == "handed_off_by"


@MODES
async def test_tools_of_an_agent_that_fail(scripted: Any, spans: Spans, llama_openai: Callable[..., Any]) -> None:
    """The agent goes on; the tool's span says what happened, of one that does not exist, too."""

    def breaks(city: str) -> str:
        """Breaks."""
        raise LookupError(f"no {city}")

    scripted.stream(*saying(name="breaks", arguments='{"city": "Oslo"}'), "[DONE]")
    scripted.stream(*saying(name="missing", arguments="{}"), "[DONE]")
    scripted.stream(*saying("Sorry."), "[DONE]")
    agent = FunctionAgent(name="helper", tools=[breaks], llm=llama_openai(scripted.base_url))
    assert str(await agent.run("Go")) == "Sorry."
    shown = re.sub(r" \[ERROR.*?\]", " [ERROR]", spans.tree())
    chat, failed = "  chat gpt-4o-mini", "[ERROR]"
    expected = [chat, f"  execute_tool breaks {failed}", chat, f"  execute_tool missing {failed}", chat]
    assert shown == "\n".join(["invoke_agent helper", *expected])
    assert "no Oslo" in str(spans.named("execute_tool breaks")[0].status.description)


@MODES
async def test_an_agent_whose_model_fails(scripted: Any, spans: Spans, llama_openai: Callable[..., Any]) -> None:
    """The turn and the run end with the error that the caller gets."""
    scripted.reply({"error": {"message": "bad"}}, status=400)
    llm = llama_openai(scripted.base_url)
    team = AgentWorkflow(agents=[FunctionAgent(name="helper", llm=llm)])
    with pytest.raises(Exception, match="bad"):
        await team.run("Go")
    error = "[ERROR openai.BadRequestError]"
    assert spans.tree() == f"invoke_workflow {error}\n  invoke_agent helper {error}\n    chat gpt-4o-mini {error}"


class Reacts(CustomLLM):
    """Thinks aloud, acts once, and answers."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="reacts", is_chat_model=True)

    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
        if "Observation:" in prompt.rpartition("weather?")[2]:
            return CompletionResponse(text="Thought: I can answer.\nAnswer: Sunny.")
        return CompletionResponse(text='Thought: I need a tool.\nAction: get_weather\nAction Input: {"city": "Rome"}')

    def stream_complete(self, prompt: str, formatted: bool = False, **_: Any) -> Any:
        whole = self.complete(prompt)
        return (CompletionResponse(text=whole.text, delta=whole.text) for _ in range(1))


class Hangs(Reacts):
    async def astream_chat(self, messages: Any, **_: Any) -> Any:
        await asyncio.sleep(30)


async def test_an_agent_that_is_cancelled(spans: Spans) -> None:
    """The run, the turn and the call in it say so, and nothing is left open."""
    handler = AgentWorkflow(agents=[ReActAgent(name="thinker", llm=Hangs())]).run(user_msg="The weather?")
    for _ in range(200):
        await asyncio.sleep(0.01)
        if any(run.workflow is not None for run in list(workflows.dispatched_calls._runs.values())):
            break
    await asyncio.sleep(0.05)
    await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    assert spans.tree() == (
        f"invoke_workflow {CANCELLED}\n  invoke_agent thinker {CANCELLED}\n    chat reacts {CANCELLED}"
    )


async def test_a_react_agent(spans: Spans) -> None:
    """A model without functions: the same tree."""
    agent = ReActAgent(name="thinker", tools=[get_weather], llm=Reacts())
    assert str(await agent.run("The weather?")) == "Sunny."
    assert spans.tree() == (
        "invoke_agent thinker\n  chat reacts\n  execute_tool get_weather\n    inside\n  chat reacts"
    )
    assert content(spans.all[0], "mlspan.output") == "Sunny."


async def test_a_tool_that_asks_a_person(scripted: Any, spans: Spans, llama_openai: Callable[..., Any]) -> None:
    """A tool that waits for a person is interrupted, and run again; neither the first nor the second is an error."""
    if not hasattr(base_agent, "_get_waiting_for_event_exception"):
        pytest.skip("this version's agents take a tool that waits for one that fails")

    async def confirm(ctx: Context) -> str:
        """Ask."""
        got = await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent(prefix="Go on?"))
        return str(got.response)

    confirm.__annotations__.update(ctx=Context)  # LlamaIndex wants the class, not its name
    scripted.stream(*saying(name="confirm", arguments="{}"), "[DONE]")
    scripted.stream(*saying("Fine."), "[DONE]")
    agent = FunctionAgent(name="helper", tools=[confirm], llm=llama_openai(scripted.base_url))
    assert str(await answer(agent.run("Go"))) == "Fine."
    tools = spans.named("execute_tool confirm")
    assert content(tools[-1], "gen_ai.tool.call.result") == "yes"
    if len(tools) > 1:
        assert (tools[0].attributes or {})["mlspan.interrupted"] is True
    chat = "  chat gpt-4o-mini"
    assert spans.tree() == "\n".join(["invoke_agent helper", chat, *["  execute_tool confirm"] * len(tools), chat])
