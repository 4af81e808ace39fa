"""Searches and trainings on Ray's workers, on a real local cluster: one span and one run each, with their trials."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("ray.tune", reason="Ray is in the nox session distributed")
pytest.importorskip("xgboost")

from distributed_kit import MARKS, Outcome, run_program

# Ray puts the interpreter's path into a command for each worker with variables of its own, and its trials have some.
pytestmark = [*MARKS, pytest.mark.skipif(" " in sys.executable, reason="Ray splits this interpreter's path at a space")]


OFF = {"TEST_AUTOLOG": '{"log_models": false}'}


@pytest.fixture(scope="module")
def outcome(mlflow_server: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What has come of Tune's searches."""
    folder = tmp_path_factory.mktemp("ray")
    return run_program(mlflow_server, folder, "distributed_ray", "tune", "tune_stopped", **OFF)


def test_a_search_of_tune(outcome: Outcome) -> None:
    """One span with its trials, each around what it trains; their runs are children of the caller's."""
    assert outcome.results["tune"] == [3, 1, {"c": 1.0}, 1.5]
    said = dict(outcome.span("tune of-c", "tune").attributes)
    parent = outcome.run("tune").info.run_id
    assert {name: value for name, value in said.items() if name.startswith("mlspan.")} == {
        "mlspan.kind": "search",
        "mlspan.fit.library": "ray",
        "mlspan.search.name": "of-c",
        "mlspan.search.directions": ["maximize"],
        "mlspan.run.id": parent,
        "mlspan.fit.candidates": 3,
        "mlspan.search.failed": 1,
        "mlspan.search.best_trials": [1],
        "mlspan.fit.best_score": 1.5,
        "mlspan.fit.best_params": {"c": 1.0},
    }
    tree = outcome.tree("tune").splitlines()
    assert tree[:2] == ["tune", "  tune of-c"]
    assert [line for line in tree if line.startswith("    ") and line[4] != " "] == ["    trial"] * 3
    assert tree.count("      fit LogisticRegression") == 2
    children = [run for run in outcome.runs if run.data.tags.get("mlflow.parentRunId") == parent]
    assert sorted(run.data.params["C"] for run in children) == ["0.5", "1.0"]


def test_the_trials_of_tune(outcome: Outcome) -> None:
    """Their parameters, what they have reported, and what has become of them."""
    trials = {
        span.attributes["mlspan.trial.number"]: span.attributes
        for span in outcome.trace("tune").data.spans
        if span.name == "trial"
    }
    states = {number: trials[number]["mlspan.trial.state"] for number in sorted(trials)}
    assert states == {0: "complete", 1: "complete", 2: "failed"}
    assert trials[1]["mlspan.fit.params"] == {"c": 1.0}
    assert trials[1]["mlspan.fit.metrics"] == {"score": 1.5}
    assert "mlspan.fit.metrics" not in trials[2]


def test_a_trial_that_is_stopped(outcome: Outcome) -> None:
    """Tune stops it amid its function, and ends its process: what it has reported until then is there."""
    assert outcome.results["tune_stopped"] == [1, 0]
    span = outcome.span("trial", "tune_stopped")
    assert (span.attributes["mlspan.trial.state"], span.status.status_code.name) == ("pruned", "UNSET")
    losses = [event.attributes["mlspan.fit.metric.loss"] for event in span.events]
    assert losses == [2.0] * 3


def test_there_are_no_other_runs(outcome: Outcome) -> None:
    """The caller's, and one of each trial that trains."""
    assert len(outcome.runs) == 1 + 2


def test_a_search_on_rays_backend_for_joblib(mlflow_server: str, tmp_path: Path) -> None:
    """One search, in whose run are MLflow's candidates; what the workers fit has no run and no span."""
    outcome = run_program(mlflow_server, tmp_path, "distributed_ray", "grid_search", **OFF)
    assert outcome.tree("grid_search") == "grid_search\n  fit GridSearchCV\n    log metrics"
    span, run = outcome.span("fit GridSearchCV", "grid_search"), outcome.run("grid_search").info.run_id
    scores = [event.attributes["mlspan.fit.metric.mean_test_score"] for event in span.events]
    assert scores == pytest.approx(outcome.results["grid_search"])
    assert [one.data.tags.get("mlflow.parentRunId") for one in outcome.runs] == [None, run, run]


def test_ray_train(mlflow_server: str, tmp_path: Path) -> None:
    """Two workers train one model: the first one's training is in the caller's trace and has the run."""
    outcome = run_program(mlflow_server, tmp_path, "distributed_ray", "train", **OFF)
    # MLflow logs the last round while XGBoost trains or after it, as the times of its requests have it.
    assert outcome.tree("train") in {f"train\n  fit Booster\n    log {what}" for what in ("files", "metrics")}
    span, (run,) = outcome.span("fit Booster", "train"), outcome.runs
    assert (span.attributes["mlspan.run.id"], span.attributes["mlspan.fit.epochs"]) == (run.info.run_id, 2)
    assert run.data.metrics["train-logloss"] == pytest.approx(outcome.results["train"]["train-logloss"])
