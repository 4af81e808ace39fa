"""What a trace can carry besides its spans: what is said of it, its model, its prompts, the caller's request id."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import Event
from test_store import START, span

mlflow = pytest.importorskip("mlflow")

from mlspan import testing, tracing
from mlspan.tracing.export.mlflow.assessments import read_assessments
from mlspan.tracing.export.mlflow.sink import MlflowSink
from mlspan.tracing.export.types import Refusal, TraceSegment
from mlspan.tracing.operations.call_context import TraceOrigin

TEMPLATE = "Answer {{question}}"


@pytest.fixture(params=["embedded", "server"])
def place(request: pytest.FixtureRequest, tracing_off: None, tmp_path: Path) -> Iterator[str]:
    """The tracking URI of each kind of store, with a new experiment active, and MLflow's own state put back."""
    uri = request.getfixturevalue("mlflow_store" if request.param == "embedded" else "mlflow_server")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLSPAN_TRACKING_URI")
        patch.setenv("MLSPAN_SPOOL_DIR", str(tmp_path / "spool"))
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.setenv("MLFLOW_EXPERIMENT_ID", "")
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment(f"test-{uuid.uuid4().hex[:8]}")
        tracing.configure()
        yield uri
        tracing.shutdown(30)
        mlflow.clear_active_model()
        mlflow.set_tracking_uri(None)


def stored(trace_id: str | None) -> Any:
    assert tracing.flush(60)
    return mlflow.get_trace(f"tr-{trace_id}")


def said(found: Any) -> list[tuple[Any, ...]]:
    """Name, value, rationale, source and span of all that is said of a trace."""
    return sorted(
        (one.name, one.value, one.rationale, one.source.source_type, one.source.source_id, one.span_id)
        for one in found.info.assessments
    )


def test_feedback_inside_a_trace(place: str) -> None:
    """It stands in the span's event, as the conventions have it, and in MLflow: of the trace, or of a span below."""
    with tracing.span("answer", kind="workflow"):
        trace_id = tracing.current_trace_id()
        with tracing.span("look up", kind="tool") as looking:
            tracing.feedback("relevance", 0.75, rationale="mostly", source="llm_judge", source_id="gpt-4o")
        tracing.feedback("thumbs", True, source="human", source_id="ada", metadata={"page": "7"})
        tracing.feedback("topics", ["a", "b"])
        tracing.feedback("tone", "friendly", span=looking)  # which has ended
        tracing.expectation("answer", {"city": "Paris"}, source_id="ada")
    found = stored(trace_id)
    tool = next(span for span in found.data.spans if span.name == "execute_tool look up")
    assert said(found) == [
        ("answer", {"city": "Paris"}, None, "HUMAN", "ada", None),
        ("relevance", 0.75, "mostly", "LLM_JUDGE", "gpt-4o", tool.span_id),
        ("thumbs", True, None, "HUMAN", "ada", None),
        ("tone", "friendly", None, "CODE", "default", tool.span_id),
        ("topics", ["a", "b"], None, "CODE", "default", None),
    ]
    assert [one.metadata for one in found.info.assessments if one.name == "thumbs"] == [{"page": "7"}]
    assert [span.name for span in found.data.spans] == ["invoke_workflow answer", "execute_tool look up"]
    (event,) = tool.events
    assert (event.name, event.attributes) == (
        "gen_ai.evaluation.result",
        {
            "gen_ai.evaluation.name": "relevance",
            "gen_ai.evaluation.score.value": 0.75,
            "gen_ai.evaluation.explanation": "mostly",
            "mlspan.assessment.value": "0.75",
            "mlspan.assessment.source": "llm_judge",
            "mlspan.assessment.source.id": "gpt-4o",
        },
    )


