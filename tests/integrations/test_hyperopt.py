"""Hyperopt: ``fmin`` is one span with its trials below it, however it was imported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

hyperopt = pytest.importorskip("hyperopt", reason="Hyperopt is in the nox session classic")

import numpy as np
from hyperopt import STATUS_FAIL, STATUS_OK, Trials, fmin, hp, rand
from test_sklearn import TestSklearn as Sklearn

from mlspan import integrations, tracing
from mlspan.testing import Spans

pytestmark = pytest.mark.trains

SPACE = {"x": hp.uniform("x", 0, 1), "kind": hp.choice("kind", ["flat", "deep"])}


@pytest.fixture(autouse=True)
def searches() -> Iterator[None]:
    integrations.hyperopt.autolog()
    yield
    integrations.hyperopt.autolog(disable=True)


def search(objective: Any, evaluations: int, **options: Any) -> Any:
    options = {"verbose": False, "rstate": np.random.default_rng(0), **options}
    return fmin(objective, SPACE, algo=rand.suggest, max_evals=evaluations, **options)


def test_what_a_search_says(spans: Spans) -> None:
    """The best trial with its point and loss, as ``fmin`` returns it; each trial's own."""
    trials = Trials()
    best = search(lambda point: point["x"], 3, trials=trials)
    assert spans.tree() == "fmin" + "\n  trial" * 3
    (found,) = spans.named("fmin")
    said = {key: it for key, it in found.attributes.items() if key != "mlspan.fit.best_params"}
    assert said == {
        "mlspan.kind": "search",
        "mlspan.fit.library": "hyperopt",
        "mlspan.search.directions": ("minimize",),
        "mlspan.fit.candidates": 3,
        "mlspan.fit.best_score": min(trials.losses()),
        "mlspan.search.best_trials": (trials.best_trial["tid"],),
    }
    assert json.loads(found.attributes["mlspan.fit.best_params"]) == {"x": float(best["x"]), "kind": int(best["kind"])}
    for number, (span, loss) in enumerate(zip(spans.named("trial"), trials.losses(), strict=True)):
        assert json.loads(span.attributes["mlspan.fit.metrics"]) == {"loss": loss}
        assert json.loads(span.attributes["mlspan.fit.params"])["x"] == trials.trials[number]["misc"]["vals"]["x"][0]
        assert (span.attributes["mlspan.trial.number"], span.attributes["mlspan.trial.state"]) == (number, "complete")


@pytest.mark.parametrize("trials", [None, Trials()], ids=["without trials", "with trials"])
def test_trials_that_come_to_nothing(spans: Spans, trials: Any) -> None:
    """One whose status says so, and one that raises where the caller has errors caught."""
    outcomes = iter(
        [{"status": STATUS_FAIL}, None, {"loss": float("nan"), "status": STATUS_OK}, {"loss": 2, "status": STATUS_OK}]
    )

    def objective(_: Any) -> Any:
        if (outcome := next(outcomes)) is None:
            raise ValueError("no")
        return outcome

    search(objective, 4, trials=trials, catch_eval_exceptions=True)
    assert spans.tree() == "fmin\n  trial\n  trial [ERROR ValueError]\n  trial\n  trial"
    (found,) = spans.named("fmin")
    assert (found.attributes["mlspan.fit.candidates"], found.attributes["mlspan.search.failed"]) == (4, 3)
    assert (found.attributes["mlspan.search.best_trials"], found.attributes["mlspan.fit.best_score"]) == ((3,), 2.0)


def test_an_error_that_ends_the_search(spans: Spans) -> None:
    with pytest.raises(ZeroDivisionError):
        search(lambda _: 1 / 0, 3)
    assert spans.tree() == "fmin [ERROR ZeroDivisionError]\n  trial [ERROR ZeroDivisionError]"


def test_a_search_that_goes_on(spans: Spans) -> None:
    """With trials of before, those of this call are counted; a search inside of a trial is one of its own."""
    trials = Trials()
    search(lambda point: point["x"], 2, trials=trials)
    search(lambda _: search(lambda point: point["x"], 1)["x"], 3, trials=trials)
    assert spans.tree() == "fmin\n  trial\n  trial\nfmin\n  trial\n    fmin\n      trial"
    assert [span.attributes["mlspan.fit.candidates"] for span in spans.named("fmin")] == [2, 1, 1]


def test_the_trace_is_the_callers(spans: Spans) -> None:
    with tracing.span("app"):
        search(lambda point: point["x"], 1)
    assert spans.tree() == "app\n  fmin\n    trial"


def test_turned_off(spans: Spans) -> None:
    integrations.hyperopt.autolog(disable=True)
    search(lambda point: point["x"], 1)
    assert (spans.tree(), hyperopt.fmin.__module__) == ("", "hyperopt.fmin")


@pytest.mark.filterwarnings("default")
class TestRuns:
    autolog = Sklearn.autolog
    runs = Sklearn.runs
    library = "sklearn"

    def test_trainings_of_trials(self, autolog: Any, spans: Spans) -> None:
        """Each training is in its trial, and is logged in the run that the objective opens; none is made besides."""
        import mlflow
        from sklearn.linear_model import LogisticRegression
        from test_sklearn import X, Y

        def objective(point: Any) -> float:
            with mlflow.start_run(nested=True):
                return -float(LogisticRegression(C=point["x"] + 0.1).fit(X, Y).score(X, Y))

        autolog(log_models=False)
        with mlflow.start_run():
            search(objective, 2)
        inside = "\n  trial\n    fit LogisticRegression\n      log metrics\n    predict LogisticRegression"
        assert spans.tree() == "fmin" + inside * 2
        parent, *trials = self.runs()
        assert [run.data.tags["mlflow.parentRunId"] for run in trials] == [parent.info.run_id] * 2
