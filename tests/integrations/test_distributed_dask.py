"""Trainings on Dask's workers, with real clusters: each is one trace and one run of the program that calls it."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("distributed", reason="Dask is in the nox session distributed")
pytest.importorskip("xgboost")
pytest.importorskip("lightgbm")

from distributed_kit import MARKS, Outcome, run_program

pytestmark = MARKS

TRAININGS = {  # by the driver's function: the span, the metric, and the rows that are known
    "xgboost_train": ("fit Booster", "train-logloss", None),
    "xgboost_fit": ("fit DaskXGBClassifier", "validation_0-logloss", 40),
    "lightgbm_fit": ("fit DaskLGBMClassifier", "valid_0-binary_logloss", None),
}


@pytest.fixture(scope="module")
def outcome(mlflow_server: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What has come of all of them on one cluster of two processes."""
    names = (*TRAININGS, "grid_search", "plain_fit")
    return run_program(mlflow_server, tmp_path_factory.mktemp("dask"), "distributed_dask", *names)


@pytest.mark.parametrize("name", list(TRAININGS))
def test_a_training_on_workers(outcome: Outcome, name: str) -> None:
    """One run and one span, with the rounds that the workers have trained: none of these has a run or a span."""
    span_name, metric, rows = TRAININGS[name]
    assert outcome.tree(name) == f"{name}\n  {span_name}\n    log model"
    span, run = outcome.span(span_name, name), outcome.run(name)
    values = outcome.results[name]
    assert [event.attributes[f"mlspan.fit.metric.{metric}"] for event in span.events] == pytest.approx(values)
    said = span.attributes
    assert (said["mlspan.fit.epochs"], said.get("mlspan.fit.rows"), said["mlspan.fit.features"]) == (3, rows, 2)
    assert said["mlspan.run.id"] == run.info.run_id
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {metric: pytest.approx(values[-1])}
    assert run.data.params
    assert "client" not in run.data.params


@pytest.mark.parametrize("name", list(TRAININGS))
def test_its_model_needs_no_dask(outcome: Outcome, name: str, mlflow_server: str) -> None:
    """The logged model has a signature, which no data was computed for, and predicts from data of its kind."""
    import mlflow
    import pandas as pd

    mlflow.set_tracking_uri(mlflow_server)
    (output,) = outcome.run(name).outputs.model_outputs
    assert outcome.span(TRAININGS[name][0], name).attributes["mlspan.model.id"] == output.model_id
    model: Any = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    rows = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    assert len(model.predict(rows if name == "lightgbm_fit" else rows.to_numpy())) == 2
    assert model.metadata.signature is not None
    mlflow.set_tracking_uri(None)


def test_nothing_else_has_a_run(outcome: Outcome) -> None:
    """One run a training, MLflow's two for the candidates of the search, and one for the training beside them."""
    assert len(outcome.runs) == len(TRAININGS) + 3 + 1
    assert outcome.tree("plain_fit") == "plain_fit\n  fit XGBClassifier\n    log model"


def check_search(outcome: Outcome) -> None:
    assert outcome.tree("grid_search").splitlines()[:2] == ["grid_search", "  fit GridSearchCV"]
    span = outcome.span("fit GridSearchCV", "grid_search")
    assert [event.attributes["mlspan.fit.metric.mean_test_score"] for event in span.events] == pytest.approx(
        outcome.results["grid_search"]
    )
    assert json.loads(str(span.events[1].attributes["mlspan.fit.params"])) == {"max_depth": 2}
    run = outcome.run("grid_search").info.run_id
    assert len([one for one in outcome.runs if one.data.tags.get("mlflow.parentRunId") == run]) == 2


def test_a_search_on_workers(outcome: Outcome) -> None:
    """Joblib's backend on Dask: one search, in whose run are MLflow's candidates."""
    check_search(outcome)


def test_a_search_on_workers_in_this_process(mlflow_server: str, tmp_path: Any) -> None:
    """Workers that are threads of the program: what they fit is part of the search as well."""
    off = {"TEST_AUTOLOG": '{"log_models": false}', "TEST_PROCESSES": "0"}
    outcome = run_program(mlflow_server, tmp_path, "distributed_dask", "grid_search", **off)
    check_search(outcome)
    assert outcome.tree("grid_search") == "grid_search\n  fit GridSearchCV\n    log metrics"
    assert len(outcome.runs) == 3
