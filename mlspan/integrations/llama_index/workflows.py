"""Workflows and agents of LlamaIndex: their runs, their steps, and the turns of several agents in one run.

An agent is a workflow whose steps are LlamaIndex's own machinery; only its tool calls are recorded. In an
``AgentWorkflow`` several agents take turns in one run. Each turn is an operation, though no single call of LlamaIndex
stands for it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from ..._private_names import report_missing_name
from ..._shape import get_field, get_nested
from ...hooks.call import BegunCall
from ...hooks.run_registry import Run, RunRegistry
from ...tracing.operations import semconv as sc
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import Agent, NamedRecord, Step, Tool, Workflow
from . import requests as read
from .calls import DispatchedCall, set_enclosing_call
from .operations import observe_tool_output

# Private names, each with what is lost without it; a warning says so.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_get_steps": "the turns of the agents in a workflow are not told apart",
}
# A private name that some versions lack, and what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {"_workflow_name": "a workflow's own name, beside that of its class"}

_AGENT_STEPS: Final = frozenset(
    {"init_run", "setup_agent", "run_agent_step", "parse_agent_output", "call_tool", "aggregate_tool_results"}
)


def _list_steps(workflow: object) -> Any:
    """Return the names of the steps of *workflow*; none where this version does not tell them."""
    if not hasattr(workflow, "_get_steps"):
        report_missing_name("LlamaIndex", "_get_steps", PRIVATE_NAMES["_get_steps"])
        return ()
    return workflow._get_steps()


class WorkflowRun:
    """One run of a workflow. In a run of an ``AgentWorkflow``, *agent* is the name of the agent whose turn it is."""

    def __init__(self, owner: Any, operation: Operation) -> None:
        self.owner, self.operation = owner, operation
        self.steps = frozenset(_list_steps(owner))
        self.agent, self._count = "", 0

    @property
    def turn_key(self) -> object:
        """Return the id of the current turn in the registry of open calls."""
        return (self.operation, self._count)

    def start_turn(self, agent: str) -> None:
        """Give the turn to *agent*."""
        self.agent, self._count = agent, self._count + 1


class DispatchedRun(Run):
    """A dispatched call that is open. *workflow* is the run whose step it is, if it is a step without a span."""

    __slots__ = ("workflow",)

    def __init__(self, parent: object, operation: Operation | None = None) -> None:
        super().__init__(parent, operation)
        self.workflow: WorkflowRun | None = None


dispatched_calls: Final = RunRegistry(DispatchedRun)
workflow_runs: Final[dict[object, WorkflowRun]] = {}  # operation of a run -> that run


def is_agent(owner: object) -> bool:
    """Return whether a workflow is a single agent."""
    return any(cls.__name__ == "BaseWorkflowAgent" for cls in type(owner).__mro__)


def _is_agent_workflow(owner: object) -> bool:
    """Return whether a workflow is an ``AgentWorkflow``, in which several agents take turns."""
    return any(cls.__name__ == "AgentWorkflow" for cls in type(owner).__mro__)


def begin_workflow_run(seen: DispatchedCall) -> BegunCall:
    """Begin the record of a run of a workflow or an agent.

    A run that goes on from a saved context has no start event, and so no input.
    """
    owner, event = seen.owner, seen.arguments.get("start_event")
    given = read.read_event_fields(event) if event is not None else {}
    record: Agent | Workflow
    if is_agent(owner):
        record = Agent(name=get_nested(owner, "name", str), description=get_nested(owner, "description", str))
    else:
        named = get_nested(owner, "_workflow_name", str) or type(owner).__name__
        record = Workflow(name=None if named == "AgentWorkflow" else named)  # LlamaIndex's own class name says nothing
    record.conversation = read.find_conversation_id(getattr(event, "memory", None))
    if seen.capture_content:
        record.input = _format_agent_input(given) if is_agent(owner) or _is_agent_workflow(owner) else given
    return record, _observe_stop_event


def _format_agent_input(given: dict[str, Any]) -> object:
    """Return the input of an agent as the messages of a chat."""
    asked = given.get("user_msg")
    last = [{"role": "user", "content": asked}] if isinstance(asked, str) else [asked] if asked is not None else []
    return {"messages": read.simplify_step_value([*(given.get("chat_history") or []), *last])}


def _observe_stop_event(record: NamedRecord, got: object) -> None:
    """Read the result of a run, out of its ``StopEvent`` or by itself."""
    result = get_field(got, "result") if type(got).__name__ == "StopEvent" else got
    record.output = read.read_answer_text(result)


def begin_workflow_step(seen: DispatchedCall, run: WorkflowRun) -> BegunCall | None:
    """Begin the record of a step of *run*: a task, or the tool that an agent calls.

    Return None for any other step of an agent, which is LlamaIndex's machinery.
    """
    event = next((one for one in seen.arguments.values() if read.is_workflow_event(one)), None)
    has_agents = is_agent(run.owner) or _is_agent_workflow(run.owner)
    if not (has_agents and seen.method in _AGENT_STEPS):
        record = Step(type="task", name=seen.method)
        if seen.capture_content:
            events = [one for one in seen.arguments.values() if read.is_workflow_event(one) or isinstance(one, list)]
            record.input = read.simplify_step_value(events[0] if len(events) == 1 else events)
        return record, _observe_step_result
    if seen.method != "call_tool" or event is None:
        return None
    call = Tool(name=get_nested(event, "tool_name", str), type="function", call_id=get_nested(event, "tool_id", str))
    call.agent = run.agent or (get_nested(run.owner, "name", str) if is_agent(run.owner) else None)
    if seen.capture_content:
        call.input = read.simplify_step_value(get_field(event, "tool_kwargs"))
    return call, _observe_tool_step


def _observe_step_result(record: Step, got: object) -> None:
    """Read the event that a step returns; a step that waits returns None, and has its output already."""
    if got is not None:
        record.output = read.simplify_step_value(got)


def _observe_tool_step(record: Tool, got: object) -> None:
    """Read the tool's output out of the event that an agent's step returns."""
    if (output := get_field(got, "tool_output")) is not None:
        observe_tool_output(record, output)


def take_turn(seen: DispatchedCall, run: WorkflowRun) -> object:
    """Return the id of the turn that a step of an ``AgentWorkflow`` belongs to; None if it belongs to none.

    The step that sets an agent up starts its turn, ends the turn before, and links the new turn to it.
    """
    if not _is_agent_workflow(run.owner):
        return None
    event = next((one for one in seen.arguments.values() if hasattr(one, "current_agent_name")), None)
    name = get_nested(event, "current_agent_name", str)
    if seen.method == "setup_agent" and name and name != run.agent:
        before = dispatched_calls.find_operation(run.turn_key)
        dispatched_calls.end_operation(run.turn_key)
        run.start_turn(name)
        record = Agent(
            name=name, description=get_nested(get_field(get_field(run.owner, "agents") or {}, name), "description", str)
        )
        if seen.capture_content:
            record.input = {"messages": read.simplify_step_value(get_field(event, "input"))}
        if before is not None:
            record.add_cause("handed_off_by", before.span.get_span_context())
        operation = dispatched_calls.start_operation(run.turn_key, record)
        if operation is not None:
            set_enclosing_call(operation, "agent", run.owner, name)
    return run.turn_key if run.turn_key in dispatched_calls else None


def enter_spanless_step(id: str, run: WorkflowRun) -> None:
    """Make the span of the agent's turn current in a step that has no span of its own."""
    dispatched_calls.fold_run(id, run.turn_key).workflow = run
    dispatched_calls.enter_run(id)


