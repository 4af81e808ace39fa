"""What a receiver of OTLP reads of agents and workflows, and OpenInference's names for those that read no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags

from mlspan import tracing
from mlspan.tracing.export.otlp import codec
from mlspan.tracing.export.otlp.codec import decode_span, encode_each_span
from mlspan.tracing.export.otlp.receiver_names import add_receiver_names, find_receiver_names
from mlspan.tracing.export.types import EncodedSpan
from mlspan.tracing.operations import semconv


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


def test_langfuse_names_on_demand() -> None:
    """Type, input, output, model, parameters, tokens by kind, cost, session and user; of a root those of the trace."""
    chat = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 400,
        "gen_ai.input.messages": json.dumps([said("user", "hi")]),
        "gen_ai.output.messages": json.dumps([said("assistant", "hello")]),
        "session.id": "s-1",
        "user.id": "ada",
        "mlspan.tag.team": "blue",
    }
    found = sent(chat, "langfuse")
    assert chat.items() <= found.items()
    added = {name: value for name, value in found.items() if name not in chat}
    cost = json.loads(added.pop("langfuse.observation.cost_details"))
    assert 0 < cost["total"] < 1
    usage = json.loads(added.pop("langfuse.observation.usage_details"))
    assert usage == {"input": 600, "output": 5, "total": 1005, "cache_read_input_tokens": 400}
    assert added == {
        "langfuse.observation.type": "generation",
        "langfuse.observation.model.name": "gpt-4o",
        "langfuse.observation.model.parameters": '{"temperature":0.5}',
        "langfuse.observation.input": chat["gen_ai.input.messages"],
        "langfuse.observation.output": chat["gen_ai.output.messages"],
        "langfuse.trace.input": chat["gen_ai.input.messages"],
        "langfuse.trace.output": chat["gen_ai.output.messages"],
        "langfuse.session.id": "s-1",
        "langfuse.user.id": "ada",
        "langfuse.trace.metadata.team": "blue",
    }
    kinds = {"execute_tool": "tool", "invoke_agent": "agent", "invoke_workflow": "chain", "retrieval": "retriever"}
    for operation, kind in kinds.items():
        assert sent({"gen_ai.operation.name": operation}, "langfuse")["langfuse.observation.type"] == kind
    for own, kind in {"guardrail": "guardrail", "node": "chain", "step": "span"}.items():
        assert sent({"mlspan.kind": own}, "langfuse")["langfuse.observation.type"] == kind


def test_an_agents_sum_is_no_usage_of_langfuses() -> None:
    """It counts what the calls below have counted already."""
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 9, "mlspan.input": '"hi"'}
    found = sent(agent, "langfuse")
    assert "langfuse.observation.usage_details" not in found
    assert json.loads(found["langfuse.observation.input"]) == [said("user", "hi")]


@pytest.mark.parametrize(
    ("endpoint", "names"),
    [
        ("https://cloud.langfuse.com/api/public/otel/v1/traces", "langfuse"),
        ("http://localhost:3000/api/public/otel", "langfuse"),
        ("https://otlp.arize.com/v1/traces", "openinference"),
        ("http://localhost:4318", None),
        ("http://[", None),
    ],
)
def test_names_by_the_receiver(endpoint: str, names: str | None) -> None:
    assert find_receiver_names(endpoint) == names


@pytest.mark.parametrize("value", [None, 3, [], {}, [None], {"messages": [None]}, [{"role": 3, "content": {}}]])
def test_no_value_costs_a_span(value: Any) -> None:
    own = {
        "gen_ai.operation.name": "invoke_agent",
        "mlspan.input": json.dumps(value),
        "gen_ai.output.messages": json.dumps(value),
        "gen_ai.usage.input_tokens": "x",
    }
    for names in ("openinference", "langfuse"):
        assert own.items() <= sent(own, names).items()


LANGFUSE: Any = json.loads((Path(__file__).parent / "fixtures/langfuse_names.json").read_text(encoding="utf-8"))
ALL_KINDS = [
    *(
        {"gen_ai.operation.name": name}
        for name in vars(semconv).values()
        if isinstance(name, str) and name.isidentifier()
    ),
    *({"mlspan.kind": name} for name in ("chain", "evaluator", "guardrail", "node", "parser", "reranker", "step", "x")),
]


@pytest.mark.parametrize("own", ALL_KINDS, ids=lambda own: "".join(own.values()))
def test_langfuse_knows_every_name_that_it_is_sent(own: dict[str, Any]) -> None:
    """Of every kind of span, by the mapping that was recorded of its own package and documentation."""
    said_of_all = {
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.max_tokens": 9,
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.conversation.id": "s-1",
        "user.id": "ada",
        "mlspan.tag.team": "blue",
        "mlspan.input": '"hi"',
        "mlspan.output": '"hello"',
        **own,
    }
    added = {name: value for name, value in sent(said_of_all, "langfuse").items() if name.startswith("langfuse.")}
    assert [
        name for name in added if name not in LANGFUSE["names"] and not name.startswith(tuple(LANGFUSE["prefixes"]))
    ] == []
    assert added["langfuse.observation.type"] in LANGFUSE["types"]
    for names in (None, "none", "openinference"):
        assert [name for name in sent(said_of_all, names) if name.startswith("langfuse.")] == []


@pytest.mark.parametrize(
    ("path", "setting", "is_langfuses"),
    [
        ("/api/public/otel/v1/traces", None, True),
        ("/api/public/otel/v1/traces", "none", False),
        ("", None, False),
        ("", "openinference", False),
        ("", "langfuse", True),
    ],
)
def test_only_langfuse_gets_its_names(
    path: str, setting: Any, is_langfuses: bool, receiver: Any, tracing_off: None
) -> None:
    """What has arrived at a receiver: its address decides, unless the setting does."""
    tracing.configure(otlp_endpoint=receiver.url + path, otlp_names=setting)
    with tracing.span("agent", kind="agent", attributes={"gen_ai.request.model": "gpt-4o"}) as span:
        span.input, span.output = "hi", "hello"
        with tracing.span("search", kind="tool"):
            pass
    assert tracing.flush(30)
    bodies = [codec.split_export_request(body) for body in receiver.bodies]
    got = [dict(codec.decode_span(one).attributes or {}) for encoded in bodies for one in encoded]
    assert len(got) == 2
    assert {any(name.startswith("langfuse.") for name in attributes) for attributes in got} == {is_langfuses}
