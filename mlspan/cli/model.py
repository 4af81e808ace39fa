"""Traces and spans as the commands show them.

They are read from MLflow's objects by attribute names, so that MLflow need not be imported.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from .._shape import get_field, get_list, get_nested, is_a
from ..tracing.export.dialects.dialect import parse_attribute
from ..tracing.export.mlflow.messages import as_text, preview_answer, preview_request
from ..tracing.export.mlflow.names import (
    COST,
    MODEL,
    RESUMES_KEY,
    SESSION_KEY,
    SOURCE_RUN_KEY,
    TOKEN_USAGE,
    TRACE_COST_KEY,
    TRACE_NAME_KEY,
    TRACE_TOKENS_KEY,
    USER_KEY,
    WAITING_KEY,
)
from ..tracing.operations import semconv as sc
from .common import write_line
from .form import escape_for_terminal, join_lines

WAITING: Final = "WAITING"  # the state of a trace that has ended to wait for a person, and that none has gone on with
OWN_TAGS: Final = (WAITING_KEY, RESUMES_KEY)  # told as what they mean
MODEL_NAMES: Final = (MODEL, sc.RESPONSE_MODEL, sc.REQUEST_MODEL)  # of attributes: the first that names a model counts


@dataclass(frozen=True)
class TokenCounts:
    """Token counts. The input includes tokens that were read from a cache."""

    input: int = 0
    output: int = 0
    total: int = 0

    @classmethod
    def from_usage(cls, usage: object) -> TokenCounts | None:
        """Return the counts of MLflow's token usage, a dict or its JSON text; None if it has none."""
        usage = parse_attribute(usage)
        input_tokens, output_tokens, total = (
            get_nested(usage, f"{name}_tokens", int) for name in ("input", "output", "total")
        )
        if input_tokens is None and output_tokens is None and total is None:
            return None
        return cls(
            input_tokens or 0,
            output_tokens or 0,
            total if total is not None else (input_tokens or 0) + (output_tokens or 0),
        )


@dataclass(frozen=True)
class SpanLink:
    """A link to a span of this trace or of another. *trace_id* is ``tr-`` and 32 digits."""

    kind: str  # asked_by, triggered_by, resumes, ...; empty for a link that does not say
    trace_id: str
    span_id: str

    @property
    def words(self) -> str:
        """Return what the link says, in words: ``asked by``."""
        return self.kind.replace("_", " ") or "linked to"


@dataclass(frozen=True)
class StoredSpan:
    """A span. Times are in nanoseconds since 1970, the cost in US dollars."""

    id: str
    parent_id: str | None
    name: str
    span_type: str  # MLflow's span type: CHAT_MODEL, TOOL, AGENT, ...
    start_ns: int
    end_ns: int | None
    failed: bool
    error: str | None
    inputs: object
    outputs: object
    attributes: dict[str, object]
    tokens: TokenCounts | None
    cost: float | None
    error_type: str | None = None  # of a failed span: the type of the exception, or the provider's code
    links: tuple[SpanLink, ...] = ()
    source: object = field(default=None, compare=False, repr=False)  # as the store gave it: status, events, links

    @property
    def duration_ms(self) -> float | None:
        """Return the duration in milliseconds; None while the span is open."""
        return None if self.end_ns is None else (self.end_ns - self.start_ns) / 1e6

    @property
    def model(self) -> str | None:
        """Return the name of the model, or None if the span names none."""
        values = map(self.attributes.get, MODEL_NAMES)
        return next((found for found in values if isinstance(found, str) and found), None)

    @cached_property
    def preview_lines(self) -> tuple[str, str]:
        """Return the beginning of the request and of the answer, each as one line."""
        return join_lines(_preview_messages(preview_request, self.inputs)), join_lines(
            _preview_messages(preview_answer, self.outputs)
        )


@dataclass(frozen=True)
class StoredTrace:
    """A trace. *start_ms* is in milliseconds since 1970. It has no spans if only the trace's summary was read."""

    id: str
    name: str
    state: str  # OK, ERROR, IN_PROGRESS, WAITING
    start_ms: int
    duration_ms: float | None
    request: str
    response: str
    experiment_id: str
    run_id: str | None
    session: str | None
    user: str | None
    tokens: TokenCounts | None
    cost: float | None
    tags: dict[str, str]
    spans: Sequence[StoredSpan] = field(default=())
    stored_ms: float | None = None  # the duration in whole milliseconds, as the store has it
    waited: bool = False  # it has ended to wait for a person, who may have answered since
    resumes: str | None = None  # the id of the trace that waited, and that this one goes on with

    @property
    def failed(self) -> bool:
        """Return whether the trace ended in an error."""
        return self.state == "ERROR"

    @property
    def question(self) -> str | None:
        """Return what it asks, or has asked, a person; None if it did not wait for one."""
        return self.response if self.waited else None

    def walk_tree(self) -> Iterator[tuple[StoredSpan, tuple[bool, ...]]]:
        """Yield the spans depth first, each with one flag for each level down to its own.

        A flag is true if the span at that level is the last among its siblings. A span whose parent is missing is a
        root, and so is the first of spans that are below each other in a circle.
        """
        known = {span.id for span in self.spans}
        children_by_parent: dict[str | None, list[StoredSpan]] = {}
        in_order = sorted(self.spans, key=lambda span: (span.start_ns, -(span.end_ns or span.start_ns)))
        circles = _find_circles(in_order)
        for span in in_order:
            is_root = span.parent_id not in known or span.id in circles
            children_by_parent.setdefault(None if is_root else span.parent_id, []).append(span)
        waiting: list[tuple[StoredSpan, tuple[bool, ...]]]
        waiting = [(span, (position == 0,)) for position, span in enumerate(reversed(children_by_parent.get(None, [])))]
        while waiting:
            span, is_last = waiting.pop()
            yield span, is_last
            children = reversed(children_by_parent.get(span.id, []))
            waiting += [(child, (*is_last, position == 0)) for position, child in enumerate(children)]


