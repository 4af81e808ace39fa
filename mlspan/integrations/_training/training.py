"""A training that is running: its span, its place among other trainings, and the results that MLflow has logged."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar, Token
from numbers import Real
from types import TracebackType
from typing import TYPE_CHECKING, Any

import orjson

from ..._guard import guard
from ..._shape import dig
from ...tracing import runtime
from ...tracing.mlflow_state.runs import active_run_id
from ...tracing.operations import semconv as sc
from ...tracing.operations.call_context import suppressed
from ...tracing.operations.operation import Live, go
from .lineage import Origin, remember
from .mlflow_logging import log_data, log_metrics, log_params
from .record import Fit

if TYPE_CHECKING:
    from .mlflow_hook import TrainingHook


_fitting: ContextVar[Fitting | None] = ContextVar("mlspan_fitting", default=None)
_threads: dict[threading.Thread, Fitting] = {}  # the innermost training of each thread, for threads that it starts
_elsewhere = threading.local()


def current() -> Fitting | None:
    """Return the training that the caller runs in, or None.

    In a thread that has none of its own, return the training of the parent thread if the parent is known.
    """
    own = _fitting.get()
    if own is not None or not _threads:
        return own
    # The threads of joblib and of Spark's searches come from multiprocessing.dummy. They keep a reference to the thread
    # that started them, but do not inherit its context variables.
    return _threads.get(getattr(threading.current_thread(), "_parent", None))  # type: ignore[arg-type]


def state() -> dict[str, Any]:
    """Return the state of MLflow's autologging for the current training; outside of trainings, for the thread.

    A training shares its state with the trainings inside of it.
    """
    fitting = current()
    return _elsewhere.__dict__ if fitting is None else fitting.state


def nested(hook: TrainingHook, args: tuple[Any, ...]) -> bool:
    """Whether a training that *hook* sees begin is a part of one that it is told of already."""
    fitting = current()
    if fitting is not None and (hook.library.helps or fitting.hook is None):
        return True
    while fitting is not None:
        if fitting.hook is hook or (args and fitting.subject is args[0]):
            return True
        fitting = fitting.around
    return False


def arguments(fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments by parameter name.

    If they do not fit the signature, return *kwargs* only: the library itself will raise the error.
    """
    try:
        return dict(inspect.signature(fn).bind_partial(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        return dict(kwargs)


class Fitting:
    """A training that is running; a context manager around MLflow's patch of the training function."""

    def __init__(self, hook: TrainingHook, args: tuple[Any, ...]) -> None:
        self.hook, self.subject = hook, args[0] if args else None
        self.around = current()
        self.state: dict[str, Any] = state()
        self.opened = False
        self.record: Fit | None = None
        self._live: Live | None = None
        self._before: Any = None  # the caller's MLflow run as it was before the training, if one was active
        self._token: Token[Fitting | None] | None = None
        self._model_id: str | None = None
        self._last: Mapping[str, float] = {}
        self._result: Any = None

    def __enter__(self) -> Fitting:
        if self.around is None and self.hook.settings.log_traces:
            with guard("looking at the active run"):
                self._before = _run(active_run_id())
        self._token = _fitting.set(self)
        self._thread = threading.current_thread()
        self._outer = _threads.get(self._thread)
        _threads[self._thread] = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _fitting.reset(self._token)
        if self._outer is None:
            _threads.pop(self._thread, None)
        else:
            _threads[self._thread] = self._outer
        if self._live is not None:
            with guard("reading what MLflow has logged"):
                self._read_back()
            self._live.finish(error)
            self._remember()

    def _remember(self) -> None:
        """Remember the lineage of the trained models, so that their predictions can be linked to this training."""
        record, live = self.record, self._live
        if record is None or live is None:
            return
        origin = Origin(record.model_id, record.run_id, live.span.get_span_context())
        with guard("remembering a model"):
            # statsmodels wraps its results, and either may predict.
            for model in (self.subject, self._result, getattr(self._result, "_results", None)):
                remember(model, origin)

    @contextmanager
    def training(self, bound: Mapping[str, Any]) -> Iterator[None]:
        """Start the span and make it current while the library's own code runs inside."""
        self.opened = True
        with guard("starting a span"):
            self._open(bound)
        if self._live is None:
            yield
        else:
            with self._live.current():
                yield

    def _open(self, bound: Mapping[str, Any]) -> None:
        now = runtime.runtime() if self.hook.settings.log_traces and not suppressed() else None
        if now is None and self.hook.flavor is not None:
            return
        self.record = record = Fit(library=self.hook.name, run_id=active_run_id())
        record.name = type(next(iter(bound.values()), None)).__name__
        with guard("reading the arguments of a training"):
            self.hook.library.read(record, bound)
        if now is not None:
            self._live = go(now, record)
        if self._logs and record.params is not None:
            log_params(orjson.loads(record.params))

    @property
    def _logs(self) -> bool:
        """Return True if mlspan must log parameters and metrics, because MLflow has no flavor for the library."""
        return self.hook.flavor is None and self.hook.logs and self.around is None and active_run_id() is not None

    def epoch(self, number: int | None, metrics: Mapping[str, Any]) -> None:
        """Record the end of an epoch as an event of the span.

        Args:
            number: the number of the epoch, from 0; None continues the count.
            metrics: values by name; those that are not numbers are left out.
        """
        if self.record is None:
            return
        count = self.record.epochs or 0
        number, self.record.epochs = count if number is None else number, count + 1
        self._last = {str(name): float(value) for name, value in metrics.items() if _number(value)}
        if self._live is not None:
            told = {sc.FIT_METRIC_PREFIX + name: value for name, value in self._last.items()}
            self._live.span.add_event(sc.FIT_EPOCH_EVENT, {sc.FIT_EPOCH: number, **told})
        if self._logs:
            log_metrics(self._last, number)

    def conclude(self, bound: Mapping[str, Any], result: Any) -> None:
        """Read the result, and log the data and the model if MLflow's flavor does not. The run is still active."""
        library, asked = self.hook.library, self.hook.asked()
        self._result = result
        if library.after is not None and self.record is not None:
            with guard("reading the result of a training"):
                found = library.after(self.record, bound, result)
                if found and self._logs:
                    log_metrics(found)
        if active_run_id() is None or self.around is not None or not self.hook.logs:
            return
        if library.data is not None and asked["log_datasets"]:
            with guard("logging the training data"):
                log_data(library.data(bound))
        if library.log_model is not None and self.hook.logs_model():
            with guard("logging the model"):
                self._model_id = library.log_model(bound, result, asked)

    def _read_back(self) -> None:
        """Read metrics and model id back from MLflow's run.

        If the run belongs to an outer training, take the metrics from the last epoch.
        """
        record = self.record
        if record is None:
            return
        record.peak_memory = _peak_memory()
        metrics = self._last
        if self.around is None and (run := _run(record.run_id)) is not None:
            metrics = self._read_run(record, run) or metrics
        if metrics:
            record.metrics = orjson.dumps({name: metrics[name] for name in sorted(metrics)}).decode()

    def _read_run(self, record: Fit, run: Any) -> Mapping[str, float]:
        import mlflow

        if record.params is None and run.data.params:
            record.set_params(run.data.params)
        known = set(_outputs(self._before)) if self._before else set()
        new = [model for model in _outputs(run) if model not in known]
        record.model_id = self._model_id or (new[0] if new else None)
        if self._before is None:
            return run.data.metrics  # type: ignore[no-any-return]
        # The caller's run may also hold metrics that this training did not log.
        if record.model_id and (of_model := mlflow.get_logged_model(record.model_id).metrics):
            return {metric.key: metric.value for metric in of_model}
        before = self._before.data.metrics
        return {name: value for name, value in run.data.metrics.items() if before.get(name) != value}


def _number(value: Any) -> bool:
    if isinstance(value, Real):
        return not isinstance(value, bool)
    return callable(getattr(value, "__float__", None)) and getattr(value, "size", 1) in {0, 1}


def _outputs(run: Any) -> list[str]:
    return [output.model_id for output in dig(run, "outputs.model_outputs", list) or []]


def _run(run_id: str | None) -> Any:
    """Return the run as MLflow has stored it, or None without a run id or without MLflow."""
    if run_id is None or "mlflow" not in sys.modules:
        return None
    import mlflow

    return mlflow.MlflowClient().get_run(run_id)


def _peak_memory() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class _Elsewhere:
    """Stand-in for a training of another process, of which this process runs a part."""

    around = hook = subject = record = None
    opened = True

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def epoch(self, number: int | None, metrics: Mapping[str, Any]) -> None: ...


@contextmanager
def elsewhere() -> Iterator[None]:
    """Treat trainings inside the block as parts of a training in another process: no spans and no MLflow runs."""
    token = _fitting.set(_Elsewhere())  # type: ignore[arg-type]  # it has every attribute that is read
    try:
        with ExitStack() as undo:
            if (autologging := sys.modules.get("mlflow.utils.autologging_utils")) is not None:
                undo.enter_context(autologging.disable_autologging())
            yield
    finally:
        _fitting.reset(token)
