"""Facts of one training that MLflow logs: its parameters, metrics and models, and what could not be logged."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Final

from ..._guard import log
from ...tracing.operations import semconv as sc
from ...tracing.operations.exceptions import get_error_type
from ...tracing.operations.fields import span_attribute
from ...tracing.operations.records import NamedRecord

_MAX_FILES: Final = 100  # names of files on a span
MetricPoint = tuple[int, int, float]  # step, milliseconds since the epoch, value


class LoggingRecord(NamedRecord):
    """The record of what a training logs once the library has trained: metrics, files and the model.

    ``bytes`` is the size of the files. ``failed`` says what could not be logged, and why.
    """

    type: str = span_attribute(sc.KIND, "start", default=sc.LOG)
    name: str = "log model"
    models: list[str] | None = span_attribute(sc.LOG_MODELS)
    metrics: int | None = span_attribute(sc.LOG_METRICS)
    files: list[str] | None = span_attribute(sc.LOG_FILES)
    bytes: int | None = span_attribute(sc.LOG_BYTES)
    failed: list[str] | None = span_attribute(sc.LOG_FAILED)

    @property
    def span_name(self) -> str:
        return self.name


class LoggedFacts:
    """The facts that MLflow stores for one call that trains, in whichever run: others may have logged there before."""

    def __init__(self, *, silent: bool = False) -> None:
        self.models: list[str] = []  # the ids of logged models, in the order in which they were logged
        self.files: list[str] = []
        self.bytes = 0
        self.failures: list[tuple[str, str]] = []  # type and text of each error
        self.tried_model = False
        self.saves_model = False  # while MLflow stores a model, it copies the run's earlier metrics to the model
        self._late: set[str] | None = None  # the metrics that were logged once the library had trained
        self._metrics: dict[str, dict[str, MetricPoint]] = {}  # by run and name
        self._params: dict[str, dict[str, str]] = {}  # likewise
        self._errors: list[BaseException] = []
        self._silent = silent
        self._lock = threading.Lock()  # a training may log from several threads

    def note_metrics(self, run_id: object, points: Iterable[tuple[str, MetricPoint]]) -> None:
        """Note values of metrics; of one metric the last step counts, as it does for MLflow."""
        if isinstance(run_id, str) and not self.saves_model:
            with self._lock:
                noted = self._metrics.setdefault(run_id, {})
                for name, point in points:
                    if self._late is not None:
                        self._late.add(name)
                    if name not in noted or point[:2] >= noted[name][:2]:
                        noted[name] = (*point[:2], float(point[2]))

    def note_params(self, run_id: object, params: Mapping[str, object]) -> None:
        if isinstance(run_id, str):
            with self._lock:
                self._params.setdefault(run_id, {}).update({str(name): str(value) for name, value in params.items()})

    def note_files(self, names: Iterable[str], size: int) -> None:
        self.files += names
        self.bytes += size

    def start_count(self) -> None:
        """Count from now on what is logged: the library has trained."""
        self.files, self.bytes, self._late = [], 0, set()

    def note_failure(self, what: str, error: BaseException) -> None:
        """Note and log that *what* could not be logged; an error that was noted before changes nothing."""
        if any(error is noted for noted in self._errors):
            return
        self._errors.append(error)
        self.failures.append((get_error_type(error), f"{what}: {error}"))
        if not self._silent:
            log.warning("mlspan: the training is done, but MLflow did not log all of it: %s: %s", what, error)

    def get_metrics(self, run_id: str | None) -> dict[str, float]:
        """Return the metrics that this training has logged in a run."""
        with self._lock:
            return {name: value for name, (_, _, value) in self._metrics.get(run_id or "", {}).items()}

    def get_params(self, run_id: str | None) -> dict[str, str]:
        """Return the parameters that this training has logged in a run."""
        with self._lock:
            return dict(self._params.get(run_id or "", {}))

    def make_record(self) -> LoggingRecord | None:
        """Return the record of what was logged since the library has trained, or None if nothing was."""
        if not (self._late or self.models or self.files or self.failures):
            return None
        record = LoggingRecord(
            models=self.models or None,
            metrics=len(self._late or ()) or None,
            files=self.files[:_MAX_FILES] or None,
            bytes=self.bytes or None,
            failed=[text for _, text in self.failures] or None,
        )
        what = "model" if self.models or self.tried_model else "metrics" if self._late else "files"
        if not (self.models or self.tried_model or self._late or self.files):
            what = "run"  # nothing could be logged, as while the server is away
        record.name = f"log {what}"
        if self.failures:
            record.failure = self.failures[0]
        return record
