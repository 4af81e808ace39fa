"""The store in a database, through MLflow's own tracking store. Only this module and its helpers import MLflow."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, Final

from ...._extras import tell_install
from ...._guard import quiet_loggers, warn_once
from ..destination import make_store_path_absolute
from ..sending.executor import BoundedExecutor
from ..shown_addresses import hide_user_info
from ..types import BackendUnavailable
from . import private_names
from .assessments import Assessment, assessment_to_rest
from .attachments import Attachment
from .bulk_insert import BulkInsert, make_bulk_insert
from .new_database import check_permission, create_database
from .parents import merge_with_stored
from .span_rows import prepare_for_database
from .span_totals import TOTALS_ATTRIBUTES, SpanTotals
from .spans import MISSING_PARENT
from .store import NO_LIMIT, StoreRejected
from .traces import TraceSummary, TranslatedTrace, drop_reserved_keys

ARTIFACT_LOCATION: Final = "mlflow.artifactLocation"


def import_mlflow() -> None:
    """Import what the first call needs of MLflow. If MLflow is missing, that call reports it."""
    with suppress(ImportError):
        import mlflow  # waits for an import in the application, which importing a submodule first would break
        import mlflow.entities
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


@contextmanager
def lock_database(uri: str) -> Iterator[None]:
    """Lock a database against other processes of this user, as two that create it at once leave it broken for good."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    name = hashlib.sha256(make_store_path_absolute(uri).encode()).hexdigest()[:24]
    with Path(tempfile.gettempdir(), f"mlspan-{os.getuid()}-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # closing the file releases the lock
        yield


class DatabaseStore:
    """Writes through MLflow's own tracking store: many spans at once, then the summaries of their traces.

    The first call imports MLflow, on whatever thread it runs. A missing database is created.
    """

    most_traces = 100  # in one transaction
    most_spans = 100_000
    most_writers = 1
    request_limit = NO_LIMIT

    def __init__(self, uri: str, executor: BoundedExecutor) -> None:
        self.executor = executor
        self._uri = uri
        self._opened: Any = None
        self._bulk: BulkInsert | None = None

    @property
    def _tracking_store(self) -> Any:
        """Return MLflow's tracking store. Raise StoreRejected if MLflow is not installed."""
        if self._opened is None:
            check_permission(self._uri)
            try:
                with _quiet_migrations(), lock_database(self._uri):
                    import mlflow  # noqa: F401  # waits for an import in the application, see import_mlflow

                    create_database(self._uri)
                    self._opened = private_names.open_store(self._uri)
                self._bulk = make_bulk_insert(self._opened)
            except ImportError as error:
                msg = (
                    f"traces for {hide_user_info(self._uri)} need MLflow ({error}): {tell_install('mlflow')}, or set "
                    "MLFLOW_TRACKING_URI to a tracking server"
                )
                raise StoreRejected(msg, all_of_it=True) from error
            except Exception as error:
                if not _is_unusable(error):
                    raise
                raise BackendUnavailable(f"MLflow cannot be used here: {error}") from error
        return self._opened

    @contextmanager
    def _translate_errors(self, doing: str) -> Iterator[Any]:
        """Yield the tracking store, and raise MLflow's errors as BackendUnavailable or StoreRejected."""
        store = self._tracking_store
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import InvalidRequestError, OperationalError

        try:
            yield store
        except InvalidRequestError as error:
            raise BackendUnavailable(f"MLflow cannot be used here: {error}") from error
        except OperationalError as error:
            msg = f"cannot {doing} in {hide_user_info(self._uri)}: {error.orig}"
            raise BackendUnavailable(msg) from error
        except MlflowException as error:
            reason = f"cannot {doing} in {hide_user_info(self._uri)}: {str(error).splitlines()[0]}"
            raise BackendUnavailable(reason) if _is_unavailable(error) else StoreRejected(reason) from error

    def find_experiment_of_run(self, run_id: str) -> str | None:
        try:
            with self._translate_errors("look up a run") as store:
                if self._bulk is not None:
                    return next(iter(self._bulk.find_experiments_of_runs([run_id]).values()), None)
                return str(store.get_run(run_id).info.experiment_id)
        except StoreRejected:
            return None

    def find_experiments_of_runs(self, run_ids: Sequence[str]) -> Mapping[str, str]:
        with self._translate_errors("look up runs"):
            return {} if self._bulk is None else self._bulk.find_experiments_of_runs(run_ids)

    def has_experiment(self, name: str) -> bool:
        with self._translate_errors(f"look up the experiment {name!r}") as store:
            return store.get_experiment_by_name(name) is not None

    def find_or_create_experiment(self, name: str) -> str:
        with self._translate_errors(f"use the experiment {name!r}") as store:
            found = store.get_experiment_by_name(name)
            if found is None:
                return str(store.create_experiment(name, None, []))
            return self._require_active(found)

    def check_experiment(self, experiment_id: str) -> None:
        with self._translate_errors(f"use the experiment {experiment_id}") as store:
            self._require_active(store.get_experiment(experiment_id))

    def _require_active(self, experiment: Any) -> str:
        if experiment.lifecycle_stage != "active":
            where = f"{experiment.name!r} in {hide_user_info(self._uri)}"
            raise StoreRejected(f"the experiment {where} is deleted: restore it, or name another")
        return str(experiment.experiment_id)

    def read_trace_summary(self, trace_id: str) -> TraceSummary | None:
        try:
            with self._translate_errors("look up a trace") as store:
                found = store.get_trace_info(trace_id)
        except StoreRejected:
            return None
        return TraceSummary(
            trace_id=trace_id,
            request_time=found.request_time,
            duration=found.execution_duration or 0,
            failed=found.state.value == "ERROR",
            request_preview=found.request_preview,
            response_preview=found.response_preview,
            client_request_id=found.client_request_id,
            tags=drop_reserved_keys(found.tags),
            metadata=drop_reserved_keys(found.trace_metadata),
            experiment_id=found.experiment_id,  # None in Unity Catalog
        )

    def read_span_totals(self, trace_id: str) -> dict[int, SpanTotals]:
        with self._translate_errors("read a trace") as store:
            spans = self._read_spans(store, trace_id)
        ids = [(int(span.span_id, 16), int(span.parent_id, 16) if span.parent_id else None) for span in spans]
        return {
            span_id: SpanTotals.from_attributes(
                span_id,
                parent_id,
                {name: span.get_attribute(name) for name in TOTALS_ATTRIBUTES},
                (span.start_time_ns or 0, span.end_time_ns or 0),
            )
            for (span_id, parent_id), span in zip(ids, spans, strict=True)
        }

    def attach_spans(self, experiment_id: str, trace_id: str, parents: Mapping[int, int]) -> None:
        with self._translate_errors("complete the tree of a trace") as store:
            store.log_spans(experiment_id, self._attach_stored(store, trace_id, parents))

    def _attach_stored(self, store: Any, trace_id: str, parents: Mapping[int, int]) -> list[Any]:
        """Return the stored spans that are in *parents*, as MLflow's, each with its parent."""
        from mlflow.entities import Span

        found = [(span.to_dict(), int(span.span_id, 16)) for span in self._read_spans(store, trace_id)]
        return [
            Span.from_dict(_replace_parent(said, base64.b64encode(parents[span_id].to_bytes(8, "big")).decode()))
            for said, span_id in found
            if span_id in parents
        ]

    def _read_spans(self, store: Any, trace_id: str) -> Sequence[Any]:
        """Return the spans that are stored of a trace, as MLflow's."""
        if hasattr(store, "get_trace"):
            trace = store.get_trace(trace_id, allow_partial=True)
        else:  # MLflow 3.6
            (trace,) = store.batch_get_traces([trace_id])
        spans: Sequence[Any] = trace.data.spans
        return spans

    def accepts_attachments(self, experiment_id: str) -> bool:  # noqa: ARG002  # MLflow's own clients store them
        return True

    def write_traces(self, experiment_id: str, traces: Sequence[TranslatedTrace]) -> None:
        with self._translate_errors("store traces") as store:
            self._write_to_store(store, experiment_id, traces)
            for trace in traces:
                if trace.attachments:
                    location = store.get_trace_info(trace.summary.trace_id).tags[ARTIFACT_LOCATION]
                    upload_attachments(location, trace.attachments.values())
                self._link_prompts(store, trace)

    def _link_prompts(self, store: Any, trace: TranslatedTrace) -> None:
        """Link prompts to their trace; MLflow 3.6 has no such links, and goes by the trace's tag alone."""
        prompts = [SimpleNamespace(**prompt) for prompt in trace.prompts]
        if prompts and hasattr(store, "link_prompts_to_trace"):
            store.link_prompts_to_trace(trace.summary.trace_id, prompts)

    def _write_to_store(self, store: Any, experiment_id: str, traces: Sequence[TranslatedTrace]) -> None:
        """Write new traces by bulk insert if possible, and the rest by MLflow's own methods.

        The rest may have parts that another process has stored.
        """
        rest = traces if self._bulk is None else self._write_new(self._bulk, experiment_id, traces)
        if not rest:
            return
        merged = [(it, {}) if it.merges_stored else merge_with_stored(self, it, merges=True) for it in rest]
        from mlflow.entities import Span

        spans = [prepare_for_database(span, trace.summary.trace_id) for trace, _ in merged for span in trace.spans]
        store.log_spans(experiment_id, [Span(span) for span in spans])
        for trace, attachable in merged:
            store.start_trace(make_trace_info(experiment_id, trace.summary))
            if attachable:
                self.attach_spans(experiment_id, trace.summary.trace_id, attachable)

    def _write_new(
        self, bulk: BulkInsert, experiment_id: str, traces: Sequence[TranslatedTrace]
    ) -> Sequence[TranslatedTrace]:
        """Insert the traces that the database does not have, in one transaction.

        Return those that are left to write.
        """
        from mlflow.exceptions import MlflowException

        try:
            known = bulk.find_stored([trace.summary.trace_id for trace in traces])
            new = {trace.summary.trace_id: trace for trace in traces if trace.summary.trace_id not in known}
            left = bulk.insert_traces(experiment_id, list(new.values())) if new else []
        except (AttributeError, ImportError) as error:  # this MLflow is another than the one that was compared
            self._bulk = None
            private_names.report_missing(error.name or "name that new traces are inserted by", private_names.SLOW)
            return traces
        except MlflowException as error:
            if _is_unavailable(error):
                raise
            return traces  # another process was faster, or a row does not fit: MLflow's own methods report it
        return left + [trace for trace in traces if new.get(trace.summary.trace_id) is not trace]

    def delete_trace(self, experiment_id: str, trace_id: str) -> None:
        with self._translate_errors("delete a trace") as store:
            store.delete_traces(experiment_id, trace_ids=[trace_id])

    def write_assessments(self, trace_id: str, assessments: Sequence[Assessment]) -> None:
        with self._translate_errors(f"find the trace {trace_id} of an assessment") as store:
            known = {assessment.assessment_id for assessment in store.get_trace_info(trace_id).assessments}
        with self._translate_errors("store assessments of a trace") as store:
            for assessment in assessments:
                if assessment.id not in known:
                    store.create_assessment(make_assessment(assessment, trace_id))

    def close(self) -> None:
        self._opened = None  # MLflow keeps its stores until the process ends


def _replace_parent(span: dict[str, Any], parent_id: str) -> dict[str, Any]:
    """Return the dict of a span that was stored as a root, with its parent's id as base64."""
    attributes = {name: value for name, value in span["attributes"].items() if name != MISSING_PARENT}
    return {**span, "parent_span_id": parent_id, "attributes": attributes}


def _is_unusable(error: Exception) -> bool:
    """Return True if MLflow failed to be imported, which says nothing about a trace.

    Its imports warn, and the program may make warnings errors; SQLAlchemy then has half of MLflow's tables.
    """
    return isinstance(error, Warning) or type(error).__name__ == "InvalidRequestError"


def _is_unavailable(error: Any) -> bool:
    """Return True if an MLflow error means that the database is locked or gone, not that it refuses the data."""
    from sqlalchemy.exc import InterfaceError, OperationalError

    passing = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}
    return error.error_code in passing or isinstance(error.__cause__, (InterfaceError, OperationalError))


