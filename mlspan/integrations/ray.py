"""Ray Tune: ``Tuner.fit`` is a span, and each trial is one below it, around what the caller's function trains.

A trial runs in a process of its own, in a thread of an actor. So Tune is given a function that carries the context of
the search; where mlspan is not installed, that calls the caller's function and nothing else.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from types import FunctionType
from typing import Any, Final

from .._guard import guard
from .._shape import get_nested
from ..hooks.call import BegunCall, Call
from ..hooks.hook import Hook
from ..hooks.patching import Patch, Undo, apply_patches, replace_function, replace_method
from ..tracing import runtime
from ..tracing.mlflow_state.runs import get_active_run_id
from ..tracing.operations.call_context import reset_variable
from ..tracing.operations.operation import Operation
from ._training.record import write_params
from ._training.search import COMPLETE, FAILED, PRUNED, SearchRecord, TrialRecord, add_report, run_trial
from ._training.training import is_number
from .workers._task import capture_task_context, restored

__all__ = ["HOOK", "autolog"]

# Private names, each with what is left out without it.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_local_tuner": "the name of a search, and what it optimizes",
    "_tune_config": "what a search optimizes",
    "_run_config": "the name of a search",
    "_experiment_analysis": "the best score of a search",
    "_metric": "the name that Tune gives to the value of a trial that returns a number",
    "_resources": "the resources that a callable object asks for its trials",
}

_FIT: Final = "ray.tune.tuner:Tuner.fit"
_WRAP: Final = "ray.tune.trainable:wrap_function"
_SESSION: Final = "ray.train._internal.session:_TrainSession"
_SECONDS_TO_STORE: Final = 0.5  # that Tune waits at most for the end of a stopped trial to be sent, else to be stored
_DIRECTIONS: Final = {"min": "minimize", "max": "maximize"}

_searching: ContextVar[bool] = ContextVar("mlspan_ray_search", default=False)
_open_trials: dict[str, _OpenTrial] = {}  # by Tune's id of the trial


class _OpenTrial:
    """A trial whose function is running in this process."""

    def __init__(self, record: TrialRecord) -> None:
        self.record = record
        self.operation: Operation | None = None
        self.reports = 0
        self.metrics: dict[str, float] = {}

    def add_report(self, metrics: Mapping[str, Any]) -> None:
        """Add what the trial reports: the numbers in it, as an event."""
        self.metrics = {name: float(value) for name, value in metrics.items() if is_number(value)}
        self.record.set_metrics(self.metrics)
        if self.operation is not None and self.metrics:
            add_report(self.operation, self.reports, self.metrics)
        self.reports += 1


def _begin_search(call: Call) -> BegunCall:
    tuner = call.args[0]
    mode = get_nested(tuner, "_local_tuner._tune_config.mode", str)
    record = SearchRecord(
        library="ray",
        name=get_nested(tuner, "_local_tuner._run_config.name", str),
        directions=[_DIRECTIONS[mode]] if mode in _DIRECTIONS else None,
        run_id=get_active_run_id(),
    )
    record.function = "tune"
    return record, _observe_search


def _observe_search(record: Any, grid: Any) -> None:
    """Read the trials of a search from what ``fit`` returns, and the best of them."""
    record.count_states([FAILED if result.error else COMPLETE for result in grid])
    best: Any = None
    with suppress(Exception):  # what Ray raises where nothing is to be optimized, or every trial has failed
        best = grid.get_best_result()
    if best is None:
        return
    record.best_params = write_params(best.config or {})
    if (number := _read_number(get_nested(best.metrics, "trial_id", str))) is not None:
        record.best_trials = [number]
    metric = get_nested(grid, "_experiment_analysis.default_metric", str)
    score: Any = best.metrics.get(metric) if metric else None  # its name may have dots
    record.best_score = float(score) if is_number(score) else None


def _read_number(trial_id: str | None) -> int | None:
    """Return the number of a trial from Tune's id of it, as in ``1a2b3_00004``."""
    number = (trial_id or "").rpartition("_")[2]
    return int(number) if number.isdecimal() else None


def _trace_search(hook: Hook, fn: Callable[..., Any], enabled: list[bool]) -> Callable[..., Any]:
    """Return ``Tuner.fit`` such that it is a span, and the functions that it hands to Tune are trials of it."""

    @functools.wraps(fn)
    def fit(*args: Any, **kwargs: Any) -> Any:
        if not enabled:
            return fn(*args, **kwargs)
        with hook.start_operation(_begin_search, args, kwargs, function=fn) as operation:
            if not isinstance(operation, Operation):
                return fn(*args, **kwargs)
            token = _searching.set(True)
            try:
                grid = fn(*args, **kwargs)
            finally:
                reset_variable(token, True, False)
            operation.observe(grid)
            return grid

    return fit


