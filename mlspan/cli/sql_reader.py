"""Reader of traces in a database of MLflow's by plain SQL, which answers before MLflow's import would end.

What such a database keeps elsewhere, such as spans in files, is read by MLflow's client.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from types import SimpleNamespace
from typing import Any, Final

from ..tracing.export.mlflow.names import (
    RESUMES_KEY,
    SESSION_KEY,
    SPANS_LOCATION_KEY,
    TRACE_COST_KEY,
    TRACE_NAME_KEY,
    TRACE_TOKENS_KEY,
    is_experiment_id,
)
from . import model
from .common import CommandFailure, print_detail, print_note
from .mlflow_reader import MlflowReader
from .outlines import NEED_SPANS, AlikeTraces, TraceOutline, outline_trace
from .places import StoreLocation
from .reading import EVERYTHING, MAX_TRACES, TraceFilter, TraceReader
from .sql_databases import SqlDatabase
from .sql_filters import translate_conditions
from .sql_outlines import OutlineQueries
from .sql_pages import PageQuery, iterate_slices, read_pages
from .sql_sums import SumQueries
from .sql_terms import make_marks, make_terms, parse_value
from .stored_spans import make_span

_TRACES_PER_PAGE: Final = 500  # SQLite takes 999 parameters where it is old
_FULL_TRACES_PER_PAGE: Final = 50  # with the content of their spans
_SUMS_PER_PAGE: Final = 1000  # of traces that come with a text of all of their spans
_IN_DATABASE: Final = "TRACKING_STORE"  # the location of spans that are in the database
_TRACE_COLUMNS: Final = (
    *("request_id", "timestamp_ms", "experiment_id", "execution_time_ms", "status", "request_preview"),
    "response_preview",
)
_NEWER_COLUMNS: Final = (  # in the place of tags and metadata, since 3.17
    *("trace_name", "session_id", "input_tokens", "output_tokens", "total_tokens", "total_cost"),
)

Row = dict[str, Any]


class SqlReader(TraceReader):
    """Reader by SQL of a *database* of a known schema."""

    def __init__(self, place: StoreLocation, database: SqlDatabase) -> None:
        self.place, self._database = place, database
        self._columns = database.list_columns("trace_info")
        self._newer = [name for name in _NEWER_COLUMNS if name in self._columns]
        self._wanted = (*_TRACE_COLUMNS, *self._newer)
        self.experiments = self.list_experiments()

    @cached_property
    def _through_mlflow(self) -> MlflowReader:
        return MlflowReader(self.place)

    def list_experiments(self) -> dict[str, str]:
        active = "SELECT experiment_id, name FROM experiments WHERE lifecycle_stage = 'active'"
        if (wanted := self.place.experiment) is None:
            return {str(number): name for number, name in self._database.select(active)}
        has_id = is_experiment_id(wanted)
        column = "experiment_id" if has_id else "name"
        asked = f"SELECT experiment_id, name FROM experiments WHERE {column} = ?"  # noqa: S608  # one of two names
        found = self._database.select(asked, (int(wanted) if has_id else wanted,))
        if not found:
            newest = self._database.select(f"{active} ORDER BY creation_time DESC, experiment_id LIMIT 8")
            raise self.make_unknown_experiment([name for _, name in newest])
        return {str(found[0][0]): found[0][1]}

    def iterate_traces(
        self, where: TraceFilter = EVERYTHING, *, limit: int = MAX_TRACES, spans: bool = False
    ) -> Iterator[model.StoredTrace]:
        if self._is_left_to_mlflow(where):
            yield from self._through_mlflow.iterate_traces(where, limit=limit, spans=spans)
            return
        size = _FULL_TRACES_PER_PAGE if spans else _TRACES_PER_PAGE
        for rows in self._iterate_rows(where, limit, size):
            yield from self.settle_states(self._read_traces(self._name_columns(rows), spans=spans))

    def iterate_outlines(
        self, where: TraceFilter = EVERYTHING, groups: Collection[str] = NEED_SPANS
    ) -> Iterator[TraceOutline | AlikeTraces]:
        if self._is_left_to_mlflow(where):
            yield from self._through_mlflow.iterate_outlines(where, groups)
            return
        sums = SumQueries(self._database, groups, newer=bool(self._newer))
        queries = OutlineQueries(self._database)
        slices = iterate_slices(self._database, where, self.experiments, self._columns, _SUMS_PER_PAGE)
        pages = (self._make_query(one, sums.columns) for one in islice(slices, MAX_TRACES // _SUMS_PER_PAGE))
        for rows in read_pages(self._database, pages if self.experiments else ()):
            alike, others = sums.sort_rows(self._add_tags(rows) if "tag" in groups else rows)
            yield from alike
            if others:
                yield from self._fill_outlines(queries, others, details="error" in groups)

    def _is_left_to_mlflow(self, where: TraceFilter) -> bool:
        return translate_conditions(where.conditions, self._columns, self._database) is None

    def _add_tags(self, rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        """Yield rows with the tags that users have set."""
        tags = self._read_pairs("trace_tags", [row[0] for row in rows], "SUBSTR(key, 1, 7) <> 'mlflow.'")
        for row in rows:
            own = {key: value for key, value in tags.get(row[0], {}).items() if key not in model.OWN_TAGS}
            yield (*row[:11], own, *row[12:])

    def _fill_outlines(
        self, queries: OutlineQueries, outlines: Sequence[TraceOutline], *, details: bool
    ) -> Iterator[TraceOutline]:
        """Yield outlines with their spans, wherever those are."""
        empty: dict[str, TraceOutline] = {}
        for one in queries.fill_outlines(outlines, details=details):
            if one.spans:
                yield one
            else:
                empty[one.id] = one
        places = self._read_pairs("trace_tags", list(empty), "key = ?", SPANS_LOCATION_KEY)
        for trace_id, one in empty.items():
            is_here = places.get(trace_id, {}).get(SPANS_LOCATION_KEY) == _IN_DATABASE
            yield one if is_here else self._outline_elsewhere(one)

    def _outline_elsewhere(self, known: TraceOutline) -> TraceOutline:
        """Return the outline of a trace whose spans are not in the database; without spans if they are nowhere."""
        try:
            return outline_trace(self._through_mlflow.fetch_trace(known.id))
        except CommandFailure as failure:
            print_detail(str(failure))
            return known

    def fetch_trace(self, trace_id: str) -> model.StoredTrace:
        query = f"SELECT {', '.join(self._wanted)} FROM trace_info WHERE request_id = ?"  # noqa: S608  # our own names
        found = list(self._read_traces(self._name_columns(self._database.select(query, (trace_id,))), spans=True))
        return self.settle_states(found)[0] if found else self._through_mlflow.fetch_trace(trace_id)

    def find_resumptions(self, trace_ids: Sequence[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        query = f"SELECT value, request_id FROM trace_tags WHERE key = ? AND value IN ({make_marks(trace_ids)})"  # noqa: S608
        for waited, resuming in self._database.select(query, (RESUMES_KEY, *trace_ids)) if trace_ids else ():
            found.setdefault(waited, []).append(resuming)
        return found

    def search_run_id(self, name: str) -> str | None:
        query = (
            "SELECT run_uuid FROM runs WHERE name = ? AND lifecycle_stage = 'active' "  # noqa: S608  # our own marks
            f"AND experiment_id IN ({make_marks(self.experiments)}) ORDER BY start_time DESC, run_uuid LIMIT 1"
        )
        found = self._database.select(query, (name, *map(int, self.experiments)))
        return str(found[0][0]) if found else None

    def find_run_name(self, run_id: str) -> str:
        found = self._database.select("SELECT name FROM runs WHERE run_uuid = ?", (run_id,))
        return str(found[0][0]) if found and found[0][0] else run_id

    def _iterate_rows(self, where: TraceFilter, limit: int, size: int) -> Iterator[list[Any]]:
        """Yield pages of the wanted columns, which go on after the last key: what lands moves none."""
        key: tuple[object, ...] = ()
        while limit > 0 and self.experiments:
            most = min(limit, size)
            query = self._make_query(where, [f"t.{name}" for name in self._wanted], key, most)
            rows = self._database.select_at_once(*query)
            yield rows
            if len(rows) < most:
                return
            limit -= len(rows)
            key = rows[-1][1], rows[-1][1], rows[-1][0]
            where = replace(where, until_ms=None)  # SQLite looks up one upper bound in the index, and might take this

    def _make_query(
        self, where: TraceFilter, wanted: Sequence[str], key: Sequence[object] = (), limit: int = -1
    ) -> PageQuery:
        """Return a query for the *wanted* columns of traces, the newest first; of those after a *key*, if it is given.

        Args:
            where: the filter.
            wanted: the columns. The first one is the id.
            key: of a trace: its time twice, and its id.
            limit: the number of traces at most; -1: all.
        """
        terms, values = self._make_terms(where)
        names = [f"c{at}" for at in range(len(wanted))]
        columns = ", ".join(f"{column} AS {name}" for column, name in zip(wanted, names, strict=True))
        # The first comparison is one that an index answers: without it, each page reads all before it again.
        after = " AND t.timestamp_ms <= ? AND (t.timestamp_ms < ? OR t.request_id < ?)" if key else ""
        text = (
            f"SELECT {columns} FROM trace_info t WHERE {terms}{after} "  # noqa: S608  # values are parameters
            f"ORDER BY t.timestamp_ms DESC, t.request_id DESC{'' if limit < 0 else ' LIMIT ?'}"
        )
        return PageQuery(text, names, (*values, *key, *(() if limit < 0 else (limit,))))

    def _make_terms(self, where: TraceFilter) -> tuple[str, list[Any]]:
        """Return the condition on the table of traces, and its parameters."""
        terms, values = make_terms(where, self.experiments, self._columns)
        more = translate_conditions(where.conditions, self._columns, self._database)
        return (f"{terms} AND {more[0]}", values + more[1]) if more is not None and more[0] else (terms, values)

    def _name_columns(self, rows: Sequence[Sequence[Any]]) -> list[Row]:
        return [dict(zip(self._wanted, row, strict=True)) for row in rows]

    def _read_traces(self, rows: Sequence[Row], *, spans: bool) -> Iterator[model.StoredTrace]:
        """Yield the traces of these rows, in their order."""
        ids = [row["request_id"] for row in rows]
        tags, metadata = self._read_pairs("trace_tags", ids), self._read_pairs("trace_request_metadata", ids)
        for row in rows:
            trace_id = row["request_id"]
            own_tags = tags.get(trace_id, {})
            if spans and own_tags.get(SPANS_LOCATION_KEY) != _IN_DATABASE:
                try:
                    yield self._through_mlflow.fetch_trace(trace_id)
                    continue
                except CommandFailure as failure:  # one that cannot be read keeps nobody from the others
                    print_note(f"of {trace_id}, what is in the database is read: {failure}")
            info = self._make_info(row, own_tags, metadata.get(trace_id, {}))
            own_spans = self._read_spans(trace_id) if spans else []
            yield model.read_trace(SimpleNamespace(info=info, data=SimpleNamespace(spans=own_spans)))

    def _read_pairs(self, table: str, ids: Sequence[str], term: str = "", *values: str) -> dict[str, dict[str, str]]:
        """Return the keys and values of *table* by trace; of those that a *term* of SQL lets through."""
        found: dict[str, dict[str, str]] = {}
        if not ids:
            return found
        query = f"SELECT request_id, key, value FROM {table} WHERE request_id IN ({make_marks(ids)})"  # noqa: S608
        query += f" AND {term}" if term else ""
        for trace_id, name, value in self._database.select(query, (*ids, *values)):
            found.setdefault(trace_id, {})[name] = value
        return found

    def _make_info(self, row: Row, tags: dict[str, str], metadata: dict[str, str]) -> SimpleNamespace:
        """Return what MLflow's entity of a trace would say; newer schemas keep a part of it in columns."""
        if self._newer:
            usage = {name: row[name] for name in _NEWER_COLUMNS if name.endswith("_tokens") and row[name] is not None}
            columns = {
                SESSION_KEY: row["session_id"],
                TRACE_TOKENS_KEY: usage or None,
                TRACE_COST_KEY: None if row["total_cost"] is None else {"total_cost": row["total_cost"]},
            }
            metadata = {**metadata, **{key: value for key, value in columns.items() if value is not None}}
            tags = {**tags, TRACE_NAME_KEY: row["trace_name"]} if row["trace_name"] is not None else tags
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
        rows = self._database.select(query, (trace_id,))
        return [
            make_span(own, above, name, start, end, parse_value(text)) for own, above, name, start, end, text in rows
        ]