def upload_attachments(location: str, attachments: Iterable[Attachment]) -> None:
    """Put *attachments* at the trace's artifact location. A failure is logged once and not retried."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    try:
        repository = get_artifact_repository(location)
        with TemporaryDirectory() as folder:
            for attachment in attachments:
                file = Path(folder, attachment.id)
                file.write_bytes(attachment.content)
                repository.log_artifact(str(file), "attachments")
    except Exception as error:  # noqa: BLE001  # clients of a dozen clouds raise all kinds of errors
        warn_once("mlspan: pictures and sounds of traces are not stored in %s: %s", hide_user_info(location), error)


def make_trace_info(experiment_id: str, info: TraceSummary) -> Any:
    """Return MLflow's TraceInfo for a summary."""
    from mlflow.entities import TraceInfo, TraceLocation, TraceState

    return TraceInfo(
        trace_id=info.trace_id,
        trace_location=TraceLocation.from_experiment_id(experiment_id),
        request_time=info.request_time,
        execution_duration=info.duration,
        state=TraceState.ERROR if info.failed else TraceState.OK,
        request_preview=info.request_preview,
        response_preview=info.response_preview,
        client_request_id=info.client_request_id,
        tags=dict(info.tags),
        trace_metadata=dict(info.metadata),
    )


def make_assessment(assessment: Assessment, trace_id: str) -> Any:
    """Return MLflow's Feedback or Expectation for an assessment, or what it says in MLflow's own form."""
    from mlflow.entities import Assessment as AnyAssessment
    from mlflow.entities import AssessmentSource, Expectation, Feedback

    if assessment.told is not None:
        return AnyAssessment.from_dictionary(assessment_to_rest(assessment, trace_id)["assessment"])
    more = {} if assessment.is_expectation else {"rationale": assessment.rationale}
    made = (Expectation if assessment.is_expectation else Feedback)(
        name=assessment.name,
        value=assessment.value,
        source=AssessmentSource(assessment.source_type, assessment.source_id),
        trace_id=trace_id,
        span_id=assessment.span_id,
        create_time_ms=assessment.at,
        last_update_time_ms=assessment.at,
        metadata=dict(assessment.metadata),
        **more,
    )
    made.assessment_id = assessment.id
    return made


def _quiet_migrations() -> AbstractContextManager[None]:
    """Silence the 40 log lines that creating a database writes."""
    return quiet_loggers(logging.WARNING, "alembic", "mlflow.store.db.utils")
