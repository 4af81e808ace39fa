"""Searches for the best parameters that call the caller's own function, once for each trial.

A search is a span, and each trial is a span below it, around whatever the caller's function trains.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import orjson

from ..._guard import guard
from ...hooks.hook import Hook
from ...hooks.operation_wrapper import OperationWrapper
from ...tracing.mlflow_state.runs import get_active_run_id
from ...tracing.operations import semconv as sc
from ...tracing.operations.call_context import get_call_scope, use_scope
from ...tracing.operations.fields import span_attribute
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import NamedRecord
from .record import prefix_metrics, write_params

COMPLETE: Final = "complete"
PRUNED: Final = "pruned"
FAILED: Final = "failed"


class SearchRecord(NamedRecord):
    """The record of a search: what it has found, and what its trials have come to.

    ``function`` is the name of the library's function. ``best_trials`` are numbers of trials.
    """

    type: str = span_attribute(sc.KIND, "start", default=sc.SEARCH)
    library: str | None = span_attribute(sc.FIT_LIBRARY, "start")
    name: str | None = span_attribute(sc.SEARCH_NAME, "start")
    directions: list[str] | None = span_attribute(sc.SEARCH_DIRECTIONS, "start")
    run_id: str | None = span_attribute(sc.RUN_ID, "start")
    candidates: int | None = span_attribute(sc.FIT_CANDIDATES)
    pruned: int | None = span_attribute(sc.SEARCH_PRUNED)
    failed: int | None = span_attribute(sc.SEARCH_FAILED)
    best_params: str | None = span_attribute(sc.FIT_BEST_PARAMS)
    best_score: float | None = span_attribute(sc.FIT_BEST_SCORE)
    best_trials: list[int] | None = span_attribute(sc.SEARCH_BEST_TRIALS)
    function: str = "search"

    @property
    def span_name(self) -> str:
        return f"{self.function} {self.name}" if self.name else self.function

    def count_states(self, states: list[str]) -> None:
        """Count the trials by their states; what no trial has come to is left out."""
        self.candidates = len(states)
        self.pruned, self.failed = states.count(PRUNED) or None, states.count(FAILED) or None


class TrialRecord(NamedRecord):
    """The record of a trial. ``params`` and ``metrics`` are JSON objects."""

    type: str = span_attribute(sc.KIND, "start", default=sc.TRIAL)
    library: str | None = span_attribute(sc.FIT_LIBRARY, "start")
    number: int | None = span_attribute(sc.TRIAL_NUMBER, "start")
    params: str | None = span_attribute(sc.FIT_PARAMS)
    metrics: str | None = span_attribute(sc.FIT_METRICS)
    state: str | None = span_attribute(sc.TRIAL_STATE)

    @property
    def span_name(self) -> str:
        return "trial"

    def set_params(self, params: Mapping[str, object]) -> None:
        self.params = write_params(params)

    def set_metrics(self, metrics: Mapping[str, float]) -> None:
        if metrics:
            self.metrics = orjson.dumps(dict(metrics)).decode()


ReadTrial = Callable[[TrialRecord, Any, "BaseException | None"], None]  # (record, value, error): fills the record


class Search:
    """A search that is under way. Its trials may run in threads that it has started."""

    def __init__(self, hook: Hook, operation: Operation) -> None:
        self.hook, self.operation = hook, operation
        self.states: list[str] = []  # of the trials that have ended in this process
        scope = get_call_scope()
        self._scope = replace(scope, around_run=get_active_run_id() or scope.around_run)
        self._thread = threading.get_ident()

    @contextmanager
    def surround(self) -> Iterator[None]:
        """Make the search's span current in the block, where another thread runs it."""
        if threading.get_ident() == self._thread:
            yield
            return
        with self.operation.use_span(), use_scope(self._scope):
            yield

    def run_trial(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        record: TrialRecord,
        read: ReadTrial,
        *,
        on_start: Callable[[Operation], None] | None = None,
    ) -> Any:
        """Call the caller's function for one trial, in a span.

        Args:
            fn: the caller's function.
            args: its arguments.
            record: the record of the trial.
            read: fills the record from the value or the error.
            on_start: is given the operation before the call.
        """
        with self.surround():
            return run_trial(self.hook, fn, args, record, read, on_start=on_start, states=self.states)


def run_trial(
    hook: Hook,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    record: TrialRecord,
    read: ReadTrial,
    *,
    on_start: Callable[[Operation], None] | None = None,
    states: list[str] | None = None,
) -> Any:
    """Call *fn* for one trial of a search, in a span of its own; see :meth:`Search.run_trial`.

    A trial that was given up early is no failure: its span ends without an error.
    """

    def read_error(error: BaseException) -> BaseException | None:
        with guard("reading a trial"):
            read(record, None, error)
        return None if record.state == PRUNED else error

    def read_value(_: object, value: object) -> None:
        read(record, value, None)

    operation = hook.start_operation(lambda _: (record, read_value), args, {})
    is_live = isinstance(operation, Operation)
    if is_live and on_start is not None:
        with guard("starting a trial"):
            on_start(operation)
    around: Any = OperationWrapper(operation, read_error) if is_live else operation
    try:
        with around:
            value = fn(*args)
            if is_live:
                operation.observe(value)
            return value
    finally:
        if states is not None:
            states.append(record.state or COMPLETE)


def add_report(operation: Operation, step: int, values: Mapping[str, float]) -> None:
    """Add the intermediate values of a trial to its span, as an event."""
    operation.span.add_event(sc.FIT_EPOCH_EVENT, {sc.FIT_EPOCH: step, **prefix_metrics(values)})
