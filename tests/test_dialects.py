"""Spans of other instrumentations, in MLflow: what a person sees of the spans that real libraries have recorded.

The files in ``fixtures/dialects`` are OTLP as a collector writes it, recorded in November 2026 from agents that ask for
the weather in Paris, whose model is a fake. Those of Claude Code, and of the older
LiveKit and Pipecat, are written after their sources.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import mlflow
import pytest
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

from mlspan import tracing
from mlspan.cli.otlp_file import read_otlp_messages
from mlspan.cli.otlp_spans import convert_otlp_spans
from mlspan.tracing.export.dialects.catalog import translate_foreign_span
from mlspan.tracing.export.mlflow.spans import find_span_type
from mlspan.tracing.export.mlflow.traces import TranslatedTrace, translate_segment
from mlspan.tracing.export.redaction import SpanRedactor
from mlspan.tracing.export.trace_assembler import is_genai
from mlspan.tracing.export.types import TraceSegment
from mlspan.tracing.operations.call_context import TraceOrigin
from mlspan.tracing.otel.provider import set_global_provider

FIXTURES = Path(__file__).parent / "fixtures" / "dialects"


def recorded(name: str) -> list[ReadableSpan]:
    body = io.BytesIO((FIXTURES / f"{name}.jsonl").read_bytes())
    return [span for message in read_otlp_messages(body) for span in convert_otlp_spans(message.traces) if span]


def traces(spans: list[ReadableSpan]) -> list[TranslatedTrace]:
    """The traces of *spans* as MLflow gets them, in the order of their begin."""
    by_trace: dict[int, list[ReadableSpan]] = {}
    for span in sorted(spans, key=lambda span: span.start_time or 0):
        by_trace.setdefault(span.get_span_context().trace_id, []).append(span)
    made = []
    for group in by_trace.values():
        ids = {span.get_span_context().span_id for span in group}
        root = next(span for span in group if span.parent is None or span.parent.span_id not in ids)
        segment = TraceSegment(TraceOrigin(), group, root.get_span_context().span_id, whole=True)
        made.append(translate_segment(segment, None))
    return made


def value(span: ReadableSpan, name: str) -> Any:
    found = (span.attributes or {}).get(name)
    return None if found is None else json.loads(str(found))


def tell(trace: TranslatedTrace) -> str:
    """What a person sees: each span with its type, tokens and model, and the question and the answer of the trace."""
    below: dict[int | None, list[ReadableSpan]] = {}
    ids = {span.get_span_context().span_id for span in trace.spans}
    for span in trace.spans:
        above = span.parent.span_id if span.parent and span.parent.span_id in ids else None
        below.setdefault(above, []).append(span)
    lines = []
    waiting = [(span, 0) for span in reversed(below.get(None, []))]
    while waiting:
        span, depth = waiting.pop()
        usage, model = value(span, "mlflow.chat.tokenUsage"), value(span, "mlflow.llm.model")
        tokens = f" {usage['input_tokens']}/{usage['output_tokens']}" if usage else ""
        provider = value(span, "mlflow.llm.provider")
        said = " ".join(
            filter(None, [f"[{value(span, 'mlflow.spanType')}]{tokens}", model, provider and f"({provider})"])
        )
        lines.append(f"{'  ' * depth}{span.name} {said}")
        waiting += [(child, depth + 1) for child in reversed(below.get(span.get_span_context().span_id, []))]
    session = trace.summary.metadata.get("mlflow.trace.session")
    lines.append(
        f"{trace.summary.request_preview} -> {trace.summary.response_preview}" + (f" ({session})" if session else "")
    )
    return "\n".join(lines)


TREES = {
    "agent_framework": """\
invoke_agent weather_agent [AGENT] gpt-4o-mini
  chat gpt-4o-mini [CHAT_MODEL] 15/5 gpt-4o-mini (openai)
  execute_tool get_weather [TOOL]
  chat gpt-4o-mini [CHAT_MODEL] 15/5 gpt-4o-mini (openai)
What is the weather in Paris? -> It is sunny in Paris.
""",
    "claude_code": """\
claude_code.interaction [AGENT]
  claude_code.llm_request [CHAT_MODEL] 15/5 claude-sonnet-4-5 (anthropic)
  claude_code.tool [TOOL]
    claude_code.tool.blocked_on_user [TASK]
    claude_code.tool.execution [TASK]
  claude_code.llm_request [CHAT_MODEL] 15/5 claude-sonnet-4-5 (anthropic)