def test_feedback_after_the_trace(place: str) -> None:
    """Of a trace that has ended, by its id and by a span's: its spans and its duration stay what they were."""
    with tracing.span("answer", kind="workflow") as answering:
        trace_id = tracing.current_trace_id()
        span_id = f"{trace.get_current_span().get_span_context().span_id:016x}"
    before = stored(trace_id)
    tracing.feedback("thumbs", False, source="human", trace_id=trace_id)
    tracing.feedback("tone", "rude", trace_id=f"tr-{trace_id}", span_id=span_id)
    tracing.feedback("length", 3, span=answering)
    found = stored(trace_id)
    assert [one[:2] + one[5:] for one in said(found)] == [
        ("length", 3, span_id),
        ("thumbs", False, None),
        ("tone", "rude", span_id),
    ]
    assert [span.name for span in found.data.spans] == ["invoke_workflow answer"]
    assert found.info.execution_duration == before.info.execution_duration


def test_feedback_goes_with_a_trace_that_is_open(place: str) -> None:
    """By the id of a trace that has yet to end, as another thread has it: it waits for it, and is stored once."""
    with tracing.span("answer", kind="workflow"):
        trace_id = tracing.current_trace_id()
        tracing.feedback("thumbs", True, trace_id=trace_id)
        tracing.flush(10)
    assert [one[:2] for one in said(stored(trace_id))] == [("thumbs", True)]


def test_feedback_is_stored_once(place: str) -> None:
    """A trace that is sent again, as after an answer that was lost, has nothing twice."""
    sent: list[Any] = []
    send = MlflowSink.send

    def twice(self: MlflowSink, segments: Any) -> list[Refusal]:
        sent.extend(segments)
        send(self, segments)
        return send(self, segments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MlflowSink, "send", twice)
        with tracing.span("answer", kind="workflow"):
            trace_id = tracing.current_trace_id()
            tracing.feedback("thumbs", True)
        assert tracing.flush(60)
        tracing.feedback("late", 1, trace_id=trace_id)
        found = stored(trace_id)
    assert len(sent) == 2
    assert [one[:2] for one in said(found)] == [("late", 1), ("thumbs", True)]


@pytest.mark.parametrize(("age", "keep"), [(60, True), (7200, False)])
def test_feedback_on_a_trace_that_is_not_there(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch, age: int, keep: bool
) -> None:
    """It waits for the trace, which another process may have yet to send; after an hour it is set aside."""
    sink = MlflowSink(tracking_uri=mlflow_store)
    monkeypatch.setattr("mlspan.tracing.export.mlflow.sink.time.time", lambda: START / 1e9 + 1 + age)
    event = Event(
        "gen_ai.evaluation.result", {"gen_ai.evaluation.name": "x", "gen_ai.evaluation.score.value": 1.0}, START
    )
    carrier = span(7, 1, None, "late", {"mlspan.assessment": event.name}, events=[event])
    (refused,) = sink.send([TraceSegment(TraceOrigin(), (carrier,), 1, whole=True)])
    sink.close()
    assert (refused.keep, "there is no trace" in refused.reason or "not found" in refused.reason) == (keep, True)


def test_what_other_sdks_say() -> None:
    """The conventions' event of any SDK is an assessment, under an id that is the same whenever it is read."""
    said = {
        "gen_ai.evaluation.name": "x",
        "gen_ai.evaluation.score.label": "pass",
        "gen_ai.evaluation.explanation": "ok",
    }
    events = [Event("gen_ai.evaluation.result", said, START), Event("gen_ai.evaluation.result", {}, START)]
    spans = [span(7, 2, 1, "someone else's", {}, events=events)]
    (one,) = found = list(read_assessments(spans))
    assert found == list(read_assessments(spans))
    assert (one.name, one.value, one.rationale, one.source_type, one.span_id) == (
        *("x", "pass", "ok"),
        *("CODE", f"{2:016x}"),
    )


