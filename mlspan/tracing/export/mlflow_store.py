"""MLflow's embedded store: any database that MLflow keeps its tracking data in. The one place that imports it."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from ..content import to_json
from .address import settled
from .mlflow import Rejected, shown
from .mlflow_spans import COST, USAGE
from .mlflow_trace import Counted, Info, Trace, settable
from .parcel import Away

_PASSING = {"TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR", "REQUEST_LIMIT_EXCEEDED"}  # a database locked, or gone


def import_mlflow() -> None:
    """What every first call needs of it; where there is no MLflow, the call says so."""
    with suppress(ImportError):
        import mlflow.entities
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """One process of this user at a time: two that make the same database at once leave it half made, for good."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    name = hashlib.sha256(settled(uri).encode()).hexdigest()[:24]
    with Path(tempfile.gettempdir(), f"mlspan-{os.getuid()}-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # closing gives it back
        yield


class Database:
    """Writes through MLflow's own tracking store: many spans at once, then the infos of their traces.

    MLflow is imported by the first call, on whatever thread that is; a database that does not exist yet is made.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._opened: Any = None

    @property
    def _store(self) -> Any:
        if self._opened is None:
            try:
                with _quiet_migrations(), _alone(self._uri):
                    import mlflow  # noqa: F401  # waits for the application's own import, which a part of it would break
                    from mlflow.tracking._tracking_service.utils import _get_store

                    self._opened = _get_store(self._uri)
            except ImportError as error:
                msg = (
                    f"traces for {shown(self._uri)} need MLflow ({error}): pip install 'mlspan[mlflow]', or set "
                    "MLFLOW_TRACKING_URI to a tracking server"
                )
                raise Rejected(msg, all_of_it=True) from error
        return self._opened

    @contextmanager
    def _answers(self, doing: str) -> Iterator[Any]:
        store = self._store
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import OperationalError

        try:
            yield store
        except OperationalError as error:
            msg = f"cannot {doing} in {shown(self._uri)}: {error.orig}"
            raise Away(msg) from error
        except MlflowException as error:
            reason = f"cannot {doing} in {shown(self._uri)}: {str(error).splitlines()[0]}"
            raise Away(reason) if error.error_code in _PASSING else Rejected(reason) from error

    def run_experiment(self, run_id: str) -> str | None:
        try:
            with self._answers("look up a run") as store:
                return str(store.get_run(run_id).info.experiment_id)
        except Rejected:
            return None

    def experiment_id(self, name: str) -> str:
        with self._answers(f"use the experiment {name!r}") as store:
            found = store.get_experiment_by_name(name)
            if found is None:
                return str(store.create_experiment(name, None, []))
            return self._active(found)

    def check_experiment(self, experiment_id: str) -> None:
        with self._answers(f"use the experiment {experiment_id}") as store:
            self._active(store.get_experiment(experiment_id))

    def _active(self, experiment: Any) -> str:
        if experiment.lifecycle_stage != "active":
            msg = f"the experiment {experiment.name!r} in {shown(self._uri)} is deleted: restore it, or name another"
            raise Rejected(msg)
        return str(experiment.experiment_id)

    def info(self, trace_id: str) -> Info | None:
        try:
            with self._answers("look up a trace") as store:
                found = store.get_trace_info(trace_id)
        except Rejected:
            return None
        return Info(
            trace_id=trace_id,
            request_time=found.request_time,
            duration=found.execution_duration or 0,
            failed=found.state.value == "ERROR",
            request_preview=found.request_preview,
            response_preview=found.response_preview,
            tags=settable(found.tags),
            metadata=settable(found.trace_metadata),
        )

    def counted(self, trace_id: str) -> dict[int, Counted]:
        with self._answers("read a trace") as store:
            spans = store.get_trace(trace_id, allow_partial=True).data.spans
        ids = [(int(span.span_id, 16), int(span.parent_id, 16) if span.parent_id else None) for span in spans]
        return {
            span_id: Counted.read(span_id, parent_id, span.get_attribute(USAGE), span.get_attribute(COST))
            for (span_id, parent_id), span in zip(ids, spans, strict=True)
        }

    def write(self, experiment_id: str, traces: Sequence[Trace]) -> None:
        with self._answers("store traces") as store:
            from mlflow.entities import Span, TraceInfo, TraceLocation, TraceState

            store.log_spans(
                experiment_id, [Span(_entity(span, trace.info.trace_id)) for trace in traces for span in trace.spans]
            )
            for trace in traces:
                info = trace.info
                store.start_trace(
                    TraceInfo(
                        trace_id=info.trace_id,
                        trace_location=TraceLocation.from_experiment_id(experiment_id),
                        request_time=info.request_time,
                        execution_duration=info.duration,
                        state=TraceState.ERROR if info.failed else TraceState.OK,
                        request_preview=info.request_preview,
                        response_preview=info.response_preview,
                        tags=dict(info.tags),
                        trace_metadata=dict(info.metadata),
                    )
                )

    def close(self) -> None:
        self._opened = None  # MLflow keeps its stores for the process


def _entity(span: ReadableSpan, trace_id: str) -> ReadableSpan:
    """*span* as MLflow's Span wants it: every attribute JSON text, and its trace's name among them."""
    attributes = {
        key: value if key.startswith("mlflow.") else to_json(value) for key, value in (span.attributes or {}).items()
    }
    return ReadableSpan(
        name=span.name,
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes={**attributes, "mlflow.traceRequestId": to_json(trace_id)},
        events=span.events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
    )


@contextmanager
def _quiet_migrations() -> Iterator[None]:
    """Making a database is 40 lines of log that nobody asked for."""
    loggers = [logging.getLogger(name) for name in ("alembic", "mlflow.store.db.utils")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
