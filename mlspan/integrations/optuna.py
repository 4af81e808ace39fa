"""Optuna: ``Study.optimize`` is a span, and each trial is one below it, around what the objective trains."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from .._guard import guard
from .._shape import get_nested
from ..hooks.call import BegunCall, Call
from ..hooks.hook import Hook
from ..hooks.patching import Patch, Undo, apply_patches, observe_method, replace_method
from ..tracing.mlflow_state.runs import get_active_run_id
from ..tracing.operations.operation import Operation
from ._training.record import write_params
from ._training.search import COMPLETE, FAILED, PRUNED, Search, SearchRecord, TrialRecord, add_report

__all__ = ["HOOK", "autolog"]

_OPTIMIZE: Final = "optuna.study:Study.optimize"
_REPORT: Final = "optuna.trial:Trial.report"
_MADE_UP_NAME: Final = "no-name-"  # what Optuna calls a study that has no name: this, and a random number

_open_trials: dict[int, Operation] = {}  # by the id() of the trial


def _begin_study(call: Call) -> BegunCall:
    study = call.args[0]
    name = get_nested(study, "study_name", str)
    record = SearchRecord(
        library="optuna",
        name=None if name is None or name.startswith(_MADE_UP_NAME) else name,
        directions=[direction.name.lower() for direction in study.directions],
        run_id=get_active_run_id(),
    )
    record.function = "optimize"
    return record, None


def _observe_study(record: SearchRecord, study: Any, states: list[str]) -> None:
    """Read what the study's best trial is by now, and what has become of the trials of this search."""
    record.count_states(states)
    if COMPLETE not in states:
        return
    best = study.best_trials
    record.best_trials = sorted(trial.number for trial in best)
    if len(record.directions or ()) == 1 and best:
        record.best_params, record.best_score = write_params(best[0].params), float(best[0].value)


class _Objective:
    """The caller's objective, each call of which is a trial."""

    def __init__(self, objective: Callable[[Any], Any], search: Search) -> None:
        self._objective, self._search = objective, search
        self._values = len(search.operation.record.directions or ())  # type: ignore[attr-defined]

    def __call__(self, trial: Any) -> Any:
        record = TrialRecord(library="optuna", number=get_nested(trial, "number", int))

        def read_trial(record: TrialRecord, value: object, error: BaseException | None) -> None:
            record.set_params(trial.params)
            if error is not None:
                from optuna import TrialPruned

                record.state = PRUNED if isinstance(error, TrialPruned) else FAILED
                return
            metrics = _read_values(value, self._values)
            record.state = FAILED if metrics is None else COMPLETE
            record.set_metrics(metrics or {})

        try:
            return self._search.run_trial(
                self._objective,
                (trial,),
                record,
                read_trial,
                on_start=lambda operation: _open_trials.__setitem__(id(trial), operation),
            )
        finally:
            _open_trials.pop(id(trial), None)


def _read_values(value: Any, count: int) -> Mapping[str, float] | None:
    """Return the values of a trial by the names that Optuna gives them, or None for what Optuna refuses."""
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    found: list[float] = []
    with suppress(ValueError, TypeError):  # what is no number
        found = [float(one) for one in values]
    if len(found) != count or any(map(math.isnan, found)):
        return None
    return {"value": found[0]} if count == 1 else {f"values_{number}": one for number, one in enumerate(found)}


def _trace_search(hook: Hook, fn: Callable[..., Any], enabled: list[bool]) -> Callable[..., Any]:
    """Return ``Study.optimize`` such that the calls of the objective are trials."""

    @functools.wraps(fn)
    def optimize(*args: Any, **kwargs: Any) -> Any:
        if not enabled:
            return fn(*args, **kwargs)
        with hook.start_operation(_begin_study, args, kwargs, function=fn) as operation:
            if not isinstance(operation, Operation):
                return fn(*args, **kwargs)
            search = Search(hook, operation)
            if len(args) > 1:
                args = (args[0], _Objective(args[1], search), *args[2:])
            elif "func" in kwargs:
                kwargs = {**kwargs, "func": _Objective(kwargs["func"], search)}
            try:
                return fn(*args, **kwargs)
            finally:
                with guard("reading a study"):
                    _observe_study(operation.record, args[0], search.states)  # type: ignore[arg-type]

    return optimize


def _read_report(args: tuple[Any, ...], kwargs: Mapping[str, Any], _: object) -> None:
    """Read an intermediate value from the arguments of ``report(self, value, step)``."""
    if (operation := _open_trials.get(id(args[0]))) is not None:
        call = {**dict(zip(("value", "step"), args[1:], strict=False)), **kwargs}
        add_report(operation, int(call["step"]), {"value": float(call["value"])})


def _install(hook: Hook) -> Undo:
    return apply_patches(
        [
            Patch(_OPTIMIZE, functools.partial(replace_method, make=functools.partial(_trace_search, hook)), "studies"),
            Patch(_REPORT, functools.partial(observe_method, callback=_read_report), "a trial's intermediate values"),
        ]
    )


HOOK = Hook("optuna>=4,<6", "optuna", _install)
autolog = HOOK.autolog
