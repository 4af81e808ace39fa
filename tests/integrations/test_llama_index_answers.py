"""LlamaIndex: answers that are objects, verdicts of evaluators, runs that go on from what was saved, unknown tools."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("llama_index.core")
pytest.importorskip("llama_index.llms.openai")

from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.base.llms import types as llm_types
from llama_index.core.base.response.schema import PydanticResponse
from llama_index.core.evaluation import EvaluationResult, FaithfulnessEvaluator, RelevancyEvaluator
from llama_index.core.evaluation.base import BaseEvaluator
from llama_index.core.llms import ChatMessage, MockLLM
from llama_index.core.query_engine import CustomQueryEngine
from llama_index.core.workflow import (
    Context,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)
from llama_index.llms.openai import OpenAI
from pydantic import BaseModel, Field

from mlspan.testing import Spans, content

HAS_TOOL_BLOCKS = pytest.mark.skipif(
    not hasattr(llm_types, "ToolCallBlock"), reason="this version's models say their tool calls in another way"
)

pytestmark = pytest.mark.usefixtures("llama_on")


class City(BaseModel):
    """An answer of the user's own class, with names that LlamaIndex's classes have, too."""

    name: str
    text: str
    role: str = "capital"


class Cities(CustomQueryEngine):
    """Answers with a model, as an engine with ``output_cls`` does."""

    def custom_query(self, query_str: str) -> Any:
        return PydanticResponse(response=City(name="Paris", text="on the Seine"))


def test_an_answer_that_is_an_object_is_recorded_whole(spans: Spans) -> None:
    """The user's model with all of its fields, not the message that it might be taken for."""
    Cities().query("Which city?")
    (query,) = spans.named("Cities")
    assert content(query, "mlspan.output") == {"name": "Paris", "text": "on the Seine", "role": "capital"}


class Answers(OpenAI):
    """A model that calls the tools that it was told to, one after the other, and then answers."""

    calls: list[str] = Field(default_factory=list)

    async def astream_chat_with_tools(self, *_: Any, **__: Any) -> Any:
        return self._stream()

    async def _stream(self) -> Any:
        name = self.calls.pop(0) if self.calls else None
        block = (
            llm_types.TextBlock(text="Done.")
            if name is None
            else llm_types.ToolCallBlock(tool_call_id="c1", tool_name=name, tool_kwargs={})
        )
        yield llm_types.ChatResponse(message=ChatMessage(role="assistant", blocks=[block]), delta="Done.")

    def get_tool_calls_from_response(self, response: Any, *_: Any, **__: Any) -> Any:
        from llama_index.core.llms.llm import ToolSelection

        blocks = [one for one in response.message.blocks if getattr(one, "tool_name", None)]
        return [ToolSelection(tool_id="c1", tool_name=one.tool_name, tool_kwargs={}) for one in blocks]


def nothing() -> str:
    """Do nothing."""
    return "nothing"


async def give_structure(messages: Any) -> dict[str, Any]:
    return {"name": "Paris"}


@HAS_TOOL_BLOCKS
@pytest.mark.parametrize("several", [False, True])
async def test_an_agents_structured_answer_stands_beside_its_text(spans: Spans, several: bool) -> None:
    """Of one agent, and of several in a workflow."""
    llm = Answers(model="gpt-4o-mini", api_key="x")
    one: Any = FunctionAgent(
        name="Guide", description="d", llm=llm, tools=[nothing], structured_output_fn=give_structure
    )
    agent: Any = (
        AgentWorkflow(agents=[one], root_agent="Guide", structured_output_fn=give_structure) if several else one
    )
    await agent.run("Which city?")
    assert content(spans.all[0], "mlspan.output") == {"response": "Done.", "structured_response": {"name": "Paris"}}


