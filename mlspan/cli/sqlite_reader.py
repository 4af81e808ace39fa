"""Reader of traces in an SQLite database of MLflow's by plain SQL, which answers before MLflow's import would end.

Only databases whose schema is known are read this way, and only for reading. What such a database keeps elsewhere, such
as spans in files, is read by MLflow's client.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from ..tracing.export.mlflow.traces import SESSION_KEY, SOURCE_RUN_KEY
from . import model
from .mlflow_reader import MlflowReader
from .places import StoreLocation
from .reading import EVERYTHING, MAX_TRACES, TraceFilter, TraceReader

# The revisions of MLflow's schema since spans have a table of their own (3.4), up to 3.17.
_KNOWN_REVISIONS: Final = frozenset(
    {
        *("a1b2c3d4e5f6", "de4033877273", "1a0cddfcaa16", "534353b11cbc", "71994744cf8e", "3da73c924c2f"),
        *("bf29a5ff90ea", "1bd49d398cd23", "b7c8d9e0f1a2", "5d2d30f0abce", "c9d4e5f6a7b8", "2c33131f4dae"),
        *("d3e4f5a6b7c8", "d0e1f2a3b4c5", "c8d9e0f1a2b3", "1b5f0d9ad7c1", "e1f2a3b4c5d6", "76601a5f987d"),
        *("c3d6457b6d8a", "a5b4c3d2e1f0", "ae8bbe7743c9", "7d34483879f0", "da6fb0208061", "89d3d66ed43f"),
        *("b7e4c1a90f23", "a8b9c0d1e2f3", "c1d2e3f4a5b6", "c3d9e7f1a2b4", "6f8d9c3b2a1e", "1971f2d9a75b"),
        *("17e22815139b", "b7e2c1a4d9f3", "75868b020152", "dc11669786a5"),
    }
)
_TRACES_PER_PAGE: Final = 500
_IDS_PER_QUERY: Final = 500  # SQLite takes 999 parameters where it is old
_IN_DATABASE: Final = "TRACKING_STORE"  # where spans are, by the tag below
_SPANS_LOCATION: Final = "mlflow.trace.spansLocation"
_TRACE_COLUMNS: Final = (
    *("request_id", "experiment_id", "timestamp_ms", "execution_time_ms", "status", "request_preview"),
    "response_preview",
)
_NEWER_COLUMNS: Final = (  # in the place of tags and metadata, since 3.17
    *("trace_name", "session_id", "input_tokens", "output_tokens", "total_tokens", "total_cost"),
)
_STATUS_NAMES: Final = {"STATUS_CODE_ERROR": "ERROR", "STATUS_CODE_OK": "OK"}


def open_known_database(file: Path) -> sqlite3.Connection | None:
    """Open an SQLite database of MLflow's for reading; return None if its schema is not known."""
    database = None
    with suppress(sqlite3.Error):
        database = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=20)
        revisions = {found for (found,) in database.execute("SELECT version_num FROM alembic_version")}
        if revisions and revisions <= _KNOWN_REVISIONS and not _has_workspaces(database):
            return database
    if database is not None:
        database.close()
    return None


def _has_workspaces(database: sqlite3.Connection) -> bool:
    """Return whether experiments belong to workspaces, which MLflow's client knows how to choose."""
    if "workspace" not in _list_columns(database, "experiments"):
        return False
    others = "SELECT 1 FROM experiments WHERE workspace != 'default' LIMIT 1"
    return "MLFLOW_WORKSPACE" in os.environ or database.execute(others).fetchone() is not None


def _list_columns(database: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in database.execute(f"PRAGMA table_info({table})")}


