"""Bulk insert: many new traces in one transaction, with MLflow's own session, tables and translation.

``log_spans`` and ``start_trace`` need a dozen statements for each trace, as others may write the same trace at once.
For traces that the database does not have, four inserts for the whole batch are enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from . import private_names
from .span_rows import Row, SpanRows, build_content
from .traces import TranslatedTrace

_VERIFIED_VERSIONS: Final = {(3, 17), (3, 18)}  # MLflow versions whose rows the tests have compared with its own
_SUPPORTED_DIALECTS: Final = {"sqlite", "postgresql", "mysql"}  # text columns of SQL Server need a special encoding
_COLUMNS: Final = {
    "SqlTraceInfo": {
        *("request_id", "experiment_id", "timestamp_ms", "execution_time_ms", "status", "client_request_id"),
        *("request_preview", "response_preview", "db_payload_generation", "trace_name", "session_id"),
        *("input_tokens", "output_tokens", "total_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
        *("cache_creation_input_tokens_above_1hr", "input_cost", "output_cost", "total_cost"),
    },
    "SqlTraceTag": {"request_id", "key", "value"},
    "SqlTraceMetadata": {"request_id", "key", "value"},
    "SqlSpan": {
        *("trace_id", "experiment_id", "span_id", "parent_span_id", "name", "type", "status", "start_time_unix_nano"),
        *("end_time_unix_nano", "duration_ns", "content", "input_cost", "output_cost", "total_cost", "model_name"),
        "model_provider",
    },
}


class BulkInsert:
    """Writes new traces for a store. Made by :func:`make_bulk_insert`."""

    def __init__(self, store: Any, models: Any) -> None:
        self._store, self._models = store, models

    def insert_traces(self, experiment_id: str, traces: Sequence[TranslatedTrace]) -> list[TranslatedTrace]:
        """Store *traces*, none of which may be in the database.

        Return those left to MLflow, which must compute their totals.

        Raises MlflowException if one of them is in the database (another process was faster), or if a row does not fit.
        Nothing is stored then.
        """
        from sqlalchemy import insert

        rows: dict[str, list[Row]] = {name: [] for name in _COLUMNS}
        span_rows, left, new = SpanRows(experiment_id), [], []
        for trace in traces:
            trace_id = trace.summary.trace_id
            contents = [build_content(trace_id, span) for span in trace.spans]
            if any(content.has_new_totals for content in contents):
                left.append(trace)
                continue
            new.append(trace)
            rows["SqlTraceInfo"].append(_info_row(experiment_id, trace))
            rows["SqlTraceMetadata"] += _metadata_rows(trace)
            rows["SqlSpan"] += map(partial(span_rows.build_row, trace_id), trace.spans, contents)
        if rows["SqlSpan"]:
            with self._store.ManagedSessionMaker(read_only=False) as session:
                experiment = self._read_experiment(session, experiment_id)
                rows["SqlTraceTag"] = [row for trace in new for row in self._tag_rows(experiment, trace)]
                for name, found in rows.items():
                    session.execute(insert(getattr(self._models, name).__table__), found)
        return left

    def find_stored(self, trace_ids: Sequence[str]) -> set[str]:
        """Return those trace ids that the database has."""
        column = self._models.SqlTraceInfo.request_id
        with self._store.ManagedSessionMaker() as session:
            return {found for (found,) in session.query(column).filter(column.in_(trace_ids))}

    def find_experiments_of_runs(self, run_ids: Sequence[str]) -> dict[str, str]:
        """Return the ids of the experiments of those runs that are there, by the ids of the runs.

        MLflow's ``get_run`` also reads all that was logged, which took three quarters of the time of storing a trace.
        """
        run = self._models.SqlRun
        with self._store.ManagedSessionMaker() as session:
            found = session.query(run.run_uuid, run.experiment_id).filter(run.run_uuid.in_(run_ids))
            return {run_id: str(experiment_id) for run_id, experiment_id in found}

    def _read_experiment(self, session: Any, experiment_id: str) -> Any:
        """Return what is needed of an active experiment, without its tags, or raise MLflow's own error."""
        it = self._models.SqlExperiment
        columns = it.experiment_id, it.lifecycle_stage, it.artifact_location
        found = session.query(*columns).filter(it.experiment_id == int(experiment_id)).one_or_none()
        experiment = self._store.get_experiment(experiment_id) if found is None else found
        self._store._check_experiment_is_active(experiment)
        return experiment

    def _tag_rows(self, experiment: Any, trace: TranslatedTrace) -> list[Row]:
        trace_id = trace.summary.trace_id
        location = self._store._get_trace_artifact_location_tag(experiment, trace_id)
        tags = {k: v for k, v in trace.summary.tags.items() if k != "mlflow.traceName"}
        tags |= {location.key: location.value, "mlflow.trace.spansLocation": "TRACKING_STORE"}
        return _key_value_rows(trace_id, tags)


def make_bulk_insert(store: Any) -> BulkInsert | None:
    """Return a bulk insert, or None if this MLflow version or database is not verified.

    MLflow's own methods then write.
    """
    import mlflow
    from mlflow.store.tracking.dbmodels import models
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    if tuple(int(part) for part in mlflow.__version__.split(".")[:2]) not in _VERIFIED_VERSIONS:
        return None
    if not private_names.has_bulk_names(store):
        return None
    from mlflow.store.tracking.utils.sql_trace_rollups import rollups_enabled

    if type(store) is not SqlAlchemyStore or store.db_type not in _SUPPORTED_DIALECTS or rollups_enabled():
        return None  # a store with workspaces, or one that maintains totals
    tables = {name: {column.name for column in getattr(models, name).__table__.columns} for name in _COLUMNS}
    return BulkInsert(store, models) if tables == _COLUMNS else None


def _info_row(experiment_id: str, trace: TranslatedTrace) -> Row:
    from mlflow.store.tracking.utils.trace_analytics import analytics_columns_from_metadata, validate_trace_name

    info = trace.summary
    columns = dict.fromkeys(_COLUMNS["SqlTraceInfo"])
    return columns | {
        "request_id": info.trace_id,
        "experiment_id": int(experiment_id),
        "timestamp_ms": info.request_time,
        "execution_time_ms": info.duration,
        "status": "ERROR" if info.failed else "OK",
        "client_request_id": info.client_request_id,
        "request_preview": info.request_preview,
        "response_preview": info.response_preview,
        "db_payload_generation": 1,  # the value after the first write of spans
        "trace_name": validate_trace_name(info.tags.get("mlflow.traceName")),
        **analytics_columns_from_metadata(dict(info.metadata)),
    }


def _metadata_rows(trace: TranslatedTrace) -> list[Row]:
    from mlflow.store.tracking.utils.trace_analytics import PROMOTED_TRACE_METADATA_KEYS

    kept = {k: v for k, v in trace.summary.metadata.items() if k not in PROMOTED_TRACE_METADATA_KEYS}
    return _key_value_rows(trace.summary.trace_id, {**kept, "mlflow.trace.infoFinalized": "true"})


def _key_value_rows(trace_id: str, named: Mapping[str, str]) -> list[Row]:
    return [{"request_id": trace_id, "key": key, "value": value} for key, value in sorted(named.items())]
