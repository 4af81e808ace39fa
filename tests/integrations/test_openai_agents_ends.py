"""OpenAI's Agents SDK: how runs end, what is withheld, who else hears of them, and models of other providers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from mlspan import integrations
from mlspan.testing import Spans, content

agents: Any = pytest.importorskip("agents")

LIMIT = {"error": {"message": "slow down, please", "type": "rate_limit", "code": "rate_limit_exceeded"}}
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Secret answer."}}],
}


@pytest.fixture(autouse=True)
def _on(openai_on: None) -> Iterator[None]:
    integrations.openai.autolog(disable=True)
    agents.set_tracing_disabled(False)
    agents.set_trace_processors([])
    integrations.openai.autolog()
    yield
    integrations.openai.autolog(disable=True)
    agents.set_trace_processors([])


async def run(scripted: Any, question: str = "Secret question?", *, streamed: bool = False, **config: Any) -> Any:
    """Run an agent whose model is the scripted server."""
    async with openai.AsyncOpenAI(base_url=scripted.base_url, api_key="test", max_retries=0) as client:
        model = agents.OpenAIChatCompletionsModel("gpt-4o-mini", client)
        agent = agents.Agent(name="Clerk", model=model)
        settings = agents.RunConfig(**config)
        if not streamed:
            return await agents.Runner.run(agent, question, run_config=settings)
        result = agents.Runner.run_streamed(agent, question, run_config=settings)
        async for _ in result.stream_events():
            pass
        return result


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_run_that_raises_is_an_error_with_its_cause(scripted: Any, spans: Spans, streamed: bool) -> None:
    """Workflow, agent and chat say what the client raised, its type and its text."""
    scripted.reply(LIMIT, status=429)
    with pytest.raises(openai.RateLimitError) as raised:
        await run(scripted, streamed=streamed)
    assert spans.tree() == (
        "invoke_workflow Agent workflow [ERROR openai.RateLimitError]\n"
        "  invoke_agent Clerk [ERROR openai.RateLimitError]\n"
        "    chat gpt-4o-mini [ERROR openai.RateLimitError]"
    )
    assert {span.status.description for span in spans.all} == {str(raised.value)}


async def test_a_run_inside_of_an_exception_handler_is_no_error(scripted: Any, spans: Spans) -> None:
    """The exception that the caller is handling is not the run's own."""
    scripted.reply(ANSWER)
    try:
        raise LookupError
    except LookupError:
        await run(scripted)
    assert "ERROR" not in spans.tree()


