"""The conventions' newer parts: memory and plans, agents' own numbers, durations, events with content, a schema URL."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conventions import problems
from opentelemetry import _logs, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider

from mlspan import integrations, testing, tracing
from mlspan._notebook_summary import summarize_cell
from mlspan.hooks.requests import read_chat_usage
from mlspan.integrations.openai import media, realtime
from mlspan.tracing.export.cost import compute_span_cost
from mlspan.tracing.export.mlflow.names import TOKEN_USAGE
from mlspan.tracing.export.mlflow.span_totals import count_calls_once
from mlspan.tracing.export.mlflow.spans import find_span_type, translate_span
from mlspan.tracing.export.redaction import SpanRedactor
from mlspan.tracing.export.tail_sampling import _sum_cost
from mlspan.tracing.operations import records
from mlspan.tracing.operations.content import make_redactor
from mlspan.tracing.operations.metrics import Instruments
from mlspan.tracing.settings.resolution import resolve_config

CALL = {
    "gen_ai.provider.name": "openai",
    "gen_ai.usage.input_tokens": 7,
    "gen_ai.usage.output_tokens": 3,
    "gen_ai.response.finish_reasons": ["stop"],
}


@pytest.mark.parametrize(
    ("kind", "operation", "type"),
    [("plan", "plan", "CHAIN"), ("create_agent", "create_agent", "AGENT")]
    + [(kind, kind, "MEMORY") for kind in ("search_memory", "upsert_memory", "delete_memory_store")],
)
def test_spans_of_ones_own_have_the_operations(
    spans: testing.Spans, tracing_off: None, kind: str, operation: str, type: str
) -> None:
    """Plans, memory and the creation of agents are kinds of ``span``, in the conventions' names and MLflow's types."""
    tracing.configure()
    with tracing.span("notes", kind=kind, input="what", attributes={"gen_ai.agent.version": "2"}) as found:
        found.output = [{"id": "1"}, {"id": "2"}]
    (span,) = spans.all
    attributes: Any = span.attributes
    assert (attributes["gen_ai.operation.name"], find_span_type(attributes)) == (operation, type)
    if type == "MEMORY":
        told = {name: it for name, it in attributes.items() if name.startswith("gen_ai.memory.")}
        assert told == {
            "gen_ai.memory.store.id": "notes",
            "gen_ai.memory.record.count": 2,
            "gen_ai.memory.query.text": "what",
            "gen_ai.memory.records": '[{"id":"1"},{"id":"2"}]',
        }
    else:
        assert (span.name, attributes["gen_ai.agent.version"]) == (f"{operation} notes", "2")


def run_agents(*models: str) -> None:
    """One agent that hands over to another, each with calls to models, inside of a workflow."""
    with tracing.span("flow", kind="workflow"), tracing.span("outer", kind="agent"):
        with tracing.span(models[0], kind="chat", attributes=CALL), tracing.span("look", kind="tool"):
            pass
        with tracing.span("inner", kind="agent"):
            for model in models:
                with tracing.span(model, kind="chat", attributes=CALL):
                    pass


@pytest.mark.parametrize("models", [("m", "m"), ("m", "n")])
@pytest.mark.parametrize("adds", [False, True])
def test_an_agent_tells_what_its_calls_say(
    spans: testing.Spans, tracing_off: None, adds: bool, models: tuple[str, ...]
) -> None:
    """Its only model, why the last call ended, and on demand the tokens, which count once for MLflow all the same."""
    tracing.configure(agent_usage=adds)
    run_agents(*models)
    told = {span.name: dict(span.attributes or {}) for span in spans.all}
    model = "m" if models == ("m", "m") else None
    for name, calls in (("invoke_agent inner", 2), ("invoke_agent outer", 3)):
        assert told[name].get("gen_ai.request.model") == model
        assert told[name]["gen_ai.response.finish_reasons"] == ("stop",)
        tokens = tuple(told[name].get(f"gen_ai.usage.{side}_tokens") for side in ("input", "output"))
        assert tokens == ((7 * calls, 3 * calls) if adds else (None, None))
        assert told[name].get("mlspan.counted_by") == ("calls below" if adds else None)
    assert not any(name.startswith("gen_ai.usage.") for name in told["invoke_workflow flow"])
    agents = [span for span in spans.all if span.name.startswith("invoke_agent")]
    for sent in ([*spans.all], agents, spans.all[:3], spans.all[-3:]):  # together, and in parts
        translated = count_calls_once([translate_span(span, dict(span.attributes or {})) for span in sent])
        counted = [json.loads(str((one.attributes or {}).get(TOKEN_USAGE, "{}"))) for one in translated]
        calls = sum(span.name.startswith("chat") for span in sent)
        assert sum(one.get("input_tokens", 0) for one in counted) == 7 * calls


def test_whoever_adds_up_counts_calls_once(spans: testing.Spans, tracing_off: None) -> None:
    """What agents add up is their calls', for the summary of a notebook's cell, and for a trace's cost, as well."""
    tracing.configure(agent_usage=True)
    run_agents("gpt-4o", "gpt-4o")
    (item,) = summarize_cell([], [spans.all], {}).items
    assert item.details.endswith("21 in, 9 out")
    calls = [compute_span_cost(span.attributes or {}) for span in spans.all if span.name.startswith("chat")]
    assert _sum_cost(spans.all) == pytest.approx(sum(cost["total_cost"] for cost in calls if cost))


