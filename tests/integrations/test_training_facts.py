"""What a training's span and run say: the library's own time, the facts of the call, and what was not logged."""

from __future__ import annotations

import inspect
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("mlflow", reason="MLflow is in the nox session classic")
np = pytest.importorskip("numpy", reason="NumPy is in the nox session classic")
pytest.importorskip("sklearn", reason="scikit-learn is in the nox session classic")

from sklearn.base import BaseEstimator

from mlspan import integrations
from mlspan.testing import Spans

pytestmark = [pytest.mark.trains, pytest.mark.filterwarnings("default"), pytest.mark.timeout(300)]

X = np.array([[0.0, 1.0], [1.0, 0.0], [0.2, 0.9], [0.9, 0.3], [0.1, 0.8], [0.8, 0.1]])
Y = np.array([0, 1, 0, 1, 0, 1])


@pytest.fixture
def runs(
    mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spans: Spans
) -> Iterator[Callable[[], list[Any]]]:
    """The runs in a database of this test's own, the oldest first."""
    import mlflow

    monkeypatch.setenv("MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(mlflow_store)
    mlflow.set_experiment("facts")
    yield lambda: mlflow.search_runs(output_format="list", order_by=["attributes.start_time"])
    integrations.autolog(disable=True)
    mlflow.set_tracking_uri(None)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)


def milliseconds(span: Any) -> float:
    return (span.end_time - span.start_time) / 1e6


def read_metrics(span: Any) -> dict[str, float]:
    return json.loads(span.attributes.get("mlspan.fit.metrics", "{}"))


