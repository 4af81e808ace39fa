"""Runs of AutoGen's teams, turns of its agents, and the handoffs between agents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ..._shape import get_field, get_nested
from ...hooks.call import BegunCall, Call
from ...tracing.operations.records import Agent, Observe, Workflow

_STOP_REASON: Final = "mlspan.stop_reason"


def begin_team(call: Call) -> BegunCall:
    """Begin a call of ``run`` or ``run_stream`` of a team."""
    team = Workflow(name=get_nested(call.args[0], "name", str) or type(call.args[0]).__name__)
    if call.capture_content:
        team.input = render_task(call.kwargs.get("task"))
    return team, _make_observe(call)


def begin_agent_run(call: Call) -> BegunCall:
    """Begin a call of ``run`` or ``run_stream`` of an agent."""
    return _begin_agent(call, call.kwargs.get("task"))


def begin_turn(call: Call) -> BegunCall:
    """Begin a call of ``on_messages`` or ``on_messages_stream`` of an agent."""
    return _begin_agent(call, call.argument("messages"))


def _begin_agent(call: Call, task: object) -> BegunCall:
    agent = Agent(
        name=get_nested(call.args[0], "name", str), description=get_nested(call.args[0], "description", str) or None
    )
    if call.capture_content:
        agent.input = render_task(task)
    for message in _as_sequence(task):
        if (id := get_nested(message, "id", str)) and get_nested(message, "target", str) == agent.name:
            agent.add_cause("handed_off_by", id)
    observe = _make_observe(call)

    def observe_turn(record: Any, got: object) -> None:
        observe(record, got)
        for message in (*_as_sequence(get_field(got, "messages")), get_field(got, "chat_message")):
            if get_nested(message, "target", str) and (id := get_nested(message, "id", str)):
                record.add_offer("handed_off_by", id)

    return agent, observe_turn


def _as_sequence(messages: object) -> Sequence[object]:
    return messages if isinstance(messages, (list, tuple)) else (messages,)


def _make_observe(call: Call) -> Observe[Any]:
    """Return an ``observe`` for the results of a run: a TaskResult, a Response, or the events before it."""

    def observe(record: Any, got: object) -> None:
        messages = _as_sequence(get_field(got, "messages"))
        if (reason := get_nested(got, "stop_reason", str)) is not None:
            record.extra[_STOP_REASON] = reason
        last = messages[-1] if messages and messages[-1] is not None else get_field(got, "chat_message")
        if last is not None and call.capture_content:
            record.output = render_task(last)

    return observe


def render_task(task: object) -> object:
    """Return a task or messages in a form that JSON can hold.

    That is the content of a single message, or ``[{"source": ..., "content": ...}]`` for several.
    """
    if task is None or isinstance(task, str):
        return task
    if not isinstance(task, (list, tuple)):
        return _render_message(task)
    if len(task) == 1:
        return _render_message(task[0])
    return [{"source": get_field(one, "source"), "content": _render_message(one)} for one in task]


def _render_message(message: object) -> object:
    content = get_field(message, "content")
    if isinstance(content, str):
        return content
    if hasattr(content, "model_dump"):
        return content.model_dump(mode="json", warnings=False)
    return message.to_text() if hasattr(message, "to_text") else str(message)
