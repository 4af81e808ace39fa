"""Traces that differ in nothing but numbers, found by plain SQL: they are added up together, and not one by one.

A query gives one row for each trace, with the names of its spans as one text and their durations as another. Traces of
the same text are alike. Those whose totals do not tell whose they are, such as calls to two models, are not answered
here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..tracing.export.mlflow.names import (
    SESSION_KEY,
    SOURCE_RUN_KEY,
    TRACE_COST_KEY,
    TRACE_TOKENS_KEY,
    USER_KEY,
)
from . import model
from .outlines import MODEL_TYPES, NEED_SPANS, AlikeTraces, SpanOutline, TraceOutline, is_simple, split_tokens
from .sql_databases import SqlDatabase
from .sql_terms import parse_value

_FIELD, _SPAN, _PART = "\x1f", "\x1e", "\x1d"  # what the texts of the query are joined by
_JSON: Final = "\x1c"  # after a model's name that is JSON
_MOST_SHAPES: Final = 1_000
_IS_MODEL: Final = f"({' OR '.join(f'{{0}}type = {one!r}' for one in sorted(MODEL_TYPES))})"  # SQLite is slower at IN
_METADATA: Final = "(SELECT value FROM trace_request_metadata WHERE request_id = t.request_id AND key = '{}')"
_TAG: Final = "(SELECT value FROM trace_tags WHERE request_id = t.request_id AND key = '{}')"

_new_tuple: Final = tuple.__new__  # a third of the time of TraceOutline's own
Row = Sequence[Any]  # TraceOutline's fields up to the tags, which are not read, then the text of the spans


@dataclass
class _Shape:
    """The spans that all traces of one text have, and those traces."""

    spans: list[SpanOutline]
    traces: list[TraceOutline] = field(default_factory=list)
    durations: list[str] = field(default_factory=list)

    def take_traces(self) -> AlikeTraces:
        """Return the traces that were found so far, and forget them."""
        values = _parse_durations(",".join(self.durations).split(","))
        count = len(self.spans)
        found = AlikeTraces(self.traces, self.spans, [values[at::count] for at in range(count)])
        self.traces, self.durations = [], []
        return found


class SumQueries:
    """The columns of a query for the traces of a *database*, and what its rows say.

    Args:
        database: the database.
        newer: whether the table of traces has columns for session, tokens and cost.
        groups: what is added up by.
    """

    def __init__(self, database: SqlDatabase, groups: Collection[str], *, newer: bool) -> None:
        self._newer, self._names_errors = newer, "error" in groups
        self._has_spans = not NEED_SPANS.isdisjoint(groups)
        self._shapes: dict[str, _Shape | None] = {}  # None: not simple
        run = f"COALESCE(NULLIF({_METADATA}, ''), {_TAG})".replace("{}", SOURCE_RUN_KEY) if "run" in groups else "NULL"
        self.columns = (
            *("t.request_id", "t.status = 'ERROR'", "t.timestamp_ms", "t.execution_time_ms"),
            *(_NEWER_USAGE if newer else _OLDER_USAGE),
            *("CAST(t.experiment_id AS TEXT)", run),
            ("t.session_id" if newer else _METADATA.format(SESSION_KEY)) if "session" in groups else "NULL",
            _METADATA.format(USER_KEY) if "user" in groups else "NULL",
            "NULL",
            _describe_spans(database) if self._has_spans else "NULL",
        )

    def sort_rows(self, rows: Iterable[Row]) -> tuple[list[AlikeTraces], list[TraceOutline]]:
        """Return those that are alike, and those whose spans have to be read."""
        if not self._newer:
            rows = list(map(_parse_usage, rows))
        if not self._has_spans:
            return [AlikeTraces([_outline_row(row) for row in rows], [], [])], []
        others: list[TraceOutline] = []
        shapes = self._shapes
        for row in rows:
            names, durations, nested = (row[12] or "").rsplit(_PART, 2) if row[12] else ("", "", "1")
            shape = shapes.get(names)
            if shape is None and names not in shapes:
                shape = shapes[names] = self._parse_shape(names)
            if shape is None or nested != "0" or durations.count(",") + 1 != len(shape.spans):
                others.append(_outline_row(row))
            else:
                shape.traces.append(_outline_row(row))
                shape.durations.append(durations)
        found = [shape.take_traces() for shape in shapes.values() if shape is not None and shape.traces]
        if len(shapes) > _MOST_SHAPES:
            shapes.clear()
        return found, others

    def _parse_shape(self, text: str) -> _Shape | None:
        """Return the spans that a text names; None if traces of this text have to be read."""
        fields = [one.split(_FIELD) for one in text.split(_SPAN)]
        # A name with such a character, or a span that is its own parent.
        if any(len(one) != 4 or len(one[3]) != 2 or one[3][0] == "2" for one in fields):
            return None
        spans = [_parse_span(str(at), *one) for at, one in enumerate(fields)]
        names_error = self._names_errors and any(span.failed for span in spans)
        return None if names_error or not is_simple(spans) else _Shape(spans)


_NEWER_USAGE: Final = (
    "COALESCE(t.input_tokens, CASE WHEN t.output_tokens IS NOT NULL OR t.total_tokens IS NOT NULL THEN 0 END)",
    "COALESCE(t.output_tokens, CASE WHEN t.input_tokens IS NOT NULL OR t.total_tokens IS NOT NULL THEN 0 END)",
    "NULLIF(t.total_cost, 'NaN')",
)
_OLDER_USAGE: Final = (_METADATA.format(TRACE_TOKENS_KEY), "NULL", _METADATA.format(TRACE_COST_KEY))


def _outline_row(row: Row) -> TraceOutline:
    """Return what a row says of a trace, without its spans."""
    return _new_tuple(TraceOutline, (*row[:12], (), None))


def _parse_durations(texts: Sequence[str]) -> list[float | None]:
    """Return nanoseconds, as text, in milliseconds; None for a span that has not ended."""
    try:
        return [one / 1e6 for one in map(int, texts)]
    except ValueError:
        return [int(one) / 1e6 if one else None for one in texts]


def _parse_usage(row: Row) -> Row:
    """Return a row of an older schema, which keeps tokens and cost as JSON, with the numbers."""
    tokens = split_tokens(model.TokenCounts.from_usage(row[4]))
    return (*row[:4], *tokens, model.read_cost(row[6]), *row[7:])


def _parse_span(number: str, span_type: str, name: str, told: str, flags: str) -> SpanOutline:
    parsed: object = parse_value(told.removesuffix(_JSON)) if told.endswith(_JSON) else told
    named = parsed if isinstance(parsed, str) and parsed else None
    parent = None if flags[0] == "1" else "another"
    return SpanOutline(number, parent, name, span_type, flags[1] == "1", None, named, None, None, None, None)


def _describe_spans(database: SqlDatabase) -> str:
    """Return the query for the spans of a trace, as one text, in the order in which they began.

    It holds, for each, type, name, model and flags (a root or its own parent, failed), then the durations in
    nanoseconds, then whether a call to a model may be within another.
    """
    extract, join = database.extract_attribute, database.aggregate_texts
    is_model = _IS_MODEL.format("")
    failed = (f"CASE status WHEN 'ERROR' THEN '{_FIELD}{root}1' ELSE '{_FIELD}{root}0' END" for root in "021")
    own, other = "parent_span_id = span_id", "parent_span_id <> span_id AND parent_span_id <> ''"
    flags = f"CASE WHEN {other} THEN {next(failed)} WHEN {own} THEN {next(failed)} ELSE {next(failed)} END"
    told = f"COALESCE({', '.join(map(extract, model.MODEL_NAMES))}, '') || '{_JSON}'"
    # Columns behind the content cost the reading of all of it, so a model is asked for where it counts.
    named = f"COALESCE(model_name, {told})" if "model_name" in database.list_columns("spans") else told
    names = f"COALESCE(type, 'UNKNOWN') || '{_FIELD}' || COALESCE(name, '') || '{_FIELD}' || "
    spans = (
        f"SELECT {names}CASE WHEN {is_model} THEN {named} ELSE '' END || {flags} AS named, "  # noqa: S608  # our own names
        "COALESCE(CAST(end_time_unix_nano - start_time_unix_nano AS TEXT), '') AS took, "
        f"CASE WHEN {is_model} THEN COALESCE(parent_span_id, '') END AS above "
        "FROM spans WHERE trace_id = t.request_id ORDER BY start_time_unix_nano LIMIT 1000000000"
    )
    nested = (
        "(SELECT COUNT(*) FROM spans a JOIN spans b ON b.trace_id = a.trace_id AND b.span_id = a.parent_span_id "  # noqa: S608
        f"WHERE a.trace_id = t.request_id AND {_IS_MODEL.format('a.')} AND {_IS_MODEL.format('b.')})"
    )
    return (
        f"(SELECT {join('named', _SPAN)} || '{_PART}' || {join('took', ',')} || '{_PART}' || "  # noqa: S608
        f"CASE WHEN MIN(above) <> MAX(above) THEN {nested} ELSE 0 END FROM ({spans}) s)"
    )