class SqliteReader(TraceReader):
    """Reader by SQL of a *database* that :func:`open_known_database` has opened."""

    def __init__(self, place: StoreLocation, database: sqlite3.Connection) -> None:
        self.place, self._database = place, database
        database.row_factory = sqlite3.Row
        self._newer = [name for name in _NEWER_COLUMNS if name in _list_columns(database, "trace_info")]
        self.experiments = self.list_experiments()

    @cached_property
    def _through_mlflow(self) -> MlflowReader:
        return MlflowReader(self.place)

    def list_experiments(self) -> dict[str, str]:
        active = "SELECT experiment_id, name FROM experiments WHERE lifecycle_stage = 'active'"
        if (wanted := self.place.experiment) is None:
            return {str(row["experiment_id"]): row["name"] for row in self._database.execute(active)}
        column = "experiment_id" if wanted.isdigit() else "name"
        asked = f"SELECT experiment_id, name FROM experiments WHERE {column} = ?"  # noqa: S608  # one of two names
        if (found := self._database.execute(asked, (wanted,)).fetchone()) is None:
            newest = self._database.execute(f"{active} ORDER BY creation_time DESC, experiment_id LIMIT 8")
            raise self.make_unknown_experiment([row["name"] for row in newest])
        return {str(found["experiment_id"]): found["name"]}

    def iterate_traces(
        self, where: TraceFilter = EVERYTHING, *, limit: int = MAX_TRACES, spans: bool = False
    ) -> Iterator[model.StoredTrace]:
        last: tuple[int, str] | None = None  # pages go on after it, so that what lands meanwhile moves none
        while limit > 0 and self.experiments:
            rows = self._select_traces(where, last, min(limit, _TRACES_PER_PAGE))
            yield from self._read_traces(rows, spans=spans)
            if len(rows) < min(limit, _TRACES_PER_PAGE):
                return
            limit -= len(rows)
            last = rows[-1]["timestamp_ms"], rows[-1]["request_id"]

    def fetch_trace(self, trace_id: str) -> model.StoredTrace:
        columns = ", ".join((*_TRACE_COLUMNS, *self._newer))
        query = f"SELECT {columns} FROM trace_info WHERE request_id = ?"  # noqa: S608  # our own names
        found = list(self._read_traces(self._database.execute(query, (trace_id,)).fetchall(), spans=True))
        return found[0] if found else self._through_mlflow.fetch_trace(trace_id)

    def search_run_id(self, name: str) -> str | None:
        marks = _make_marks(self.experiments)
        query = (
            "SELECT run_uuid FROM runs WHERE name = ? AND lifecycle_stage = 'active' "  # noqa: S608  # our own marks
            f"AND experiment_id IN ({marks}) ORDER BY start_time DESC, run_uuid LIMIT 1"
        )
        found = self._database.execute(query, (name, *map(int, self.experiments))).fetchone()
        return None if found is None else str(found["run_uuid"])

    def find_run_name(self, run_id: str) -> str:
        found = self._database.execute("SELECT name FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()
        return run_id if found is None or not found["name"] else str(found["name"])

    def _select_traces(self, where: TraceFilter, last: tuple[int, str] | None, limit: int) -> list[sqlite3.Row]:
        """Return the next rows, at most *limit*, the newest first."""
        terms, values = self._make_terms(where)
        if last is not None:
            terms.append("(timestamp_ms < ? OR (timestamp_ms = ? AND request_id < ?))")
            values += [last[0], *last]
        columns = ", ".join((*_TRACE_COLUMNS, *self._newer))
        query = (
            f"SELECT {columns} FROM trace_info WHERE {' AND '.join(terms)} "  # noqa: S608  # values are parameters
            "ORDER BY timestamp_ms DESC, request_id DESC LIMIT ?"
        )
        return self._database.execute(query, (*values, limit)).fetchall()

    def _make_terms(self, where: TraceFilter) -> tuple[list[str], list[Any]]:
        """Return the terms of a filter and their parameters."""
        terms = [f"experiment_id IN ({_make_marks(self.experiments)})"]
        values: list[Any] = [int(one) for one in self.experiments]

        def add(term: str, *given: Any) -> None:
            if None not in given:
                terms.append(term)
                values.extend(given)

        add("timestamp_ms >= ?", where.since_ms)
        add("timestamp_ms < ?", where.until_ms)
        add("status = ?", where.status)
        add("substr(request_id, 1, length(?)) = ?", where.id_prefix, where.id_prefix)
        has_metadata = (
            "EXISTS (SELECT 1 FROM trace_request_metadata m WHERE m.request_id = trace_info.request_id "
            "AND m.key = '{}' AND m.value = ?)"
        )
        if "session_id" in self._newer:
            add("session_id = ?", where.session)
        else:
            add(has_metadata.format(SESSION_KEY), where.session)
        linked = (
            "EXISTS (SELECT 1 FROM entity_associations e WHERE e.source_id = trace_info.request_id "
            "AND e.source_type = 'trace' AND e.destination_type = 'run' AND e.destination_id = ?)"
        )
        add(f"({has_metadata.format(SOURCE_RUN_KEY)} OR {linked})", where.run_id, where.run_id)
        return terms, values

    def _read_traces(self, rows: Sequence[sqlite3.Row], *, spans: bool) -> Iterator[model.StoredTrace]:
        """Yield the traces of these rows, in their order."""
        for at in range(0, len(rows), _IDS_PER_QUERY):
            some = rows[at : at + _IDS_PER_QUERY]
            ids = [row["request_id"] for row in some]
            tags = self._read_pairs("trace_tags", ids)
            metadata = self._read_pairs("trace_request_metadata", ids)
            for row in some:
                trace_id = row["request_id"]
                own_tags = tags.get(trace_id, {})
                if spans and own_tags.get(_SPANS_LOCATION) != _IN_DATABASE:
                    yield self._through_mlflow.fetch_trace(trace_id)
                    continue
                info = self._make_info(row, own_tags, metadata.get(trace_id, {}))
                own_spans = self._read_spans(trace_id) if spans else []
                yield model.read_trace(SimpleNamespace(info=info, data=SimpleNamespace(spans=own_spans)))

    def _read_pairs(self, table: str, ids: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the keys and values of *table* by trace."""
        found: dict[str, dict[str, str]] = {}
        query = f"SELECT request_id, key, value FROM {table} WHERE request_id IN ({_make_marks(ids)})"  # noqa: S608
        for trace_id, key, value in self._database.execute(query, ids):
            found.setdefault(trace_id, {})[key] = value
        return found

    def _make_info(self, row: sqlite3.Row, tags: dict[str, str], metadata: dict[str, str]) -> SimpleNamespace:
        """Return what MLflow's entity of a trace would say; newer schemas keep a part of it in columns."""
        if self._newer:
            usage = {name: row[name] for name in _NEWER_COLUMNS if name.endswith("_tokens") and row[name] is not None}
            columns = {
                SESSION_KEY: row["session_id"],
                model.TOKENS_KEY: json.dumps(usage) if usage else None,
                model.COST_KEY: None if row["total_cost"] is None else json.dumps({"total_cost": row["total_cost"]}),
            }
            metadata = {**metadata, **{key: value for key, value in columns.items() if value is not None}}
            tags = {**tags, model.NAME_KEY: row["trace_name"]} if row["trace_name"] is not None else tags
        return SimpleNamespace(
            trace_id=row["request_id"],
            experiment_id=str(row["experiment_id"]),
            request_time=row["timestamp_ms"],
            execution_duration=row["execution_time_ms"],
            state=row["status"],
            request_preview=row["request_preview"],
            response_preview=row["response_preview"],
            trace_metadata=metadata,
            tags=tags,
        )

    def _read_spans(self, trace_id: str) -> list[SimpleNamespace]:
        query = (
            "SELECT span_id, parent_span_id, name, start_time_unix_nano, end_time_unix_nano, content "
            "FROM spans WHERE trace_id = ?"
        )
        return [_make_span(row) for row in self._database.execute(query, (trace_id,))]


def _make_marks(values: Any) -> str:
    return ", ".join("?" * len(values))


def _make_span(row: sqlite3.Row) -> SimpleNamespace:
    """Return an object with the fields of MLflow's span."""
    content = json.loads(row["content"])
    attributes = {key: _parse_value(value) for key, value in content["attributes"].items()}
    status = content["status"]
    code = status.get("code", "")
    return SimpleNamespace(
        span_id=row["span_id"],
        parent_id=row["parent_span_id"],
        name=row["name"],
        span_type=attributes.get("mlflow.spanType"),
        start_time_ns=row["start_time_unix_nano"],
        end_time_ns=row["end_time_unix_nano"],
        status=SimpleNamespace(
            status_code=_STATUS_NAMES.get(code, code.removeprefix("STATUS_CODE_")), description=status.get("message")
        ),
        inputs=attributes.get("mlflow.spanInputs"),
        outputs=attributes.get("mlflow.spanOutputs"),
        attributes=attributes,
        events=content.get("events", []),
    )


def _parse_value(value: object) -> object:
    """Return the value of an attribute, which MLflow stores as JSON."""
    if isinstance(value, str):
        with suppress(ValueError):
            return json.loads(value)
    return value
