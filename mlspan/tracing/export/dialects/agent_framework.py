"""Agent Framework (Microsoft): the conventions, with a provider that is none and an address that is no address."""

from __future__ import annotations

from typing import Final

from ...operations import semconv as sc
from ...operations.content import to_json
from .dialect import Dialect, ForeignSpan, JsonObject, list_values

_KINDS: Final = {
    "workflow.run": sc.INVOKE_WORKFLOW,
    "workflow_invoke": sc.INVOKE_WORKFLOW,
}


def _read(span: ForeignSpan) -> JsonObject:
    operation = next((operation for name, operation in _KINDS.items() if span.name.startswith(name)), None)
    if operation is not None:
        return {sc.OPERATION: operation}
    return {sc.KIND: "task"} if span.name.startswith(("executor.process", "edge_group.process", "message.send")) else {}


def _correct(span: ForeignSpan) -> JsonObject:
    found: JsonObject = {}
    reasons = span.get(sc.RESPONSE_FINISH_REASONS)
    if isinstance(reasons, str):
        found[sc.RESPONSE_FINISH_REASONS] = tuple(map(str, list_values(reasons)))
    if span.get(sc.OPERATION) == sc.INVOKE_AGENT and span.get(sc.PROVIDER) == "microsoft.agent_framework":
        found[sc.PROVIDER] = None
    messages = list_values(span.get(sc.OUTPUT_MESSAGES))
    if len(messages) > 1 and any(one.get("role") == "tool" for one in messages if isinstance(one, dict)):
        found[sc.OUTPUT_MESSAGES] = to_json(messages[-1:])  # the calls and answers before it are spans of their own
    return found


AGENT_FRAMEWORK: Final = Dialect(
    scopes=("agent_framework",), names={"workflow.name": sc.WORKFLOW_NAME}, read=_read, correct=_correct
)
