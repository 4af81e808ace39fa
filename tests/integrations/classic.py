"""The contract of every library that trains: what ``autolog`` promises, against a real tracking server.

A library's test module inherits from :class:`Contract`, and says how to train its smallest model.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from mlspan import integrations, tracing
from mlspan.integrations._training.hook import TrainingHook
from mlspan.testing import Spans


@pytest.mark.filterwarnings("default")  # of MLflow and the libraries, which have many
@pytest.mark.timeout(300)
@pytest.mark.trains
class Contract:
    library: ClassVar[str]  # the word of integrations
    span: ClassVar[str]
    rows: ClassVar[int | None]
    features: ClassVar[int | None]
    epochs: ClassVar[int | None] = None
    fails: ClassVar[type[Exception]]
    signed: ClassVar[bool] = True  # whether a model can have a signature and an example
    has_data: ClassVar[bool] = True  # whether the training data can be logged
    has_id: ClassVar[bool] = True  # whether MLflow logs the model as one of its own, beside the run
    metrics: ClassVar[bool] = True  # whether training alone gives metrics

    def train(self) -> Any:
        """Train the smallest model there is."""
        raise NotImplementedError

    def fail(self) -> None:
        """Train something that raises ``fails``."""
        raise NotImplementedError

    def patch_point(self) -> tuple[Any, str]:
        """What is patched: a class or module, and a name there."""
        raise NotImplementedError

    def check_model(self, loaded: Any) -> None:
        """That the logged model, as a pyfunc, predicts."""
        raise NotImplementedError

    # What the tests share.

    @property
    def hook(self) -> TrainingHook:
        return importlib.import_module(f"mlspan.integrations.{self.library}").HOOK

    @pytest.fixture
    def autolog(
        self, mlflow_server: str, monkeypatch: pytest.MonkeyPatch, spans: Spans
    ) -> Iterator[Callable[..., None]]:
        """The library's ``autolog``, undone afterwards; MLflow has a new experiment active."""
        mlflow = pytest.importorskip("mlflow")
        # What a model requires is found in a process of its own, for 10 s each time; after 1 s MLflow goes without.
        monkeypatch.setenv("MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT", "1")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
        mlflow.set_tracking_uri(mlflow_server)
        # Through the server, as over a network: to a folder, MLflow logs Spark's models in a way of its own.
        name = f"{self.library}-{_new()}"
        made = mlflow.create_experiment(name, artifact_location=f"mlflow-artifacts:/{name}")
        self.experiment = mlflow.set_experiment(experiment_id=made)
        yield getattr(integrations, self.library).autolog
        getattr(integrations, self.library).autolog(disable=True)
        mlflow.set_tracking_uri(None)
        monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)

    def runs(self) -> list[Any]:
        """The experiment's runs, the oldest first; those of a search begin with it."""
        import mlflow

        found = mlflow.MlflowClient().search_runs([self.experiment.experiment_id])
        return sorted(found, key=lambda run: (run.info.start_time, "mlflow.parentRunId" in run.data.tags))

    def run(self) -> Any:
        (run,) = self.runs()
        return run

    @staticmethod
    def predictions(spans: Spans) -> list[Any]:
        return [span for span in spans.all if span.name.startswith("predict ")]

    def model(self, run: Any) -> Any:
        """What MLflow has logged of a run's first model: ``.signature``, ``.saved_input_example_info``."""
        import mlflow

        if not self.has_id:
            return mlflow.models.get_model_info(f"runs:/{run.info.run_id}/model")
        (output, *_) = run.outputs.model_outputs
        return mlflow.models.get_model_info(f"models:/{output.model_id}")

    def check_held(self, autolog: Any, spans: Spans, train: Callable[[], object], name: str, *, runs: int) -> None:
        """Check that *train*, whose function was imported before ``autolog()``, is a span and so many runs while on."""
        before = len(self.runs())
        for times in (1, 2):
            autolog(log_models=False)
            train()
            assert len(spans.named(name)) == times
            assert len(self.runs()) == before + times * runs
        spans.clear()
        autolog(disable=True)
        train()
        assert not spans.all
        assert len(self.runs()) == before + 2 * runs

    # The tests.

    def test_a_training_is_a_run_and_a_span(self, autolog: Any, spans: Spans) -> None:
        """By itself: a finished run with parameters, metrics, data and a signed model; a span that says the same."""
        import mlflow

        autolog()
        self.train()
        run, span = self.run(), self.one(spans)
        assert (run.info.status, run.data.tags["mlflow.autologging"]) == ("FINISHED", self.tag)
        assert run.data.params
        assert bool(run.data.metrics) is self.metrics
        assert bool(run.inputs.dataset_inputs) is self.has_data
        info = self.model(run)
        assert (info.signature is not None, info.saved_input_example_info) == (self.signed, None)
        integrations.pyfunc.autolog()
        with tracing.span("app"):
            self.check_model(mlflow.pyfunc.load_model(info.model_uri))
        integrations.pyfunc.autolog(disable=True)
        (used,) = self.predictions(spans)
        model_id = info.model_id if self.has_id else None
        assert (used.attributes["mlspan.run.id"], used.attributes.get("mlspan.model.id")) == (run.info.run_id, model_id)
        attributes = dict(span.attributes)
        assert set(json.loads(attributes.pop("mlspan.fit.params")))
        if self.metrics:
            metrics = json.loads(attributes.pop("mlspan.fit.metrics"))
            assert metrics
            assert all(run.data.metrics[name] == pytest.approx(value) for name, value in metrics.items())
        expected = {
            "mlspan.kind": "fit",
            "mlspan.fit.library": self.library,
            "mlspan.fit.estimator": self.span.removeprefix("fit "),
            "mlspan.fit.rows": self.rows,
            "mlspan.fit.features": self.features,
            "mlspan.fit.epochs": self.epochs,
            "mlspan.run.id": run.info.run_id,
            "mlspan.model.id": model_id,
        }
        assert attributes == {name: value for name, value in expected.items() if value is not None}
        events = [event for event in span.events if event.name == "epoch"]
        assert [event.attributes["mlspan.fit.epoch"] for event in events] == list(range(self.epochs or 0))

    tag: ClassVar[str]

    def one(self, spans: Spans) -> Any:
        """The span of the only training."""
        (span,) = spans.named(self.span)
        return span

    def test_the_active_run_is_used(self, autolog: Any, spans: Spans) -> None:
        """In a run of the caller's the training is logged there, and the run goes on; nothing else is started."""
        import mlflow

        autolog(log_models=False)
        with mlflow.start_run() as active:
            self.train()
            assert mlflow.active_run().info.run_id == active.info.run_id
            assert mlflow.get_run(active.info.run_id).info.status == "RUNNING"
        assert (self.run().info.run_id, bool(self.run().data.params)) == (active.info.run_id, True)
        assert self.one(spans).attributes["mlspan.run.id"] == active.info.run_id

    def test_exclusive_keeps_out_of_the_callers_run(self, autolog: Any, spans: Spans) -> None:
        """``exclusive=True``: nothing is logged or traced in a run of the caller's; outside of one, all is."""
        import mlflow

        autolog(exclusive=True, log_models=False)
        with mlflow.start_run():
            self.train()
        assert (self.run().data.params, self.run().data.metrics, spans.tree()) == ({}, {}, "")
        self.train()
        assert len(self.runs()) == 2
        assert self.one(spans)

    def test_disable_brings_the_originals_back(self, autolog: Any, spans: Spans) -> None:
        """Turned off, the library's own function is there again, and trains without a run or a span."""
        owner, name = self.patch_point()
        original = vars(owner).get(name)
        autolog()
        autolog(log_models=False)
        assert vars(owner).get(name) is not original
        autolog(disable=True)
        assert vars(owner).get(name) is original
        self.train()
        assert (self.runs(), spans.tree()) == ([], "")

    def test_silent_says_nothing(
        self, autolog: Any, spans: Spans, caplog: pytest.LogCaptureFixture, capfd: Any
    ) -> None:
        """``silent=True``: neither mlspan nor MLflow says anything; the training is logged all the same."""
        with caplog.at_level(logging.INFO, "mlspan"):
            autolog(silent=True, log_models=False)
            capfd.readouterr()
            self.train()
        said = [line for line in capfd.readouterr().err.splitlines() if "mlflow" in line.lower() or "mlspan" in line]
        assert ([record for record in caplog.records if record.name == "mlspan"], said) == ([], [])
        assert self.run().data.params

    def test_models_off(self, autolog: Any, spans: Spans) -> None:
        """``log_models=False`` and ``log_datasets=False``: parameters alone, and what else is no model or data."""
        autolog(log_models=False, log_datasets=False)
        self.train()
        run = self.run()
        assert bool(run.data.params)
        assert (run.outputs.model_outputs, run.inputs.dataset_inputs) == ([], [])
        assert "mlspan.model.id" not in self.one(spans).attributes

    def test_examples_tags_and_the_registry(self, autolog: Any, spans: Spans) -> None:
        """An example of the data with the model, tags on the run, and a version in the registry."""
        import mlflow

        name = f"of-{self.library}-{_new()}"
        autolog(log_input_examples=True, registered_model_name=name, extra_tags={"team": "blue"})
        self.train()
        run = self.run()
        assert run.data.tags["team"] == "blue"
        info = self.model(run)
        assert (info.saved_input_example_info is not None, info.signature is not None) == (self.signed, self.signed)
        (version,) = mlflow.MlflowClient().search_model_versions(f"name = '{name}'")
        assert version.run_id == run.info.run_id

    def test_signatures_off(self, autolog: Any, spans: Spans) -> None:
        """``log_model_signatures=False``: the model goes without."""
        autolog(log_model_signatures=False)
        self.train()
        assert self.model(self.run()).signature is None

    def test_a_training_that_fails(self, autolog: Any, spans: Spans) -> None:
        """The run and the span say so; the library's exception is the caller's, as it was raised."""
        autolog(log_models=False)
        with pytest.raises(self.fails) as caught:
            self.fail()
        assert caught.type is self.fails
        assert self.run().info.status == "FAILED"
        (span,) = spans.all
        assert span.attributes["error.type"].rpartition(".")[2] == self.fails.__name__
        assert span.attributes["mlspan.run.id"] == self.run().info.run_id

    def test_a_failure_of_ours(self, autolog: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
        """A bug of mlspan's costs what it would have recorded: neither the training nor its run."""

        def broken(*_: Any) -> Any:
            raise RuntimeError("ours")

        monkeypatch.setenv("MLSPAN_STRICT", "0")
        changed = dataclasses.replace(self.hook.library, read_arguments=broken)
        monkeypatch.setattr(self.hook, "library", changed)
        monkeypatch.setattr("mlspan.integrations._training.logged_facts.LoggedFacts.get_metrics", broken)
        autolog(log_models=False)
        self.train()
        logged_by_mlflow = self.hook.flavor is not None
        assert (self.run().info.status, bool(self.run().data.params)) == ("FINISHED", logged_by_mlflow)

    def test_without_traces(self, autolog: Any, spans: Spans) -> None:
        """``log_traces=False``: the run alone."""
        autolog(log_traces=False, log_models=False)
        self.train()
        assert (spans.tree(), bool(self.run().data.params)) == ("", True)

    def test_two_threads_train_at_once(self, autolog: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each has a run of its own, with all that one alone would have, and a span; the next one too."""
        both, read = threading.Barrier(2), self.hook.library.read_arguments

        def together(*args: Any) -> None:
            both.wait(60)
            read(*args)

        autolog(log_models=False)
        self.train()  # what is there already: two that log the same data first are too much for MLflow's database
        monkeypatch.setattr(self.hook, "library", dataclasses.replace(self.hook.library, read_arguments=together))
        threads = [threading.Thread(target=self.train) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        monkeypatch.setattr(self.hook, "library", dataclasses.replace(self.hook.library, read_arguments=read))
        self.train()  # nothing of it stays behind
        runs = self.runs()
        assert [run.info.status for run in runs] == ["FINISHED"] * 4
        first, *others = [(set(run.data.params), set(run.data.metrics), len(run.inputs.dataset_inputs)) for run in runs]
        assert [first] * 3 == others
        assert {span.attributes["mlspan.run.id"] for span in spans.named(self.span)} == {r.info.run_id for r in runs}

    def test_the_trace_is_tied_to_the_run(self, autolog: Any, mlflow_server: str, tracing_off: None) -> None:
        """In MLflow: the training's trace belongs to its run, also where it is a part of what an application does."""
        import mlflow

        tracing.configure(tracking_uri=mlflow_server)
        autolog(log_models=False)
        self.train()
        with tracing.span("app"):
            self.train()
        assert tracing.flush(30)
        alone, inside = self.runs()
        client, place = mlflow.MlflowClient(), [self.experiment.experiment_id]
        for run, names in ((alone, [self.span]), (inside, ["app", self.span])):
            (trace,) = client.search_traces(locations=place, run_id=run.info.run_id)
            assert trace.info.trace_metadata["mlflow.sourceRun"] == run.info.run_id
            assert [span.name for span in trace.data.spans if span.name in names] == names
            (fit,) = [span for span in trace.data.spans if span.name == self.span]
            assert fit.inputs["parameters"]
            assert fit.inputs.get("data", "").startswith(f"{self.rows} row" if self.rows else "")


def _new() -> str:
    """A name that nothing has yet, also on a server that tests have used before."""
    return uuid.uuid4().hex[:8]
