"""Workflows and agents of LlamaIndex: their runs, their steps, and the turns of several agents in one run.

An agent is a workflow whose steps are LlamaIndex's own machinery; only its tool calls are recorded. In an
``AgentWorkflow`` several agents take turns in one run. Each turn is an operation, though no single call of LlamaIndex
stands for it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from ..._shape import dig, get
from ...hooks.run_registry import Ledger
from ...tracing.operations import semconv as sc
from ...tracing.operations.operation import Live
from ...tracing.operations.records import Agent, Named, Step, Tool, Workflow
from . import requests as read
from .operations import Begun, Seen, observe_tool, surround

ledger: Final = Ledger()
_MACHINERY: Final = frozenset(
    {"init_run", "setup_agent", "run_agent_step", "parse_agent_output", "call_tool", "aggregate_tool_results"}
)


class Run:
    """One run of a workflow. In a run of an ``AgentWorkflow``, *agent* is the name of the agent whose turn it is."""

    def __init__(self, owner: Any, operation: Live) -> None:
        self.owner, self.live = owner, operation
        self.steps = frozenset(owner._get_steps())
        self.agent, self._count = "", 0

    @property
    def turn(self) -> Any:
        """Return the id of the current turn in the registry of open calls."""
        return (self.live, self._count)

    def next(self, agent: str) -> None:
        """Give the turn to *agent*."""
        self.agent, self._count = agent, self._count + 1


runs: Final[dict[Any, Run]] = {}  # operation of a run -> that run


def is_agent(owner: object) -> bool:
    """Return whether a workflow is a single agent."""
    return any(cls.__name__ == "BaseWorkflowAgent" for cls in type(owner).__mro__)


def _is_team(owner: object) -> bool:
    """Return whether a workflow is an ``AgentWorkflow``, in which several agents take turns."""
    return any(cls.__name__ == "AgentWorkflow" for cls in type(owner).__mro__)


def begin_run(seen: Seen) -> Begun:
    """Begin the record of a run of a workflow or an agent.

    A run that goes on from a saved context has no start event, and so no input.
    """
    owner, event = seen.owner, seen.arguments.get("start_event")
    given = read.fields(event) if event is not None else {}
    record: Agent | Workflow
    if is_agent(owner):
        record = Agent(name=dig(owner, "name", str), description=dig(owner, "description", str))
    else:
        named = dig(owner, "_workflow_name", str) or type(owner).__name__
        record = Workflow(name=None if named == "AgentWorkflow" else named)  # LlamaIndex's own class name says nothing
    record.conversation = read.conversation(getattr(event, "memory", None))
    if seen.kept:
        record.input = _asked(given) if is_agent(owner) or _is_team(owner) else given
    return record, _observe_stop


def _asked(given: dict[str, Any]) -> Any:
    """Return the input of an agent as the messages of a chat."""
    asked = given.get("user_msg")
    last = [{"role": "user", "content": asked}] if isinstance(asked, str) else [asked] if asked is not None else []
    return {"messages": read.plain([*(given.get("chat_history") or []), *last])}


def _observe_stop(record: Named, got: Any) -> None:
    """Read the result of a run, out of its ``StopEvent`` or by itself."""
    result = get(got, "result") if type(got).__name__ == "StopEvent" else got
    record.output = read.text(result)


def begin_step(seen: Seen, run: Run) -> Begun | None:
    """Begin the record of a step of *run*: a task, or the tool that an agent calls.

    Return None for any other step of an agent, which is LlamaIndex's machinery.
    """
    event = next((one for one in seen.arguments.values() if read.is_event(one)), None)
    has_agents = is_agent(run.owner) or _is_team(run.owner)
    if not (has_agents and seen.method in _MACHINERY):
        record = Step(type="task", name=seen.method)
        if seen.kept:
            events = [one for one in seen.arguments.values() if read.is_event(one) or isinstance(one, list)]
            record.input = read.plain(events[0] if len(events) == 1 else events)
        return record, _observe_event
    if seen.method != "call_tool" or event is None:
        return None
    call = Tool(name=dig(event, "tool_name", str), type="function", call_id=dig(event, "tool_id", str))
    call.agent = run.agent or (dig(run.owner, "name", str) if is_agent(run.owner) else None)
    if seen.kept:
        call.input = read.plain(get(event, "tool_kwargs"))
    return call, _observe_call


def _observe_event(record: Step, got: Any) -> None:
    """Read the event that a step returns; a step that waits returns None, and has its output already."""
    if got is not None:
        record.output = read.plain(got)


def _observe_call(record: Tool, got: Any) -> None:
    """Read the tool's output out of the event that an agent's step returns."""
    if (output := get(got, "tool_output")) is not None:
        observe_tool(record, output)


def take_turn(seen: Seen, run: Run) -> Any:
    """Return the id of the turn that a step of an ``AgentWorkflow`` belongs to; None if it belongs to none.

    The step that sets an agent up starts its turn, ends the turn before, and links the new turn to it.
    """
    if not _is_team(run.owner):
        return None
    event = next((one for one in seen.arguments.values() if hasattr(one, "current_agent_name")), None)
    name = dig(event, "current_agent_name", str)
    if seen.method == "setup_agent" and name and name != run.agent:
        before = ledger.get(run.turn)
        ledger.end(run.turn)
        run.next(name)
        record = Agent(name=name, description=dig(get(get(run.owner, "agents") or {}, name), "description", str))
        if seen.kept:
            record.input = {"messages": read.plain(get(event, "input"))}
        operation = ledger.start(run.turn, record)
        if operation is not None:
            surround(operation, "agent", run.owner, name)
            if before is not None:
                operation.span.add_link(before.span.get_span_context(), {sc.LINK: "handed_off_by"})
    return run.turn if run.turn in ledger else None


steps: Final[dict[str, Run]] = {}  # id of a step that has no span of its own -> its run


def entered(id: str, run: Run) -> None:
    """Make the span of the agent's turn current in a step that has no span of its own."""
    steps[id] = run
    ledger.fold(id, run.turn)
    ledger.enter(id)


def left(id: str, result: Any = None) -> None:
    """Forget a step that has no span of its own, and record an agent's answer as the output of its turn.

    A later answer in the same turn replaces it.
    """
    run = steps.pop(id, None)
    operation = ledger.get(run.turn) if run is not None else None
    if operation is not None and type(result).__name__ == "AgentOutput" and isinstance(operation.record, Named):
        operation.record.output = dig(result, "response.content", str)


def wait(operation: Live, waiter: Any) -> None:
    """Mark a step, or a tool inside of one, as interrupted, with the event that it waits for."""
    record = operation.record
    record.extra["mlspan.interrupted"] = True
    if isinstance(record, Named):
        wanted = getattr(get(waiter, "event_type"), "__name__", None)
        record.output = {"waits_for": wanted, "asks": read.plain(get(waiter, "waiter_event"))}


def ended(operation: Live | None, error: BaseException | None = None) -> BaseException | None:
    """End the last turn of a run that has ended, if *operation* is that of a run.

    Return the error of the operation; that of a run which the user has cancelled is a ``CancelledError``.
    """
    if (run := runs.pop(operation, None)) is None:
        return error
    if type(error).__name__ == "WorkflowCancelledByUser":
        error = asyncio.CancelledError()
    ledger.end(run.turn, error)
    return error
