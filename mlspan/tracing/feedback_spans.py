"""Feedback and expectations: what people, LLM judges and code say about a trace, recorded as events of its spans."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, Literal

from opentelemetry import trace
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags, set_span_in_context

from .._guard import guard, warn_once
from .._version import __version__
from .configured_runtime import Runtime
from .manual import span as own_span
from .mlflow_state import trace_updates
from .operations import semconv as sc
from .operations.content import ContentPolicy, to_json, to_plain_data
from .operations.suppression import is_suppressed
from .runtime import get_runtime

EvaluationSource = Literal["human", "llm_judge", "code"]

_EVALUATION_SOURCES: Final = ("human", "llm_judge", "code")
_SAMPLED_FLAGS: Final = TraceFlags(TraceFlags.SAMPLED)


def feedback(
    name: str,
    value: object,
    *,
    rationale: str | None = None,
    source: EvaluationSource = "code",
    source_id: str | None = None,
    metadata: Mapping[str, str] | None = None,
    trace_id: str | None = None,
    span_id: str | None = None,
    span: own_span | Span | None = None,
) -> None:
    """Record how good the current trace, or a given one, is: ``feedback("thumbs", True, source="human")``.

    The span gets the conventions' ``gen_ai.evaluation.result`` event. MLflow gets an assessment once it has the trace:
    of the span, or of the whole trace if the span is its root. Each call adds one more assessment.

    Args:
        name: what is judged, such as ``"relevance"``. Use few different names.
        value: number, boolean, text, or lists and dicts of those.
        rationale: why. This is content, so it is left out if ``capture_content`` is off.
        source: the kind of judge.
        source_id: the person, model or program that judges.
        metadata: more facts about the judgement.
        trace_id: 32 hexadecimal digits, as from :func:`mlspan.tracing.current_trace_id`. The trace may be of another
            process, and may still be open or have ended.
        span_id: 16 hexadecimal digits: a span of that trace.
        span: a span of this process, open or ended, instead of the current one.

    Raises:
        ValueError: the value is missing, the source is none of the three, or an id is malformed.
    """
    _raise_unless(value is not None, "feedback needs a value")
    record_assessment(
        sc.EVALUATION_EVENT, name, value, rationale, source, source_id, metadata, _find_target(trace_id, span_id, span)
    )


def expectation(
    name: str,
    value: object,
    *,
    source: EvaluationSource = "human",
    source_id: str | None = None,
    metadata: Mapping[str, str] | None = None,
    trace_id: str | None = None,
    span_id: str | None = None,
    span: own_span | Span | None = None,
) -> None:
    """Record what the right answer would have been: ``expectation("answer", "Paris")``. See :func:`feedback`.

    An expectation is content: nothing is recorded if ``capture_content`` is off. The conventions have no name for it,
    so its event is ``mlspan.expectation``.
    """
    _raise_unless(value is not None, "an expectation needs a value")
    record_assessment(
        sc.EXPECTATION_EVENT, name, value, None, source, source_id, metadata, _find_target(trace_id, span_id, span)
    )


def _raise_unless(holds: bool, what: str) -> None:
    """Raise ValueError with the message *what* unless *holds* is true."""
    if not holds:
        raise ValueError(what)


def _find_target(
    trace_id: str | None, span_id: str | None, span: own_span | Span | None
) -> Span | tuple[int, int] | None:
    """Return the span that is meant, or the ids (trace, span) if it is not at hand; None if there is none.

    A span id of 0 stands for the trace as a whole.
    """
    if span is not None:
        return (span._operation.span if span._operation is not None else None) if isinstance(span, own_span) else span
    current = trace.get_current_span()
    current_context = current.get_span_context()
    if trace_id is None:
        _raise_unless(span_id is None, "span_id: its trace_id is needed too")
        return current if current_context.is_valid else None
    ids = (
        _parse_hex_id(trace_id.removeprefix("tr-"), 32, "trace_id"),
        _parse_hex_id(span_id, 16, "span_id") if span_id else 0,
    )
    return current if ids == (current_context.trace_id, current_context.span_id) else ids


def _parse_hex_id(text: str, digits: int, name: str) -> int:
    """Return the integer that *text* writes in hexadecimal. Raise ValueError if it has not exactly *digits* digits."""
    try:
        number = int(text, 16) if len(text) == digits else 0
    except ValueError:
        number = 0
    _raise_unless(number > 0, f"{name}: {digits} hexadecimal digits, not {text!r}")
    return number


def record_assessment(
    event: str,
    name: str,
    value: object,
    rationale: str | None,
    source: str,
    source_id: str | None,
    metadata: Mapping[str, str] | None,
    target: Span | tuple[int, int] | None,
) -> None:
    """Record one assessment of *target* as an event named *event*. Raise ValueError for an unknown *source*."""
    _raise_unless(
        source in _EVALUATION_SOURCES, f"source takes one of {', '.join(_EVALUATION_SOURCES)}, not {source!r}"
    )
    if is_suppressed() or (now := get_runtime()) is None:
        return
    if target is None:
        warn_once("mlspan: %s %r is of no trace: none is current, and no trace_id was given", event, name, place=name)
        return
    with guard("recording an assessment"):
        policy = now.policy
        is_feedback = event == sc.EVALUATION_EVENT
        attributes = (
            _build_evaluation_attributes(policy, name, value, rationale)
            if is_feedback
            else _build_expectation_attributes(policy, name, value)
        )
        attributes[sc.ASSESSMENT_SOURCE] = source
        attributes[sc.ASSESSMENT_SOURCE_ID] = policy.render_text(source_id) if source_id else None
        attributes[sc.ASSESSMENT_METADATA] = policy.render_json(dict(metadata)) if metadata else None
        if policy.on_spans or is_feedback:
            _attach_event(now, event, {key: item for key, item in attributes.items() if item is not None}, target)


def _build_evaluation_attributes(
    policy: ContentPolicy, name: str, value: object, rationale: str | None
) -> dict[str, object]:
    """Return the attributes of an evaluation event.

    The conventions have no place for lists and lose the value's type, so ``mlspan.assessment.value`` holds it as JSON.
    """
    number = float(value) if isinstance(value, (bool, int, float)) else None
    label = to_json(value) if isinstance(value, bool) else policy.render_text(value) if isinstance(value, str) else None
    return {
        sc.EVALUATION_NAME: policy.render_text(name),
        sc.EVALUATION_SCORE: number,
        sc.EVALUATION_LABEL: label,
        sc.EVALUATION_EXPLANATION: policy.render_text(rationale) if rationale and policy.on_spans else None,
        sc.ASSESSMENT_VALUE: policy.render_json(to_plain_data(value)),
    }


def _build_expectation_attributes(policy: ContentPolicy, name: str, value: object) -> dict[str, object]:
    """Return the attributes of an expectation event."""
    return {sc.ASSESSMENT_NAME: policy.render_text(name), sc.ASSESSMENT_VALUE: policy.render_json(to_plain_data(value))}


def _attach_event(now: Runtime, event: str, attributes: Mapping[str, Any], target: Span | tuple[int, int]) -> None:
    """Add the event to *target* if that is still open, else send it in a span of its own."""
    if isinstance(target, Span):
        if target.is_recording():
            target.add_event(event, attributes)
            return
        ids = target.get_span_context()
        if not ids.trace_flags.sampled:
            return
        target = ids.trace_id, ids.span_id
    _emit_event_span(now, event, attributes, *target)


def _emit_event_span(now: Runtime, event: str, attributes: Mapping[str, Any], trace_id: int, span_id: int) -> None:
    """Send the event in a span of its own, of no duration, below the span that it is about.

    A tracer cannot start a span in a trace without a parent. If only the trace is known, the span goes to our own
    exporters and bypasses the tracer.
    """
    now_ns = time.time_ns()
    if not span_id:
        now.submit_span(_build_parentless_span(now, event, attributes, trace_id, now_ns))
        return
    parent = NonRecordingSpan(SpanContext(trace_id, span_id, is_remote=True, trace_flags=_SAMPLED_FLAGS))
    span = now.get_tracer().start_span(
        event, set_span_in_context(parent), attributes={sc.ASSESSMENT: event}, start_time=now_ns
    )
    span.add_event(event, attributes, now_ns)
    span.end(now_ns)


def _build_parentless_span(
    now: Runtime, event: str, attributes: Mapping[str, Any], trace_id: int, time_ns: int
) -> ReadableSpan:
    """Return an ended span that has the given trace id and no parent, and carries the event."""
    span_id = RandomIdGenerator().generate_span_id()
    return ReadableSpan(
        event,
        SpanContext(trace_id, span_id, is_remote=False, trace_flags=_SAMPLED_FLAGS),
        resource=now.resource,
        attributes={sc.ASSESSMENT: event},
        events=[Event(event, attributes, time_ns)],
        start_time=time_ns,
        end_time=time_ns,
        instrumentation_scope=InstrumentationScope("mlspan", __version__),
    )


trace_updates.recorders.append(record_assessment)  # those that MLflow's functions add to a trace of ours
