"""Runs of browser-use's agents, their steps, and replays of a history."""

from __future__ import annotations

import functools
from typing import Any, Final

from ..._guard import guard
from ..._shape import get_field, get_list, get_nested, list_items
from ...hooks.call import BegunCall, Call
from ...hooks.hook import Hook
from ...hooks.operation_wrapper import OperationWrapper
from ...tracing.operations.exceptions import get_error_type
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import Agent, Step, Workflow
from .running import find_running, get_running, mark_running, read_secrets

_STOP_REASON: Final = "mlspan.stop_reason"
_SUCCESS: Final = "mlspan.browser_use.success"  # what the agent says of its own answer
_VERDICT: Final = "mlspan.browser_use.verdict"  # what the judge says of it
_TOLD: Final = ("evaluation_previous_goal", "memory", "next_goal")


def start_agent_run(hook: Hook, args: Any, kwargs: Any, *, function: Any = None) -> Any:
    """Start the operation of ``run`` of an agent."""
    return hook.start_operation(_begin_agent_run, args, kwargs, function=function)


def _begin_agent_run(call: Call) -> BegunCall:
    agent = call.args[0]
    record = Agent(
        conversation=get_nested(agent, "session_id", str),
        model=get_nested(agent, "llm.model", str),
    )
    before = len(get_list(agent, "history.history"))
    if call.capture_content:
        record.input = get_nested(agent, "task", str)

    def observe(record: Agent, got: object) -> None:
        last = _find_last_result(get_list(got, "history")[before:])
        if get_field(last, "is_done") is True:
            for name, path in ((_SUCCESS, "success"), (_VERDICT, "judgement.verdict")):
                if (told := get_nested(last, path, bool)) is not None:
                    record.extra[name] = told
            if call.capture_content:
                record.output = read_secrets(agent).mask(get_nested(last, "extracted_content", str))
        else:
            _read_stop(record, agent, call)

    return record, observe


def _find_last_result(history: list[Any]) -> object:
    """Return the last result of the last step of a history; None if there is none."""
    return _get_last(history[-1], "result") if history else None


def _get_last(obj: object, path: str) -> object:
    return next(reversed(get_list(obj, path)), None)


def _read_stop(record: Agent, agent: object, call: Call) -> None:
    """Read why an agent has stopped before it was done: stopped, failed too often, or out of steps."""
    failures = get_nested(agent, "state.consecutive_failures", int) or 0
    most = get_nested(agent, "settings.max_failures", int)
    more = get_nested(agent, "settings.final_response_after_failure", bool) or False
    if get_nested(agent, "state.stopped", bool):
        record.extra[_STOP_REASON] = "stopped"
    elif most is not None and failures >= most + more:
        record.extra[_STOP_REASON] = "max_failures"
        said = get_nested(_get_last(agent, "state.last_result"), "error", str) if call.capture_content else ""
        record.failure = "max_failures", read_secrets(agent).mask(said or "")
    elif (get_nested(agent, "state.n_steps", int) or 0) > call.argument("max_steps", 0, want=int):
        record.extra[_STOP_REASON] = "max_steps"


def start_agent_step(hook: Hook, args: Any, kwargs: Any, *, function: Any = None) -> Any:
    """Start the operation of a step of an agent."""
    operation = mark_running(
        hook.start_operation(_begin_agent_step, args, kwargs, function=function), "step", args[0] if args else None
    )
    return _StepOperation(operation) if isinstance(operation, Operation) else operation


class _StepOperation(OperationWrapper):
    """The operation of a step, which raises nothing: what it has failed with is noted while it runs."""

    def record_result(self, value: object, *, awaited: bool = False) -> object:
        with guard("reading a step"):
            running = get_running(self.operation)
            if running is not None and running.errors:
                _note_step_error(self.operation, running.owner, running.errors[-1])
        return super().record_result(value, awaited=awaited)


def _note_step_error(operation: Operation, agent: object, error: BaseException) -> None:
    """Read what a step has failed with; a step that was stopped or paused has not failed."""
    if isinstance(error, InterruptedError):
        operation.record.extra[_STOP_REASON] = "interrupted"
        return
    said = str(error) if operation.captures_content else ""
    operation.record.failure = get_error_type(error), read_secrets(agent).mask(said)


def _begin_agent_step(call: Call) -> BegunCall:
    agent = call.args[0]
    number = get_nested(agent, "state.n_steps", int)
    record = Step(type="step", name=f"step {number}" if number is not None else "step")
    before = get_nested(agent, "state.last_model_output", object)
    known = len(get_list(agent, "history.history"))

    def observe(record: Step, _: object) -> None:
        if not call.capture_content:
            return
        secrets = read_secrets(agent)
        seen = get_list(agent, "history.history")[known:]
        if seen and (url := get_nested(seen[-1], "state.url", str)):
            record.input = {"url": secrets.mask(url)}
        told = get_nested(agent, "state.last_model_output", object)
        if told is not None and told is not before:
            found = {name: get_nested(told, name, str) for name in _TOLD}
            record.output = secrets.mask({name: text for name, text in found.items() if text}) or None

    return record, observe


def watch_errors(fn: Any, enabled: list[bool]) -> Any:
    """Return the method of an agent that takes the error of a step, such that our step learns of it."""

    @functools.wraps(fn)
    async def handle_step_error(*args: object, **kwargs: object) -> object:
        if enabled:
            with guard("reading the error of a step"):
                running = find_running()
                error = next((one for one in (*args[1:], *kwargs.values()) if isinstance(one, Exception)), None)
                if error is not None and running is not None and running.kind == "step":
                    running.errors.append(error)
        return await fn(*args, **kwargs)

    return handle_step_error


def begin_replay(call: Call) -> BegunCall:
    """Read a call of ``rerun_history`` of an agent: what a model has once told it to do is done again."""
    agent = call.args[0]
    record = Workflow(name="rerun_history", conversation=get_nested(agent, "session_id", str))
    if call.capture_content:
        record.input = get_nested(agent, "task", str)

    def observe(record: Workflow, got: object) -> None:
        if call.capture_content:
            results = list_items(got)
            told = [get_nested(one, "error", str) or get_nested(one, "extracted_content", str) for one in results]
            record.output = read_secrets(agent).mask(told)

    return record, observe