def _find_circles(spans: Iterable[StoredSpan]) -> set[str]:
    """Return the first span of each circle: spans that are below each other, or below themselves."""
    parents = {span.id: span.parent_id for span in spans}
    places = {span_id: place for place, span_id in enumerate(parents)}
    found: set[str] = set()
    checked: set[str] = set()
    for span_id in parents:
        path: dict[str, int] = {}
        above: str | None = span_id
        while above is not None and above in parents and above not in checked and above not in path:
            path[above] = len(path)
            above = parents[above]
        if above is not None and above in path:
            found.add(min(list(path)[path[above] :], key=places.__getitem__))
        checked.update(path)
    return found


def read_trace(found: Any) -> StoredTrace:
    """Return a ``mlflow.entities.Trace`` or ``TraceInfo`` as a StoredTrace."""
    info = get_field(found, "info") or found
    metadata, tags = get_field(info, "trace_metadata") or {}, get_field(info, "tags") or {}
    spans = [_read_span(span) for span in get_list(found, "data.spans")]
    return StoredTrace(
        id=str(info.trace_id),
        name=tags.get(TRACE_NAME_KEY) or next((span.name for span in spans if span.parent_id is None), ""),
        state=str(getattr(info.state, "value", info.state)),
        start_ms=int(info.request_time),
        duration_ms=_compute_duration_ms(spans) if spans else info.execution_duration,
        request=get_field(info, "request_preview") or "",
        response=get_field(info, "response_preview") or "",
        experiment_id=str(get_field(info, "experiment_id") or ""),
        run_id=metadata.get(SOURCE_RUN_KEY) or tags.get(SOURCE_RUN_KEY),
        session=metadata.get(SESSION_KEY),
        user=metadata.get(USER_KEY),
        tokens=TokenCounts.from_usage(metadata.get(TRACE_TOKENS_KEY)),
        cost=read_cost(metadata.get(TRACE_COST_KEY)),
        tags={key: value for key, value in tags.items() if not key.startswith("mlflow.") and key not in OWN_TAGS},
        spans=spans,
        stored_ms=info.execution_duration,
        waited=tags.get(WAITING_KEY) == "true",
        resumes=tags.get(RESUMES_KEY),
    )


def build_trace(trace_id: str, found: Sequence[object]) -> StoredTrace:
    """Return a trace built from its spans alone, without tags, experiment, tokens or cost of the whole trace."""
    spans = [_read_span(span) for span in found]
    ids = {span.id for span in spans}
    roots = sorted((span for span in spans if span.parent_id not in ids), key=lambda span: span.start_ns)
    return StoredTrace(
        id=trace_id,
        name=roots[0].name if roots else "",
        state="ERROR" if any(span.failed for span in roots) else "OK",
        start_ms=roots[0].start_ns // 1_000_000 if roots else 0,
        duration_ms=_compute_duration_ms(spans),
        request="",
        response="",
        experiment_id="",
        run_id=None,
        session=None,
        user=None,
        tokens=None,
        cost=None,
        tags={},
        spans=spans,
    )


def _compute_duration_ms(spans: Sequence[StoredSpan]) -> float | None:
    """Return the duration in milliseconds; None if a span is still open. MLflow's own figure is rounded."""
    ends = [span.end_ns for span in spans]
    return None if None in ends else (max(filter(None, ends)) - min(span.start_ns for span in spans)) / 1e6


def _read_span(span: Any) -> StoredSpan:
    """Return a span of MLflow, or an object with the same fields, as a StoredSpan."""
    attributes = dict(span.attributes or {})
    status = getattr(span.status, "status_code", None)
    failed = getattr(status, "value", status) == "ERROR"
    usage = read_token_counts(*map(attributes.get, (TOKEN_USAGE, sc.USAGE_INPUT_TOKENS, sc.USAGE_OUTPUT_TOKENS)))
    return StoredSpan(
        id=span.span_id,
        parent_id=span.parent_id or None,
        name=span.name,
        span_type=str(span.span_type or "UNKNOWN"),
        start_ns=int(span.start_time_ns),
        end_ns=int(span.end_time_ns) if span.end_time_ns else None,
        failed=failed,
        error=_find_error(span, attributes) if failed else None,
        inputs=span.inputs,
        outputs=span.outputs,
        attributes=attributes,
        tokens=usage,
        cost=read_cost(attributes.get(COST)),
        error_type=find_error_type(attributes, get_list(span, "events")) if failed else None,
        links=tuple(map(_read_link, get_list(span, "links"))),
        source=span,
    )