def _wrap_wrap_function(fn: Any) -> object:
    """Wrap Tune's ``wrap_function(train_func, name)``, which makes an actor's class of the caller's function."""

    @functools.wraps(fn)
    def wrap_function(train_func: Any, *args: Any, **kwargs: Any) -> object:
        if _searching.get() and not inspect.isgeneratorfunction(train_func):
            with guard("preparing the trials of a search"):
                if (text := capture_task_context()) is not None:
                    train_func = _carry_search(train_func, text)
        return fn(train_func, *args, **kwargs)

    return wrap_function


def _carry_search(function: Any, text: str) -> object:
    """Return *function* such that each call is a trial of the search whose context is *text*.

    Ray pickles the wrapper by value, so a worker without mlspan can load it.
    """

    def trial(config: Any) -> object:
        try:
            from mlspan.integrations.ray import call_trial
        except ImportError:
            return function(config)
        return call_trial(function, config, text)

    if isinstance(function, FunctionType):
        return functools.update_wrapper(trial, function)
    # A callable object may say itself what of it is pickled, so no more is copied than what Tune reads.
    trial.__name__ = getattr(function, "__name__", "func")
    for name in ("_resources", "__mixins__"):
        if hasattr(function, name):
            setattr(trial, name, getattr(function, name))
    return trial


def call_trial(function: Any, config: Any, text: str) -> object:
    """Call the caller's function for one trial, in a span, in the context of its search."""
    trial_id = ""
    with guard("reading a trial"):
        from ray.tune import get_context

        trial_id = get_context().get_trial_id() or ""
    record = TrialRecord(library="ray", number=_read_number(trial_id))
    with guard("reading a trial"):
        record.set_params(config)
    opened = _OpenTrial(record)

    def read(record: TrialRecord, value: Any, error: BaseException | None) -> None:
        if error is not None:  # Tune ends the thread of a trial that its scheduler stops
            record.state = PRUNED if isinstance(error, SystemExit) else FAILED
            return
        if value:  # Tune reports it, whatever the function has reported itself
            opened.add_report(value if isinstance(value, Mapping) else {"_metric": value})
        record.state = COMPLETE

    # Tune waits 2 s for the thread of a trial that it has stopped. If that still lives, the next trial fails.
    with restored(text, wait=lambda: record.state != PRUNED):
        _open_trials[trial_id] = opened
        try:
            return run_trial(
                HOOK, function, (config,), record, read, on_start=functools.partial(setattr, opened, "operation")
            )
        finally:
            _open_trials.pop(trial_id, None)


def _find_trial(session: object) -> _OpenTrial | None:
    return _open_trials.get(get_nested(session, "trial_info.id", str) or "")


def _read_reports(fn: Any, enabled: list[bool]) -> object:
    """Wrap ``_TrainSession.report``. It does not return to a trial that is stopped: what it says is read before."""

    @functools.wraps(fn)
    def report(self: Any, metrics: Any, *args: Any, **kwargs: Any) -> object:
        if enabled and (opened := _find_trial(self)) is not None:
            with guard("reading a report"):
                opened.add_report(metrics)
        return fn(self, metrics, *args, **kwargs)

    return report


def _end_stopped_trial(fn: Any, enabled: list[bool]) -> object:
    """Wrap ``_TrainSession.finish``: a trial whose function still runs is stopped, and its process may end at once."""

    @functools.wraps(fn)
    def finish(self: Any, *args: Any, **kwargs: Any) -> object:
        opened = _find_trial(self) if enabled else None
        if opened is not None and opened.operation is not None:
            with guard("ending a trial"):
                opened.record.state = PRUNED
                opened.operation.finish()
                if (now := runtime.get_runtime()) is not None and not now.send_ended(_SECONDS_TO_STORE):
                    now.save_to_disk(_SECONDS_TO_STORE)
        return fn(self, *args, **kwargs)

    return finish


def _install(hook: Hook) -> Undo:
    return apply_patches(
        [
            Patch(_FIT, functools.partial(replace_method, make=functools.partial(_trace_search, hook)), "searches"),
            Patch(_WRAP, functools.partial(replace_function, make=_wrap_wrap_function), "trials"),
            Patch(f"{_SESSION}.report", functools.partial(replace_method, make=_read_reports), "what trials report"),
            Patch(f"{_SESSION}.finish", functools.partial(replace_method, make=_end_stopped_trial), "stopped trials"),
        ]
    )


HOOK = Hook("ray>=2.60,<3", "ray.tune", _install)
autolog = HOOK.autolog
