"""A training that is running: its span, its place among other trainings, and the results that MLflow has logged."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from numbers import Real
from time import time_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import orjson
from opentelemetry.trace import get_current_span

from ..._guard import guard
from ...tracing import runtime
from ...tracing.mlflow_state.runs import get_active_run_id
from ...tracing.operations import semconv as sc
from ...tracing.operations.operation import Operation, start_operation
from ...tracing.operations.suppression import is_suppressed
from .current import current_training, enter_training, make_unlogged_state, read_training_state
from .lineage import ModelLineage, remember_lineage
from .logged_facts import LoggedFacts
from .mlflow_logging import log_history, log_metrics, log_params, log_training_data
from .record import TrainingRecord, prefix_metrics

if TYPE_CHECKING:
    from .mlflow_hook import MlflowAutologHook

# Private names that some versions or classes lack, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_results": "what statsmodels returns wrapped: the metrics of its results",
}


def bind_arguments(
    read_signature: Callable[[], inspect.Signature], args: tuple[Any, ...], kwargs: Mapping[str, object]
) -> dict[str, object]:
    """Return the arguments by parameter name.

    If they do not fit the signature, return those that do: the library itself will raise the error.
    """
    try:
        signature = read_signature()
    except (TypeError, ValueError):
        return dict(kwargs)
    try:
        return dict(signature.bind_partial(*args, **kwargs).arguments)
    except TypeError:
        named = dict(zip(signature.parameters, args, strict=False))
        return named | {name: value for name, value in kwargs.items() if name in signature.parameters.keys() - named}


class ActiveTraining:
    """A training that is running; a context manager around MLflow's patch of the training function."""

    def __init__(self, hook: MlflowAutologHook, args: tuple[Any, ...]) -> None:
        self.hook, self.subject = hook, args[0] if args else None
        self.parent = current_training()
        self.state: dict[str, object] = read_training_state()
        if self.parent is not None and self.parent.run_id is not None and get_active_run_id() is None:
            self.state = make_unlogged_state()  # another thread, where the run of the training around it is not active
        self.has_started, self.is_open = False, True
        self.is_unlogged = hook.flavor is None  # whether MLflow logs nothing of it by itself
        self.record: TrainingRecord | None = None
        self.logged = LoggedFacts(silent=hook.settings.silent)
        self.is_trained = False  # whether the library's own function has returned
        self.operation: Operation | None = None
        self._logging: Operation | None = None  # what is logged after the library's own function
        self._times: tuple[int, int] | None = None  # of that function, in nanoseconds since the epoch
        self._run_before: str | None = None  # the caller's MLflow run, if one was active before the training
        self.task_mark: int | None = None  # of the tasks that it sends
        self.run_id: str | None = None  # the run that the training is logged to
        self._ended_run: str | None = None  # a run that MLflow has started for the training, and ended before it
        self._error: BaseException | None = None  # what the library's own function has raised
        self._model_id: str | None = None
        self._last_metrics: Mapping[str, float] = {}
        self._result: object = None

    def __enter__(self) -> ActiveTraining:
        if self.parent is None:
            with guard("looking at the active run"):
                self._run_before = get_active_run_id()
        self._leave = enter_training(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_open = False
        self._leave()
        if self.operation is not None:
            with guard("reading what MLflow has logged"):
                self._read_logged_results(self.operation)
            self._finish(self.operation, error)
            self._remember_models()

    def _finish(self, operation: Operation, error: BaseException | None) -> None:
        """End the span at the end of the library's own time, and that of what was logged since at its own."""
        if self._logging is not None:
            self._logging.finish(error if self.is_trained else None)
        if self._times is not None:
            operation.set_times(*self._times)
        operation.finish(None if self.is_trained else self._error or error)

    def _remember_models(self) -> None:
        """Remember the lineage of the trained models, so that their predictions can be linked to this training."""
        record, operation = self.record, self.operation
        if record is None or operation is None:
            return
        lineage = ModelLineage(record.model_id, record.run_id, operation.span.get_span_context())
        with guard("remembering a model"):
            # statsmodels wraps its results, and either may predict.
            for model in (self.subject, self._result, getattr(self._result, "_results", None)):
                remember_lineage(model, lineage)

    @contextmanager
    def open_span(self, bound: Mapping[str, object], function: str = "fit") -> Iterator[None]:
        """Start the span and make it current while the library's own *function* runs inside."""
        self.has_started = True
        with guard("starting a span"):
            around = self._ended_run if self.parent is None else self.parent.run_id
            self.run_id = get_active_run_id() or around
            self._start_span(bound, function)
        started = time_ns()
        try:
            with self.operation.use_span() if self.operation is not None else nullcontext():
                yield
            self.is_trained = True
            self.logged.start_count()
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._times = started, time_ns()

    def owns_run(self, run_id: str) -> bool:
        """Return whether a run was started for this training, and is not the caller's."""
        return run_id == self.run_id != self._run_before

    def note_ended_run(self, run_id: str) -> None:
        """Note that a run ends. Before the training that is its own: MLflow has failed at the call's arguments."""
        if not self.has_started and run_id != self._run_before:
            self._ended_run = run_id

    def _start_span(self, bound: Mapping[str, object], function: str) -> None:
        now = runtime.get_runtime() if self.hook.settings.log_traces and not is_suppressed() else None
        if now is None and not self.is_unlogged:
            return
        self.record = record = TrainingRecord(library=self.hook.name, run_id=self.run_id)
        record.function = function
        record.name = type(next(iter(bound.values()), None)).__name__
        with guard("reading the arguments of a training"):
            self.hook.library.read_arguments(record, bound)
        if now is not None:
            above = self.parent.operation if self.parent is not None else None
            with nullcontext() if above is None or get_current_span().is_recording() else above.use_span():
                self.operation = start_operation(now, record)
        if self._logs_for_flavor and record.params is not None:
            log_params(orjson.loads(record.params))

    @property
    def _logs_for_flavor(self) -> bool:
        """Return True if mlspan must log parameters and metrics, because MLflow does not patch what trains."""
        return self.is_unlogged and self.hook.logs and self.parent is None and get_active_run_id() is not None

    def end_epoch(self, number: int | None, metrics: Mapping[str, Any]) -> None:
        """Record the end of an epoch as an event of the span.

        Args:
            number: the number of the epoch, from 0; None continues the count.
            metrics: values by name; those that are not numbers are left out.
        """
        if (added := self._add_epoch(number, metrics)) is not None and self._logs_for_flavor:
            log_metrics(self._last_metrics, added)

    def _add_epoch(self, number: int | None, metrics: Mapping[str, Any]) -> int | None:
        """Add an epoch to the span, and return its number; None without a record."""
        if self.record is None:
            return None
        count = self.record.epochs or 0
        number, self.record.epochs = count if number is None else number, count + 1
        self._last_metrics = {str(name): float(value) for name, value in metrics.items() if is_number(value)}
        if self.operation is not None:
            attributes = {sc.FIT_EPOCH: number, **prefix_metrics(self._last_metrics)}
            self.operation.span.add_event(sc.FIT_EPOCH_EVENT, attributes)
        return number

    def add_epochs(self, epochs: Sequence[Mapping[str, Any]]) -> None:
        """Record epochs that are known only now that the training is over, and log them at once."""
        for metrics in epochs:
            self._add_epoch(None, metrics)
        if self._logs_for_flavor:
            log_history(epochs)

    def log_result(self, bound: Mapping[str, object], result: object) -> None:
        """Read the result, and log the data and the model if MLflow's flavor does not. The run is still active."""
        library, asked = self.hook.library, self.hook.asked()
        self._result = result
        if library.read_result is not None and self.record is not None:
            with guard("reading the result of a training"):
                found = library.read_result(self.record, bound, result)
                self._last_metrics = found or self._last_metrics
                if self.operation is not None:
                    for name, attributes in self.record.events or ():
                        self.operation.span.add_event(name, attributes)
                if found and self._logs_for_flavor:
                    log_metrics(found)
        if get_active_run_id() is None or self.parent is not None or not self.hook.logs:
            return
        if library.read_data is not None and asked["log_datasets"]:
            with guard("logging the training data"):
                log_training_data(library.read_data(bound))
        if library.log_model is not None and self.hook.logs_model(unlogged=self.is_unlogged):
            with guard("logging the model"):
                self._model_id = library.log_model(bound, result, asked)

    def _read_logged_results(self, operation: Operation) -> None:
        """Read metrics and model from what MLflow has logged for this training; without that, from the last epoch."""
        record = self.record
        if record is None:
            return
        metrics = self._last_metrics
        if self.parent is None:
            metrics = self.logged.get_metrics(record.run_id) or metrics
            if record.params is None:
                record.set_params(self.logged.get_params(record.run_id))
            record.model_id = next(iter([*filter(None, [self._model_id]), *self.logged.models]), None)
            self._start_logging_span(operation)
        if metrics:
            record.metrics = orjson.dumps({name: metrics[name] for name in sorted(metrics)}).decode()

    def _start_logging_span(self, operation: Operation) -> None:
        """Start the span of what was logged after the library's own function; it began when that returned."""
        now, logged = runtime.get_runtime(), self.logged.make_record()
        if self.is_trained and now is not None and logged is not None and self._times is not None:
            with operation.use_span():
                self._logging = start_operation(now, logged)
            self._logging.set_times(self._times[1], time_ns())


def is_number(value: object) -> bool:
    """Return whether a metric's *value* is one number; an array or a tensor may hold one."""
    if isinstance(value, Real):
        return not isinstance(value, bool)
    size = getattr(value, "size", 1)
    if callable(size):  # PyTorch's tensors
        size = size().numel()
    return callable(getattr(value, "__float__", None)) and size in {0, 1}
