"""Traces as the commands show them, read from MLflow's by shape."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .._shape import get_field, get_list, get_nested, is_a
from ..tracing.export.mlflow.messages import as_text, parse_attribute, preview_answer, preview_request
from ..tracing.export.mlflow.spans import COST, TOKEN_USAGE
from ..tracing.export.mlflow.traces import SESSION_KEY, SOURCE_RUN_KEY, USER_KEY
from ..tracing.operations import semconv as sc
from .form import one_line


@dataclass(frozen=True)
class Tokens:
    """Counts; the input's include what was read from a cache."""

    input: int = 0
    output: int = 0
    total: int = 0

    @classmethod
    def read(cls, usage: Any) -> Tokens | None:
        usage = parse_attribute(usage)
        given, taken, total = (get_nested(usage, f"{name}_tokens", int) for name in ("input", "output", "total"))
        if given is None and taken is None and total is None:
            return None
        return cls(given or 0, taken or 0, total if total is not None else (given or 0) + (taken or 0))


@dataclass(frozen=True)
class Span:
    """One span; times in nanoseconds since 1970, cost in US dollars."""

    id: str
    parent: str | None
    name: str
    kind: str  # MLflow's span type: CHAT_MODEL, TOOL, AGENT, ...
    start: int
    end: int | None
    failed: bool
    error: str | None
    inputs: Any
    outputs: Any
    attributes: dict[str, Any]
    tokens: Tokens | None
    cost: float | None

    @property
    def ms(self) -> float | None:
        return None if self.end is None else (self.end - self.start) / 1e6

    @property
    def model(self) -> str | None:
        names = ("mlflow.llm.model", sc.RESPONSE_MODEL, sc.REQUEST_MODEL)
        return next((found for name in names if isinstance(found := self.attributes.get(name), str) and found), None)

    @cached_property
    def said(self) -> tuple[str, str]:
        """The first line of what was asked, and of what came back."""
        return one_line(_gist(preview_request, self.inputs)), one_line(_gist(preview_answer, self.outputs))


@dataclass(frozen=True)
class Trace:
    """One trace; times in milliseconds, the first since 1970. Without spans where only the list was asked for."""

    id: str
    name: str
    state: str  # OK, ERROR, IN_PROGRESS
    start: int
    ms: float | None
    request: str
    response: str
    experiment: str
    run: str | None
    session: str | None
    user: str | None
    tokens: Tokens | None
    cost: float | None
    tags: dict[str, str]
    spans: Sequence[Span] = field(default=())

    @property
    def failed(self) -> bool:
        return self.state == "ERROR"

    def tree(self) -> Iterator[tuple[Span, tuple[bool, ...]]]:
        """Spans from the top down, each with one flag for each level above it and its own: whether it is the last.

        A span whose parent is not there stands at the top.
        """
        known = {span.id for span in self.spans}
        below: dict[str | None, list[Span]] = {}
        for span in sorted(self.spans, key=lambda span: (span.start, -(span.end or span.start))):
            below.setdefault(span.parent if span.parent in known and span.parent != span.id else None, []).append(span)
        waiting: list[tuple[Span, tuple[bool, ...]]]
        waiting = [(span, (position == 0,)) for position, span in enumerate(reversed(below.get(None, [])))]
        while waiting:
            span, last = waiting.pop()
            yield span, last
            children = reversed(below.get(span.id, []))
            waiting += [(child, (*last, position == 0)) for position, child in enumerate(children)]


def read(found: Any) -> Trace:
    """A ``mlflow.entities.Trace`` or TraceInfo."""
    info = get_field(found, "info") or found
    metadata, tags = get_field(info, "trace_metadata") or {}, get_field(info, "tags") or {}
    spans = [_span(span) for span in get_list(found, "data.spans")]
    return Trace(
        id=str(info.trace_id),
        name=tags.get("mlflow.traceName") or next((span.name for span in spans if span.parent is None), ""),
        state=str(getattr(info.state, "value", info.state)),
        start=int(info.request_time),
        ms=_took(spans) if spans else info.execution_duration,
        request=get_field(info, "request_preview") or "",
        response=get_field(info, "response_preview") or "",
        experiment=str(get_field(info, "experiment_id") or ""),
        run=metadata.get(SOURCE_RUN_KEY),
        session=metadata.get(SESSION_KEY),
        user=metadata.get(USER_KEY),
        tokens=Tokens.read(metadata.get("mlflow.trace.tokenUsage")),
        cost=_dollars(metadata.get("mlflow.trace.cost")),
        tags={key: value for key, value in tags.items() if not key.startswith("mlflow.")},
        spans=spans,
    )


