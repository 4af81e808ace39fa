"""Feedback and expectations as MLflow's assessments of a stored trace."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Final

from opentelemetry.sdk.trace import Event, ReadableSpan

from ...._shape import get_nested, get_text
from ...operations import semconv as sc
from ...operations.content import to_json
from ..dialects.dialect import parse_attribute
from .spans import storable

_MAX_NAME: Final = 250  # characters
_EVENTS: Final = frozenset({sc.EVALUATION_EVENT, sc.EXPECTATION_EVENT, sc.MLFLOW_ASSESSMENT_EVENT})
_SOURCE_TYPES: Final = frozenset({"HUMAN", "LLM_JUDGE", "CODE"})
_NS_PER_MS: Final = 1_000_000  # nanoseconds


@dataclass(frozen=True, slots=True)
class Assessment:
    """Feedback or an expectation about a trace, or about one of its spans."""

    id: str  # derived from the event's place, so that sending it twice stores it once
    name: str
    value: Any
    is_expectation: bool
    rationale: str | None
    source_type: str
    source_id: str
    span_id: str | None  # None: about the trace as a whole
    at: int  # milliseconds since 1970
    metadata: Mapping[str, str]
    told: Mapping[str, Any] | None = None  # an issue or an error, in MLflow's own form, in the place of a value


def is_assessment_span(span: ReadableSpan) -> bool:
    """Return True if *span* only carries an assessment and is no part of the trace itself."""
    return sc.ASSESSMENT in (span.attributes or {})


def read_assessments(spans: Sequence[ReadableSpan]) -> Iterator[Assessment]:
    """Yield the assessments in the events of *spans*. Other SDKs write ``gen_ai.evaluation.result`` events too."""
    for span in spans:
        for number, event in enumerate(span.events):
            if event.name in _EVENTS:
                found = _read_assessment(span, number, event)
                if event.name == sc.MLFLOW_ASSESSMENT_EVENT:
                    yield from _read_own_form(found)
                elif found.name and found.value is not None:
                    yield found


def _read_own_form(found: Assessment) -> Iterator[Assessment]:
    """Yield an assessment whose value says all of it in MLflow's own form, if it does: anybody may write such."""
    issue = get_nested(found.value, "issue.issue_name", str)
    error = get_nested(found.value, "feedback.error", dict)
    if issue:
        told: dict[str, Any] = {"issue": {"issue_name": storable(issue)}}
    elif error and get_text(error, "error_code"):
        said = {key: get_text(error, key) for key in ("error_code", "error_message", "stack_trace")}
        told = {"feedback": {"value": None, "error": {key: storable(text) for key, text in said.items() if text}}}
    else:
        return
    source_type, rationale = (
        get_nested(found.value, "source.source_type", str),
        get_nested(found.value, "rationale", str),
    )
    metadata = get_nested(found.value, "metadata", dict) or {}
    yield replace(
        found,
        told=told,
        rationale=rationale and storable(rationale),
        source_type=source_type if source_type in _SOURCE_TYPES else "CODE",
        source_id=storable(get_nested(found.value, "source.source_id", str) or "default")[:_MAX_NAME],
        span_id=get_nested(found.value, "span_id", str),
        metadata={storable(str(key)): storable(str(one)) for key, one in metadata.items()},
    )


def _read_assessment(span: ReadableSpan, number: int, event: Event) -> Assessment:
    """Return the assessment in the event with this *number* in the span."""
    attributes: Mapping[str, Any] = event.attributes or {}
    is_expectation, is_told = event.name == sc.EXPECTATION_EVENT, event.name == sc.MLFLOW_ASSESSMENT_EVENT
    value = parse_attribute(attributes.get(sc.ASSESSMENT_VALUE))
    if value is None:
        value = attributes.get(sc.EVALUATION_SCORE, attributes.get(sc.EVALUATION_LABEL))
    context: Any = span.get_span_context()
    metadata, rationale = (
        parse_attribute(attributes.get(sc.ASSESSMENT_METADATA)),
        attributes.get(sc.EVALUATION_EXPLANATION),
    )
    metadata = metadata if isinstance(metadata, dict) else {}
    told = f"{context.trace_id:x} {context.span_id:x} {number} {event.timestamp}"
    return Assessment(
        id="a-" + hashlib.blake2b(told.encode(), digest_size=16).hexdigest(),
        name=storable(
            str(attributes.get(sc.ASSESSMENT_NAME if is_expectation or is_told else sc.EVALUATION_NAME) or "")
        )[:_MAX_NAME],
        value=storable(value) if isinstance(value, str) else value,
        is_expectation=is_expectation,
        rationale=None if rationale is None else storable(str(rationale)),
        source_type=str(attributes.get(sc.ASSESSMENT_SOURCE) or "code").upper(),
        source_id=storable(str(attributes.get(sc.ASSESSMENT_SOURCE_ID) or "default"))[:_MAX_NAME],
        span_id=f"{span.parent.span_id if is_assessment_span(span) else context.span_id:016x}" if span.parent else None,
        at=event.timestamp // _NS_PER_MS,
        metadata={storable(str(key)): storable(str(one)) for key, one in metadata.items()}
        if isinstance(metadata, dict)
        else {},
    )


def assessment_to_rest(assessment: Assessment, trace_id: str) -> dict[str, Any]:
    """Return the body of MLflow's CreateAssessment, in the JSON form of protobuf."""
    at = datetime.fromtimestamp(assessment.at / 1000, tz=timezone.utc).isoformat(timespec="milliseconds")
    value: dict[str, Any] = {"value": assessment.value}
    if assessment.is_expectation and isinstance(assessment.value, (list, dict)):
        value = {"serialized_value": {"value": to_json(assessment.value), "serialization_format": "JSON_FORMAT"}}
    own = (
        {"expectation" if assessment.is_expectation else "feedback": value}
        if assessment.told is None
        else assessment.told
    )
    body = {
        "assessment_id": assessment.id,
        "assessment_name": assessment.name,
        "trace_id": trace_id,
        "span_id": assessment.span_id,
        "source": {"source_type": assessment.source_type, "source_id": assessment.source_id},
        "create_time": at.replace("+00:00", "Z"),
        "last_update_time": at.replace("+00:00", "Z"),
        **own,
        "rationale": assessment.rationale,
        "metadata": dict(assessment.metadata),
        "valid": True,
    }
    return {"assessment": {key: one for key, one in body.items() if one is not None}}
