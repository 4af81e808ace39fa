"""Runs of smolagents' agents, their steps and their plans."""

from __future__ import annotations

from typing import Any, Final

from ..._shape import get_field, get_list, get_nested
from ...hooks.call import BegunCall, Call
from ...hooks.hook import Hook
from ...tracing.operations.agent_records import Plan
from ...tracing.operations.content import to_plain_data
from ...tracing.operations.noop import NOOP_OPERATION
from ...tracing.operations.records import Agent, Step
from .wrappers import is_running, mark_running

_STOP_REASON: Final = "mlspan.stop_reason"


def start_agent_run(hook: Hook, args: Any, kwargs: Any, *, function: Any = None) -> Any:
    """Start the operation of ``run`` of an agent; none where ``run`` calls the one that it overrides."""
    if is_running("run", args[0]):
        return NOOP_OPERATION
    return mark_running(hook.start_operation(_begin_run, args, kwargs, function=function), "run", args[0])


def _begin_run(call: Call) -> BegunCall:
    agent = call.args[0]
    record = Agent(name=get_nested(agent, "name", str), description=get_nested(agent, "description", str) or None)
    record.extra["mlspan.smolagents.agent_class"] = type(agent).__name__
    if model := get_nested(agent, "model.model_id", str):
        record.model = model
    if call.capture_content:
        given, task = call.argument("additional_args"), call.argument("task")
        record.input = {"task": task, "additional_args": to_plain_data(given)} if given else to_plain_data(task)

    def observe(record: Agent, got: object) -> None:
        kind = type(got).__name__
        if kind in _BETWEEN:
            return
        if kind in {"FinalAnswerStep", "RunResult"}:
            got = get_field(got, "output")
        if reason := _find_stop_reason(agent):
            record.extra[_STOP_REASON] = reason
        if call.capture_content:
            record.output = to_plain_data(got)

    return record, observe


_BETWEEN: Final = frozenset(  # what a streamed run yields before its answer
    {"ActionOutput", "ActionStep", "ChatMessageStreamDelta", "FinalOutput", "PlanningStep", "ToolCall", "ToolOutput"}
)


def _find_stop_reason(agent: object) -> str | None:
    """Return why an agent has stopped, where it was no answer of its model's: it has used up its steps."""
    last = next(iter(get_list(agent, "memory.steps")[-1:]), None)
    return "max_steps" if type(get_field(last, "error")).__name__ == "AgentMaxStepsError" else None


def start_step(hook: Hook, args: Any, kwargs: Any, *, function: Any = None) -> Any:  # noqa: ARG001  # as of a starter
    """Start the operation of a step of an agent."""
    memory_step = args[1] if len(args) > 1 else kwargs.get("memory_step")
    if is_running("step", memory_step):
        return NOOP_OPERATION
    return mark_running(hook.start_operation(_begin_agent_step, (args[0], memory_step), {}), "step", memory_step)


def _begin_agent_step(call: Call) -> BegunCall:
    memory_step = call.args[1]
    number = get_nested(memory_step, "step_number", int)
    record = Step(type="step", name=f"step {number}" if number is not None else "step")

    def observe(record: Step, _: object) -> None:
        if call.capture_content:
            seen = get_field(memory_step, "observations")
            final = get_field(memory_step, "action_output")
            record.output = to_plain_data(seen if isinstance(seen, str) and seen else final)

    return record, observe


def start_plan(hook: Hook, args: Any, kwargs: Any, *, function: Any = None) -> Any:
    """Start the operation of a plan."""
    return hook.start_operation(_begin_plan, args, kwargs, function=function)


def _begin_plan(call: Call) -> BegunCall:
    record = Plan(name=get_nested(call.args[0], "name", str))
    if call.capture_content:
        record.input = call.argument("task", want=str)

    def observe(record: Plan, got: object) -> None:
        if call.capture_content and (plan := get_nested(got, "plan", str)):
            record.output = plan

    return record, observe
