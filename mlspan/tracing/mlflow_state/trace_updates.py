"""Updates of a trace of ours by MLflow's functions: tags, metadata, state, previews, assessments."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..._guard import guard
from ..._shape import get_field, get_nested
from ..operations import semconv as sc
from ..operations.content import to_json

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from ..operations.content import ContentPolicy

# Records an assessment: the event's name, the arguments of tracing.feedback, and the ids of trace and span.
recorders: Final[list[Callable[..., None]]] = []

_SOURCES: Final = {"HUMAN": "human", "LLM_JUDGE": "llm_judge", "AI_JUDGE": "llm_judge"}  # all others are code
# Metadata that has an attribute of ours.
_ATTRIBUTES: Final = {
    "mlflow.trace.session": sc.SESSION_ID,
    "mlflow.trace.user": sc.USER_ID,
    "mlflow.modelId": sc.MODEL_ID,
}


def write_trace_updates(span: Span, info: Any, policy: ContentPolicy) -> None:
    """Write what *info*, MLflow's TraceInfo, says beside what we know ourselves, to *span*; and its assessments."""
    metadata = {str(key): str(value) for key, value in info.trace_metadata.items()}
    for key, name in _ATTRIBUTES.items():
        if key in metadata:
            span.set_attribute(name, metadata[key])  # for receivers that know no MLflow
    state = str(getattr(info.state, "value", info.state))
    update: dict[str, Any] = {
        "tags": {str(key): str(value) for key, value in info.tags.items()},
        "metadata": metadata,
        "state": state if state in {"OK", "ERROR"} else None,
        "client_request_id": info.client_request_id,
    }
    if policy.on_spans:
        update["request_preview"], update["response_preview"] = (
            text and policy.render_text(text) for text in (info.request_preview, info.response_preview)
        )
    told = {key: value for key, value in update.items() if value}
    if told:
        span.set_attribute(sc.TRACE_UPDATE, to_json(told))
    assessments, info.assessments = info.assessments, []
    for assessment in assessments:
        with guard("copying an assessment"):  # one that fails takes no other along
            _copy_assessment(assessment, span, policy)


def _keep_form(assessment: Any, span: Span, policy: ContentPolicy) -> None:
    """Record an assessment that only MLflow has a form for: an issue, or feedback that could not be given."""
    told = assessment.to_dictionary()
    if not policy.on_spans:
        told = {key: value for key, value in told.items() if key not in {"metadata", "rationale"}}
        if error := get_nested(told, "feedback.error", dict):
            told["feedback"] = {**told["feedback"], "error": {"error_code": error.get("error_code", "")}}
    span.add_event(
        sc.MLFLOW_ASSESSMENT_EVENT,
        {sc.ASSESSMENT_NAME: policy.render_text(str(assessment.name)), sc.ASSESSMENT_VALUE: policy.render_json(told)},
    )


def _copy_assessment(assessment: Any, span: Span, policy: ContentPolicy) -> None:
    """Record one of MLflow's assessments as feedback or as an expectation of ours."""
    is_feedback = assessment.feedback is not None
    value = get_field(assessment.feedback or assessment.expectation, "value")
    if value is None:
        _keep_form(assessment, span, policy)
        return
    source, trace_id = assessment.source, span.get_span_context().trace_id
    for record in recorders:
        record(
            sc.EVALUATION_EVENT if is_feedback else sc.EXPECTATION_EVENT,
            assessment.name,
            value,
            assessment.rationale,
            _SOURCES.get(str(source.source_type), "code"),
            source.source_id,
            assessment.metadata,
            (trace_id, int(assessment.span_id, 16) if assessment.span_id else 0),
        )
