"""An Optuna study: each trial is a run below the study's, in one trace."""

from __future__ import annotations

from typing import Any

import pytest

optuna = pytest.importorskip("optuna", reason="Optuna is in the nox session classic")

from test_sklearn import TestSklearn as Sklearn

from mlspan import tracing
from mlspan.testing import Spans


@pytest.mark.filterwarnings("default")
@pytest.mark.trains
class TestOptuna:
    autolog = Sklearn.autolog
    runs = Sklearn.runs
    library = "sklearn"

    def test_trials_are_nested_runs(self, autolog: Any, spans: Spans) -> None:
        """The training of a trial is logged in the trial's run; both it and its score are in the study's trace."""
        import mlflow
        from sklearn.linear_model import LogisticRegression
        from test_sklearn import X, Y

        def objective(trial: Any) -> float:
            with mlflow.start_run(nested=True):
                return float(LogisticRegression(C=trial.suggest_float("C", 0.1, 1.0)).fit(X, Y).score(X, Y))

        autolog(log_models=False)
        with mlflow.start_run(), tracing.span("study"):
            optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).optimize(objective, n_trials=2)
        assert spans.tree() == "study" + "\n  fit LogisticRegression\n    log metrics\n  predict LogisticRegression" * 2
        study, *trials = self.runs()
        assert [run.data.tags["mlflow.parentRunId"] for run in trials] == [study.info.run_id] * 2
        one, other = [run.info.run_id for run in trials]
        assert [span.attributes["mlspan.run.id"] for span in spans.all if "mlspan.run.id" in span.attributes] == [
            one,
            one,
            other,
            other,
        ]
        assert all(run.data.params["C"] for run in trials)
