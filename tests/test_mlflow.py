"""Traces in MLflow, embedded and on a real tracking server, read back through MLflow's own client."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import mlflow
import openai
import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from mlspan import integrations, tracing
from mlspan.tracing.operations.operation import start_operation
from mlspan.tracing.operations.records import Tool
from mlspan.tracing.runtime import get_runtime

HELLO: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]


@pytest.fixture(params=["embedded", "server"])
def place(request: pytest.FixtureRequest, tracing_off: None) -> Iterator[str]:
    """The tracking URI of each kind of store, with a new experiment active, and MLflow's own state put back."""
    uri = request.getfixturevalue("mlflow_store" if request.param == "embedded" else "mlflow_server")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLSPAN_TRACKING_URI")
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.setenv("MLFLOW_EXPERIMENT_ID", "")
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment(f"test-{uuid.uuid4().hex[:8]}")
        integrations.openai.autolog()
        yield uri
        mlflow.set_tracking_uri(None)


@pytest.fixture
def client(aimock: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=aimock, api_key="test", max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, text: str = "hello", **more: Any) -> Any:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    return client.chat.completions.create(model="gpt-4o-mini", messages=messages, **more)


def stored(**where: Any) -> list[Any]:
    assert tracing.flush(30)
    found = mlflow.search_traces(return_type="list", **where)
    return sorted(found, key=lambda trace: min(span.start_time_ns for span in trace.data.spans))


def test_a_trace_is_whole(client: openai.OpenAI, place: str) -> None:
    """Name, run, previews, tokens, cost, session, user, tags; inputs and outputs that the viewer shows as a chat."""
    with mlflow.start_run() as run, tracing.session("s-1"), tracing.user("ada"), tracing.tags(env="test"):
        answer = ask(client, temperature=0.5)
    (found,) = stored()
    info = found.info
    assert info.trace_metadata | {"mlflow.source.name": ""} == {
        "mlflow.sourceRun": run.info.run_id,
        "mlflow.trace.session": "s-1",
        "mlflow.trace.user": "ada",
        "mlflow.trace.tokenUsage": '{"input_tokens": 12, "output_tokens": 5, "total_tokens": 17}',
        "mlflow.trace.cost": info.trace_metadata["mlflow.trace.cost"],
        "mlflow.trace_schema.version": "3",
        "mlflow.trace.infoFinalized": "true",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": "",
    }
    assert json.loads(info.trace_metadata["mlflow.trace.cost"]) == pytest.approx(
        {"input_cost": 12 * 0.15e-6, "output_cost": 5 * 0.6e-6, "total_cost": 12 * 0.15e-6 + 5 * 0.6e-6}
    )
    assert {k: v for k, v in info.tags.items() if not k.startswith(("mlflow.artifact", "mlflow.trace."))} == {
        "mlflow.traceName": "chat gpt-4o-mini",
        "env": "test",
    }
    assert (info.state.value, info.request_preview, info.response_preview) == ("OK", "hello", "Hi there!")
    (span,) = found.data.spans
    assert (span.name, span.span_type, span.parent_id) == ("chat gpt-4o-mini", "CHAT_MODEL", None)
    assert span.inputs == {"messages": HELLO, "model": "gpt-4o-mini", "temperature": 0.5}
    message = {"role": "assistant", "content": "Hi there!"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    assert span.outputs == {"choices": [choice]}
    assert span.get_attribute("gen_ai.response.id") == answer.id
    assert span.get_attribute("mlflow.message.format") == "openai"
    assert span.get_attribute("mlflow.llm.provider") == "openai"
    assert [t.info.trace_id for t in mlflow.search_traces(run_id=run.info.run_id, return_type="list")] == [
        info.trace_id
    ]


@pytest.mark.parametrize("said", ["span.type = 'CHAT_MODEL'", "span.name = 'chat gpt-4o-mini'"])
def test_it_is_found_by_what_its_spans_are(said: str, client: openai.OpenAI, place: str) -> None:
    """MLflow's search knows the type and the name of a span, in a database and on a server."""
    ask(client)
    assert len(stored(filter_string=said)) == 1


def test_the_tree_below_a_span_of_ones_own(client: openai.OpenAI, place: str) -> None:
    """A tool-calling agent written by hand is one trace, whose question and answer are those of its chats."""
    with tracing.span("assistant", kind="agent"):
        ask(client, "weather in Paris?")
        with tracing.span("get_weather", kind="tool", input={"city": "Paris"}) as tool:
            tool.output = "sunny"
    (found,) = stored()
    tree = [(span.name, span.span_type, span.inputs if span.span_type == "TOOL" else None) for span in found.data.spans]
    assert sorted(tree) == [
        ("chat gpt-4o-mini", "CHAT_MODEL", None),
        ("execute_tool get_weather", "TOOL", {"city": "Paris"}),
        ("invoke_agent assistant", "AGENT", None),
    ]
    root = next(span for span in found.data.spans if span.parent_id is None)
    assert {span.parent_id for span in found.data.spans} == {None, root.span_id}
    assert (found.info.request_preview, found.info.response_preview) == ("weather in Paris?", "sunny")


def test_each_thread_has_its_own_run(client: openai.OpenAI, place: str) -> None:
    """Threads with runs of their own at the same time: each trace is tied to its own."""
    together = threading.Barrier(3)
    runs: dict[str, str] = {}

    def work(name: str) -> None:
        with mlflow.start_run() as run:
            together.wait(30)
            runs[name] = run.info.run_id
            ask(client, f"hello from {name}")
            together.wait(30)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    found = {t.info.request_preview[-1]: t.info.trace_metadata["mlflow.sourceRun"] for t in stored()}
    assert found == runs


async def test_each_task_has_its_own_run(aimock: str, place: str) -> None:
    """Tasks of one event loop share MLflow's stack of runs; their traces are tied to the run that each has started."""
    started, runs = asyncio.Barrier(3), {}

    async def work(client: openai.AsyncOpenAI, name: str) -> None:
        run = mlflow.start_run(nested=True)
        runs[name] = run.info.run_id
        await asyncio.wait_for(started.wait(), 30)
        await client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": f"hello from {name}"}]
        )
        await asyncio.wait_for(started.wait(), 30)

    async with openai.AsyncOpenAI(base_url=aimock, api_key="test") as client:
        await asyncio.gather(*(asyncio.create_task(work(client, name)) for name in "abc"))
    while mlflow.active_run():
        mlflow.end_run()
    found = {t.info.request_preview[-1]: t.info.trace_metadata["mlflow.sourceRun"] for t in stored()}
    assert found == runs