def from_spans(trace_id: str, found: Sequence[Any]) -> Trace:
    """A trace of which only spans are known: no tags, no experiment, and the counts of its topmost spans."""
    spans = [_span(span) for span in found]
    ids = {span.id for span in spans}
    tops = sorted((span for span in spans if span.parent not in ids), key=lambda span: span.start)
    return Trace(
        id=trace_id,
        name=tops[0].name if tops else "",
        state="ERROR" if any(span.failed for span in tops) else "OK",
        start=tops[0].start // 1_000_000 if tops else 0,
        ms=_took(spans),
        request="",
        response="",
        experiment="",
        run=None,
        session=None,
        user=None,
        tokens=None,
        cost=None,
        tags={},
        spans=spans,
    )


def _took(spans: Sequence[Span]) -> float | None:
    """Milliseconds, which MLflow rounds; None while something is open."""
    ends = [span.end for span in spans]
    return None if None in ends else (max(filter(None, ends)) - min(span.start for span in spans)) / 1e6


def _span(span: Any) -> Span:
    attributes = dict(span.attributes or {})
    status = getattr(span.status, "status_code", None)
    failed = getattr(status, "value", status) == "ERROR"
    usage = Tokens.read(attributes.get(TOKEN_USAGE)) or _genai_tokens(attributes)
    return Span(
        id=span.span_id,
        parent=span.parent_id or None,
        name=span.name,
        kind=str(span.span_type or "UNKNOWN"),
        start=int(span.start_time_ns),
        end=int(span.end_time_ns) if span.end_time_ns else None,
        failed=failed,
        error=_error(span, attributes) if failed else None,
        inputs=span.inputs,
        outputs=span.outputs,
        attributes=attributes,
        tokens=usage,
        cost=_dollars(attributes.get(COST)),
    )


def _genai_tokens(attributes: dict[str, Any]) -> Tokens | None:
    given, taken = attributes.get(sc.USAGE_INPUT_TOKENS), attributes.get(sc.USAGE_OUTPUT_TOKENS)
    return Tokens.read({"input_tokens": given, "output_tokens": taken})


def _dollars(cost: Any) -> float | None:
    """A cost that is no number is how the exporter writes one that is not known."""
    total: Any = get_field(parse_attribute(cost), "total_cost")
    return float(total) if is_a(total, (int, float)) and not math.isnan(total) else None


def _error(span: Any, attributes: dict[str, Any]) -> str:
    said = get_nested(span, "status.description", str)
    for event in get_list(span, "events"):
        if get_field(event, "name") == "exception":
            about = get_field(event, "attributes") or {}
            kind, message = str(about.get("exception.type", "")), str(about.get("exception.message", ""))
            said = (
                said if said and said not in message else f"{kind.rpartition('.')[2]}: {message}" if kind else message
            )
    return said or str(attributes.get(sc.ERROR_TYPE) or "failed")


def _gist(reader: Any, value: Any) -> str:
    try:
        return str(reader(value) or "")
    except (AttributeError, IndexError, KeyError, TypeError):  # another library's messages
        return as_text(value)


def as_json(trace: Trace) -> dict[str, Any]:
    """What ``--json`` prints of a trace: ids, times in milliseconds, tokens, US dollars."""
    return {
        "trace_id": trace.id,
        "name": trace.name,
        "status": trace.state,
        "start_ms": trace.start,
        "duration_ms": trace.ms,
        "tokens": vars(trace.tokens) if trace.tokens else None,
        "cost_usd": trace.cost,
        "experiment_id": trace.experiment,
        "run_id": trace.run,
        "session": trace.session,
        "user": trace.user,
        "tags": trace.tags,
        "request": trace.request,
        "response": trace.response,
    }


def spans_as_json(trace: Trace) -> list[dict[str, Any]]:
    return [
        {
            "span_id": span.id,
            "parent_id": span.parent,
            "depth": len(last) - 1,
            "name": span.name,
            "type": span.kind,
            "status": "ERROR" if span.failed else "OK",
            "error": span.error,
            "offset_ms": span.start / 1e6 - trace.start,
            "duration_ms": span.ms,
            "model": span.model,
            "tokens": vars(span.tokens) if span.tokens else None,
            "cost_usd": span.cost,
            "inputs": span.inputs,
            "outputs": span.outputs,
            "attributes": {key: value for key, value in span.attributes.items() if not key.startswith("mlflow.")},
        }
        for span, last in trace.tree()
    ]


def one_line_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def dumps(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