What is the weather in Paris? -> It is sunny in Paris. (chat-42)
""",
    "google_adk": """\
invocation [WORKFLOW]
  invoke_agent weather_agent [AGENT]
    call_llm [CHAT_MODEL] 15/5 gemini-2.5-flash (gcp.gemini)
      generate_content gemini-2.5-flash [CHAT_MODEL] gemini-2.5-flash (gcp.gemini)
    execute_tool get_weather [TOOL]
    call_llm [CHAT_MODEL] 15/5 gemini-2.5-flash (gcp.gemini)
      generate_content gemini-2.5-flash [CHAT_MODEL] gemini-2.5-flash (gcp.gemini)
What is the weather in Paris? -> It is sunny in Paris. (chat-42)
""",
    "google_adk_latest": """\
invoke_workflow weather_agent [WORKFLOW]
  invoke_agent weather_agent [AGENT]
    generate_content gemini-2.5-flash [CHAT_MODEL] 15/5 gemini-2.5-flash (gcp.gemini)
    execute_tool get_weather [TOOL]
    generate_content gemini-2.5-flash [CHAT_MODEL] 15/5 gemini-2.5-flash (gcp.gemini)
What is the weather in Paris? -> It is sunny in Paris. (chat-42)
""",
    "livekit": """\
agent_session [WORKFLOW]
  user_turn [TASK]
  agent_turn [AGENT]
    llm_node [TASK]
      llm_request [CHAT_MODEL] 15/5 gpt-4o-mini (openai)
    function_tool [TOOL]
    llm_node [TASK]
      llm_request [CHAT_MODEL] 15/5 gpt-4o-mini (openai)
    tts_node [TASK]
What is the weather in Paris? -> It is sunny in Paris. (chat-42)
""",
    "livekit_latest": """\
agent_session [WORKFLOW]
  session_start [TASK]
    start_agent_activity [AGENT] gpt-4o-mini (127.0.0.1:8080)
      setup_toolsets [TASK]
      on_enter [TASK]
  agent_turn [AGENT]
    llm_node [TASK] gpt-4o-mini (127.0.0.1:8080)
      llm_request [CHAT_MODEL] 15/5 gpt-4o-mini (openai)
        llm_request_run [TASK] gpt-4o-mini (127.0.0.1:8080)
    function_tool [TOOL]
    llm_node [TASK] gpt-4o-mini (127.0.0.1:8080)
      llm_request [CHAT_MODEL] 15/5 gpt-4o-mini (openai)
        llm_request_run [TASK] gpt-4o-mini (127.0.0.1:8080)
    agent_speaking [TASK]
  session_close [TASK]
    drain_agent_activity [TASK]
      on_exit [TASK]
What is the weather in Paris? -> It is sunny in Paris.
""",
    "mcp": """\
MCP send server/discover [UNKNOWN]
  server/discover [UNKNOWN]
None -> None
tools/list [UNKNOWN]
  MCP send tools/list [UNKNOWN]
    tools/list [UNKNOWN]
None -> None
tools/call get_weather [TOOL]
  MCP send tools/call get_weather [TOOL]
    tools/call get_weather [TOOL]
None -> None
resources/read [RETRIEVER]
  MCP send resources/read [RETRIEVER]
    resources/read [RETRIEVER]
None -> None
prompts/get ask [UNKNOWN]
  MCP send prompts/get ask [UNKNOWN]
    prompts/get ask [UNKNOWN]
None -> None
""",
    "openinference_anthropic": """\
POST /chat [UNKNOWN]
  messages.create [CHAT_MODEL] 15/5 claude-sonnet-4-5 (anthropic)
    anthropic.messages.create [CHAT_MODEL] claude-sonnet-4-5 (anthropic)
  messages.create [CHAT_MODEL] 15/5 claude-sonnet-4-5 (anthropic)
    anthropic.messages.create [CHAT_MODEL] claude-sonnet-4-5 (anthropic)
What is the weather in Paris? -> It is sunny in Paris.
""",
    "openllmetry_anthropic": """\
POST /chat [UNKNOWN]
  anthropic.chat [CHAT_MODEL] 15/5 claude-sonnet-4-5 (anthropic)
  anthropic.messages.create [CHAT_MODEL] claude-sonnet-4-5 (anthropic)
  anthropic.chat [CHAT_MODEL] 15/5 claude-sonnet-4-5 (anthropic)
  anthropic.messages.create [CHAT_MODEL] claude-sonnet-4-5 (anthropic)