@HAS_TOOL_BLOCKS
async def test_an_unknown_tool_is_an_error_of_that_tool(spans: Spans) -> None:
    """A tool that the model made up: its span says that there is none, and the run goes on."""
    llm = Answers(model="gpt-4o-mini", api_key="x", calls=["made_up"])
    agent = FunctionAgent(name="Guide", description="d", llm=llm, tools=[nothing])
    await agent.run("go")
    (tool,) = spans.named("execute_tool made_up")
    assert (tool.attributes or {})["error.type"] == "_OTHER"
    assert "made_up not found" in str(tool.status.description)
    assert "error.type" not in (spans.all[0].attributes or {})


class Strict(BaseEvaluator):
    """Judges without a model; *fails* says whether it raises."""

    fails: bool = False

    def _get_prompts(self) -> Any:
        return {}

    def _update_prompts(self, prompts: Any) -> None: ...

    async def aevaluate(
        self, query: Any = None, response: Any = None, contexts: Any = None, **_: Any
    ) -> EvaluationResult:
        if self.fails:
            raise ValueError("no verdict")
        return EvaluationResult(passing=False, score=0.25, feedback="too short")


async def test_an_evaluator_is_one_trace_with_its_verdict(spans: Spans) -> None:
    """Sync and async; score, verdict and reason on the span and as an evaluation; the model's calls below it."""
    await Strict().aevaluate("q", "a", ["c"])
    (span,) = spans.all
    assert content(span, "mlspan.input") == {"query": "q", "response": "a", "contexts": ["c"]}
    assert content(span, "mlspan.output") == {"passing": False, "score": 0.25, "feedback": "too short"}
    (event,) = [dict(event.attributes or {}) for event in span.events if event.name == "gen_ai.evaluation.result"]
    assert (event["gen_ai.evaluation.name"], event["gen_ai.evaluation.score.value"]) == ("Strict", 0.25)
    assert event["gen_ai.evaluation.explanation"] == "too short"
    spans.clear()
    strict = Strict()
    strict.fails = True
    with pytest.raises(ValueError, match="no verdict"):
        await strict.aevaluate("q", "a")
    assert spans.tree() == "Strict [ERROR ValueError]"


def test_an_evaluators_calls_are_below_it(spans: Spans) -> None:
    """Evaluators with a model, in a loop of their own: one trace each."""
    FaithfulnessEvaluator(llm=MockLLM(max_tokens=3)).evaluate(query="q", response="a", contexts=["c"])
    RelevancyEvaluator(llm=MockLLM(max_tokens=3)).evaluate(query="q", response="a", contexts=["c"])
    roots = [line for line in spans.tree("mlspan.kind").splitlines() if not line.startswith(" ")]
    assert roots == ["FaithfulnessEvaluator [mlspan.kind=evaluator]", "RelevancyEvaluator [mlspan.kind=evaluator]"]
    assert {span.get_span_context().trace_id for span in spans.all} == {
        span.get_span_context().trace_id for span in spans.all if span.parent is None
    }
    assert len(spans.all) > 2


class Asks(Workflow):
    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(prefix="Go on?")

    @step
    async def answered(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result=ev.response)


async def test_a_run_that_goes_on_is_linked_to_the_one_before(spans: Spans) -> None:
    """``Context.to_dict``, text, ``from_dict``: the second run says which one it resumes."""
    first = Asks()
    handler = first.run()
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            break
    saved = json.dumps(handler.ctx.to_dict())
    await handler.cancel_run()
    with pytest.raises(BaseException):  # noqa: B017  # its class depends on the version
        await handler
    second = Asks()
    resumed = second.run(ctx=Context.from_dict(second, json.loads(saved)))
    resumed.ctx.send_event(HumanResponseEvent(response="yes"))
    assert await resumed == "yes"
    before, after = spans.named("invoke_workflow Asks")
    assert [(link.context.span_id, (link.attributes or {}).get("mlspan.link")) for link in after.links] == [
        (before.get_span_context().span_id, "resumes")
    ]
    assert before.get_span_context().trace_id != after.get_span_context().trace_id
