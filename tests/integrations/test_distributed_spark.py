"""Trainings on Spark's executors, which are processes of their own (``local-cluster``): one trace and one run each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("pyspark", reason="Spark is in the nox sessions spark and distributed")
if shutil.which("java") is None:
    pytest.skip("Spark needs Java", allow_module_level=True)

from distributed_kit import MARKS, run_program

pytestmark = MARKS

OFF = {"TEST_AUTOLOG": '{"log_models": false}'}


def test_a_search_of_spark(mlflow_server: str, tmp_path: Path) -> None:
    """One search with its candidates, whose runs are children of its own."""
    outcome = run_program(mlflow_server, tmp_path, "distributed_spark", "ml", **OFF)
    assert outcome.tree("ml") == "ml\n  fit CrossValidator\n    log metrics"
    span, run = outcome.span("fit CrossValidator", "ml"), outcome.run("ml").info.run_id
    scores = [event.attributes["mlspan.fit.metric.mean_rmse"] for event in span.events]
    assert scores == pytest.approx(outcome.results["ml"])
    assert span.attributes["mlspan.fit.best_score"] == min(scores)
    assert [one.data.tags.get("mlflow.parentRunId") for one in outcome.runs] == [None, run, run]


def test_xgboost_on_spark(mlflow_server: str, tmp_path: Path) -> None:
    """XGBoost's workers, which know mlspan, train one model: the training is Spark's, and they have no runs."""
    pytest.importorskip("xgboost")
    outcome = run_program(mlflow_server, tmp_path, "distributed_spark", "xgboost_fit", TEST_CLUSTER="1", **OFF)
    assert outcome.results == {"xgboost_fit": 2}
    assert outcome.tree("xgboost_fit") == "xgboost_fit\n  fit SparkXGBClassifier"
    (run,) = outcome.runs
    assert outcome.span("fit SparkXGBClassifier", "xgboost_fit").attributes["mlspan.run.id"] == run.info.run_id


def test_a_search_on_sparks_backend_for_joblib(mlflow_server: str, tmp_path: Path) -> None:
    """One search, in whose run are MLflow's candidates; what the workers fit, which know mlspan, has no run."""
    pytest.importorskip("joblibspark")
    outcome = run_program(mlflow_server, tmp_path, "distributed_spark", "grid_search", TEST_CLUSTER="1", **OFF)
    assert outcome.tree("grid_search") == "grid_search\n  fit GridSearchCV\n    log metrics"
    span, run = outcome.span("fit GridSearchCV", "grid_search"), outcome.run("grid_search").info.run_id
    scores = [event.attributes["mlspan.fit.metric.mean_test_score"] for event in span.events]
    assert scores == pytest.approx(outcome.results["grid_search"])
    assert [one.data.tags.get("mlflow.parentRunId") for one in outcome.runs] == [None, run, run]
