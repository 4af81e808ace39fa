"""What people, judges and code say of a trace: feedback and expectations, as events of its spans."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, Literal

from opentelemetry import trace
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags, set_span_in_context

from .._guard import guard, tell_once
from .._version import __version__
from . import semconv as sc
from .content import Policy, snapshot, to_json
from .context import suppressed
from .manual import span as own_span
from .setup import Runtime, runtime

Source = Literal["human", "llm_judge", "code"]

_SOURCES: Final = ("human", "llm_judge", "code")
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)


def feedback(
    name: str,
    value: Any,
    *,
    rationale: str | None = None,
    source: Source = "code",
    source_id: str | None = None,
    metadata: Mapping[str, str] | None = None,
    trace_id: str | None = None,
    span_id: str | None = None,
    span: own_span | Span | None = None,
) -> None:
    """Say how good the current trace, or a given one, is: ``feedback("thumbs", True, source="human")``.

    The span gets the conventions' ``gen_ai.evaluation.result`` event, MLflow an assessment once it has the trace: of
    the span, or of the whole trace where the span is its root. Call it as often as you like; each counts.

    Args:
        name: what is judged, such as ``"relevance"``: few different ones.
        value: number, boolean, text, or lists and dicts of those.
        rationale: why; content, and so left out where ``capture_content`` is off.
        source: who says so.
        source_id: which person, model or program.
        metadata: more to be known of the judgement.
        trace_id: 32 hexadecimal digits, as :func:`mlspan.tracing.current_trace_id` gives them; of a trace of any
            process, and whether it has ended or not.
        span_id: 16 hexadecimal digits, of a span of that trace.
        span: of this process, open or ended, rather than the current one.

    Raises:
        ValueError: there is no value, the source is none of the three, or an id is none.
    """
    _require(value is not None, "feedback needs a value")
    _assess(sc.EVALUATION_EVENT, name, value, rationale, source, source_id, metadata, _target(trace_id, span_id, span))


def expectation(
    name: str,
    value: Any,
    *,
    source: Source = "human",
    source_id: str | None = None,
    metadata: Mapping[str, str] | None = None,
    trace_id: str | None = None,
    span_id: str | None = None,
    span: own_span | Span | None = None,
) -> None:
    """Say what the right answer would have been: ``expectation("answer", "Paris")``. As :func:`feedback` otherwise.

    It is content: where ``capture_content`` is off, there is nothing to record. The conventions have no name for it,
    so its event is ``mlspan.expectation``.
    """
    _require(value is not None, "an expectation needs a value")
    _assess(sc.EXPECTATION_EVENT, name, value, None, source, source_id, metadata, _target(trace_id, span_id, span))


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _target(trace_id: str | None, span_id: str | None, span: own_span | Span | None) -> Span | tuple[int, int] | None:
    """A span of this process, or the ids of a trace and of a span (0: of the trace as a whole); None: there is none."""
    if span is not None:
        return (span._live.span if span._live is not None else None) if isinstance(span, own_span) else span
    current = trace.get_current_span()
    here = current.get_span_context()
    if trace_id is None:
        _require(span_id is None, "span_id: its trace_id is needed too")
        return current if here.is_valid else None
    ids = _id(trace_id.removeprefix("tr-"), 32, "trace_id"), _id(span_id, 16, "span_id") if span_id else 0
    return current if ids == (here.trace_id, here.span_id) else ids


def _id(text: str, digits: int, name: str) -> int:
    try:
        found = int(text, 16) if len(text) == digits else 0
    except ValueError:
        found = 0
    _require(found > 0, f"{name}: {digits} hexadecimal digits, not {text!r}")
    return found


def _assess(
    event: str,
    name: str,
    value: Any,
    rationale: str | None,
    source: str,
    source_id: str | None,
    metadata: Mapping[str, str] | None,
    target: Span | tuple[int, int] | None,
) -> None:
    _require(source in _SOURCES, f"source takes one of {', '.join(_SOURCES)}, not {source!r}")
    if suppressed() or (now := runtime()) is None:
        return
    if target is None:
        tell_once("mlspan: %s %r is of no trace: none is current, and no trace_id was given", event, name)
        return
    with guard("recording an assessment"):
        policy = now.policy
        is_feedback = event == sc.EVALUATION_EVENT
        said = _scored(policy, name, value, rationale) if is_feedback else _expected(policy, name, value)
        said[sc.ASSESSMENT_SOURCE] = source
        said[sc.ASSESSMENT_SOURCE_ID] = policy.text(source_id) if source_id else None
        said[sc.ASSESSMENT_METADATA] = policy.json(dict(metadata)) if metadata else None
        if policy.capture or is_feedback:
            _record(now, event, {key: one for key, one in said.items() if one is not None}, target)


def _scored(policy: Policy, name: str, value: Any, rationale: str | None) -> dict[str, Any]:
    """As the conventions have it; what they cannot say (a list) stands in a name of ours, and so does the type."""
    number = float(value) if isinstance(value, (bool, int, float)) else None
    label = to_json(value) if isinstance(value, bool) else policy.text(value) if isinstance(value, str) else None
    return {
        sc.EVALUATION_NAME: policy.text(name),
        sc.EVALUATION_SCORE: number,
        sc.EVALUATION_LABEL: label,
        sc.EVALUATION_EXPLANATION: policy.text(rationale) if rationale and policy.capture else None,
        sc.ASSESSMENT_VALUE: policy.json(snapshot(value)),
    }


def _expected(policy: Policy, name: str, value: Any) -> dict[str, Any]:
    return {sc.ASSESSMENT_NAME: policy.text(name), sc.ASSESSMENT_VALUE: policy.json(snapshot(value))}


def _record(now: Runtime, event: str, said: Mapping[str, Any], target: Span | tuple[int, int]) -> None:
    if isinstance(target, Span):
        if target.is_recording():
            target.add_event(event, said)
            return
        ids = target.get_span_context()
        if not ids.trace_flags.sampled:
            return
        target = ids.trace_id, ids.span_id
    _send(now, event, said, *target)


def _send(now: Runtime, event: str, said: Mapping[str, Any], trace_id: int, span_id: int) -> None:
    """Where no span is open: in one of its own, of no duration, below the one that is meant.

    No tracer can start a span in a trace without a parent, so where only the trace is known it goes through our own
    exporters alone.
    """
    at = time.time_ns()
    if not span_id:
        now.submit(_alone(now, event, said, trace_id, at))
        return
    parent = NonRecordingSpan(SpanContext(trace_id, span_id, is_remote=True, trace_flags=_SAMPLED))
    span = now.tracer().start_span(event, set_span_in_context(parent), attributes={sc.ASSESSMENT: event}, start_time=at)
    span.add_event(event, said, at)
    span.end(at)


def _alone(now: Runtime, event: str, said: Mapping[str, Any], trace_id: int, at: int) -> ReadableSpan:
    span_id = RandomIdGenerator().generate_span_id()
    return ReadableSpan(
        event,
        SpanContext(trace_id, span_id, is_remote=False, trace_flags=_SAMPLED),
        resource=now.resource,
        attributes={sc.ASSESSMENT: event},
        events=[Event(event, said, at)],
        start_time=at,
        end_time=at,
        instrumentation_scope=InstrumentationScope("mlspan", __version__),
    )