def test_wrap_carries_everything_into_a_thread(client: openai.OpenAI, place: str) -> None:
    """What ``tracing.wrap`` wraps runs under the caller's span, run and session."""
    with mlflow.start_run() as run, tracing.session("s-2"), tracing.span("outer"):
        thread = threading.Thread(target=tracing.wrap(ask), args=(client,))
        thread.start()
        thread.join(30)
    (found,) = stored()
    assert len(found.data.spans) == 2
    assert found.info.trace_metadata["mlflow.sourceRun"] == run.info.run_id
    assert found.info.trace_metadata["mlflow.trace.session"] == "s-2"


def test_a_run_of_ones_choice(client: openai.OpenAI, place: str) -> None:
    """``tracing.run`` names the run, whatever is active; the trace goes to that run's experiment."""
    with mlflow.start_run() as chosen:
        pass
    experiment = mlflow.set_experiment(f"other-{uuid.uuid4().hex[:8]}").experiment_id
    with mlflow.start_run(), tracing.run(chosen.info.run_id):
        ask(client)
    assert stored(locations=[experiment]) == []
    (found,) = stored(locations=[chosen.info.experiment_id])
    assert found.info.trace_metadata["mlflow.sourceRun"] == chosen.info.run_id


@pytest.mark.parametrize("how", ["configure", "environment"])
def test_a_run_that_is_named_from_outside(
    client: openai.OpenAI, place: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``configure(run=)`` and ``MLFLOW_RUN_ID`` tie what is made outside of any run to theirs, and never end it."""
    run_id = mlflow.MlflowClient().create_run(mlflow.tracking.fluent._active_experiment_id).info.run_id
    if how == "configure":
        tracing.configure(run=run_id)
    else:
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    ask(client)
    (found,) = stored()
    assert found.info.request_metadata["mlflow.sourceRun"] == run_id
    assert mlflow.get_run(run_id).info.status == "RUNNING"


def test_exclusive_leaves_the_calls_of_an_active_run_alone(client: openai.OpenAI, place: str) -> None:
    """With ``exclusive=True`` what happens inside the caller's own MLflow run is not recorded."""
    integrations.openai.autolog(exclusive=True)
    with mlflow.start_run():
        ask(client)
    assert stored() == []
    ask(client)
    assert len(stored()) == 1


def test_an_experiment_by_name_is_made(client: openai.OpenAI, place: str) -> None:
    """``configure(experiment=...)`` counts over what MLflow has active, and makes what is new."""
    name = f"new-{uuid.uuid4().hex[:8]}"
    tracing.configure(experiment=name)
    ask(client)
    assert tracing.flush(30)
    assert len(stored(locations=[mlflow.get_experiment_by_name(name).experiment_id])) == 1


@pytest.mark.parametrize("fault", ["unknown", "deleted"])
def test_an_experiment_that_cannot_be_used_is_one_line(
    client: openai.OpenAI, place: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An unknown or deleted experiment is one clear line; the caller's calls go on."""
    experiment = "987654321"
    if fault == "deleted":
        experiment = mlflow.create_experiment(f"gone-{uuid.uuid4().hex[:8]}")
        mlflow.delete_experiment(experiment)
    tracing.configure(experiment=experiment)
    ask(client)
    ask(client)
    tracing.flush(30)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "mlspan"]
    assert ("deleted" if fault == "deleted" else experiment) in line


def test_a_failure_is_shown_as_one(place: str, scripted: Any) -> None:
    """A call that fails is a trace in state ERROR, with the exception as an event."""
    scripted.reply({"error": {"message": "no"}}, status=400)
    with openai.OpenAI(base_url=scripted.base_url, api_key="test", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError):
            ask(client)
    (found,) = stored()
    (span,) = found.data.spans
    assert (found.info.state.value, span.status.status_code) == ("ERROR", "ERROR")
    (event,) = span.events
    assert event.attributes["exception.type"] == "openai.BadRequestError"


def test_a_failure_that_no_exception_tells_of(place: str) -> None:
    """A tool whose framework turned its error into an answer: MLflow's viewer marks what has an exception's event."""
    with start_operation(get_runtime(), Tool(name="look_up")) as operation:
        operation.record.failure = ("LookupError", "no such city")
    (found,) = stored()
    (span,) = found.data.spans
    (event,) = span.events
    assert (span.status.status_code, event.name) == ("ERROR", "exception")
    assert event.attributes == {"exception.type": "LookupError", "exception.message": "no such city"}


def test_only_traces_with_genai_spans_are_stored(client: openai.OpenAI, place: str, spans: Any) -> None:
    """A trace goes to MLflow whole, the application's own spans included, or not at all."""
    tracer = trace.get_tracer("app")
    with tracer.start_as_current_span("GET /health"):
        pass
    with tracer.start_as_current_span("GET /chat"), tracer.start_as_current_span("SELECT"):
        ask(client)
    (found,) = stored()
    assert sorted(span.name for span in found.data.spans) == ["GET /chat", "SELECT", "chat gpt-4o-mini"]
    assert found.info.tags["mlflow.traceName"] == "GET /chat"


def test_two_requests_under_one_remote_parent(client: openai.OpenAI, place: str) -> None:
    """What several processes or requests record of one trace adds up: earliest start, both spans, all tokens."""
    far = SpanContext(uuid.uuid4().int, 0x1234, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    from opentelemetry import context

    with mlflow.start_run() as run:
        for text in ("hello one", "hello two"):
            token = context.attach(set_span_in_context(NonRecordingSpan(far)))
            ask(client, text)
            context.detach(token)
            assert tracing.flush(30)
    found = mlflow.get_trace(f"tr-{far.trace_id:032x}")
    first, second = sorted(found.data.spans, key=lambda span: span.start_time_ns)
    assert found.info.request_time == first.start_time_ns // 1_000_000
    assert found.info.execution_duration >= (second.start_time_ns - first.start_time_ns) // 1_000_000
    assert found.info.state.value == "OK"
    assert found.info.trace_metadata["mlflow.sourceRun"] == run.info.run_id
    assert json.loads(found.info.trace_metadata["mlflow.trace.tokenUsage"])["total_tokens"] == 34


def test_an_unknown_model_has_tokens_and_no_price(place: str, scripted: Any) -> None:
    """Nothing is made up for a model that no price list has, and nobody asks the network for it."""
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}
    scripted.reply(
        {"id": "x", "object": "chat.completion", "created": 1, "model": "my-own", "choices": [choice], "usage": usage}
    )
    with openai.OpenAI(base_url=scripted.base_url, api_key="test") as client:
        client.chat.completions.create(model="my-own", messages=HELLO)
    (found,) = stored()
    assert "mlflow.trace.cost" not in found.info.trace_metadata
    assert found.info.token_usage == {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}


def test_hostile_content_is_stored(place: str, scripted: Any, spans: Any) -> None:
    """Lone surrogates, huge integers and text over every limit arrive, and take nothing along."""
    tracing.configure(max_content_bytes=2048)
    with tracing.span("odd", kind="tool", input={"n": 2**80, "s": "\ud800", "long": "x" * 100_000}) as tool:
        tool.output = {1: b"\xff", "set": {1}}
    with tracing.span("even", kind="tool", input="fine"), tracing.session("s" * 400):
        with tracing.span("inner"):
            pass
    odd, even = stored()
    (span,) = odd.data.spans
    assert (span.inputs["n"], span.inputs["s"]) == (str(2**80), "?")
    assert span.inputs["long"].endswith("… [cut: 100000 bytes in all]")
    assert span.outputs == {"1": "[1 bytes]", "set": [1]}
    assert even.data.spans[0].inputs == "fine"
    assert len(even.info.trace_metadata["mlflow.trace.session"]) == 250


def test_the_link_leads_to_the_trace(client: openai.OpenAI, place: str) -> None:
    """``trace_url`` names the viewer's page of the current trace."""
    with tracing.span("outer"):
        link, trace_id = tracing.trace_url(), tracing.current_trace_id()
    assert tracing.trace_url() is None
    base = place if place.startswith("http") else "http://127.0.0.1:5000"
    experiment = mlflow.tracking.fluent._active_experiment_id
    assert link == f"{base}/#/experiments/{experiment}/traces?selectedEvaluationId=tr-{trace_id}"
