"""Pipecat's pipelines with text, against a model server: their own spans, joined, and mlspan's of the functions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("pipecat")

from openai_chunks import USAGE
from opentelemetry import trace
from pipecat.frames.frames import EndFrame, LLMMessagesAppendFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.services.llm_service import FunctionCallParams
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.workers.runner import WorkerRunner
from self_tracing_kit import QUESTION, stream_answer, stream_tool_call, tell_traces

from mlspan import integrations, tracing
from mlspan.integrations import pipecat
from mlspan.testing import Spans
from mlspan.tracing.export.redaction import SpanRedactor

pytestmark = pytest.mark.any_span  # Pipecat's own do not keep to the conventions


async def get_weather(params: FunctionCallParams, city: str) -> None:
    """The weather in a city."""
    if city == "Atlantis":
        msg = "there is no such city"
        raise LookupError(msg)
    with tracing.span("forecast"):
        await params.result_callback(f"sunny in {city}")


@pytest.fixture(autouse=True)
def _on(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The hook; there is no global provider, which would have the spans by itself."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    integrations.pipecat.autolog(log_traces=True)
    yield
    integrations.pipecat.autolog(disable=True)
    assert pipecat._running == {}


async def talk(server: Any, question: str, in_parallel: bool = True, **more: Any) -> None:
    """Send a question through a pipeline, and end the pipeline after the answer."""
    settings = OpenAILLMService.Settings(model="m", system_instruction="Be brief.")
    model = OpenAILLMService(base_url=server.base_url, api_key="test", settings=settings, run_in_parallel=in_parallel)
    pair = LLMContextAggregatorPair(LLMContext(tools=[get_weather]))
    worker = PipelineWorker(Pipeline([pair.user(), model, pair.assistant()]), conversation_id="c-1", **more)
    runner, answered = WorkerRunner(handle_sigint=False), asyncio.Event()

    @pair.assistant().event_handler("on_assistant_turn_stopped")
    async def on_assistant_turn_stopped(_: object, message: Any) -> None:
        if message.content:
            answered.set()

    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    await worker.queue_frame(LLMMessagesAppendFrame([{"role": "user", "content": question}], run_llm=True))
    await asyncio.wait_for(answered.wait(), 60)
    await worker.queue_frame(EndFrame())
    await running
    await model._client.close()


TURN = """\
conversation [WORKFLOW]
  turn [AGENT]
    llm [CHAT_MODEL] 12/5 m (openai)
    execute_tool get_weather [TOOL]
      forecast [UNKNOWN]
    llm [CHAT_MODEL] 12/5 m (openai)
How is the sky over Paris? -> One two. (c-1)"""


@pytest.mark.parametrize("in_parallel", [True, False], ids=["parallel", "in turn"])
async def test_a_turn_with_a_function(spans: Spans, scripted: Any, in_parallel: bool) -> None:
    """The function's call is in the turn, also where a task runs it that is older than the turn."""
    stream_tool_call(scripted, "get_weather", city="Paris")
    stream_answer(scripted)
    await talk(scripted, QUESTION, in_parallel)
    assert tell_traces(spans.all) == TURN
    (tool,) = [span for span in spans.all if span.name == "execute_tool get_weather"]
    seen = dict(tool.attributes or {})
    assert (seen["gen_ai.tool.call.id"], seen["gen_ai.tool.type"]) == ("call_1", "function")
    assert "Paris" in str(seen["gen_ai.tool.call.arguments"])
    assert "sunny in Paris" in str(seen["gen_ai.tool.call.result"])


async def test_each_call_counts_once(spans: Spans, scripted: Any) -> None:
    """With the hook of the model's client on, its span has the tokens."""
    integrations.openai.autolog(log_traces=True)
    try:
        stream_answer(scripted)
        await talk(scripted, QUESTION)
    finally:
        integrations.openai.autolog(disable=True)
    assert tell_traces(spans.all) == (
        "conversation [WORKFLOW]\n  turn [AGENT]\n    llm [CHAT_MODEL] m (openai)\n"
        f"      chat m [CHAT_MODEL] {USAGE['prompt_tokens']}/{USAGE['completion_tokens']} m (openai)\n"
        f"{QUESTION} -> One two. (c-1)"
    )


async def test_a_function_that_fails(spans: Spans, scripted: Any) -> None:
    stream_tool_call(scripted, "get_weather", city="Atlantis")
    stream_answer(scripted)
    await talk(scripted, QUESTION)
    (tool,) = [span for span in spans.all if span.name == "execute_tool get_weather"]
    assert (tool.attributes or {})["error.type"] == "tool_error"
    assert not tool.status.is_ok


async def test_content_that_is_not_wanted(spans: Spans, scripted: Any) -> None:
    """Nothing of what was said, and of a function's arguments and result, is left on any span that is sent."""
    stream_tool_call(scripted, "get_weather", city="Paris")
    stream_answer(scripted)
    await talk(scripted, QUESTION)
    redactor = SpanRedactor(capture=False)
    for span in spans.all:
        if span.instrumentation_scope is not None and span.instrumentation_scope.name != "mlspan":
            sent = str(dict(redactor(span).attributes or {}))
            assert not [text for text in ("Paris", "One two", "Be brief") if text in sent], sent


@pytest.mark.parametrize("off", [{"enable_tracing": False}, {}], ids=["by the program", "by the setting"])
async def test_a_pipeline_that_is_not_traced(spans: Spans, scripted: Any, off: dict[str, bool]) -> None:
    """What the program has set stays, and ``log_traces=False`` turns nothing on."""
    if not off:
        integrations.pipecat.autolog(log_traces=False)
    stream_answer(scripted)
    await talk(scripted, QUESTION, **off)
    assert spans.all == []


async def test_it_is_taken_back(spans: Spans, scripted: Any) -> None:
    integrations.pipecat.autolog(disable=True)
    stream_answer(scripted)
    await talk(scripted, QUESTION)
    assert spans.all == []
    from pipecat.utils.tracing import service_decorators, turn_trace_observer

    assert service_decorators.trace is turn_trace_observer.trace is trace