def observe_spanless_step(id: str, result: object = None) -> None:
    """Record an agent's answer, with which a step without a span has ended, as the output of the agent's turn.

    A later answer in the same turn replaces it.
    """
    step = dispatched_calls.find_run(id)
    if step is None or step.workflow is None:
        return
    operation = dispatched_calls.find_operation(step.workflow.turn_key)
    if operation is not None and type(result).__name__ == "AgentOutput" and isinstance(operation.record, NamedRecord):
        operation.record.output = read.read_answer_text(result)


def note_waiting(operation: Operation, waiter: object) -> None:
    """Mark a step, or a tool inside of one, as interrupted, with the event that it waits for."""
    record = operation.record
    record.extra[sc.INTERRUPTED] = True
    if isinstance(record, NamedRecord):
        wanted = getattr(get_field(waiter, "event_type"), "__name__", None)
        record.output = {"waits_for": wanted, "asks": read.simplify_step_value(get_field(waiter, "waiter_event"))}


def end_workflow_run(operation: Operation | None, error: BaseException | None = None) -> BaseException | None:
    """End the last turn of a run that has ended, if *operation* is that of a run.

    Return the error of the operation; that of a run which the user has cancelled is a ``CancelledError``.
    """
    if (run := workflow_runs.pop(operation, None)) is None:
        return error
    if type(error).__name__ == "WorkflowCancelledByUser":
        error = asyncio.CancelledError()
    dispatched_calls.end_operation(run.turn_key, error)
    return error