@pytest.mark.parametrize("adds", [False, True])
def test_an_agent_that_loops_keeps_no_more_for_each_call(spans: testing.Spans, tracing_off: None, adds: bool) -> None:
    """Neither it nor an outer one grows with its calls, be they of as many models."""
    tracing.configure(agent_usage=adds)
    sizes = []
    with tracing.span("outer", kind="agent") as outer:
        for _ in range(3):
            with tracing.span("inner", kind="agent") as inner:
                for number in range(40):
                    with tracing.span(f"m{number}", kind="chat", attributes=CALL):
                        pass
            sizes.append([len(pickle.dumps(vars(one.record)["calls"])) for one in (inner, outer)])
    assert max(map(max, sizes)) < 300, sizes
    (ended,) = [span.attributes or {} for span in spans.all if span.name == "invoke_agent outer"]
    assert ended.get("gen_ai.usage.input_tokens") == (840 if adds else None)


def test_calls_of_many_threads_all_count(spans: testing.Spans, tracing_off: None) -> None:
    """Of an agent whose calls end at the same time, in threads and in finalizers."""
    agent, call = records.Agent(adds_usage=True), records.Chat(model="m", input_tokens=1, output_tokens=2)
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: [agent.note_call(call) for _ in range(500)], range(8)))
    finally:
        sys.setswitchinterval(switch)
    agent.complete_fields()
    assert (agent.model, agent.input_tokens, agent.output_tokens) == ("m", 4000, 8000)


@pytest.mark.parametrize("odd", [["m"], {"a": 1}, float("nan"), "7"])
def test_odd_facts_of_a_call_cost_no_agent_its_others(spans: testing.Spans, odd: Any) -> None:
    """What users may say of a call of their own."""
    agent = records.Agent(adds_usage=True)
    agent.note_call(records.Chat(model=odd, input_tokens=odd, output_tokens=1))
    agent.note_call(records.Chat(model="m", input_tokens=2, output_tokens=1, finish_reasons=["stop"]))
    agent.complete_fields()
    assert (agent.input_tokens, agent.output_tokens, agent.finish_reasons) == (2, 2, ["stop"])


def test_what_the_user_says_of_an_agent_is_kept(spans: testing.Spans, tracing_off: None) -> None:
    """Numbers that a span was given stand."""
    tracing.configure(agent_usage=True)
    given = {"gen_ai.usage.input_tokens": 100, "gen_ai.request.model": "own"}
    with tracing.span("a", kind="agent", attributes=given), tracing.span("m", kind="chat", attributes=CALL):
        pass
    told: Any = next(span.attributes for span in spans.all if span.name == "invoke_agent a")
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.request.model"]) == (100, "own")
    assert {"gen_ai.usage.output_tokens", "mlspan.counted_by"}.isdisjoint(told)


def read_tokens(record: records.Chat) -> dict[str, int]:
    return {
        name: value
        for name, value in record.build_end_attributes()[1].items()
        if name.startswith("gen_ai.usage.") and "." in name.removeprefix("gen_ai.usage.")
    }


