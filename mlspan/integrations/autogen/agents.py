"""Runs of AutoGen's teams, turns of its agents, and the handoffs between agents."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import SpanContext

from ..._shape import dig, get
from ...hooks.hook import Call
from ...tracing.operations import semconv as sc
from ...tracing.operations.operation import Live
from ...tracing.operations.records import Agent, Observe, Record, Workflow
from .wrappers import argument

_STOP_REASON: Final = "mlspan.stop_reason"


def begin_team(call: Call) -> tuple[Record, Observe[Any]]:
    """Begin a call of ``run`` or ``run_stream`` of a team."""
    team = Workflow(name=dig(call.args[0], "name", str) or type(call.args[0]).__name__)
    if call.content:
        team.input = said(call.kwargs.get("task"))
    return team, _observing(call)


def begin_run(call: Call) -> tuple[Record, Observe[Any]]:
    """Begin a call of ``run`` or ``run_stream`` of an agent."""
    return _begin(call, call.kwargs.get("task"))


def begin_turn(call: Call) -> tuple[Record, Observe[Any]]:
    """Begin a call of ``on_messages`` or ``on_messages_stream`` of an agent."""
    return _begin(call, argument(call, 1, "messages"))


def _begin(call: Call, task: Any) -> tuple[Record, Observe[Any]]:
    agent = Agent(name=dig(call.args[0], "name", str), description=dig(call.args[0], "description", str) or None)
    if call.content:
        agent.input = said(task)
    observe = _observing(call)

    def observe_turn(record: Any, got: Any) -> None:
        observe(record, got)
        for message in (*_several(get(got, "messages")), get(got, "chat_message")):
            if dig(message, "target", str) and (id := dig(message, "id", str)):
                _handoffs[id] = trace.get_current_span().get_span_context()
        while len(_handoffs) > _KEPT:
            _handoffs.popitem(last=False)

    return agent, observe_turn


_handoffs: OrderedDict[str, SpanContext] = OrderedDict()  # id of a handoff message -> the turn that sent it
_KEPT: Final = 10_000


def link(live: Live, call: Call) -> None:
    """Link a turn to the turns that have handed over to its agent."""
    for message in _several(call.kwargs.get("task", argument(call, 1, "messages"))):
        giver = _handoffs.get(dig(message, "id", str) or "")
        if giver is not None and dig(message, "target", str) == get(call.args[0], "name"):
            live.span.add_link(giver, {sc.LINK: "handed_off_by"})


def _several(messages: Any) -> Sequence[Any]:
    return messages if isinstance(messages, (list, tuple)) else (messages,)


def _observing(call: Call) -> Observe[Any]:
    """Return an ``observe`` for the results of a run: a TaskResult, a Response, or the events before it."""

    def observe(record: Any, got: Any) -> None:
        messages = _several(get(got, "messages"))
        if (reason := dig(got, "stop_reason", str)) is not None:
            record.extra[_STOP_REASON] = reason
        last = messages[-1] if messages and messages[-1] is not None else get(got, "chat_message")
        if last is not None and call.content:
            record.output = said(last)

    return observe


def said(task: Any) -> Any:
    """Return a task or messages in a form that JSON can hold.

    That is the content of a single message, or ``[{"source": ..., "content": ...}]`` for several.
    """
    if task is None or isinstance(task, str):
        return task
    if not isinstance(task, (list, tuple)):
        return _text(task)
    if len(task) == 1:
        return _text(task[0])
    return [{"source": get(one, "source"), "content": _text(one)} for one in task]


def _text(message: Any) -> Any:
    content = get(message, "content")
    if isinstance(content, str):
        return content
    if hasattr(content, "model_dump"):
        return content.model_dump(mode="json")
    return message.to_text() if hasattr(message, "to_text") else str(message)
