"""Traces and spans as a tracking server tells them in JSON."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from .stored_spans import make_span


def make_info(told: dict[str, Any]) -> SimpleNamespace:
    """Return what MLflow's entity of a trace would say, from protobuf's JSON form of it."""
    duration = told.get("execution_duration")
    location = told.get("trace_location") or {}
    return SimpleNamespace(
        trace_id=str(told.get("trace_id", "")),
        experiment_id=str((location.get("mlflow_experiment") or {}).get("experiment_id", "")),
        request_time=_parse_time_ms(told.get("request_time", "")),
        execution_duration=None if duration is None else int(Decimal(str(duration).rstrip("s")) * 1000),
        state=told.get("state", "STATE_UNSPECIFIED"),
        request_preview=told.get("request_preview"),
        response_preview=told.get("response_preview"),
        trace_metadata=told.get("trace_metadata") or {},
        tags=told.get("tags") or {},
    )


def _parse_time_ms(text: str) -> int:
    """Return a time such as 2026-01-01T00:00:00.123456Z in whole milliseconds since 1970."""
    seconds, _, rest = text.removesuffix("Z").partition(".")
    try:
        whole = datetime.fromisoformat(f"{seconds}+00:00")
        return round(whole.timestamp()) * 1000 + int(f"{rest}000"[:3])
    except ValueError:
        return 0


def make_spans(told: list[dict[str, Any]]) -> list[SimpleNamespace]:
    """Return objects with the fields of MLflow's spans."""
    return [_make_older_span(one) if "context" in one else _make_span(one) for one in told]


def _make_span(one: dict[str, Any]) -> SimpleNamespace:
    span_id, parent_id = _decode_id(one["span_id"]), one.get("parent_span_id")
    parent = _decode_id(parent_id) if parent_id else None
    return make_span(span_id, parent, one["name"], int(one["start_time_unix_nano"]), one.get("end_time_unix_nano"), one)


def _make_older_span(one: dict[str, Any]) -> SimpleNamespace:
    """Return a span that MLflow 2 has stored in a file."""
    status = {"code": str(one.get("status_code", "")), "message": one.get("status_message")}
    return make_span(
        one["context"]["span_id"].removeprefix("0x"),
        (one.get("parent_id") or "").removeprefix("0x") or None,
        one["name"],
        one["start_time"],
        one.get("end_time"),
        {**one, "status": status},
    )


def _decode_id(text: str) -> str:
    """Return an id in hexadecimal digits from its form in JSON, base64."""
    try:
        return base64.b64decode(text, validate=True).hex()
    except (binascii.Error, ValueError):
        return text
