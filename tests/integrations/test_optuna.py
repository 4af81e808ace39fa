"""Optuna: a study is one span with its trials below it; what the objective trains is logged as MLflow logs it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

optuna = pytest.importorskip("optuna", reason="Optuna is in the nox session classic")

from test_sklearn import TestSklearn as Sklearn

from mlspan import integrations, tracing
from mlspan.testing import Spans

pytestmark = pytest.mark.trains


@pytest.fixture
def studies() -> Iterator[None]:
    integrations.optuna.autolog()
    yield
    integrations.optuna.autolog(disable=True)


def make_study(**options: Any) -> Any:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), **options)


def facts(spans: Spans, name: str) -> list[dict[str, Any]]:
    """The attributes of the spans of a name, without those that all have."""
    common = {"mlspan.kind", "mlspan.fit.library"}
    return [{key: it for key, it in span.attributes.items() if key not in common} for span in spans.named(name)]


@pytest.mark.usefixtures("studies")
class TestStudies:
    def test_what_a_study_says(self, spans: Spans) -> None:
        """The best trial with its parameters and value; each trial's own, and what it reported on the way."""

        def objective(trial: Any) -> float:
            depth = trial.suggest_int("depth", 1, 9)
            trial.report(depth / 2, step=3)
            return float(depth)

        study = make_study(direction="maximize", study_name="depths")
        study.optimize(objective, n_trials=3)
        assert spans.tree() == "optimize depths" + "\n  trial" * 3
        assert facts(spans, "optimize depths") == [
            {
                "mlspan.search.name": "depths",
                "mlspan.search.directions": ("maximize",),
                "mlspan.fit.candidates": 3,
                "mlspan.fit.best_params": f'{{"depth":{study.best_params["depth"]}}}',
                "mlspan.fit.best_score": study.best_value,
                "mlspan.search.best_trials": (study.best_trial.number,),
            }
        ]
        for trial, span, said in zip(study.trials, spans.named("trial"), facts(spans, "trial"), strict=True):
            assert said == {
                "mlspan.trial.number": trial.number,
                "mlspan.trial.state": "complete",
                "mlspan.fit.params": f'{{"depth":{trial.params["depth"]}}}',
                "mlspan.fit.metrics": f'{{"value":{trial.value}}}',
            }
            (event,) = span.events
            assert (event.name, dict(event.attributes)) == (
                "epoch",
                {"mlspan.fit.epoch": 3, "mlspan.fit.metric.value": trial.value / 2},
            )

    @pytest.mark.parametrize("jobs", [1, 3])
    def test_trials_that_come_to_nothing(self, spans: Spans, jobs: int) -> None:
        """A pruned trial is no error, one that raises is, and one without a number has failed, as Optuna says."""

        def objective(trial: Any) -> Any:
            if trial.number == 1:
                raise optuna.TrialPruned
            if trial.number == 2:
                raise ValueError("too deep")
            return {0: 1.0, 3: None, 4: float("nan"), 5: "none"}[trial.number]

        study = make_study()
        study.optimize(objective, n_trials=6, n_jobs=jobs, catch=ValueError)
        (said,) = facts(spans, "optimize")
        assert (said["mlspan.fit.candidates"], said["mlspan.search.pruned"], said["mlspan.search.failed"]) == (6, 1, 4)
        assert said["mlspan.search.best_trials"] == (0,)
        states = {it["mlspan.trial.number"]: it["mlspan.trial.state"] for it in facts(spans, "trial")}
        theirs = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
        assert states == {trial.number: theirs[trial.state.name] for trial in study.trials}
        errors = {it["mlspan.trial.number"]: it.get("error.type") for it in facts(spans, "trial")}
        assert {number: error for number, error in errors.items() if error} == {2: "ValueError"}

    def test_threads_belong_to_the_study(self, spans: Spans) -> None:
        """With ``n_jobs`` the trials run at once, each in its place below the study, with the caller's session."""
        both = threading.Barrier(2)

        def objective(trial: Any) -> float:
            both.wait(60)
            with tracing.span("inside"):
                return trial.suggest_float("x", 0, 1)

        with tracing.span("app"), tracing.session("s-1"):
            make_study().optimize(objective, n_trials=2, n_jobs=2)
        assert spans.tree() == "app\n  optimize" + "\n    trial\n      inside" * 2
        assert {span.attributes["session.id"] for span in spans.named("inside")} == {"s-1"}

    def test_an_error_that_ends_the_study(self, spans: Spans) -> None:
        """It is the caller's, and what was found before is said."""

        def objective(trial: Any) -> float:
            if trial.number == 1:
                raise KeyError("gone")
            return 2.0

        with pytest.raises(KeyError):
            make_study().optimize(objective, n_trials=5)
        assert spans.tree() == "optimize [ERROR KeyError]\n  trial\n  trial [ERROR KeyError]"
        (said,) = facts(spans, "optimize")
        assert (said["mlspan.fit.candidates"], said["mlspan.fit.best_score"]) == (2, 2.0)

    def test_several_values(self, spans: Spans) -> None:
        """With several directions the best trials are told by number; no one of them has the best value."""
        study = make_study(directions=["minimize", "maximize"])
        study.optimize(lambda trial: (trial.suggest_int("x", 0, 4), trial.suggest_int("y", 0, 4)), n_trials=4)
        (said,) = facts(spans, "optimize")
        assert said["mlspan.search.best_trials"] == tuple(sorted(trial.number for trial in study.best_trials))
        assert "mlspan.fit.best_score" not in said
        values = [trial.values for trial in study.trials]
        assert [it["mlspan.fit.metrics"] for it in facts(spans, "trial")] == [
            f'{{"values_0":{one},"values_1":{other}}}' for one, other in values
        ]

    def test_a_study_that_goes_on(self, spans: Spans) -> None:
        """Each call is a search of its own: it counts its own trials, and tells the best of the study by then."""
        study = make_study()
        study.optimize(lambda trial: float(-trial.number), n_trials=2)
        study.optimize(lambda trial: float(trial.number), n_trials=3)
        assert [(it["mlspan.fit.candidates"], it["mlspan.search.best_trials"]) for it in facts(spans, "optimize")] == [
            (2, (1,)),
            (3, (1,)),
        ]

    def test_the_program_sees_nothing_of_it(self, spans: Spans) -> None:
        """Callbacks, the return value and Optuna's own refusals are as they are without us."""
        seen: list[tuple[int, Any]] = []
        study = make_study()
        study.optimize(lambda _: 1.0, n_trials=2, callbacks=[lambda study, trial: seen.append((trial.number, study))])
        assert seen == [(0, study), (1, study)]
        with pytest.raises(TypeError):
            study.optimize()
        with pytest.raises(RuntimeError, match="Nested"):
            study.optimize(lambda _: study.optimize(lambda _: 1.0, n_trials=1), n_trials=1)

    def test_turned_off(self, spans: Spans) -> None:
        integrations.optuna.autolog(disable=True)
        make_study().optimize(lambda _: 1.0, n_trials=1)
        assert spans.tree() == ""