@pytest.mark.parametrize("streamed", [False, True])
async def test_too_many_turns_are_an_error(scripted: Any, spans: Spans, streamed: bool) -> None:
    """What the SDK itself raises, also where it raises it only in whoever reads the stream."""

    @agents.function_tool
    def again() -> str:
        """Again."""
        return "again"

    call = {"id": "call_1", "type": "function", "function": {"name": "again", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    if streamed:
        delta = {**message, "tool_calls": [{**call, "index": 0}]}
        chunk = {**ANSWER, "object": "chat.completion.chunk"}
        scripted.stream({**chunk, "choices": [{"index": 0, "finish_reason": "tool_calls", "delta": delta}]}, "[DONE]")
    else:
        scripted.reply({**ANSWER, "choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}]})
    async with openai.AsyncOpenAI(base_url=scripted.base_url, api_key="test", max_retries=0) as client:
        model = agents.OpenAIChatCompletionsModel("gpt-4o-mini", client)
        agent = agents.Agent(name="Clerk", model=model, tools=[again])
        with pytest.raises(agents.MaxTurnsExceeded):
            if streamed:
                result = agents.Runner.run_streamed(agent, "go", max_turns=2)
                async for _ in result.stream_events():
                    pass
            else:
                await agents.Runner.run(agent, "go", max_turns=2)
    assert spans.tree().splitlines()[0] == "invoke_workflow Agent workflow [ERROR agents.exceptions.MaxTurnsExceeded]"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("fails", [False, True])
async def test_sensitive_data_is_withheld_everywhere(scripted: Any, spans: Spans, streamed: bool, fails: bool) -> None:
    """``trace_include_sensitive_data=False``: neither the model's content nor the text of an error is recorded."""
    chunk = {
        **ANSWER,
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "finish_reason": "stop", "delta": {"role": "assistant", "content": "Secret answer."}}],
    }
    if fails:
        scripted.reply({"error": {"message": "Secret cause", "code": "x"}}, status=400)
    elif streamed:
        scripted.stream(chunk, "[DONE]")
    else:
        scripted.reply(ANSWER)
    try:
        await run(scripted, streamed=streamed, trace_include_sensitive_data=False)
    except openai.BadRequestError:
        assert fails
    (chat,) = spans.named("chat gpt-4o-mini")
    assert (chat.attributes or {}).get("error.type") == ("openai.BadRequestError" if fails else None)
    for span in spans.all:
        said = (
            f"{dict(span.attributes or {})} {span.status.description} {[dict(e.attributes or {}) for e in span.events]}"
        )
        assert "Secret" not in said


async def test_the_tree_stays_when_processors_are_replaced(scripted: Any, spans: Spans) -> None:
    """``set_trace_processors`` after autolog replaces the user's, keeps ours, and leaves the user's list alone."""
    scripted.reply(ANSWER)
    mine: list[Any] = []
    agents.set_trace_processors(mine)
    await run(scripted)
    assert mine == []
    assert [span.name for span in spans.all] == [
        "invoke_workflow Agent workflow",
        "invoke_agent Clerk",
        "chat gpt-4o-mini",
    ]
    spans.clear()
    integrations.openai.autolog(disable=True)
    agents.set_trace_processors([])
    await run(scripted)
    assert spans.all == []


async def test_no_usage_is_no_zero(scripted: Any, spans: Spans) -> None:
    """A server that tells no tokens: the span has no counts, although the SDK writes zeros."""
    scripted.reply(ANSWER)
    await run(scripted)
    (chat,) = spans.named("chat gpt-4o-mini")
    assert not [name for name in (chat.attributes or {}) if name.startswith("gen_ai.usage.")]
    assert (chat.attributes or {})["gen_ai.response.finish_reasons"] == ("stop",)


# The data of an SDK span, as its LiteLLM model writes them.
CONFIG: dict[str, Any] = {"model_impl": "litellm", "base_url": "", "temperature": 0.3}
PICTURE = {"type": "image_url", "image_url": {"url": "https://x/a.png"}}
ASKED: dict[str, Any] = {"id": "c0", "type": "function", "function": {"name": "look", "arguments": "{}"}}
GIVEN: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "text", "text": "Weather?"}, PICTURE]},
    {"role": "assistant", "tool_calls": [ASKED]},
    {"role": "tool", "tool_call_id": "c0", "content": "sunny"},
]
CALL: dict[str, Any] = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"x": 1}'}}
SAID: list[dict[str, Any]] = [
    {"role": "assistant", "content": "Looking.", "reasoning_content": "Hm.", "tool_calls": [CALL]}
]
USAGE: dict[str, Any] = {
    "requests": 1,
    "input_tokens": 120,
    "output_tokens": 30,
    "input_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 5},
    "output_tokens_details": {"reasoning_tokens": 20},
}


def test_models_of_other_providers_by_litellm(spans: Spans) -> None:
    """Provider and model by LiteLLM's prefix; cached and reasoning tokens; content as parts, tools linked by id."""
    with agents.trace("Run"):
        with agents.generation_span(input=GIVEN, model="anthropic/claude-sonnet-4-5", model_config=CONFIG) as span:
            span.span_data.output, span.span_data.usage = SAID, USAGE
        with agents.function_span("look", input='{"x": 1}'):
            pass
    chat, tool = spans.all[1:]
    attributes = dict(chat.attributes or {})
    assert chat.name == "chat claude-sonnet-4-5"
    assert attributes["gen_ai.provider.name"] == "anthropic"
    assert attributes["gen_ai.request.temperature"] == 0.3
    counted = {
        name.removeprefix("gen_ai.usage."): n for name, n in attributes.items() if name.startswith("gen_ai.usage.")
    }
    assert counted == {
        "input_tokens": 120,
        "output_tokens": 30,
        "cache_read.input_tokens": 100,
        "cache_write.input_tokens": 5,
        "reasoning.output_tokens": 20,
    }
    assert [[part["type"] for part in message["parts"]] for message in content(chat, "gen_ai.input.messages")] == [
        ["text", "uri"],
        ["tool_call"],
        ["tool_call_response"],
    ]
    assert [part["type"] for part in content(chat, "gen_ai.output.messages")[0]["parts"]] == [
        "reasoning",
        "text",
        "tool_call",
    ]
    assert [link.context.span_id for link in tool.links] == [chat.get_span_context().span_id]
