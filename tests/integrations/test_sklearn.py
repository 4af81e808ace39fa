"""scikit-learn, trained for real."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is in the nox session classic")

import numpy as np
from classic import Contract
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlspan import integrations, tracing
from mlspan.testing import Spans

X = np.array([[0.0, 1.0], [1.0, 0.0], [0.2, 0.9], [0.9, 0.3], [0.1, 0.8], [0.8, 0.1]])
Y = np.array([0, 1, 0, 1, 0, 1])


class TestSklearn(Contract):
    library, tag, span = "sklearn", "sklearn", "fit LogisticRegression"
    rows, features = 6, 2
    fails = ValueError

    def train(self) -> Any:
        return LogisticRegression().fit(X, Y)

    def fail(self) -> None:
        LogisticRegression().fit(X, Y[:3])

    def patch_point(self) -> tuple[Any, str]:
        return LogisticRegression, "fit"

    def check_model(self, loaded: Any) -> None:
        assert list(loaded.predict(X)) == list(Y)

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_a_search_is_one_training(self, autolog: Any, spans: Spans, jobs: int) -> None:
        """One span, and one run with a run below it for each candidate, also where threads try them."""
        import joblib

        autolog(log_models=False, max_tuning_runs=None)
        with joblib.parallel_backend("threading"):
            GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0, 10.0]}, cv=2, n_jobs=jobs).fit(X, Y)
        assert spans.tree("mlspan.fit.rows") == "fit GridSearchCV [mlspan.fit.rows=6]\n  log metrics"
        parent, *children = self.runs()
        assert [run.data.tags["mlflow.parentRunId"] for run in children] == [parent.info.run_id] * 3

    def test_a_function_imported_before(self, autolog: Any, spans: Spans) -> None:
        """``from sklearn.model_selection import cross_val_score`` before ``autolog()``."""
        from sklearn.model_selection import cross_val_score

        name = "cross_val_score LogisticRegression"
        self.check_held(autolog, spans, lambda: cross_val_score(LogisticRegression(), X, Y, cv=2), name, runs=0)
        assert sklearn.model_selection.cross_val_score is cross_val_score

    def test_what_is_made_of_estimators_is_one_training(self, autolog: Any, spans: Spans) -> None:
        """A pipeline and a vote are each one span and one run; what is inside is a part of them."""
        autolog(log_models=False)
        make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
        VotingClassifier([("a", LogisticRegression()), ("b", LogisticRegression(C=2.0))]).fit(X, Y)
        assert spans.tree() == "fit Pipeline\n  log metrics\nfit VotingClassifier\n  log metrics"
        assert len(self.runs()) == 2

    def test_no_more_requests_than_mlflow_alone(
        self, autolog: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A training asks the tracking server what MLflow's own autologging of it asks, and nothing more."""
        import mlflow
        from mlflow.store.tracking.rest_store import RestStore

        asked: Counter[str] = Counter()
        call = RestStore._call_endpoint

        def count(self: Any, api: Any, *args: Any, **kwargs: Any) -> Any:
            asked[api.__name__] += 1
            return call(self, api, *args, **kwargs)

        def count_one() -> Counter[str]:
            self.train()  # what is asked once for all
            asked.clear()
            self.train()
            return Counter(asked)

        monkeypatch.setattr(RestStore, "_call_endpoint", count)
        mlflow.sklearn.autolog(log_models=False)
        theirs = count_one()
        mlflow.sklearn.autolog(disable=True)
        autolog(log_models=False)
        assert (count_one(), theirs["CreateRun"]) == (theirs, 1)

    def test_an_agent_that_trains_and_predicts(self, autolog: Any, spans: Spans) -> None:
        """In a trace of something else: the training is a span of it, and the prediction links back to the training."""
        autolog()
        with tracing.span("agent", kind="agent"):
            model = self.train()
            with tracing.span("answer"):
                model.predict(X)
        model.predict(X)  # outside of any trace it is nobody's business
        assert spans.tree() == (
            "invoke_agent agent\n  fit LogisticRegression\n    log model\n  answer\n    predict LogisticRegression"
        )
        _, fit, _, _, predict = spans.all
        (link,) = predict.links
        assert (link.context.span_id, link.attributes["mlspan.link"]) == (fit.context.span_id, "trained_by")
        for name in ("mlspan.run.id", "mlspan.model.id"):
            assert predict.attributes[name] == fit.attributes[name]

    def test_one_call_for_all(self, autolog: Any, spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
        """``integrations.autolog`` turns it on with the options that all have, and off again."""
        integrations.autolog(log_input_examples=True, log_models=False, extra_tags={"team": "blue"})
        self.train()
        integrations.autolog(disable=True)
        self.train()
        assert (self.run().data.tags["team"], len(spans.named(self.span))) == ("blue", 1)

    def test_an_unknown_option_is_refused(self) -> None:
        with pytest.raises(TypeError, match="no option colour"):
            integrations.sklearn.autolog(colour="red")

    def test_an_option_that_mlflow_lacks_is_said(
        self, autolog: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What this MLflow's flavor does not take is said in one line, not swallowed."""
        monkeypatch.setattr(self.hook, "options", self.hook.options | {"of_the_future"})
        autolog(of_the_future=1)
        (line,) = [record.message for record in caplog.records if record.name == "mlspan"]
        assert line == "mlspan: autologging of sklearn has no option of_the_future: it changes nothing"

    def test_an_untested_version_is_left_alone_and_said(
        self, autolog: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """One line says what is off and why, where MLflow is silent; and the user may insist."""
        original = LogisticRegression.fit
        monkeypatch.setattr(self.hook, "requires", "scikit-learn>=0.1,<1")
        autolog(log_models=False)
        assert LogisticRegression.fit is original
        (line,) = [record.message for record in caplog.records if record.name == "mlspan"]
        assert "is outside of the tested range >=0.1,<1: its trainings are left alone" in line
        autolog(log_models=False, disable_for_unsupported_versions=False, silent=True)
        self.train()
        assert self.run().data.params