def test_tokens_by_modality() -> None:
    """Of chats with sounds, of pictures and of realtime sessions, as OpenAI tells them."""
    chat, picture, spoken = records.Chat(), records.Chat(), records.Chat()
    sides = {"text_tokens": 4, "audio_tokens": 6}
    read_chat_usage(
        chat,
        {
            "prompt_tokens": 10,
            "completion_tokens": 10,
            "total_tokens": 20,
            "prompt_tokens_details": sides,
            "completion_tokens_details": sides,
        },
    )
    assert read_tokens(chat) == {
        "gen_ai.usage.audio.input_tokens": 6,
        "gen_ai.usage.audio.output_tokens": 6,
        "gen_ai.usage.text.input_tokens": 4,
        "gen_ai.usage.text.output_tokens": 4,
    }
    details = {"text_tokens": 1, "image_tokens": 2}
    usage = {"input_tokens": 3, "output_tokens": 3, "input_tokens_details": details, "output_tokens_details": details}
    media._observe_images(picture, {"data": [], "usage": usage})
    assert read_tokens(picture) == {
        "gen_ai.usage.text.input_tokens": 1,
        "gen_ai.usage.image.input_tokens": 2,
        "gen_ai.usage.text.output_tokens": 1,
        "gen_ai.usage.image.output_tokens": 2,
    }
    cached = {"text_tokens": 1, "image_tokens": 2, "audio_tokens": 3}
    realtime._observe_realtime_response(
        spoken,
        {
            "status": "completed",
            "usage": {
                "input_tokens": 9,
                "output_tokens": 5,
                "input_token_details": {"cached_tokens": 6, "image_tokens": 4, "cached_tokens_details": cached},
                "output_token_details": {"text_tokens": 2, "audio_tokens": 3},
            },
        },
    )
    assert read_tokens(spoken) == {
        "gen_ai.usage.cache_read.input_tokens": 6,
        "gen_ai.usage.image.input_tokens": 4,
        "gen_ai.usage.text.cache_read.input_tokens": 1,
        "gen_ai.usage.image.cache_read.input_tokens": 2,
        "gen_ai.usage.audio.cache_read.input_tokens": 3,
        "gen_ai.usage.text.output_tokens": 2,
        "gen_ai.usage.audio.output_tokens": 3,
    }


CONTENT = {kind.name for kind in records.Chat.attrs.values() if kind.when == "content"}
_MODE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


@pytest.mark.parametrize(
    ("arguments", "environ", "on_spans", "in_events"),
    [
        ({}, {}, True, False),
        ({}, {_MODE: "SPAN_ONLY"}, True, False),
        ({}, {_MODE: "EVENT_ONLY"}, False, True),
        ({}, {_MODE: "span_and_event"}, True, True),
        ({}, {_MODE: "NO_CONTENT"}, False, False),
        ({}, {"MLSPAN_CONTENT_EVENTS": "1"}, True, True),
        ({"content_events": True}, {}, True, True),
        ({"content_events": True, "capture_content": False}, {}, False, False),
        ({"capture_content": False}, {_MODE: "EVENT_ONLY"}, False, False),
        ({}, {"MLSPAN_CAPTURE_CONTENT": "0", _MODE: "SPAN_AND_EVENT"}, False, False),
        ({}, {"MLSPAN_CAPTURE_CONTENT": "0", _MODE: "EVENT_ONLY"}, False, False),
        ({"content_events": False}, {_MODE: "EVENT_ONLY"}, False, False),
        ({"content_events": True}, {_MODE: " event_only "}, False, True),
        *(
            case
            for mode in ("NO_CONTENT", "no_content", "FALSE", "nonsense")
            for case in (
                ({"content_events": True}, {_MODE: mode}, False, False),
                ({}, {"MLSPAN_CONTENT_EVENTS": "1", _MODE: mode}, False, False),
                ({"capture_content": True, "content_events": True}, {_MODE: mode}, True, True),
            )
        ),
    ],
)
def test_where_content_goes(arguments: Any, environ: Any, on_spans: bool, in_events: bool) -> None:
    """What turns content off turns the events off, whoever asks for them, but for OpenTelemetry's ``EVENT_ONLY``."""
    config = resolve_config(arguments, environ)
    assert (config.capture_content, config.content_events) == (on_spans, in_events)


def test_a_policy_without_content_has_no_events(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the administrator has locked holds for events, whatever the variable says."""
    file = tmp_path / "policy.toml"
    file.write_text('locked = ["capture_content"]\n[settings]\ncapture_content = false\n')
    monkeypatch.setenv("MLSPAN_POLICY", str(file))
    assert resolve_config({"content_events": True}, {_MODE: "EVENT_ONLY"}).content_events is False


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryLogRecordExporter]:
    """The records of the application's logs, whose LoggerProvider can be set once in a process."""
    kept = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(kept))
    monkeypatch.setattr(_logs._internal, "_LOGGER_PROVIDER", provider)
    yield kept
    provider.shutdown()


