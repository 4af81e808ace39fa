"""Watch MLflow while it logs a training, so that the training's span tells of this call and not of its whole run.

A model that cannot be logged ends neither the logging of what follows nor the run: MLflow's autologging would leave out
the metrics and end the run as failed, although the training succeeded.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from ..._guard import guard
from ...hooks.patching import Patch, Undo, apply_patches, observe_method, replace_method, resolve_target, set_attribute
from . import threads
from .current import find_root_training
from .logged_facts import MetricPoint
from .mlflow_logging import try_saved_model
from .training import ActiveTraining

_CLIENT: Final = "mlflow.tracking.client:MlflowClient"
_QUEUE: Final = "mlflow.utils.autologging_utils.client:MlflowAutologgingQueueingClient"
_EVENTS: Final = "mlflow.utils.autologging_utils.events:AutologgingEventLoggerWrapper"

_TRIES: Final = 3  # of logging a dataset
Read = Callable[[ActiveTraining, Mapping[str, Any]], None]  # (training, arguments by name)

_users: set[int] = set()  # the ids of the hooks that are on
_undos: list[Undo] = []


def watch_mlflow(user: object) -> None:
    """Watch what MLflow logs as long as *user*, a hook, is on."""
    _users.add(id(user))
    if not _undos:
        _undos.append(apply_patches(chain(_make_patches(), threads.make_patches())))


def unwatch_mlflow(user: object) -> None:
    """Leave MLflow alone once the last user is off."""
    _users.discard(id(user))
    if not _users:
        while _undos:
            _undos.pop()()


def _make_patches() -> Iterator[Patch]:
    facts = "the metrics and parameters of a training"
    for target, names, read in (
        (f"{_QUEUE}.log_metrics", ("run_id", "metrics", "step"), _read_queued_metrics),
        (f"{_QUEUE}.log_params", ("run_id", "params"), _read_params),
        (f"{_CLIENT}.log_batch", ("run_id", "metrics", "params"), _read_batch),
        (f"{_CLIENT}.log_metric", ("run_id", "key", "value", "timestamp", "step"), _read_metric),
        (f"{_CLIENT}.log_param", ("run_id", "key", "value"), _read_param),
    ):
        yield Patch(target, _make_observer(names, read), facts)
    size = "the size of what a training logs"
    for name, read in (
        ("log_artifact", _read_file),
        ("log_artifacts", _read_file),
        ("log_model_artifacts", _read_model),
    ):
        yield Patch(f"{_CLIENT}.{name}", _make_observer(("id", "path", "artifact_path"), read), size)
    failures = "that a training succeeded which MLflow could not log"
    yield Patch(f"{_CLIENT}.set_terminated", _mend_status, failures)
    yield Patch("mlflow.models:Model.log", _note_model, failures)
    yield Patch(f"{_CLIENT}.log_inputs", _try_again, "the data of trainings that begin at once")
    yield Patch(
        f"{_EVENTS}.log_patch_function_error", _make_observer(("args", "kwargs", "error"), _read_error), failures
    )


def _make_observer(names: tuple[str, ...], read: Read) -> Callable[[str], Undo]:
    """Return a patch that gives the arguments of a method, by *names*, to the training that the caller is in."""

    def report(args: tuple[Any, ...], kwargs: Mapping[str, Any], _: object) -> None:
        if (fitting := find_root_training()) is not None:
            read(fitting, {**dict(zip(names, args[1:], strict=False)), **kwargs})

    return lambda target: observe_method(target, report)


def _read_queued_metrics(fitting: ActiveTraining, call: Mapping[str, Any]) -> None:
    step = call.get("step") or 0
    fitting.logged.note_metrics(call["run_id"], ((name, (step, 0, value)) for name, value in call["metrics"].items()))


def _read_params(fitting: ActiveTraining, call: Mapping[str, Any]) -> None:
    fitting.logged.note_params(call["run_id"], call["params"])


def _read_batch(fitting: ActiveTraining, call: Mapping[str, Any]) -> None:
    points: Iterator[tuple[str, MetricPoint]] = (
        (metric.key, (metric.step or 0, metric.timestamp or 0, metric.value)) for metric in call.get("metrics") or ()
    )
    fitting.logged.note_metrics(call["run_id"], points)
    fitting.logged.note_params(call["run_id"], {param.key: param.value for param in call.get("params") or ()})


def _read_metric(fitting: ActiveTraining, call: Mapping[str, Any]) -> None:
    point = (call.get("step") or 0, call.get("timestamp") or 0, call["value"])
    fitting.logged.note_metrics(call["run_id"], [(call["key"], point)])


def _read_param(fitting: ActiveTraining, call: Mapping[str, Any]) -> None:
    fitting.logged.note_params(call["run_id"], {call["key"]: call["value"]})


def _read_file(fitting: ActiveTraining, call: Mapping[str, Any]) -> None:
    path = Path(call.get("path", call.get("local_path", call.get("local_dir"))))
    sizes = {path.name: path.stat().st_size} if path.is_file() else _measure_files(path)
    folder = f"{given}/" if (given := call.get("artifact_path")) else ""
    fitting.logged.note_files((folder + name for name in sizes), sum(sizes.values()))


def _read_model(fitting: ActiveTraining, call: Mapping[str, Any]) -> None:
    fitting.logged.note_files((), sum(_measure_files(Path(call.get("path", call.get("local_dir")))).values()))


def _measure_files(folder: Path) -> dict[str, int]:
    """Return the size in bytes of each file below *folder*, by its path there."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _read_error(fitting: ActiveTraining, call: Mapping[str, Any]) -> None:
    """Note the error of MLflow's own patch, which MLflow keeps to itself where the library's function succeeded."""
    fitting.logged.note_failure("MLflow's autologging", call["error"])


