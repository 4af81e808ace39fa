"""Hyperopt: ``fmin`` is a span, and each trial is one below it, around what the objective trains.

``fmin`` may have been imported before it could be patched, so what is patched is the iteration that it makes. With
SparkTrials that is done by threads, which work in the search's context, and the trials are Spark's tasks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any, Final

from .._guard import guard
from .._private_names import report_missing_name
from .._shape import get_field, get_list, get_nested
from ..hooks.call import BegunCall, Call
from ..hooks.hook import Hook
from ..hooks.patching import Patch, Undo, apply_patches, replace_method, resolve_target, set_attribute
from ..tracing.mlflow_state.runs import get_active_run_id
from ..tracing.operations.call_context import reset_variable
from ..tracing.operations.operation import Operation
from ._training.record import write_params
from ._training.search import COMPLETE, FAILED, Search, SearchRecord, TrialRecord, run_trial

__all__ = ["HOOK", "autolog"]

# A private name, with what is lost without it; a warning says so.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "threading": "that the trials of SparkTrials belong to their search",
}

# Likewise; some versions lack it.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_dynamic_trials": "the trials that failed, in the counts of a search",
}

_ITERATE: Final = "hyperopt.fmin:FMinIter.exhaust"
_SPARK: Final = "hyperopt.spark:SparkTrials.fmin"
_EVALUATE: Final = "hyperopt.base:Domain.evaluate"
_SPARK_MODULE: Final = "hyperopt.spark"

_search: ContextVar[Search | None] = ContextVar("mlspan_hyperopt_search", default=None)


def _begin_fmin(_: Call) -> BegunCall:
    record = SearchRecord(library="hyperopt", directions=["minimize"], run_id=get_active_run_id())
    record.function = "fmin"
    return record, None


def _observe_fmin(record: SearchRecord, trials: Any, before: set[object]) -> None:
    """Read the trials that were made since *before*, and the best of them."""
    docs = [doc for doc in get_list(trials, "_dynamic_trials") or trials.trials if doc["tid"] not in before]
    states = [_read_state(doc) for doc in docs]
    record.count_states(states)
    ended = [doc for doc, state in zip(docs, states, strict=True) if state == COMPLETE]
    best = min(ended, key=lambda doc: float(doc["result"]["loss"]), default=None)
    if best is not None:
        record.best_trials, record.best_score = [best["tid"]], float(best["result"]["loss"])
        record.best_params = write_params(_read_point(best))


def _read_state(doc: Mapping[str, Any]) -> str:
    """Return the state of a trial by its document, which holds Hyperopt's number of it, and what it has returned."""
    from hyperopt import JOB_STATE_DONE

    loss = get_nested(doc, "result.loss", float)
    done = doc["state"] == JOB_STATE_DONE and get_nested(doc, "result.status", str) == "ok"
    return COMPLETE if done and loss is not None and not math.isnan(loss) else FAILED


def _read_point(doc: Mapping[str, Any]) -> dict[str, object]:
    """Return the point of a trial, as ``fmin`` returns the best one: the index of a choice, not what was chosen."""
    return {name: values[0] for name, values in doc["misc"]["vals"].items() if len(values)}


def _read_trial(record: TrialRecord, value: Any, error: BaseException | None) -> None:
    loss = get_nested(value, "loss", float) if error is None else None
    if loss is None or math.isnan(loss) or get_field(value, "status") != "ok":
        record.state = FAILED
        return
    record.state = COMPLETE
    record.set_metrics({"loss": float(loss)})


def _trace_search(hook: Hook, read_trials: Callable[[Any], Any], fn: Any, enabled: list[bool]) -> Callable[..., Any]:
    """Return a function that searches such that it is one span; one that another search calls is left as it is."""

    @functools.wraps(fn)
    def search(*args: Any, **kwargs: Any) -> Any:
        if not enabled or _search.get() is not None:
            return fn(*args, **kwargs)
        with hook.start_operation(_begin_fmin, args, kwargs, function=fn) as operation:
            if not isinstance(operation, Operation):
                return fn(*args, **kwargs)
            trials, before = read_trials(args[0]), set()
            with guard("reading the trials of before"):
                before = {doc["tid"] for doc in trials.trials}
            try:
                with _searching(Search(hook, operation)):
                    return fn(*args, **kwargs)
            finally:
                with guard("reading the trials"):
                    _observe_fmin(operation.record, trials, before)  # type: ignore[arg-type]

    return search


@contextmanager
def _searching(search: Search | None) -> Iterator[None]:
    """Let the block be a part of *search*; with None, of none, as a trial may search for itself."""
    token = _search.set(search)
    try:
        yield
    finally:
        reset_variable(token, search, None)


def _trace_trial(hook: Hook, fn: Any, enabled: list[bool]) -> Callable[..., Any]:
    """Return ``Domain.evaluate(self, config, ctrl)`` such that each call is a trial, also in a task of Spark's."""

    @functools.wraps(fn)
    def evaluate(*args: Any, **kwargs: Any) -> Any:
        if not enabled:
            return fn(*args, **kwargs)
        config = args[1] if len(args) > 1 else kwargs.get("config")
        ctrl = args[2] if len(args) > 2 else kwargs.get("ctrl")
        record = TrialRecord(library="hyperopt", number=get_nested(ctrl, "current_trial.tid", int))
        with guard("reading a trial"):
            record.set_params(config or {})
        with _searching(None):
            return run_trial(hook, functools.partial(fn, **kwargs), args, record, _read_trial)

    return evaluate


def _carry_to_threads(_: str) -> Undo:
    """Have the threads of SparkTrials work in the context of the search that has started them."""
    module, _name = resolve_target(f"{_SPARK_MODULE}:SparkTrials")
    threading = getattr(module, "threading", None)
    if threading is None:
        report_missing_name("Hyperopt", "threading", PRIVATE_NAMES["threading"])
        return lambda: None

    base: Any = threading.Thread

    class Thread(base):  # type: ignore[misc]  # a class that is read from the library
        def start(self) -> None:
            self.search = _search.get()
            super().start()

        def run(self) -> None:
            with ExitStack() as around:
                if self.search is not None:
                    around.enter_context(self.search.surround())
                    around.enter_context(_searching(self.search))
                super().run()

    Thread.__qualname__, Thread.__module__ = "Thread", "threading"
    return set_attribute(module, "threading", SimpleNamespace(**{**vars(threading), "Thread": Thread}))


def _install(hook: Hook) -> Undo:
    def patch(target: str, make: Any, loss: str) -> Patch:
        return Patch(target, functools.partial(replace_method, make=functools.partial(make, hook)), loss)

    return apply_patches(
        [
            patch(_ITERATE, lambda hook, *rest: _trace_search(hook, lambda self: self.trials, *rest), "searches"),
            patch(_SPARK, lambda hook, *rest: _trace_search(hook, lambda self: self, *rest), "searches on Spark"),
            patch(_EVALUATE, _trace_trial, "trials"),
            Patch(f"{_SPARK_MODULE}:SparkTrials", _carry_to_threads, PRIVATE_NAMES["threading"]),
        ]
    )


HOOK = Hook("hyperopt>=0.2.7,<0.4", "hyperopt", _install)
autolog = HOOK.autolog
