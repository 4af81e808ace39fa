"""The functions and methods that Ray is given in the place of the caller's. This needs no Ray."""

from __future__ import annotations

import inspect
import json
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mlspan.integrations import ray as tune
from mlspan.integrations._training.search import SearchRecord, TrialRecord
from mlspan.integrations.workers import _ray_train, _task
from mlspan.integrations.workers import ray as workers_ray
from mlspan.testing import Spans
from mlspan.tracing import propagation
from mlspan.tracing.runtime import get_runtime

cloudpickle = pytest.importorskip("cloudpickle")
np = pytest.importorskip("numpy")


class Base:
    def add(self, one: int, two: int = 2) -> int:
        return one + two


class First(Base): ...


class Second(Base): ...


def test_two_actor_classes_that_inherit_a_method() -> None:
    """Each class gets a method that takes the context, and what they inherit stays as it is."""
    prepare: Any = workers_ray._wrap_inject_into_class(lambda cls: cls)
    before = inspect.signature(Base.add)
    for cls in (First, Second):
        prepare(cls)
        method: Any = cls.add
        assert method(cls(), 1, _mlspan=None) == 3
        assert "_mlspan" in inspect.signature(inspect.unwrap(method)).parameters  # where Ray looks
    assert inspect.signature(Base.add) == before
    assert Base().add(1) == 3


def test_a_method_that_is_prepared_already_stays() -> None:
    prepare: Any = workers_ray._wrap_inject_into_class(lambda cls: cls)

    class Actor:
        def act(self) -> None: ...

    class Derived(Actor): ...

    prepare(Actor)
    prepared = Actor.act
    prepare(Derived)
    assert Derived.act is prepared


class Holder:
    """A callable with a state that it does not pickle."""

    def __init__(self) -> None:
        self.lock, self._resources = threading.Lock(), {"CPU": 1}

    def __getstate__(self) -> dict[str, object]:
        return {}

    def __call__(self, config: object = None) -> object:
        return config


def test_a_callable_object_stays_one_that_can_be_pickled() -> None:
    """Tune gets the resources that it asks for; nothing else of the object is in the wrapper."""
    trial: Any = tune._carry_search(Holder(), "{}")
    assert cloudpickle.dumps(trial)
    assert (trial.__name__, trial._resources) == ("func", {"CPU": 1})
    assert cloudpickle.dumps(_ray_train.carry_context(Holder(), "{}"))


def test_a_function_keeps_what_was_set_on_it() -> None:
    def objective(config: object) -> None: ...

    objective._resources = {"CPU": 2}  # type: ignore[attr-defined]
    trial: Any = tune._carry_search(objective, "{}")
    assert (trial.__name__, trial._resources) == ("objective", {"CPU": 2})


def test_a_report_with_arrays_keeps_its_numbers() -> None:
    record = TrialRecord(library="ray")
    tune._OpenTrial(record).add_report({"loss": np.float32(0.5), "values": np.array([1.0, 2.0]), "flag": True, "n": 2})
    assert json.loads(record.metrics or "") == {"loss": 0.5, "n": 2.0}


@pytest.mark.parametrize(("metric", "value"), [("eval.loss", 1.5), ("steps", 3), ("loss", np.float32(0.5))])
def test_the_best_score_of_a_search(metric: str, value: float) -> None:
    class Grid(list[Any]):
        _experiment_analysis = SimpleNamespace(default_metric=metric)

        def get_best_result(self) -> object:
            return SimpleNamespace(config={"c": 1}, metrics={metric: value, "trial_id": "1a2b3_00004"}, error=None)

    record = SearchRecord(library="ray")
    tune._observe_search(record, Grid())
    assert (record.best_score, record.best_trials) == (float(value), [4])


class Session:
    """Ray's session of a trial, of which only the id is read."""

    trial_info = SimpleNamespace(id="1a2b3_00004")


@pytest.fixture
def run_trial(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[bool]]:
    """Runs a function as a trial in another process; returns whether the end of the task has waited for the backend."""
    fake: Any = ModuleType("ray.tune")
    fake.get_context = lambda: SimpleNamespace(get_trial_id=lambda: "1a2b3_00004")
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    monkeypatch.setitem(sys.modules, "ray.tune", fake)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    waited: list[bool] = []
    monkeypatch.setattr(propagation, "_store_task_spans", lambda now, ends, wait: waited.append(wait))

    def run(function: Any) -> list[bool]:
        text = json.dumps({**json.loads(_task.capture_task_context() or ""), "process": "another", "hooks": {}})
        with suppress(SystemExit):
            tune.call_trial(function, {"c": 1}, text)
        return waited

    return run


def test_the_end_of_a_stopped_trial(spans: Spans, run_trial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its span is sent, or stored, before Tune is told to wait for its thread, and the thread itself waits no more."""
    order: list[str] = []
    now: Any = get_runtime()
    monkeypatch.setattr(now, "send_ended", lambda timeout: order.append(f"send {timeout}"))
    monkeypatch.setattr(now, "save_to_disk", lambda timeout: order.append(f"save {timeout}"))
    finish: Any = tune._end_stopped_trial(lambda _: order.append("finish"), [True])

    def stopped(_: object) -> None:
        finish(Session())
        raise SystemExit

    assert run_trial(stopped) == [False]
    assert order == ["send 0.5", "save 0.5", "finish"]
    assert spans.one().attributes["mlspan.trial.state"] == "pruned"


def test_the_end_of_a_trial(spans: Spans, run_trial: Any) -> None:
    """It waits. Tune reports what a function returns as well, after what it has reported itself."""

    def reports(_: object) -> dict[str, float]:
        report: Any = tune._read_reports(lambda *_: None, [True])
        report(Session(), {"loss": 2.0})
        return {"loss": 1.0}

    assert run_trial(reports) == [True]
    span = spans.one()
    assert [event.attributes["mlspan.fit.metric.loss"] for event in span.events] == [2.0, 1.0]
    assert json.loads(span.attributes["mlspan.fit.metrics"]) == {"loss": 1.0}
