"""The terms of an SQL query for a filter of traces."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from ..tracing.export.mlflow.names import RESUMES_KEY, SESSION_KEY, SOURCE_RUN_KEY, WAITING_KEY
from .model import WAITING
from .reading import TraceFilter

_HAS_METADATA = (
    "EXISTS (SELECT 1 FROM trace_request_metadata m WHERE m.request_id = t.request_id AND m.key = '{}' AND m.value = ?)"
)
_IS_LINKED = (
    "EXISTS (SELECT 1 FROM entity_associations e WHERE e.source_id = t.request_id "
    "AND e.source_type = 'trace' AND e.destination_type = 'run' AND e.destination_id = ?)"
)

# Each list is made once for a query, by one pass over the table, which has no index by key.
_WAITS = (
    f"(t.request_id IN (SELECT request_id FROM trace_tags WHERE key = '{WAITING_KEY}' AND value = 'true') "  # noqa: S608
    f"AND t.request_id NOT IN (SELECT value FROM trace_tags WHERE key = '{RESUMES_KEY}' AND value IS NOT NULL))"
)


def make_marks(values: Iterable[object]) -> str:
    """Return a mark for each value: ``?, ?, ?``."""
    return ", ".join("?" for _ in values)


def make_terms(where: TraceFilter, experiments: Iterable[str], columns: set[str]) -> tuple[str, list[Any]]:
    """Return the condition on the table of traces, ``t``, and its parameters.

    Args:
        where: the filter.
        experiments: ids of the experiments.
        columns: the columns of the table of traces.
    """
    ids = [int(one) for one in experiments]
    terms, values = [f"t.experiment_id IN ({make_marks(ids)})"], [*ids]

    def add(term: str, *given: Any) -> None:
        if None not in given:
            terms.append(term)
            values.extend(given)

    add("t.timestamp_ms >= ?", where.since_ms)
    add("t.timestamp_ms < ?", where.until_ms)
    add("t.status = ?", "OK" if where.status == WAITING else where.status)
    if where.status in {WAITING, "OK"}:
        terms.append(_WAITS if where.status == WAITING else f"NOT {_WAITS}")
    add("t.request_id LIKE ?", None if where.id_prefix is None else f"{where.id_prefix}%")
    add("t.session_id = ?" if "session_id" in columns else _HAS_METADATA.format(SESSION_KEY), where.session)
    add(f"({_HAS_METADATA.format(SOURCE_RUN_KEY)} OR {_IS_LINKED})", where.run_id, where.run_id)
    return " AND ".join(terms), values


def parse_value(value: object) -> object:
    """Return the value of an attribute, which MLflow stores as JSON."""
    if isinstance(value, str):
        with suppress(ValueError):
            return json.loads(value)
    return value
