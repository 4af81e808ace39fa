"""What the viewer shows of a training at a glance: on which data, how well, and where the model is."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags

from mlspan._notebook_summary import summarize_cell
from mlspan.tracing.export.dialects.dialect import parse_attribute
from mlspan.tracing.export.mlflow.traces import TranslatedTrace, translate_segment
from mlspan.tracing.export.types import TraceSegment
from mlspan.tracing.operations.call_context import TraceOrigin

START = 1_700_000_000_000_000_000
FIT = {
    "mlspan.kind": "fit",
    "mlspan.fit.rows": 150,
    "mlspan.fit.features": 4,
    "mlspan.fit.params": '{"cv":2}',
    "mlspan.fit.metrics": '{"training_f1":0.9,"training_score":0.96}',
    "mlspan.model.id": "m-1",
    "mlspan.run.id": "r1",
}
SEARCH = {"mlspan.fit.best_score": 0.95, "mlspan.fit.best_params": '{"C":1.0}', "mlspan.fit.candidates": 2}
BELOW = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(1))


def make_span(name: str, attributes: dict[str, Any], number: int = 1) -> ReadableSpan:
    context = SpanContext(1, number, is_remote=False, trace_flags=TraceFlags(1))
    parent = BELOW if number > 1 else None
    return ReadableSpan(name, context, parent, attributes=attributes, start_time=START, end_time=START + 10**9)


def translate(attributes: dict[str, Any]) -> TranslatedTrace:
    segment = TraceSegment(TraceOrigin(), [make_span("root", attributes)], root_id=1, whole=True)
    return translate_segment(segment, None)


DATA = {"data": "150 rows, 4 features"}
METRICS = {"training_f1": 0.9, "training_score": 0.96}


@pytest.mark.parametrize(
    ("attributes", "inputs", "outputs"),
    [
        (FIT, {**DATA, "parameters": {"cv": 2}}, {"metrics": METRICS, "model": "models:/m-1"}),
        (
            {**FIT, **SEARCH},
            {**DATA, "parameters": {"cv": 2}},
            {
                "best_score": 0.95,
                "best_parameters": {"C": 1.0},
                "candidates": 2,
                "metrics": METRICS,
                "model": "models:/m-1",
            },
        ),
        ({"mlspan.kind": "fit", "mlspan.fit.rows": 1, "mlspan.fit.epochs": 3}, {"data": "1 row"}, {"epochs": 3}),
        ({"mlspan.kind": "fit", "mlspan.fit.features": 1}, {"data": "1 feature"}, None),
        ({"mlspan.kind": "fit"}, None, None),
        (
            {"mlspan.kind": "search", **SEARCH, "mlspan.search.pruned": 1, "mlspan.search.directions": ("maximize",)},
            {"directions": ["maximize"]},
            {"best_score": 0.95, "best_parameters": {"C": 1.0}, "candidates": 2, "pruned": 1},
        ),
        (
            {"mlspan.kind": "trial", "mlspan.fit.params": '{"C":1}', "mlspan.fit.metrics": '{"value":2.0}'},
            {"parameters": {"C": 1}},
            {"metrics": {"value": 2.0}},
        ),
        (
            {"mlspan.kind": "predict", "mlspan.fit.rows": 50, "mlspan.model.id": "m-1"},
            {"data": "50 rows", "model": "models:/m-1"},
            None,
        ),
        (
            {"mlspan.kind": "log", "mlspan.log.models": ("m-1",), "mlspan.log.files": ("a.png",)},
            None,
            {"models": ["models:/m-1"], "files": ["a.png"]},
        ),
        (
            {"mlspan.kind": "log", "mlspan.log.failed": ("the model: no",)},
            None,
            {"failed": ["the model: no"]},
        ),
        ({"mlspan.kind": "step", "mlspan.fit.rows": 3}, None, None),
    ],
)
def test_inputs_and_outputs(attributes: dict[str, Any], inputs: object, outputs: object) -> None:
    """The data stands before the parameters, and the result before all that was measured."""
    (span,) = translate(attributes).spans
    found = dict(span.attributes or {})
    asked, got = parse_attribute(found.get("mlflow.spanInputs")), parse_attribute(found.get("mlflow.spanOutputs"))
    assert (asked, got) == (inputs, outputs)
    for said, expected in ((asked, inputs), (got, outputs)):
        if isinstance(expected, dict):
            assert list(said) == list(expected)


def test_the_list_of_traces() -> None:
    """A search's line tells its data and its best."""
    summary = translate({**FIT, **SEARCH}).summary
    assert (summary.request_preview or "").startswith('{"data":"150 rows, 4 features"')
    assert (summary.response_preview or "").startswith('{"best_score":0.95,"best_parameters":{"C":1.0}')


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        (FIT, "1.00 s · 2 spans · 150 rows · 4 features · training_score 0.96"),
        ({**FIT, **SEARCH}, "1.00 s · 2 spans · 150 rows · 4 features · 2 candidates · best_score 0.95"),
        (
            {"mlspan.kind": "fit", "mlspan.fit.epochs": 3, "mlspan.fit.metrics": '{"train-logloss":0.12345678}'},
            "1.00 s · 2 spans · 3 epochs · train-logloss 0.1235",
        ),
        ({"mlspan.kind": "fit", "mlspan.fit.rows": 7, "mlspan.fit.metrics": "[]"}, "1.00 s · 2 spans · 7 rows"),
    ],
)
def test_below_a_cell(attributes: dict[str, Any], said: str) -> None:
    """The line of a training says its data and its score, in text and in HTML."""
    spans = [make_span("fit M", attributes), make_span("log model", {"mlspan.kind": "log"}, 2)]
    summary = summarize_cell([], [spans], {})
    assert summary.render_text().splitlines()[-2:] == [f"mlspan trace: fit M  {said}", "    log model  1.00 s"]
    assert said in summary.render_html()


def test_a_model_below_a_cell() -> None:
    """The model has a line with a link to its page; one that was not logged has none."""
    app = make_span("app", {"mlspan.kind": "step"})
    spans = [app, make_span("fit M", FIT, 2), make_span("predict M", {**FIT, "mlspan.kind": "predict"}, 3)]
    summary = summarize_cell([], [spans], {"m-1": "http://x/models/m-1"})
    assert summary.render_text().splitlines() == [
        "mlspan model: m-1  of fit M",
        "  http://x/models/m-1",
        "mlspan trace: app  1.00 s · 3 spans",
        "    fit M  1.00 s  150 rows, 4 features, training_score 0.96",
        "    predict M  1.00 s  150 rows, 4 features, m-1",
    ]
    assert '<a href="http://x/models/m-1"' in summary.render_html()