def test_feedback_on_nothing(tracing_off: None, caplog: pytest.LogCaptureFixture) -> None:
    """Without a trace there is nothing to say it of, which is said; a value that is none is the caller's mistake."""
    tracing.configure(tracking_uri="none")
    tracing.feedback("nowhere", 1)
    assert "'nowhere' is of no trace" in caplog.text
    with pytest.raises(ValueError, match="needs a value"):
        tracing.feedback("x", None)
    with pytest.raises(ValueError, match="32 hexadecimal digits"):
        tracing.feedback("x", 1, trace_id="7")
    with pytest.raises(ValueError, match="source takes one of"):
        tracing.feedback("x", 1, source="gut")  # type: ignore[arg-type]


def test_feedback_without_content(tracing_off: None) -> None:
    """With content off the score stays; what was written about it, and what was expected, are content."""
    with testing.spans() as ended:
        tracing.configure(tracking_uri="none", capture_content=False)
        with tracing.span("answer", kind="workflow"):
            tracing.feedback("thumbs", True, rationale="as the answer says ...")
            tracing.expectation("answer", "Paris")
    ((event,),) = [span.events for span in ended.all]
    assert event.attributes == {
        "gen_ai.evaluation.name": "thumbs",
        "gen_ai.evaluation.score.value": 1.0,
        "gen_ai.evaluation.score.label": "true",
        "mlspan.assessment.value": "true",
        "mlspan.assessment.source": "code",
    }


def test_a_request_id_and_a_model(place: str) -> None:
    """The caller's own id of the request, and the LoggedModel: named, or the one that MLflow has active here."""
    named, active = (mlflow.create_external_model(name=name) for name in ("named", "active"))
    with tracing.request_id("req-7"), tracing.model(named.model_id), tracing.span("answer", kind="workflow"):
        first = tracing.current_trace_id()
    mlflow.set_active_model(model_id=active.model_id)
    with tracing.span("answer", kind="workflow"):
        second = tracing.current_trace_id()
    mlflow.clear_active_model()
    with tracing.span("answer", kind="workflow"):
        third = tracing.current_trace_id()
    infos = [stored(one).info for one in (first, second, third)]
    models = [info.trace_metadata.get("mlflow.modelId") for info in infos]
    assert [info.client_request_id for info in infos] == ["req-7", None, None]
    assert models == [named.model_id, active.model_id, None]
    (found,) = mlflow.search_traces(model_id=named.model_id, return_type="list")
    assert found.info.trace_id == f"tr-{first}"


def test_a_prompt_that_is_loaded(place: str) -> None:
    """Loading prompts of the registry inside a trace links them to it, once each; outside of any, to nothing."""
    name = f"prompt-{uuid.uuid4().hex[:8]}"
    for _ in range(2):
        mlflow.genai.register_prompt(name, TEMPLATE)
    with tracing.span("answer", kind="workflow"):
        trace_id = tracing.current_trace_id()
        for version in (1, 2, 1):
            mlflow.genai.load_prompt(f"prompts:/{name}/{version}")
    mlflow.genai.load_prompt(f"prompts:/{name}/2")
    found = stored(trace_id)
    linked_prompts = json.loads(found.info.tags["mlflow.linkedPrompts"])
    assert linked_prompts == [{"name": name, "version": "1"}, {"name": name, "version": "2"}]
    (linked,) = mlflow.search_traces(filter_string=f"prompt = '{name}/2'", return_type="list")
    assert linked.info.trace_id == f"tr-{trace_id}"


def test_what_is_no_assessment_of_mlflows_harms_nothing_else(place: str) -> None:
    """The event for what only MLflow has a form for may come from anybody."""
    made_up = {"mlspan.assessment.name": "odd", "mlspan.assessment.value": '{"feedback": {"error": 5}}'}
    with tracing.span("helper", kind="agent"):
        trace.get_current_span().add_event("mlspan.mlflow_assessment", made_up)
        trace.get_current_span().add_event("mlspan.mlflow_assessment", {**made_up, "mlspan.assessment.value": "[1"})
        tracing.feedback("thumbs", True)
    assert tracing.flush(60)
    (found,) = mlflow.search_traces(return_type="list")
    assert [one.name for one in found.info.assessments] == ["thumbs"]