def _read_link(link: Any) -> SpanLink:
    """Return a link of a span that MLflow has stored."""
    kind = (get_field(link, "attributes") or {}).get(sc.LINK)
    return SpanLink(
        kind if isinstance(kind, str) else "", str(get_field(link, "trace_id")), str(get_field(link, "span_id"))
    )


def read_token_counts(usage: object, input_tokens: object, output_tokens: object) -> TokenCounts | None:
    """Return the counts of a span: of MLflow's token usage, or else of the GenAI conventions; None without both."""
    counts = {"input_tokens": input_tokens, "output_tokens": output_tokens}
    return TokenCounts.from_usage(usage) or TokenCounts.from_usage(counts)


def read_cost(cost: object) -> float | None:
    """Return the total in US dollars, or None. The exporter writes NaN for a cost that is not known."""
    total: Any = get_field(parse_attribute(cost), "total_cost")
    return float(total) if is_a(total, (int, float)) and not math.isnan(total) else None


def _find_error(span: object, attributes: dict[str, object]) -> str:
    """Return the description of a failed span's error, completed by its exception event."""
    description = get_nested(span, "status.description", str)
    for event in get_list(span, "events"):
        if get_field(event, "name") == "exception":
            details = get_field(event, "attributes") or {}
            kind, message = (
                str(details.get("exception.type", "")),
                str(details.get("exception.message", "")),
            )
            description = (
                description
                if description and description not in message
                else f"{kind.rpartition('.')[2]}: {message}"
                if kind
                else message
            )
    return description or str(attributes.get(sc.ERROR_TYPE) or "failed")


def find_error_type(attributes: dict[str, object], events: Iterable[object]) -> str:
    """Return the type of a failed span's error, without its module: what the span says, or else its exception event."""
    named = attributes.get(sc.ERROR_TYPE)
    raised = [(get_field(event, "attributes") or {}).get("exception.type") for event in events]
    kind = next((one for one in (named, *reversed(raised)) if isinstance(one, str) and one), "failed")
    return kind.rpartition(".")[2] or kind


def _preview_messages(reader: Any, value: object) -> str:
    """Return the preview that *reader* makes of *value*, or all of *value* as text if it cannot."""
    try:
        return str(reader(value) or "")
    except (AttributeError, IndexError, KeyError, TypeError):  # messages in another library's format
        return as_text(value)


def trace_to_json(trace: StoredTrace) -> dict[str, object]:
    """Return a trace as ``--json`` prints it: ids, times in milliseconds, tokens, cost in US dollars."""
    return {
        "trace_id": trace.id,
        "name": trace.name,
        "status": trace.state,
        "start_ms": trace.start_ms,
        "duration_ms": trace.duration_ms,
        "tokens": vars(trace.tokens) if trace.tokens else None,
        "cost_usd": trace.cost,
        "experiment_id": trace.experiment_id,
        "run_id": trace.run_id,
        "session": trace.session,
        "user": trace.user,
        "tags": trace.tags,
        "request": trace.request,
        "response": trace.response,
        "question": trace.question,
        "resumes": trace.resumes,
    }


def spans_to_json(trace: StoredTrace) -> list[dict[str, object]]:
    """Return the spans of a trace as ``--json`` prints them, depth first."""
    return [
        {
            "span_id": span.id,
            "parent_id": span.parent_id,
            "depth": len(is_last) - 1,
            "name": span.name,
            "type": span.span_type,
            "status": "ERROR" if span.failed else "OK",
            "error": span.error,
            "error_type": span.error_type,
            "offset_ms": span.start_ns / 1e6 - trace.start_ms,
            "duration_ms": span.duration_ms,
            "model": span.model,
            "tokens": vars(span.tokens) if span.tokens else None,
            "cost_usd": span.cost,
            "inputs": span.inputs,
            "outputs": span.outputs,
            "links": [vars(link) for link in span.links],
            "attributes": {key: value for key, value in span.attributes.items() if not key.startswith("mlflow.")},
        }
        for span, is_last in trace.walk_tree()
    ]


def dump_json(value: object, *, indent: int | None = 2) -> str:
    """Return *value* as JSON, indented, or on one line with ``indent=None``."""
    return json.dumps(value, indent=indent, ensure_ascii=False, default=str)


def write_json(value: object, *, indent: int | None = 2) -> None:
    """Write *value* to standard output as JSON. On a terminal, what would control it is escaped."""
    text = dump_json(value, indent=indent)
    write_line(escape_for_terminal(text) if sys.stdout.isatty() else text)