What is the weather in Paris? -> It is sunny in Paris.
""",
    "pipecat": """\
conversation [WORKFLOW]
  turn [AGENT]
    stt [UNKNOWN] nova-3 (deepgram)
    llm [CHAT_MODEL] 15/5 gpt-4o-mini (openai)
    tts [UNKNOWN] sonic (cartesia)
What is the weather in Paris? -> It is sunny in Paris. (chat-42)
""",
    "pipecat_latest": """\
conversation [WORKFLOW]
  turn [AGENT]
    llm [CHAT_MODEL] 15/5 gpt-4o-mini (openai)
    llm [CHAT_MODEL] 15/5 gpt-4o-mini (openai)
What is the weather in Paris? -> It is sunny in Paris. (chat-42)
""",
    "pydantic_ai": """\
invoke_agent weather_agent [AGENT]
  chat gpt-4o-mini [CHAT_MODEL] 59/5 gpt-4o-mini (function)
  execute_tool get_weather [TOOL]
  chat gpt-4o-mini [CHAT_MODEL] 62/11 gpt-4o-mini (function)
What is the weather in Paris? -> It is sunny in Paris. (01a22497-1b3f-71e5-80b9-1184ee6dad2a)
""",
    "semantic_kernel": """\
invoke_agent weather_agent [AGENT]
  AutoFunctionInvocationLoop [TASK]
    chat gpt-4o-mini [CHAT_MODEL] 15/5 gpt-4o-mini (openai)
    execute_tool W-get_weather [TOOL]
    chat gpt-4o-mini [CHAT_MODEL] 15/5 gpt-4o-mini (openai)
Paris -> It is sunny in Paris.
""",
    "strands": """\
invoke_agent weather_agent [AGENT]
  execute_event_loop_cycle [TASK]
    chat [CHAT_MODEL] 15/5
    execute_tool get_weather [TOOL]
  execute_event_loop_cycle [TASK]
    chat [CHAT_MODEL] 15/5
What is the weather in Paris? -> It is sunny in Paris.
""",
    "strands_latest": """\
invoke_agent weather_agent [AGENT]
  execute_event_loop_cycle [TASK]
    chat [CHAT_MODEL] 15/5
    execute_tool get_weather [TOOL]
  execute_event_loop_cycle [TASK]
    chat [CHAT_MODEL] 15/5
What is the weather in Paris? -> It is sunny in Paris.
""",
    "vercel_ai": """\
ai.generateText [AGENT] gpt-4o-mini (openai)
  ai.generateText.doGenerate [CHAT_MODEL] 15/5 gpt-4o-mini-2024-07-18 (openai)
  ai.toolCall [TOOL]
  ai.generateText.doGenerate [CHAT_MODEL] 15/5 gpt-4o-mini-2024-07-18 (openai)
What is the weather in Paris? -> It is sunny in Paris. (chat-42)
ai.embed [EMBEDDING] text-embedding-3-small (openai)
  ai.embed.doEmbed [EMBEDDING] 3/0 text-embedding-3-small (openai)
