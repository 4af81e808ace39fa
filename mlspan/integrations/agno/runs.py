"""Runs of Agno's agents, teams and workflows, and the steps of workflows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from opentelemetry import context as otel

from ..._shape import get_field, get_list, get_nested
from ...hooks.call import Begin, BegunCall, Call
from ...hooks.hook import Hook
from ...hooks.openai_format import dump_model
from ...tracing.operations import semconv as sc
from ...tracing.operations.content import to_plain_data
from ...tracing.operations.message_drafts import TextPieces
from ...tracing.operations.noop import NOOP_OPERATION
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import Agent, Chat, NamedRecord, Observe, Step, Workflow
from .wrappers import describe_failure, open_errors

_OWNER_KEY: Final = otel.create_key("mlspan-agno")  # context key of the object whose method is running
_STATUS: Final = "mlspan.agno.status"
_RESUMES: Final = "resumes"


def start_once(
    hook: Hook,
    begin: Begin,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    function: Callable[..., object] | None = None,
) -> object:
    """Start the operation of a call; none where an object's method calls another one of itself."""
    if otel.get_value(_OWNER_KEY) is args[0]:
        return NOOP_OPERATION
    operation = hook.start_operation(begin, args, kwargs, function=function)
    if isinstance(operation, Operation):
        operation.context = otel.set_value(_OWNER_KEY, args[0], operation.context)
        if not isinstance(operation.record, Chat):
            open_errors(operation)
    return operation


def begin_agent(call: Call) -> BegunCall:
    """Begin a run of an agent, or of a team, whose leader is one; also a run that goes on after a pause."""
    owner = call.args[0]
    record = Agent(
        name=get_nested(owner, "name", str),
        description=get_nested(owner, "description", str),
        conversation=call.argument("session_id", want=str) or get_nested(owner, "session_id", str),
    )
    if model := get_nested(owner, "model.id", str):
        record.model = model
    return _begin_run_record(record, call)


def begin_workflow(call: Call) -> BegunCall:
    """Begin a run of a workflow."""
    owner = call.args[0]
    given = call.argument("session_id", want=str) or get_nested(owner, "session_id", str)
    return _begin_run_record(Workflow(name=get_nested(owner, "name", str), conversation=given), call)


def _begin_run_record(record: Any, call: Call) -> BegunCall:
    if user := call.argument("user_id", want=str) or get_nested(call.args[0], "user_id", str):
        record.extra[sc.USER_ID] = user
    resumed = call.argument("run_id", want=str) or get_nested(call.argument("run_response"), "run_id", str)
    is_continued = call.function is not None and "continue" in call.function.__name__
    if is_continued and resumed:
        record.add_cause(_RESUMES, resumed)
    if call.capture_content:
        record.input = read_run_input(call.argument("input"))
    return record, _make_observe(call)


def read_run_input(raw: Any) -> object:
    """Return what a run was given: a text, or plain data of messages and models."""
    if isinstance(raw, (list, tuple)):
        return [read_run_input(one) for one in raw]
    if hasattr(raw, "role") and hasattr(raw, "content"):
        return {"role": get_nested(raw, "role", str), "content": to_plain_data(get_field(raw, "content"))}
    return to_plain_data(dump_model(raw))


def _make_observe(call: Call) -> Observe[Any]:
    """Return what reads a run's output, or the events of a stream."""

    def observe(record: Any, got: object) -> None:
        event = get_nested(got, "event", str)
        if event is not None and not hasattr(got, "status"):
            _read_event(record, got, event, capture=call.capture_content)
            return
        status = get_nested(got, "status.value", str) or get_nested(got, "status", str)
        _read_run_end(record, got, status)
        if call.capture_content and get_field(got, "content") is not None:
            record.output = to_plain_data(dump_model(get_field(got, "content")))

    return observe


def _read_event(record: Any, got: object, event: str, *, capture: bool) -> None:
    """Read an event of a stream: pieces of the answer, its end, a pause or an error."""
    if event.endswith(("RunPaused", "WorkflowPaused", "StepPaused")):
        _read_run_end(record, got, "PAUSED")
    elif event.endswith(("RunError", "WorkflowError")):
        said = get_nested(got, "content", str) or get_nested(got, "error", str)
        record.failure = describe_failure("run_error", said)
    elif event.endswith(("RunCancelled", "WorkflowCancelled")):
        _read_run_end(record, got, "CANCELLED")
    elif event.endswith(("RunCompleted", "WorkflowCompleted")):
        _read_run_end(record, got, None)
        if capture and get_field(got, "content") is not None and _is_own(record, got):
            record.output = to_plain_data(dump_model(get_field(got, "content")))
    elif capture and event.endswith("RunContent") and isinstance(piece := get_field(got, "content"), str):
        if not isinstance(record.output, TextPieces):
            record.output = TextPieces()
        record.output.append(piece)


def _is_own(record: object, got: object) -> bool:
    """Return whether an event is of this run, and not of a member's."""
    name = get_nested(got, "agent_name", str) or get_nested(got, "team_name", str)
    return not isinstance(record, Agent) or name in {None, record.name}


def _read_run_end(record: Any, got: object, status: str | None) -> None:
    """Read how a run has ended. One that is paused may be gone on with."""
    if status == "ERROR":
        record.failure = describe_failure("run_error", get_nested(got, "content", str))
    elif status in {"PAUSED", "CANCELLED"}:
        record.extra[_STATUS] = status.lower()
    if status == "PAUSED":
        record.extra[sc.INTERRUPTED] = True
        if run_id := get_nested(got, "run_id", str):
            record.add_offer(_RESUMES, run_id)


def begin_step(call: Call) -> BegunCall:
    """Begin a step of a workflow, or a group of steps."""
    owner = call.args[0]
    kind = type(owner).__name__
    record = Step(
        type="step" if kind in {"Step", "Steps"} else kind.lower(), name=get_nested(owner, "name", str) or kind
    )
    if call.capture_content:
        given = call.argument("step_input")
        asked, before = get_field(given, "input"), get_field(given, "previous_step_content")
        record.input = read_run_input(asked if before is None else {"input": asked, "previous": before})
    return record, lambda record, got: _observe_step(record, got, capture=call.capture_content)


def _observe_step(record: NamedRecord, got: object, *, capture: bool) -> None:
    """Read a StepOutput, also of a group; events of a stream are of the steps inside."""
    if type(got).__name__ != "StepOutput":
        return
    if capture:
        inner = get_list(got, "steps")
        said = get_field(got, "content")
        record.output = read_run_input(
            said if said is not None or not inner else [get_field(one, "content") for one in inner]
        )
    if get_field(got, "success") is False:
        record.failure = describe_failure("step_error", get_nested(got, "error", str))