@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("studies")
class TestRuns:
    autolog = Sklearn.autolog
    runs = Sklearn.runs
    library = "sklearn"

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_trials_are_nested_runs(self, autolog: Any, spans: Spans, jobs: int) -> None:
        """The training of a trial is logged in the run that the objective opens; it and its score are in the trial."""
        import mlflow
        from sklearn.linear_model import LogisticRegression
        from test_sklearn import X, Y

        autolog(log_models=False)
        with mlflow.start_run() as parent:

            def objective(trial: Any) -> float:
                with mlflow.start_run(nested=True, parent_run_id=parent.info.run_id):
                    return float(LogisticRegression(C=trial.suggest_float("C", 0.1, 1.0)).fit(X, Y).score(X, Y))

            make_study().optimize(objective, n_trials=2, n_jobs=jobs)
        inside = "\n  trial\n    fit LogisticRegression\n      log metrics\n    predict LogisticRegression"
        assert spans.tree() == "optimize" + inside * 2
        study, *trials = self.runs()
        assert [run.data.tags["mlflow.parentRunId"] for run in trials] == [study.info.run_id] * 2
        assert {span.attributes["mlspan.run.id"] for span in spans.named("fit LogisticRegression")} == {
            run.info.run_id for run in trials
        }
        assert spans.named("optimize")[0].attributes["mlspan.run.id"] == study.info.run_id
        assert all(run.data.params["C"] for run in trials)

    def test_no_run_is_made_for_a_study(self, autolog: Any, spans: Spans) -> None:
        """MLflow makes none: without a run of the caller's, each training is logged in its own."""
        from sklearn.linear_model import LogisticRegression
        from test_sklearn import X, Y

        autolog(log_models=False)
        make_study().optimize(lambda _: float(LogisticRegression().fit(X, Y).score(X, Y)), n_trials=2)
        assert ["mlflow.parentRunId" in run.data.tags for run in self.runs()] == [False] * 2
        assert "mlspan.run.id" not in spans.named("optimize")[0].attributes