def _mend_status(target: str) -> Undo:
    """Let the run of a training that succeeded end as finished, also where MLflow failed to log all of it."""

    def wrap_termination(fn: Any, enabled: list[bool]) -> object:
        @functools.wraps(fn)
        def set_terminated(self: object, run_id: str, status: str | None = None, *args: Any, **kwargs: Any) -> object:
            fitting, error = find_root_training(), sys.exc_info()[1]
            if enabled and fitting is not None:
                fitting.note_ended_run(run_id)
            if enabled and status == "FAILED" and isinstance(error, Exception):  # else somebody has stopped the program
                with guard("reading how a run ended"):
                    if fitting is not None and fitting.is_trained and fitting.owns_run(run_id):
                        fitting.logged.note_failure("MLflow's autologging", error)
                        status = "FINISHED"
            return fn(self, run_id, status, *args, **kwargs)

        return set_terminated

    return replace_method(target, wrap_termination)


def _try_again(target: str) -> Undo:
    """Let MLflow log a dataset once more where another training has stored the same data in between.

    Its store looks for the dataset and then adds it; of two that do so at once one fails, and would find it now.
    """

    def wrap_inputs(fn: Any, enabled: list[bool]) -> object:
        @functools.wraps(fn)
        def log_inputs(*args: Any, **kwargs: Any) -> object:
            if enabled and find_root_training() is not None:
                for _ in range(_TRIES - 1):
                    try:
                        return fn(*args, **kwargs)
                    except Exception:  # noqa: BLE001, S112  # a store's; the last one is raised
                        continue
            return fn(*args, **kwargs)

        return log_inputs

    return replace_method(target, wrap_inputs)


def _add_trial(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of ``Model.log`` with a flavor that tries what it has saved."""
    flavor = args[1] if len(args) > 1 else kwargs.get("flavor")
    if (save_model := getattr(flavor, "save_model", None)) is None:
        return args, kwargs
    trying = SimpleNamespace(__name__=getattr(flavor, "__name__", "custom"), save_model=try_saved_model(save_model))
    return ((args[0], trying, *args[2:]), kwargs) if len(args) > 1 else (args, {**kwargs, "flavor": trying})


def _note_model(target: str) -> Undo:
    """Note each model that is logged after a training; one that cannot be logged leaves the rest as it is."""
    owner, name = resolve_target(target)
    original = getattr(owner, name)

    @functools.wraps(original.__func__)
    def log(cls: Any, *args: Any, **kwargs: Any) -> Any:
        fitting = find_root_training()
        if not enabled or fitting is None or not fitting.is_trained:
            return original.__func__(cls, *args, **kwargs)
        logged = fitting.logged
        logged.tried_model = logged.saves_model = True
        with guard("watching how a model is saved"):
            args, kwargs = _add_trial(args, kwargs)
        try:
            info = original.__func__(cls, *args, **kwargs)
        except Exception as error:  # noqa: BLE001  # whatever a library raises that cannot save its model
            logged.note_failure("the model", error)
            return SimpleNamespace(model_id=None, model_uri=None)
        finally:
            logged.saves_model = False
        if getattr(info, "model_id", None):
            logged.models.append(str(info.model_id))
        return info

    enabled = [True]
    undo = set_attribute(owner, name, classmethod(log))

    def restore_log() -> None:
        enabled.clear()
        undo()

    return restore_log