@pytest.mark.parametrize("mode", ["EVENT_ONLY", "SPAN_AND_EVENT"])
def test_content_as_events(
    logged: InMemoryLogRecordExporter,
    spans: testing.Spans,
    tracing_off: None,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
) -> None:
    """One event for each call, in its span's context, with structured and redacted content; spans have it as asked."""
    monkeypatch.setenv(_MODE, mode)
    tracing.configure(redact=["s3cret"])
    with (
        pytest.raises(ValueError, match="no"),
        tracing.span("m", kind="chat", input="my s3cret", attributes=CALL) as chat,
    ):
        chat.record.extra["gen_ai.prompt.variable.city"] = "Rome"  # type: ignore[attr-defined]
        chat.output = "said"
        raise ValueError("no")
    with tracing.span("look", kind="tool"):
        pass
    (event,) = [each.log_record for each in logged.get_finished_logs()]
    (span,) = [span for span in spans.all if span.name == "chat m"]
    told: Any = event.attributes
    assert event.event_name == "gen_ai.client.inference.operation.details"
    assert (event.trace_id, event.span_id) == (span.context.trace_id, span.context.span_id)
    assert told["gen_ai.input.messages"][0]["parts"][0]["content"] == "my [redacted]"
    assert told["gen_ai.output.messages"][0]["parts"][0]["content"] == "said"
    assert (told["gen_ai.request.model"], told["error.type"]) == ("m", "ValueError")
    content = {"gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.prompt.variable.city"}
    assert content & set(span.attributes or {}) == (content if mode == "SPAN_AND_EVENT" else set())


@pytest.mark.any_span
def test_an_event_is_redacted_as_its_span_is(
    logged: InMemoryLogRecordExporter, spans: testing.Spans, tracing_off: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each attribute, whether or not it is content: no text of the event is one that the span's has lost."""
    said, key = "bob@example.org", "sk-proj-0123456789abcdefghijABCD"
    redact = [r"[\w.]+@[\w.]+"]
    tracing.configure(redact=redact, content_events=True)
    monkeypatch.setattr(Instruments, "has_meter_provider", lambda _: False)  # its counts cannot be texts, as here
    fields = {name: said for name, kind in records.Chat.attrs.items() if kind.when != "content" and name != "model"}
    extra = {
        "mlspan.langchain.metadata.email": said,
        "mlspan.langchain.metadata.json": json.dumps({"to": [said]}),
        "mlspan.langchain.metadata.people": [said, "ann"],
        "mlspan.langchain.metadata.age": 7,
        "http.request.header.authorization": "opaque",
        "mine": key,
    }
    with tracing.span("m", kind="chat", input=f"I am {said}", attributes={"gen_ai.conversation.id": said}) as chat:
        for name, value in fields.items():
            setattr(chat.record, name, value)
        chat.record.extra.update(extra)  # type: ignore[attr-defined]
    (event,) = [each.log_record for each in logged.get_finished_logs()]
    told = dict(event.attributes or {})
    sent = dict(SpanRedactor(make_redactor(redact))(spans.one()).attributes or {})
    for name, value in told.items():
        as_json = json.dumps(value)  # of which a tuple is a list
        assert as_json == json.dumps(json.loads(str(sent[name])) if name in CONTENT else sent[name]), name
    assert told["mlspan.langchain.metadata.email"] == told["gen_ai.conversation.id"] == "[redacted]"
    assert (told["mine"], told["mlspan.langchain.metadata.age"]) == ("[redacted]", 7)


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_only_what_is_sampled_writes_events(
    logged: InMemoryLogRecordExporter,
    tracing_off: None,
    no_global_provider: None,  # the tests' own samples by itself
    monkeypatch: pytest.MonkeyPatch,
    ratio: float,
    measured: bool,
) -> None:
    """A call of one's own and one of a client, whether or not somebody measures those that are not sampled."""
    openai = pytest.importorskip("openai")
    httpx = pytest.importorskip("httpx")
    answer = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": []}
    tracing.configure(sample_ratio=ratio, content_events=True, tracking_uri="none")
    monkeypatch.setattr(Instruments, "has_meter_provider", lambda _: measured)
    monkeypatch.setattr(Instruments, "record_call", lambda *_, **__: None)
    integrations.openai.autolog()
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=answer))
    with httpx.Client(transport=transport) as http, openai.OpenAI(api_key="k", http_client=http) as client:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    with tracing.span("m", kind="chat", input="hi"):
        pass
    assert len(logged.get_finished_logs()) == 2 * ratio


def test_the_schema_url_is_what_is_set(tracing_off: None) -> None:
    """There is none by default, as the names follow no single version."""
    url = "https://opentelemetry.io/schemas/1.41.0"
    for given in (None, url):
        tracing.configure(schema_url=given)
        provider: Any = tracing.tracer_provider()
        with testing.spans() as ended, tracing.span("m", kind="chat"):
            pass
        assert isinstance(provider, TracerProvider | trace.TracerProvider)
        (span,) = ended.all
        assert span.instrumentation_scope.schema_url == (given or "")
        assert problems(span) == ["chat m: gen_ai.provider.name is missing"]