sunny -> None (chat-42)
""",
}


def test_every_recording_has_its_tree() -> None:
    assert sorted(TREES) == sorted(file.stem for file in FIXTURES.glob("*.jsonl"))


@pytest.mark.parametrize("name", TREES)
def test_recorded_spans_have_types_models_tokens_and_previews(name: str) -> None:
    """Each call to a model counts once, and what is not counted says so."""
    made = traces(recorded(name))
    assert "\n".join(tell(trace) for trace in made).splitlines() == TREES[name].splitlines()


@pytest.mark.parametrize("name", TREES)
def test_a_trace_adds_up_to_what_its_spans_say(name: str) -> None:
    """Tokens at the level of spans and at that of the trace agree, as do those that are no longer counted."""
    for trace in traces(recorded(name)):
        counted = [usage for span in trace.spans if (usage := value(span, "mlflow.chat.tokenUsage"))]
        totals = trace.summary.with_totals(trace.read_span_totals().values()).metadata
        total = json.loads(totals.get("mlflow.trace.tokenUsage", "{}"))
        assert total.get("total_tokens", 0) == sum(usage["total_tokens"] for usage in counted)
        for span in trace.spans:
            attributes = span.attributes or {}
            assert ("mlspan.uncounted_usage" in attributes) == ("mlspan.counted_by" in attributes)
            if "mlspan.counted_by" in attributes:
                told = [key for key in attributes if "usage." in key.lower() or "token_count" in key]
                assert told == [], "MLflow would count them"


@pytest.mark.parametrize("name", TREES)
def test_the_order_in_which_spans_arrive_does_not_matter(name: str) -> None:
    """Children before their parents, the last call first: the same types, tokens and previews."""

    def describe(trace: TranslatedTrace) -> tuple[Any, ...]:
        told = {span.get_span_context().span_id: dict(span.attributes or {}) for span in trace.spans}
        return told, trace.summary.request_preview, trace.summary.response_preview, trace.summary.metadata

    for trace in traces(recorded(name)):
        ids = {span.get_span_context().span_id for span in trace.spans}
        group = [span for span in recorded(name) if span.get_span_context().span_id in ids]
        root = next(span for span in trace.spans if span.parent is None or span.parent.span_id not in ids)
        in_order = sorted(group, key=lambda span: span.start_time or 0)
        for order in (in_order[::-1], sorted(group, key=lambda span: span.get_span_context().span_id)):
            segment = TraceSegment(TraceOrigin(), order, root.get_span_context().span_id, whole=True)
            assert describe(translate_segment(segment, None)) == describe(trace)


CHATS = [  # of each recording: a call that asks for a tool, and the tool
    *("agent_framework", "google_adk", "google_adk_latest", "livekit", "livekit_latest"),
    "openinference_anthropic",
    *("openllmetry_anthropic", "pydantic_ai", "strands", "strands_latest", "vercel_ai"),
]


@pytest.mark.parametrize("name", CHATS)
def test_recorded_messages_are_a_chat(name: str) -> None:
    """Instructions, question, call of a tool with its arguments and id; the tool's span has arguments and result."""
    spans = [span for trace in traces(recorded(name)) for span in trace.spans]
    asking = [span for span in spans if "tool_calls" in str(value(span, "mlflow.spanOutputs"))]
    assert asking
    for span in asking:
        messages = value(span, "mlflow.spanInputs")["messages"]
        assert ("user", "What is the weather in Paris?") in [(one["role"], one["content"]) for one in messages]
        (call,) = value(span, "mlflow.spanOutputs")["choices"][0]["message"]["tool_calls"]
        assert call["id"] in {"call_1", "toolu_1"}
        assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == (
            "get_weather",
            {"city": "Paris"},
        )
    answering = [value(span, "mlflow.spanInputs") for span in spans if value(span, "mlflow.spanInputs")]
    results = [
        one for inputs in answering if "messages" in inputs for one in inputs["messages"] if one["role"] == "tool"
    ]
    assert results
    assert all("sunny" in one["content"] and one["tool_call_id"] in {"call_1", "toolu_1"} for one in results)
    for span in spans:
        if value(span, "mlflow.spanType") == "TOOL":
            assert value(span, "mlflow.spanInputs") == {"city": "Paris"}
            assert "sunny in Paris" in json.dumps(value(span, "mlflow.spanOutputs"))


AGENTS = [name for name in TREES if "[AGENT]" in TREES[name] and name != "semantic_kernel"]  # whose messages are logs


@pytest.mark.parametrize("name", AGENTS)
def test_agents_and_workflows_say_what_they_were_asked_and_answered(name: str) -> None:
    """Where the library leaves it out, it is that of the first and the last call below."""
    for trace in traces(recorded(name)):
        for span in trace.spans:
            is_creation = (span.attributes or {}).get("gen_ai.operation.name") == "create_agent"  # asked of nobody
            if value(span, "mlflow.spanType") in {"AGENT", "WORKFLOW"} and not is_creation:
                asked, answered = value(span, "mlflow.spanInputs"), value(span, "mlflow.spanOutputs")
                assert asked["messages"][-1] == {"role": "user", "content": "What is the weather in Paris?"}
                assert answered["choices"][0]["message"]["content"].strip() == "It is sunny in Paris."


@pytest.mark.parametrize("name", TREES)
def test_without_content_nothing_said_leaves(name: str) -> None:
    """``capture_content=False`` takes what was said out of other libraries' spans before anything is stored or sent."""
    redactor = SpanRedactor(capture=False)
    before = recorded(name)
    left = [redactor(span) for span in before]
    text = "".join(span.to_json() for span in left)
    for word in ("What is the weather", "sunny", "Be brief", '\\"Paris\\"', "weather Paris"):
        assert word not in text, word
    assert len(left) == len(before)
    usage = [[key for key in span.attributes or {} if "usage" in key or "token" in key] for span in before]
    assert [[key for key in span.attributes or {} if "usage" in key or "token" in key] for span in left] == usage