class TestTheExtentOfATraining:
    def test_the_span_is_the_librarys_time(self, runs: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
        """MLflow's work is no training: it is a span below, which begins when the library has returned."""
        from sklearn.linear_model import Ridge

        original = Ridge.predict

        def predict(self: Any, data: Any) -> Any:  # MLflow predicts for the signature, and again for the metrics
            time.sleep(0.3)
            return original(self, data)

        monkeypatch.setattr(Ridge, "predict", predict)
        integrations.sklearn.autolog()
        before = time.time_ns()
        Ridge().fit(X, Y)
        took = (time.time_ns() - before) / 1e6
        fit, logging_span = spans.named("fit Ridge")[0], spans.named("log model")[0]
        assert logging_span.parent.span_id == fit.context.span_id
        assert logging_span.start_time == fit.end_time
        assert milliseconds(logging_span) > 600 > milliseconds(fit)
        assert milliseconds(fit) + milliseconds(logging_span) <= took
        assert spans.tree() == "fit Ridge\n  log model"

    def test_what_was_logged_is_said(self, runs: Any, spans: Spans) -> None:
        """The model, the files with their bytes, and how many metrics; without models it is the metrics alone."""
        from sklearn.linear_model import Ridge

        integrations.sklearn.autolog()
        Ridge().fit(X, Y)
        (run,), (logged,) = runs(), spans.named("log model")
        (model,) = run.outputs.model_outputs
        assert logged.attributes["mlspan.log.models"] == (model.model_id,)
        assert logged.attributes["mlspan.log.metrics"] == len(run.data.metrics)
        assert logged.attributes["mlspan.log.bytes"] > 500
        assert "mlspan.log.failed" not in logged.attributes
        spans.clear()
        integrations.sklearn.autolog(log_models=False)
        Ridge().fit(X, Y)
        assert spans.tree() == "fit Ridge\n  log metrics"
        assert "mlspan.log.models" not in spans.named("log metrics")[0].attributes

    @pytest.mark.parametrize("given", [(), (X,)])
    def test_a_call_without_data_has_its_run(self, runs: Any, spans: Spans, given: tuple[Any, ...]) -> None:
        """MLflow fails at it first, ends the run as failed and calls the library without one: the run is the span's."""
        from sklearn.linear_model import Ridge

        integrations.sklearn.autolog()
        with pytest.raises(TypeError, match="missing"):
            Ridge().fit(*given)
        (run,), (fit,) = runs(), spans.named("fit Ridge")
        assert run.info.status == "FAILED"
        assert (fit.attributes["mlspan.run.id"], fit.attributes["error.type"]) == (run.info.run_id, "TypeError")
        Ridge().fit(X, Y)
        assert spans.named("fit Ridge")[1].attributes["mlspan.run.id"] != run.info.run_id

    def test_a_part_of_another_processs_training_may_have_a_run(self, runs: Any, spans: Spans) -> None:
        """A run that a worker starts by itself ends as it would elsewhere."""
        import mlflow

        from mlspan.integrations._training.current import join_remote_training

        integrations.sklearn.autolog()
        with join_remote_training(), mlflow.start_run():
            mlflow.log_metric("own", 1)
        (run,) = runs()
        assert (run.info.status, run.data.metrics) == ("FINISHED", {"own": 1})

    def test_a_training_that_fails_logs_nothing(self, runs: Any, spans: Spans) -> None:
        from sklearn.linear_model import Ridge

        integrations.sklearn.autolog()
        with pytest.raises(ValueError, match="inconsistent numbers"):
            Ridge().fit(X, Y[:3])
        assert [span.name for span in spans.all] == ["fit Ridge"]
        assert runs()[0].info.status == "FAILED"


class TestTheFactsOfTheCall:
    @pytest.mark.parametrize("with_models", [False, True])
    def test_two_trainings_in_one_run(self, runs: Any, spans: Spans, with_models: bool) -> None:
        """A search and then XGBoost in a run of the caller's: each span has its own metrics, parameters and model."""
        xgboost = pytest.importorskip("xgboost", reason="in the nox session classic")
        import mlflow
        from sklearn.linear_model import Ridge
        from sklearn.model_selection import GridSearchCV

        integrations.autolog(log_models=with_models)
        with mlflow.start_run():
            mlflow.log_metric("of_the_run", 1.0)
            mlflow.log_param("of_the_run", 1)
            GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2).fit(X, Y)
            matrix = xgboost.DMatrix(X, Y)
            xgboost.train({"nthread": 1, "max_depth": 2}, matrix, 3, evals=[(matrix, "train")])
            xgboost.train({"nthread": 1, "max_depth": 2}, matrix, 3)
        search, (evaluated, plain) = spans.named("fit GridSearchCV")[0], spans.named("fit Booster")
        assert {"training_score", "best_cv_score"} <= read_metrics(search).keys()
        assert "of_the_run" not in read_metrics(search)
        assert [*read_metrics(evaluated)] == ["train-rmse"]
        assert read_metrics(plain) == {}
        assert set(json.loads(plain.attributes["mlspan.fit.params"])) == {"nthread", "max_depth", "num_boost_round"}
        models = [span.attributes.get("mlspan.model.id") for span in (search, evaluated, plain)]
        assert len({*models} - {None}) == (3 if with_models else 0)

    def test_the_last_step_counts(self, runs: Any, spans: Spans) -> None:
        """With an early stop MLflow logs the best round last: the span says what the run says."""
        xgboost = pytest.importorskip("xgboost", reason="in the nox session classic")

        integrations.xgboost.autolog(log_models=False)
        matrix = xgboost.DMatrix(X, Y)
        parameters = {"nthread": 1, "eta": 3.0, "min_child_weight": 0}
        xgboost.train(parameters, matrix, 30, evals=[(matrix, "train")], early_stopping_rounds=2, verbose_eval=False)
        (run,), (span,) = runs(), spans.named("fit Booster")
        assert read_metrics(span) == pytest.approx(run.data.metrics)
        assert "best_iteration" in run.data.metrics

    def test_threads_in_one_run(self, runs: Any, spans: Spans) -> None:
        """Trainings that overlap in one run: each has its own metrics, and no store is asked for them."""
        import mlflow
        from sklearn.linear_model import Ridge

        integrations.sklearn.autolog(log_models=False, log_datasets=False)
        with mlflow.start_run() as active:

            def train(scale: float) -> None:
                with mlflow.start_run(run_id=active.info.run_id):
                    Ridge().fit(X, Y * scale)

            threads = [threading.Thread(target=train, args=(10.0**power,)) for power in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        errors = sorted(read_metrics(span)["training_mean_squared_error"] for span in spans.named("fit Ridge"))
        assert errors[1] == pytest.approx(errors[0] * 100)
        assert errors[2] == pytest.approx(errors[0] * 10000)


class TestWhatMlflowCannotLog:
    def test_a_model_that_cannot_be_pickled(self, runs: Any, spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
        """The training is good: its metrics are there, the run is finished, and log and trace say what is missing."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer

        lock = threading.Lock()
        integrations.sklearn.autolog()
        with caplog.at_level(logging.WARNING, "mlspan"):
            make_pipeline(FunctionTransformer(lambda data: (lock, data)[1]), LogisticRegression()).fit(X, Y)
        (run,), (fit,), (logged,) = runs(), spans.named("fit Pipeline"), spans.named("log model")
        assert (run.info.status, run.data.metrics["training_score"]) == ("FINISHED", 1.0)
        assert read_metrics(fit) == pytest.approx(run.data.metrics)
        assert "mlspan.model.id" not in fit.attributes
        assert "error.type" not in fit.attributes
        (failed,) = logged.attributes["mlspan.log.failed"]
        assert failed.startswith("the model: cannot pickle")
        (line,) = [record.message for record in caplog.records if record.name == "mlspan"]
        assert failed in line

    @pytest.mark.parametrize("own_run", [True, False])
    @pytest.mark.parametrize("library", ["sklearn", "xgboost"])
    def test_whatever_fails_after_the_training(
        self, runs: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch, library: str, own_run: bool
    ) -> None:
        """Of any failure of MLflow's the caller learns, and the training's run is no failure."""
        pytest.importorskip(library, reason="in the nox session classic")
        import mlflow
        from sklearn.linear_model import Ridge

        def broken(*_: Any, **__: Any) -> Any:
            raise RuntimeError("the disk is full")

        def train() -> None:
            if library == "sklearn":
                Ridge().fit(X, Y)
            else:
                import xgboost

                matrix = xgboost.DMatrix(X, Y)
                xgboost.train({"nthread": 1}, matrix, 3, evals=[(matrix, "train")], verbose_eval=False)

        getattr(integrations, library).autolog()
        monkeypatch.setattr("mlflow.models.Model.save", broken)
        monkeypatch.setattr("mlflow.sklearn.utils._log_estimator_content", broken)
        if own_run:
            train()
        else:
            with mlflow.start_run():
                train()
        (run,) = runs()
        assert run.info.status == "FINISHED"
        fit = next(span for span in spans.all if span.name.startswith("fit "))
        assert "error.type" not in fit.attributes
        logged = next(span for span in spans.all if span.name.startswith("log "))
        assert all("the disk is full" in failed for failed in logged.attributes["mlspan.log.failed"])

    def test_a_server_that_is_away(
        self, runs: Any, spans: Spans, mlflow_store: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The training goes on, its span is there and says why there is no run; the next training has one."""
        import mlflow
        from sklearn.linear_model import Ridge

        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        integrations.sklearn.autolog(log_models=False)
        mlflow.set_tracking_uri("http://127.0.0.1:9")
        assert len(Ridge().fit(X, Y).coef_) == 2
        mlflow.set_tracking_uri(mlflow_store)
        (fit,) = spans.named("fit Ridge")
        assert ("mlspan.run.id" in fit.attributes, "error.type" in fit.attributes) == (False, False)
        (logged,) = spans.named("log run")
        assert "127.0.0.1:9" in logged.attributes["mlspan.log.failed"][0]
        Ridge().fit(X, Y)
        assert [run.info.status for run in runs()] == ["FINISHED"]

    def test_a_failure_of_the_callers_own(self, runs: Any, spans: Spans) -> None:
        """A model that the caller logs amid a training, and that cannot be logged, is the caller's error."""
        import mlflow
        from mlflow.exceptions import MlflowException
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer

        def store(data: Any) -> Any:
            model = Ridge()
            model.lock = threading.Lock()
            mlflow.sklearn.log_model(model, name="mine")
            return data

        integrations.sklearn.autolog(log_models=False)
        with pytest.raises(MlflowException, match="untrusted types"):
            make_pipeline(FunctionTransformer(store), Ridge()).fit(X, Y)
        assert runs()[0].info.status == "FAILED"

    def test_arguments_that_do_not_fit(self, runs: Any, spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
        """The library's own error, and a span of the estimator with what does fit: none of ours in the log."""
        from sklearn.linear_model import Ridge

        integrations.sklearn.autolog(log_models=False)
        with pytest.raises(TypeError, match="foo"):
            Ridge(alpha=3.0).fit(X, Y, foo=1)
        (span,) = spans.all
        assert (span.name, span.attributes["mlspan.fit.rows"]) == ("fit Ridge", len(X))
        assert json.loads(span.attributes["mlspan.fit.params"])["alpha"] == 3.0
        assert [record for record in caplog.records if record.name == "mlspan"] == []

    def test_an_interrupt_while_it_logs(self, runs: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ctrl-C during the upload reaches the caller; the training's span is none that failed."""
        from sklearn.linear_model import Ridge

        def interrupted(*_: Any, **__: Any) -> Any:
            raise KeyboardInterrupt

        integrations.sklearn.autolog()
        monkeypatch.setattr("mlflow.models.Model.save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Ridge().fit(X, Y)
        assert "error.type" not in spans.named("fit Ridge")[0].attributes
        assert runs()[0].info.status == "FAILED"


class TestSearches:
    @pytest.mark.parametrize("name", ["GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV"])
    def test_a_search_has_its_candidates(self, runs: Any, spans: Spans, name: str) -> None:
        """One span: the candidates with parameters and scores as events, the best of them, and the refit's time."""
        import sklearn.experimental.enable_halving_search_cv
        import sklearn.model_selection
        from sklearn.linear_model import Ridge

        integrations.sklearn.autolog(log_models=False, log_datasets=False)
        more = {"n_iter": 2, "random_state": 0} if name.startswith("Random") else {}
        data, target = np.tile(X, (8, 1)), np.tile(Y, 8)
        search = getattr(sklearn.model_selection, name)(Ridge(), {"alpha": [0.1, 1.0]}, cv=2, **more).fit(data, target)
        (span,) = spans.named(f"fit {name}")
        candidates = [dict(event.attributes) for event in span.events if event.name == "candidate"]
        assert len(candidates) == span.attributes["mlspan.fit.candidates"] == len(search.cv_results_["params"])
        assert json.loads(candidates[0]["mlspan.fit.params"]) == search.cv_results_["params"][0]
        assert candidates[0]["mlspan.fit.metric.mean_test_score"] == search.cv_results_["mean_test_score"][0]
        assert json.loads(span.attributes["mlspan.fit.best_params"]) == search.best_params_
        assert span.attributes["mlspan.fit.best_score"] == search.best_score_
        assert 0 < span.attributes["mlspan.fit.refit_time"] < milliseconds(span) / 1000

    @pytest.mark.parametrize("name", ["cross_val_score", "cross_validate"])
    def test_a_cross_validation_has_its_folds(self, runs: Any, spans: Spans, name: str) -> None:
        """One span with a fold's score in each event and their mean; no run, as MLflow starts none."""
        import sklearn.model_selection
        from sklearn.linear_model import Ridge

        integrations.sklearn.autolog()
        found = getattr(sklearn.model_selection, name)(Ridge(), X, Y, cv=3)
        scores = found["test_score"] if isinstance(found, dict) else found
        (span,) = spans.all
        assert (span.name, span.attributes["mlspan.fit.folds"], runs()) == (f"{name} Ridge", 3, [])
        assert [event.attributes["mlspan.fit.metric.test_score"] for event in span.events] == list(scores)
        assert read_metrics(span)["mean_test_score"] == pytest.approx(scores.mean())

    @pytest.mark.parametrize("is_held", [False, True])
    @pytest.mark.parametrize("theirs", ["LightGBM's by us", "LightGBM's by MLflow"])
    def test_a_cross_validation_where_lightgbm_is_traced(
        self, runs: Any, spans: Spans, theirs: str, is_held: bool
    ) -> None:
        """MLflow's autologging of LightGBM patches scikit-learn's functions, too, and keeps what was there before."""
        pytest.importorskip("lightgbm", reason="LightGBM is in the nox session classic")
        import mlflow.lightgbm
        import sklearn.model_selection
        from sklearn.linear_model import LogisticRegression

        before = sklearn.model_selection.cross_val_score
        if theirs == "LightGBM's by MLflow":
            mlflow.lightgbm.autolog()
        else:
            integrations.lightgbm.autolog()
        integrations.sklearn.autolog(log_models=False)
        call = before if is_held else sklearn.model_selection.cross_val_score
        call(LogisticRegression(), X, Y, cv=2)
        assert [span.name for span in spans.all if span.parent is None] == ["cross_val_score LogisticRegression"]
        assert runs() == []
        integrations.autolog(disable=True)
        mlflow.lightgbm.autolog(disable=True)
        assert sklearn.model_selection.cross_val_score is before
        assert before.__code__.co_filename.endswith("_param_validation.py"), "it runs its own code again"

    def test_a_cross_validated_search_tells_no_earlier_candidates(self, runs: Any, spans: Spans) -> None:
        """What an estimator knows of its own fit is no result of a cross-validation, which copies it."""
        import sklearn.model_selection
        from sklearn.linear_model import Ridge

        search = sklearn.model_selection.GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2).fit(X, Y)
        integrations.sklearn.autolog()
        sklearn.model_selection.cross_val_predict(search, X, Y, cv=3)
        (span,) = spans.all
        assert (span.name, span.events) == ("cross_val_predict GridSearchCV", ())
        assert "mlspan.fit.candidates" not in span.attributes
        assert "mlspan.fit.best_score" not in span.attributes

    @pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
    def test_a_boosters_cross_validation(self, runs: Any, spans: Spans, library: str) -> None:
        """``cv`` is a span with its rounds; its metrics are the means of the folds."""
        module = pytest.importorskip(library, reason="in the nox session classic")
        getattr(integrations, library).autolog()
        data, target = np.tile(X, (8, 1)), np.tile(Y, 8)
        if library == "xgboost":
            table = module.cv({"nthread": 1}, module.DMatrix(data, target), 3, nfold=2)
            last = {"test-rmse": float(table["test-rmse-mean"].iloc[-1])}
        else:
            parameters = {"verbose": -1, "num_threads": 1, "objective": "regression"}
            table = module.cv(parameters, module.Dataset(data, target), 3, nfold=2, stratified=False)
            last = {"valid-l2": table["valid l2-mean"][-1]}
        (span,) = spans.all
        assert (span.name, span.attributes["mlspan.fit.epochs"], runs()) == ("cv Booster", 3, [])
        assert read_metrics(span).items() >= {name: pytest.approx(value) for name, value in last.items()}.items()

    @pytest.mark.parametrize("method", ["predict", "predict_proba", "score"])
    def test_a_prediction_that_fits_a_helper(self, runs: Any, spans: Spans, method: str) -> None:
        """scikit-learn's own: a service with such a model would have traces for each request."""
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import LabelEncoder

        integrations.sklearn.autolog(log_models=False)
        model = CalibratedClassifierCV(LogisticRegression(), cv=2).fit(X, Y)
        getattr(model, method)(X, *[Y] * (method == "score"))
        assert [span.name for span in spans.all if span.parent is None] == ["fit CalibratedClassifierCV"]
        LabelEncoder().fit(Y)
        assert spans.named("fit LabelEncoder"), "one of the program's own is recorded"

    def test_a_partial_fit(self, runs: Any, spans: Spans) -> None:
        from sklearn.linear_model import SGDClassifier

        integrations.sklearn.autolog()
        SGDClassifier().partial_fit(X, Y, classes=[0, 1]).partial_fit(X, Y)
        assert (spans.tree("mlspan.fit.rows"), runs()) == (
            "\n".join(["partial_fit SGDClassifier [mlspan.fit.rows=6]"] * 2),
            [],
        )


class TestTheLoggedModel:
    """A model that we log is loaded, and asked as its caller asks it, before it gets a signature."""

    FORMULAS: ClassVar = {
        "plain": ("ols", "y ~ x", ["x"]),
        "transformed": ("ols", "np.log(y + 9) ~ np.log1p(x) + C(group)", ["x", "group"]),
        "other columns": ("glm", "y ~ x:z", ["x", "z"]),
        "quoted": ("ols", "y ~ Q('of two words')", ["of two words"]),
    }

    @staticmethod
    def load(runs: Any) -> tuple[Any, Any]:
        """The signature of the last run's model, and the model as callers load it."""
        import mlflow

        (output,) = runs()[-1].outputs.model_outputs
        info = mlflow.models.get_model_info(f"models:/{output.model_id}")
        return info.signature, mlflow.pyfunc.load_model(info.model_uri)

    @pytest.fixture
    def frame(self) -> Any:
        pd = pytest.importorskip("pandas")
        x = np.linspace(0.0, 10.0, 40)
        columns = {"x": x, "z": np.cos(x), "group": ["a", "b"] * 20, "of two words": x**2, "y": 2 * x + 1}
        return pd.DataFrame(columns)

    @pytest.mark.parametrize("case", list(FORMULAS))
    def test_a_formula_takes_its_columns(self, runs: Any, spans: Spans, frame: Any, case: str) -> None:
        """``predict(df[["x"]])`` works, as it does where MLflow alone logs the model."""
        formulas = pytest.importorskip("statsmodels.formula.api", reason="in the nox session classic")
        x = frame["x"]  # a variable of this name is no reason to leave the column out
        assert len(x)
        integrations.statsmodels.autolog()
        name, formula, columns = self.FORMULAS[case]
        result = getattr(formulas, name)(formula, frame).fit()
        signature, loaded = self.load(runs)
        assert signature.inputs.input_names() == columns
        assert list(loaded.predict(frame[columns])) == pytest.approx(list(result.predict(frame)))

    def test_a_time_series_takes_numbers_and_dates(self, runs: Any, spans: Spans, frame: Any) -> None:
        pd = pytest.importorskip("pandas")
        arima = pytest.importorskip("statsmodels.tsa.arima.model", reason="in the nox session classic")
        integrations.statsmodels.autolog()
        arima.ARIMA(frame["y"].to_numpy(), order=(1, 0, 0)).fit()
        signature, loaded = self.load(runs)
        assert signature is None
        assert len(loaded.predict(pd.DataFrame({"start": [0], "end": [3]}))) == 4

    def test_a_model_that_does_not_predict_once_loaded(
        self, runs: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is logged without a signature, and the log says why."""
        sm = pytest.importorskip("statsmodels.api", reason="in the nox session classic")
        import mlflow.statsmodels

        def broken(*_: Any, **__: Any) -> Any:
            raise RuntimeError("no such layer")

        integrations.statsmodels.autolog()
        monkeypatch.setattr(mlflow.statsmodels._StatsmodelsModelWrapper, "predict", broken)
        sm.OLS(Y, X).fit()
        assert self.load(runs)[0] is None
        (line,) = [record.message for record in caplog.records if record.name == "mlspan"]
        assert line.endswith("does not predict once loaded: no such layer")

    def test_a_large_model_is_warned_of(
        self, runs: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """MLflow's warning, which it has for its own autologging alone, is there where we log the model."""
        sm = pytest.importorskip("statsmodels.api", reason="in the nox session classic")
        import mlflow.statsmodels

        monkeypatch.setattr(mlflow.statsmodels, "_model_size_threshold_for_emitting_warning", 1)
        integrations.statsmodels.autolog()
        with caplog.at_level(logging.WARNING, "mlflow"):
            sm.OLS(Y, X).fit()
        assert any("saving it as artifacts is time consuming" in record.message for record in caplog.records)


class TestASessionThatStarts:
    def test_the_users_runs_are_left_alone(self, runs: Any, spans: Spans) -> None:
        """Automatic enabling: a run of the user's gets nothing until autolog is called; a training has its own run."""
        import mlflow
        from sklearn.linear_model import Ridge

        integrations.autolog_at_start()
        with mlflow.start_run():
            Ridge().fit(X, Y)
        assert ([run.data.params for run in runs()], spans.all) == ([{}], [])
        integrations.autolog(log_models=False)
        with mlflow.start_run():
            Ridge().fit(X, Y)
        assert "alpha" in runs()[1].data.params
        assert len(spans.named("fit Ridge")) == 1


class TestWhatTheProgramSees:
    def test_descriptors_stay_what_they_are(self, runs: Any) -> None:
        """Of every estimator: what it has, and as what; a property that hides a method goes on hiding it."""
        from sklearn.cluster import FeatureAgglomeration
        from sklearn.utils import all_estimators

        def look() -> dict[tuple[str, str], Any]:
            names = ("fit", "fit_transform", "fit_predict", "predict", "predict_proba")
            return {
                (cls.__name__, name): (hasattr(cls, name), type(inspect.getattr_static(cls, name, None)))
                for _, cls in all_estimators()
                for name in names
            }

        before = look()
        integrations.sklearn.autolog()
        assert {place: kind for place, kind in look().items() if before[place] != kind} == {}
        assert not hasattr(FeatureAgglomeration(), "fit_predict")
        FeatureAgglomeration().fit(X)

    @pytest.mark.parametrize("call", ["library", "all"])
    def test_an_option_that_mlflow_refuses(
        self, runs: Any, spans: Spans, caplog: pytest.LogCaptureFixture, call: str
    ) -> None:
        """The error is MLflow's own and the caller's, where it is made; what was on stays on."""
        from mlflow.exceptions import MlflowException
        from sklearn.linear_model import Ridge

        integrations.sklearn.autolog(log_models=False)
        if call == "library":
            with pytest.raises(MlflowException, match="`max_tuning_runs` must be non-negative, instead got -1"):
                integrations.sklearn.autolog(max_tuning_runs=-1)
        else:
            with pytest.raises(MlflowException, match="Invalid `extra_tags` type"):
                integrations.autolog(extra_tags="team")  # type: ignore[arg-type]
        Ridge().fit(X, Y)
        assert (len(runs()), len(spans.named("fit Ridge"))) == (1, 1)
        assert [record for record in caplog.records if record.name == "mlspan"] == []


class FitOnly(BaseEstimator):
    """A step that does its work while it is fitted, and not when MLflow has the pipeline predict."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work

    def fit(self, data: Any, _: Any = None) -> FitOnly:
        self.work(data)
        return self

    def transform(self, data: Any) -> Any:
        return data


class TestTurnedOff:
    def test_in_the_middle_of_a_training(self, runs: Any, spans: Spans) -> None:
        """MLflow's session of the training is where MLflow looks for it at the end."""
        import mlflow.sklearn
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV

        def turn_off(estimator: Any, data: Any, targets: Any) -> float:
            integrations.sklearn.autolog(disable=True)
            return float(estimator.score(data, targets))

        integrations.sklearn.autolog(log_models=False)
        GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2, scoring=turn_off).fit(X, Y)
        assert [run.info.status for run in runs() if "mlflow.parentRunId" not in run.data.tags] == ["FINISHED"]
        assert type(mlflow.sklearn._SklearnTrainingSession._session_stack) is list, "MLflow has its own state again"
        LogisticRegression().fit(X, Y)
        assert [span.name for span in spans.all if span.parent is None] == ["fit GridSearchCV"]


class TestThreads:
    @pytest.mark.parametrize("pool", ["own", "shared", "threads"])
    def test_what_a_training_starts_in_threads_belongs_to_it(self, runs: Any, spans: Spans, pool: str) -> None:
        """A step that fits four models in threads: one run and one trace, as it is with MLflow's autolog alone."""
        xgboost = pytest.importorskip("xgboost", reason="in the nox session classic")
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline

        shared = ThreadPoolExecutor(2)
        shared.submit(int).result(60)  # one thread is there before the training

        def boost(data: Any) -> None:
            xgboost.train({"nthread": 1}, xgboost.DMatrix(data, Y), 1)

        def fit_in_threads(data: Any) -> Any:
            work = [
                lambda: Ridge().fit(data, Y),
                lambda: Ridge().fit(data, Y),
                lambda: boost(data),
                lambda: boost(data),
            ]
            if pool == "threads":
                started = [threading.Thread(target=one) for one in work]
                for one in started:
                    one.start()
                for one in started:
                    one.join(60)
                return data
            with ThreadPoolExecutor(4) if pool == "own" else nullcontext(shared) as executor:
                for future in [executor.submit(one) for one in work]:
                    future.result(60)
            return data

        integrations.autolog(log_models=False)
        make_pipeline(FitOnly(fit_in_threads), Ridge()).fit(X, Y)
        assert spans.tree() == "fit Pipeline" + "\n  fit Booster" * 2 + "\n  log metrics"
        assert [run.info.status for run in runs()] == ["FINISHED"]
        spans.clear()
        shared.submit(lambda: Ridge().fit(X, Y)).result(60)  # and afterwards it belongs to nothing
        shared.shutdown()
        assert spans.tree() == "fit Ridge\n  log metrics"
        assert len(runs()) == 2

    def test_another_threads_work_in_the_same_pool(self, runs: Any, spans: Spans) -> None:
        """A pool whose thread was started amid a training: what others give it is none of the training's."""
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline

        shared, begun, done = ThreadPoolExecutor(1), threading.Event(), threading.Event()

        def start_thread(data: Any) -> Any:
            shared.submit(int).result(60)
            begun.set()
            assert done.wait(120)
            return data

        integrations.sklearn.autolog(log_models=False)
        training = threading.Thread(target=make_pipeline(FitOnly(start_thread), Ridge()).fit, args=(X, Y))
        training.start()
        assert begun.wait(120)
        shared.submit(lambda: Ridge().fit(X, Y)).result(120)
        done.set()
        training.join(120)
        shared.shutdown()
        assert len(runs()) == 2
        assert sorted(span.name for span in spans.all if span.name.startswith("fit ")) == ["fit Pipeline", "fit Ridge"]

    def test_eight_on_the_same_data(self, runs: Any, spans: Spans) -> None:
        """Each of eight trainings that begin at once keeps its dataset, which MLflow's store has only one of."""
        from sklearn.linear_model import Ridge

        together = threading.Barrier(8)

        def train() -> None:
            together.wait(60)
            Ridge().fit(X, Y)

        integrations.sklearn.autolog(log_models=False)
        threads = [threading.Thread(target=train) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert [(run.info.status, len(run.inputs.dataset_inputs)) for run in runs()] == [("FINISHED", 1)] * 8
