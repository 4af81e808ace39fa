"""Bulk insert: many new traces in one transaction, with MLflow's own session, tables and translation.

``log_spans`` and ``start_trace`` need a dozen statements for each trace, as others may write the same trace at once.
For traces that the database does not have, four inserts for the whole batch are enough.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Final

import orjson
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Link

from ...operations.content import to_json
from ..dialects.catalog import is_own_span
from . import private_names
from .names import COST, INPUTS, OUTPUTS, SPAN_TYPE, TOKEN_USAGE
from .spans import replace_attributes
from .traces import TranslatedTrace

Row = dict[str, Any]

TRACE_REQUEST_ID: Final = "mlflow.traceRequestId"
_QUOTE: Final = '"'
_JSON_OPENINGS: Final = ("{", "[", '"')
_VERIFIED_VERSIONS: Final = {(3, 17)}  # MLflow versions whose rows the tests have compared with its own
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

        experiment = self._store.get_experiment(experiment_id)
        self._store._check_experiment_is_active(experiment)
        rows: dict[str, list[Row]] = {name: [] for name in _COLUMNS}
        left = []
        for trace in traces:
            contents = [_build_content(trace.summary.trace_id, span) for span in trace.spans]
            if any(map(_has_new_totals, trace.spans, contents)):
                left.append(trace)
                continue
            rows["SqlTraceInfo"].append(_info_row(experiment_id, trace))
            rows["SqlTraceTag"] += self._tag_rows(experiment, trace)
            rows["SqlTraceMetadata"] += _metadata_rows(trace)
            rows["SqlSpan"] += map(partial(_span_row, experiment_id, trace.summary.trace_id), trace.spans, contents)
        if rows["SqlSpan"]:
            with self._store.ManagedSessionMaker(read_only=False) as session:
                for name, found in rows.items():
                    session.execute(insert(getattr(self._models, name).__table__), found)
        return left

    def find_stored(self, trace_ids: Sequence[str]) -> set[str]:
        """Return those trace ids that the database has."""
        column = self._models.SqlTraceInfo.request_id
        with self._store.ManagedSessionMaker() as session:
            return {found for (found,) in session.query(column).filter(column.in_(trace_ids))}

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


def _span_row(experiment_id: str, trace_id: str, span: ReadableSpan, content: Row) -> Row:
    """Return the row of *span*, as MLflow's ``log_spans`` writes it."""
    from mlflow.store.tracking.utils.trace_analytics import bounded_model_dimension, finite_float_or_none

    get = content["attributes"].get
    cost = _parse_json(get("mlflow.llm.cost"))
    cost = cost if isinstance(cost, dict) else {}
    context: Any = span.get_span_context()
    return {
        "trace_id": trace_id,
        "experiment_id": int(experiment_id),
        "span_id": f"{context.span_id:016x}",
        "parent_span_id": f"{span.parent.span_id:016x}" if span.parent else None,
        "name": span.name,
        "type": _parse_json((span.attributes or {}).get(SPAN_TYPE)),
        "status": span.status.status_code.name,
        "start_time_unix_nano": span.start_time,
        "end_time_unix_nano": span.end_time,
        "content": json.dumps(content, ensure_ascii=False),
        "input_cost": finite_float_or_none(cost.get("input_cost")),
        "output_cost": finite_float_or_none(cost.get("output_cost")),
        "total_cost": finite_float_or_none(cost.get("total_cost")),
        "model_name": bounded_model_dimension(_parse_json(get("mlflow.llm.model"))),
        "model_provider": bounded_model_dimension(_parse_json(get("mlflow.llm.provider"))),
    }


def _build_content(trace_id: str, span: ReadableSpan) -> Row:
    """Return the JSON object that MLflow stores for *span*."""
    if is_own_span(span):
        return _build_own_content(trace_id, span)
    from mlflow.entities import Span
    from mlflow.tracing.otel.translation import translate_span_when_storing

    # MLflow's translation knows the attribute names of a dozen other SDKs.
    return dict(translate_span_when_storing(Span(prepare_for_mlflow_span(span, trace_id))))


def _has_new_totals(span: ReadableSpan, content: Row) -> bool:
    """Return True if MLflow has found inputs, outputs, tokens or cost in another library's span."""
    if is_own_span(span):  # as we have translated it
        return False
    before = span.attributes or {}
    return any(name in content["attributes"] and name not in before for name in (INPUTS, OUTPUTS, TOKEN_USAGE, COST))


def _build_own_content(trace_id: str, span: ReadableSpan) -> Row:
    """Return the JSON object of one of our own spans. It already holds all attributes that MLflow would derive."""
    context: Any = span.get_span_context()
    attributes = {
        key: _short_to_json(key, value)
        if type(value) in _INTEGERS or (type(value) is str and len(value) < _MAX_CACHED_TEXT)
        else _attribute_to_json(key, value)
        for key, value in (span.attributes or {}).items()
    }
    return {
        "trace_id": _id_to_base64(context.trace_id, 16),
        "span_id": _id_to_base64(context.span_id, 8),
        "parent_span_id": _id_to_base64(span.parent.span_id, 8) if span.parent else None,
        "name": span.name,
        "start_time_unix_nano": span.start_time,
        "end_time_unix_nano": span.end_time,
        "events": [
            {"name": event.name, "time_unix_nano": event.timestamp, "attributes": dict(event.attributes or {})}
            for event in span.events
        ],
        "status": {
            "code": f"STATUS_CODE_{span.status.status_code.name}",
            "message": span.status.description or "",
        },
        "attributes": {**attributes, TRACE_REQUEST_ID: to_json(trace_id)},
        "links": [_link_to_json(link) for link in span.links],
    }


def _link_to_json(link: Link) -> Row:
    return {
        "trace_id": f"tr-{link.context.trace_id:032x}",
        "span_id": f"{link.context.span_id:016x}",
        "attributes": dict(link.attributes) if link.attributes else None,
    }


def _attribute_to_json(key: str, value: Any) -> str:
    """Return an attribute as JSON text.

    Text that is JSON itself (an object, a list, a string) is kept, as MLflow does.
    """
    if key.startswith("mlflow."):
        text = str(value)
        value = _parse_json(text) if text.startswith(_QUOTE) else None
    else:
        text = to_json(value)
    is_json = isinstance(value, str) and value.lstrip().startswith(_JSON_OPENINGS) and _parse_json(value) is not value
    return value if is_json else text


# Most attributes of a program's spans are the same words and numbers.
_short_to_json: Final = lru_cache(maxsize=4096, typed=True)(_attribute_to_json)
_INTEGERS: Final = frozenset({int, bool})
_MAX_CACHED_TEXT: Final = 64  # characters


def _parse_json(text: Any) -> Any:
    """Return the value of JSON text; anything else unchanged."""
    try:
        return orjson.loads(text)  # a fifth of the time
    except (TypeError, ValueError):  # or JSON of Python's own, with NaN or half a character
        pass
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return text


def _id_to_base64(id: int, length: int) -> str:
    return base64.b64encode(id.to_bytes(length, "big")).decode("ascii")


def prepare_for_mlflow_span(span: ReadableSpan, trace_id: str) -> ReadableSpan:
    """Return *span* as MLflow's Span class needs it: each attribute as JSON text, with the trace's id among them."""
    attributes = {
        key: value if key.startswith("mlflow.") else to_json(value) for key, value in (span.attributes or {}).items()
    }
    return replace_attributes(span, {**attributes, TRACE_REQUEST_ID: to_json(trace_id)})
