"""Spans as a collector's file exporter writes them, for what reads such files."""

from __future__ import annotations

import json
from typing import Any

BEGAN = 1_767_225_600_000_000_000  # 2026-01-01 00:00:00 UTC, in nanoseconds


def span(
    trace: str, number: int, name: str, parent: int = 0, *, at: float = 0, ms: float = 1, **more: Any
) -> dict[str, Any]:
    """One span of the trace whose id begins with *trace*: *at* milliseconds after BEGAN, for *ms*.

    *more* is ``error``, as in ``"TimeoutError: nobody answered"``, and attributes, whose names have ``__`` for the dot.
    """
    start = BEGAN + int(at * 1e6)
    error = more.pop("error", None)
    found = {
        "traceId": trace.ljust(32, "0"),
        "spanId": f"{number:016x}",
        "parentSpanId": f"{parent:016x}" if parent else "",
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + int(ms * 1e6)),
        "attributes": [{"key": key.replace("__", "."), "value": _value(value)} for key, value in more.items()],
        "status": {"code": 2, "message": error} if error else {},
    }
    if error:
        kind, _, message = error.partition(": ")
        about = {"exception.type": kind, "exception.message": message}
        attributes = [{"key": key, "value": _value(value)} for key, value in about.items()]
        found["events"] = [{"name": "exception", "timeUnixNano": str(start), "attributes": attributes}]
    return found


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"stringValue": value if isinstance(value, str) else json.dumps(value)}


def request(*spans: dict[str, Any]) -> dict[str, Any]:
    scope = {"name": "some.instrumentation", "version": "1"}
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": scope, "spans": list(spans)}]}]}


def lines(*spans: dict[str, Any]) -> str:
    """A request for each span, one on a line."""
    return "".join(json.dumps(request(one)) + "\n" for one in spans)


def said(role: str, text: str) -> list[dict[str, Any]]:
    """One message in the conventions' shape."""
    return [{"role": role, "parts": [{"type": "text", "content": text}]}]
