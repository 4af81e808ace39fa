"""Names that MLflow gives to attributes of spans and to metadata of traces, of those that its readers need as well."""

from __future__ import annotations

from typing import Final

# Attributes of spans.
SPAN_TYPE: Final = "mlflow.spanType"
INPUTS: Final = "mlflow.spanInputs"
OUTPUTS: Final = "mlflow.spanOutputs"
TOKEN_USAGE: Final = "mlflow.chat.tokenUsage"
COST: Final = "mlflow.llm.cost"
MODEL: Final = "mlflow.llm.model"

# Metadata and tags of traces.
SOURCE_RUN_KEY: Final = "mlflow.sourceRun"
TRACE_NAME_KEY: Final = "mlflow.traceName"
SESSION_KEY: Final = "mlflow.trace.session"
USER_KEY: Final = "mlflow.trace.user"
TRACE_TOKENS_KEY: Final = "mlflow.trace.tokenUsage"
TRACE_COST_KEY: Final = "mlflow.trace.cost"
WAITING_KEY: Final = "mlspan.waiting"  # tag: "true" if the trace has ended to wait for a person
RESUMES_KEY: Final = "mlspan.resumes"  # tag: the id of the trace that waited, and that this one goes on with
SPANS_LOCATION_KEY: Final = "mlflow.trace.spansLocation"

_MOST: Final = 2**63 - 1


def is_experiment_id(text: str) -> bool:
    """Return whether *text* is the id of an experiment, a number that databases hold; anything else is a name."""
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _MOST
