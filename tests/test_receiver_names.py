"""What a receiver of OTLP reads of agents and workflows, and OpenInference's names for those that read no others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags

from mlspan.tracing.export.otlp.codec import decode_span, encode_each_span
from mlspan.tracing.export.otlp.receiver_names import add_receiver_names
from mlspan.tracing.export.types import EncodedSpan


def sent(attributes: dict[str, Any], names: str | None = None, scope: str = "mlspan") -> dict[str, Any]:
    """The attributes of a span as a receiver gets it."""
    context = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(1))
    told_by = InstrumentationScope(scope, "1.0")
    span = ReadableSpan("s", context, attributes=attributes, start_time=1, end_time=2, instrumentation_scope=told_by)
    (encoded,) = encode_each_span([span])
    assert isinstance(encoded, EncodedSpan)
    return dict(decode_span(add_receiver_names(encoded, names)).attributes or {})


def said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


STATE = {"messages": [{"type": "human", "content": "hi"}, {"type": "ai", "content": "hello"}], "step": 2}


@pytest.mark.parametrize("operation", ["invoke_agent", "invoke_workflow"])
@pytest.mark.parametrize(
    ("asked", "answered", "question", "answer"),
    [
        ("hi", "hello", [said("user", "hi")], [said("assistant", "hello")]),
        ({"query": "hi"}, {"answer": "hello"}, [said("user", "hi")], [said("assistant", "hello")]),
        ({"a": 1, "b": 2}, [1, 2], [said("user", '{"a":1,"b":2}')], [said("assistant", "[1,2]")]),
        (STATE, STATE, [said("user", "hi"), said("assistant", "hello")], [said("assistant", "hello")]),
        ({"role": "user", "content": "hi"}, None, [said("user", "hi")], None),
        ({"messages": 3}, {"messages": []}, [said("user", "3")], [said("assistant", "[]")]),
    ],
)
def test_agents_and_workflows_say_what_they_were_asked(
    operation: str, asked: Any, answered: Any, question: Any, answer: Any
) -> None:
    """In the conventions' messages: those in the value, else its text. What they had stays."""
    own = {"gen_ai.operation.name": operation, "mlspan.input": json.dumps(asked), "mlspan.output": json.dumps(answered)}
    found = sent(own)
    assert {name: found.pop(name) for name in own} == own
    expected = {"gen_ai.input.messages": question, "gen_ai.output.messages": answer}
    assert {name: json.loads(text) for name, text in found.items()} == {k: v for k, v in expected.items() if v}


def test_others_are_sent_as_they_are() -> None:
    """Other libraries' spans, steps, and an agent that has its messages already."""
    agent = {"gen_ai.operation.name": "invoke_agent", "mlspan.input": '"hi"'}
    assert sent(agent, "openinference", scope="elsewhere") == agent
    step = {"mlspan.kind": "step", "mlspan.input": '"invoke_agent"'}
    assert sent(step) == step
    told = {**agent, "gen_ai.input.messages": "[]"}
    assert sent(told) == told


def test_openinference_names_on_demand() -> None:
    """Kind, model, tokens, input and output, and the messages of a chat; the conventions' names stay."""
    call = {"type": "tool_call", "id": "c", "name": "f", "arguments": {"a": 1}}
    chat = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.conversation.id": "s-1",
        "gen_ai.usage.input_tokens": 15,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "Be brief."}]),
        "gen_ai.input.messages": json.dumps([said("user", "hi")]),
        "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [call]}]),
    }
    found = sent(chat, "openinference")
    assert chat.items() <= found.items()
    assert {name: value for name, value in found.items() if name not in chat} == {
        "openinference.span.kind": "LLM",
        "llm.provider": "openai",
        "llm.model_name": "gpt-4o",
        "session.id": "s-1",
        "llm.token_count.prompt": 15,
        "llm.token_count.completion": 5,
        "llm.token_count.total": 20,
        "input.value": "hi",
        "input.mime_type": "text/plain",
        "output.value": chat["gen_ai.output.messages"],
        "output.mime_type": "application/json",
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.content": "Be brief.",
        "llm.input_messages.1.message.role": "user",
        "llm.input_messages.1.message.content": "hi",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "f",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": '{"a":1}',
    }
    kinds = {
        "execute_tool": "TOOL",
        "invoke_agent": "AGENT",
        "invoke_workflow": "CHAIN",
        "embeddings": "EMBEDDING",
        "retrieval": "RETRIEVER",
        "plan": "CHAIN",
    }
    for operation, kind in kinds.items():
        assert sent({"gen_ai.operation.name": operation}, "openinference")["openinference.span.kind"] == kind


@pytest.mark.parametrize("value", [None, 3, [], {}, [None], {"messages": [None]}, [{"role": 3, "content": {}}]])
def test_no_value_costs_a_span(value: Any) -> None:
    own = {
        "gen_ai.operation.name": "invoke_agent",
        "mlspan.input": json.dumps(value),
        "gen_ai.output.messages": json.dumps(value),
        "gen_ai.usage.input_tokens": "x",
    }
    assert own.items() <= sent(own, "openinference").items()
