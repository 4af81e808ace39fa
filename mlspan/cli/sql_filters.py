"""The terms of an SQL query for the conditions of a ``--filter``, with the results of MLflow's own search."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from ..tracing.export.mlflow.names import (
    SESSION_KEY,
    SOURCE_RUN_KEY,
    TRACE_COST_KEY,
    TRACE_NAME_KEY,
    TRACE_TOKENS_KEY,
)
from .filters import RENAMED_KEYS, Condition
from .sql_databases import SqlDatabase

_EXISTS: Final = "EXISTS (SELECT 1 FROM {} p WHERE p.request_id = t.request_id AND p.key = ?{})"
_TABLES: Final = {"tag": "trace_tags", "metadata": "trace_request_metadata"}
_IS_LINKED: Final = (
    "EXISTS (SELECT 1 FROM entity_associations e WHERE e.source_id = t.request_id AND e.source_type = 'trace' "
    "AND e.destination_type = 'run' AND e.destination_id = ?)"
)
_HAS_RUN: Final = _EXISTS.format("trace_request_metadata", " AND p.value = ?")
_END: Final = "(t.timestamp_ms + COALESCE(t.execution_time_ms, 0))"

Term = tuple[str, list[Any]]  # and its parameters


def translate_conditions(
    conditions: Sequence[Condition], columns: Collection[str], database: SqlDatabase
) -> Term | None:
    """Return the term for all conditions on the table of traces, ``t``; None if one is left to MLflow's client.

    Args:
        conditions: the conditions.
        columns: the columns of the table of traces.
        database: the database.
    """
    terms: list[str] = []
    values: list[Any] = []
    of_span: list[str] = []  # all of them are true of one span
    of_span_values: list[Any] = []
    for one in conditions:
        found = _translate_condition(one, columns, database)
        if found is None:
            return None
        (of_span if one.kind == "span" else terms).append(found[0])
        (of_span_values if one.kind == "span" else values).extend(found[1])
    if of_span:
        terms.append(f"EXISTS (SELECT 1 FROM spans s WHERE s.trace_id = t.request_id AND {' AND '.join(of_span)})")  # noqa: S608
        values += of_span_values
    return " AND ".join(terms), values


def _translate_condition(one: Condition, columns: Collection[str], database: SqlDatabase) -> Term | None:
    """Return the term for a condition; None if MLflow's client has to answer it."""
    if one.comparison == "RLIKE" or one.key in {TRACE_TOKENS_KEY, TRACE_COST_KEY}:
        return None
    if one.kind == "span":
        return _compare(f"s.{one.key}", one, database) if one.key in {"name", "type", "status"} else None
    if one.kind == "attribute":
        return _translate_attribute(one, columns, database)
    if one.kind not in _TABLES or one.key.lower() in RENAMED_KEYS:
        return None
    return _translate_pair(one.kind, one.key, one, columns, database)


def _translate_attribute(one: Condition, columns: Collection[str], database: SqlDatabase) -> Term | None:
    if one.key == "name":
        return _translate_pair("tag", TRACE_NAME_KEY, one, columns, database)
    if one.key == "run_id":
        if one.comparison == "=":
            return f"({_IS_LINKED} OR {_HAS_RUN})", [one.value, SOURCE_RUN_KEY, one.value]
        return _translate_pair("metadata", SOURCE_RUN_KEY, one, columns, database)
    if one.key == "end_time_ms":
        return _compare(_END, one, database)
    return _compare(f"t.{one.key}", one, database) if one.key in columns else None


def _translate_pair(kind: str, key: str, one: Condition, columns: Collection[str], database: SqlDatabase) -> Term:
    """Return the term for a tag or for metadata, which newer schemas keep in columns in part."""
    column = {("tag", TRACE_NAME_KEY): "trace_name", ("metadata", SESSION_KEY): "session_id"}.get((kind, key))
    if column is not None and column in columns:
        return _compare(f"t.{column}", one, database)
    exists = _EXISTS.format(_TABLES[kind], "{}")
    if one.value is None:
        return ("NOT " if one.comparison == "IS NULL" else "") + exists.format(""), [key]
    term, values = _compare("p.value", one, database)
    return exists.format(f" AND {term}"), [key, *values]


def _compare(column: str, one: Condition, database: SqlDatabase) -> Term:
    """Return a comparison of a column with the value of a condition."""
    if one.value is None:
        return f"{column} {one.comparison}", []
    if isinstance(one.value, tuple):
        return f"{column} {one.comparison} ({', '.join('?' for _ in one.value)})", list(one.value)
    if one.comparison == "ILIKE":
        return database.compare_any_case(column), [one.value]
    is_large = isinstance(one.value, int) and abs(one.value) >= 2**63  # which a driver refuses
    return f"{column} {one.comparison} ?", [float(one.value) if is_large else one.value]