def test_without_content_no_exception_is_quoted() -> None:
    """Another library's span of a model's call keeps the type of its exception; one of any other call is left alone."""
    said = {"exception.type": "ValueError", "exception.message": "weather Paris", "exception.stacktrace": "Paris"}
    for attributes, messages in ({"openinference.span.kind": "LLM"}, 0), ({"http.request.method": "GET"}, 1):
        span = foreign("x", attributes)
        span._events = (Event("exception", said),)  # read by all
        span._status = Status(StatusCode.ERROR, "weather Paris")
        left = SpanRedactor(capture=False)(span)
        assert left.to_json().count("weather Paris") == 2 * messages
        assert (left.events[0].attributes or {})["exception.type"] == "ValueError"
        assert left.status.status_code is StatusCode.ERROR


def test_redact_reaches_what_is_translated() -> None:
    redactor = SpanRedactor(redact=lambda text: text.replace("Paris", "[city]"))
    for name in TREES:
        for trace in traces([redactor(span) for span in recorded(name)]):
            assert "Paris" not in "".join(span.to_json() for span in trace.spans), name
            assert "Paris" not in str(trace.summary), name


def test_spans_that_are_no_genai_stay_as_they_are() -> None:
    span = foreign(
        "GET /", {"http.request.method": "GET", "input.value": "x", "model": "m", "events": "e", "tools": "t"}
    )
    assert translate_foreign_span(span) is span
    assert not is_genai(span)
    assert SpanRedactor(capture=False)(span).attributes == span.attributes


def test_our_own_spans_take_one_look() -> None:
    """Whatever they hold: the name of the scope says that they are ours."""
    span = foreign("chat", {"openinference.span.kind": "TOOL", "gen_ai.operation.name": "chat"}, scope="mlspan")
    assert translate_foreign_span(span) is span


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        *(
            ({"gen_ai.operation.name": name}, "MEMORY")
            for name in ("search_memory", "create_memory_store", "delete_memory")
        ),
        ({"gen_ai.operation.name": "plan"}, "CHAIN"),
        ({"gen_ai.operation.name": "generate_content"}, "CHAT_MODEL"),
        ({"gen_ai.operation.name": "never_heard_of"}, "UNKNOWN"),
        ({"gen_ai.operation.name": "never_heard_of", "gen_ai.usage.output_tokens": 5}, "LLM"),
        ({"gen_ai.operation.name": "execute_event_loop_cycle"}, "UNKNOWN"),
        ({"mlspan.kind": "my own word"}, "MY OWN WORD"),
        ({}, "UNKNOWN"),
    ],
)
def test_operations_have_a_type_that_mlflow_knows(attributes: dict[str, Any], kind: str) -> None:
    """One that nobody knows is not shouted; a user's own kind is a word of the user's."""
    assert find_span_type(attributes) == kind


def foreign(name: str, attributes: dict[str, Any], *, scope: str = "elsewhere") -> ReadableSpan:
    context = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(1))
    return ReadableSpan(
        name,
        context,
        attributes=attributes,
        start_time=1,
        end_time=2,
        instrumentation_scope=InstrumentationScope(scope),
    )


@pytest.mark.usefixtures("no_global_provider")
def test_live_spans_of_another_instrumentation_are_a_trace(mlflow_store: str) -> None:
    """They end in the application's own provider. OTLP receivers, here its own exporter, get what was emitted."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    undo = set_global_provider(provider)
    try:
        tracing.configure(tracking_uri=mlflow_store)
        with provider.get_tracer("openinference.instrumentation.smolagents").start_as_current_span(
            "CodeAgent.run",
            attributes={"openinference.span.kind": "AGENT", "input.value": "hello", "output.value": "hi"},
        ):
            pass
        assert tracing.flush(60)
    finally:
        tracing.shutdown()
        undo()
    (trace,) = mlflow.MlflowClient(mlflow_store).search_traces(["0"])
    assert (trace.info.request_preview, trace.info.response_preview) == ("hello", "hi")
    assert trace.data.spans[0].span_type == "AGENT"
    assert list(exporter.get_finished_spans()[0].attributes or ()) == [
        "openinference.span.kind",
        "input.value",
        "output.value",
    ]
