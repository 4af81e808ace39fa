"""Parts of the trainings that several processes do: marks, environments, clients, and MLflow's switch. No library."""

from __future__ import annotations

import gc
import os
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mlspan.integrations._training import current, dask_trainings, mlflow_logging
from mlspan.integrations._training.logged_facts import LoggedFacts
from mlspan.integrations.workers import lightning
from mlspan.testing import Spans

mlflow = pytest.importorskip("mlflow")


class Fitting:
    """What is read of a training that is under way."""

    parent = hook = subject = run_id = operation = task_mark = None
    is_open = True

    def __init__(self) -> None:
        self.state: dict[str, object] = {}
        self.logged = LoggedFacts()


def test_marks_are_not_used_twice() -> None:
    """Also where a training takes the place of one that is gone."""
    marks = []
    for _ in range(20):
        with current.work_for(Fitting()):  # type: ignore[arg-type]
            marks += {current.mark_training(), current.mark_training()}
        gc.collect()
    assert len(set(marks)) == len(marks) == 20


@pytest.mark.parametrize("before", [False, True])
def test_parts_of_trainings_that_overlap(monkeypatch: pytest.MonkeyPatch, before: bool) -> None:
    """MLflow logs again when the last one has ended, unless somebody else had turned it off."""
    from mlflow.utils import autologging_utils

    def is_off() -> bool:
        return bool(autologging_utils._AUTOLOGGING_GLOBALLY_DISABLED)

    monkeypatch.setattr(autologging_utils, "_AUTOLOGGING_GLOBALLY_DISABLED", before)
    first, second = current.join_remote_training(), current.join_remote_training()
    first.__enter__()
    second.__enter__()
    second.__exit__(None, None, None)
    assert is_off()
    first.__exit__(None, None, None)
    assert is_off() is before


class Client:
    def __init__(self, asynchronous: bool) -> None:
        self.asynchronous = asynchronous


@pytest.mark.parametrize("asynchronous", [False, True])
def test_trainings_with_an_asynchronous_client(monkeypatch: pytest.MonkeyPatch, asynchronous: bool) -> None:
    """As an argument, of an estimator, or the current one; and only where the function is of a module on Dask."""
    client, fake = Client(asynchronous), ModuleType("distributed")
    vars(fake).update(Client=Client, default_client=lambda: client)
    monkeypatch.setitem(sys.modules, "distributed", fake)

    def fit() -> None: ...

    fit.__module__ = "xgboost.dask"
    for args, kwargs in (
        ((client,), {}),
        ((), {"client": client}),
        ((None,), {}),
        ((SimpleNamespace(client=client),), {}),
        ((SimpleNamespace(client=None),), {}),
    ):
        assert dask_trainings.is_awaited(fit, args, kwargs) is asynchronous
    fit.__module__ = "xgboost.sklearn"
    assert not dask_trainings.is_awaited(fit, (SimpleNamespace(client=client),), {})


def test_names_that_mlflow_refuses(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A name with ``@`` is changed as MLflow's flavors do it; one that cannot be saved takes no other with it."""
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    with mlflow.start_run() as run:
        mlflow_logging.log_history([{"ndcg@1": 0.5, "a?b": 1.0, "loss": 2.0}, {"ndcg@1": 0.7, "a?b": 1.0, "loss": 1.0}])
        mlflow_logging.log_metrics({"map@2": 0.25})
    assert mlflow.get_run(run.info.run_id).data.metrics == {"ndcg_at_1": 0.7, "loss": 1.0, "map_at_2": 0.25}
    assert "a?b" in caplog.text


def test_the_environment_of_a_second_process(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken from the process that has started this one, and only in one that the launcher has started."""
    seen: list[str | None] = []
    launch: Any = lightning._wrap_launch(lambda: seen.append(os.environ.get("MLSPAN_TASK_CONTEXT")), [True])
    launch()
    (value,) = seen
    assert value is not None
    assert value.startswith(f"{os.getpid()} ")
    assert "MLSPAN_TASK_CONTEXT" not in os.environ
    monkeypatch.setattr(os, "getppid", os.getpid)
    assert lightning._read_variable(value) is None
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert lightning._read_variable(value) == value.partition(" ")[2]
    monkeypatch.setattr(os, "getppid", lambda: os.getpid() + 1)
    assert lightning._read_variable(value) is None


@pytest.mark.parametrize("text", ["x" * 40_000, "nul\0"])
def test_an_environment_that_cannot_be(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    """The processes are started all the same, and do not join the training."""
    monkeypatch.setattr(lightning, "capture_task_context", lambda near: text)
    monkeypatch.delenv("MLSPAN_STRICT")
    launched: list[bool] = []
    launch: Any = lightning._wrap_launch(lambda: launched.append("MLSPAN_TASK_CONTEXT" in os.environ), [True])
    launch()
    assert launched == [False]
    assert caplog.text
