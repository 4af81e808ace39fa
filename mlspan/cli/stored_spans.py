"""Spans as MLflow stores them in JSON, as objects with the fields of MLflow's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from .._shape import get_list, get_nested, is_a
from ..tracing.export.mlflow.names import INPUTS, OUTPUTS, SPAN_TYPE
from .sql_terms import parse_value


def make_span(
    span_id: str, parent_id: str | None, name: str, start: int, end: int | None, content: object
) -> SimpleNamespace:
    """Return an object with the fields of MLflow's span. Times are in nanoseconds since 1970.

    Of stored *content* that is damaged, what is of MLflow's form counts.
    """
    attributes = {key: parse_value(value) for key, value in _get_object(content, "attributes").items()}
    status = _get_object(content, "status")
    return SimpleNamespace(
        span_id=span_id,
        parent_id=parent_id,
        name=name,
        span_type=attributes.get(SPAN_TYPE),
        start_time_ns=start,
        end_time_ns=end,
        status=SimpleNamespace(
            status_code=str(status.get("code", "")).removeprefix("STATUS_CODE_"), description=status.get("message")
        ),
        inputs=attributes.get(INPUTS),
        outputs=attributes.get(OUTPUTS),
        attributes=attributes,
        events=_list_objects(content, "events"),
        links=_list_objects(content, "links"),
    )


def _get_object(content: object, name: str) -> dict[str, Any]:
    """Return the object under *name*; an empty one if it is anything else."""
    return get_nested(content, name, dict) or {}


def _list_objects(content: object, name: str) -> list[dict[str, Any]]:
    """Return the objects under *name*, each with attributes that are one."""
    return [{**one, "attributes": _get_object(one, "attributes")} for one in get_list(content, name) if is_a(one, dict)]
