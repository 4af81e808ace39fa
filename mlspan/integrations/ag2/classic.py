"""The classic API of 0.x: a chat is a workflow, a reply an agent's turn, and a tool or a program what an agent runs."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from opentelemetry import trace
from opentelemetry.trace import Span

from ..._guard import guard
from ..._shape import dig, get, items
from ...tracing.content import snapshot
from ...tracing.messages import loads
from ...tracing.nothing import NOTHING
from ...tracing.records import Agent, Observe, Step, Tool, Workflow
from .._family import watch_family
from .._hook import Begin, Call, Hook, methods
from .._patch import Undo, all_there, tap
from . import model
from .handoffs import hand_over, take_over
from .threads import CARRIES


def argument(call: Call, index: int, name: str) -> Any:
    return call.args[index] if len(call.args) > index else call.kwargs.get(name)


def _name(agent: Any) -> str:
    return dig(agent, "name", str) or type(agent).__name__


_owners: Final[WeakKeyDictionary[Span, tuple[Begin, int]]] = WeakKeyDictionary()  # of the spans that _open has opened


def _open(hook: Hook, begin: Begin, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """As ``hook.open``, but where a subclass's method calls its parent's, the two are one operation."""
    own = begin, id(args[0])
    with guard("looking at a call"):
        if _owners.get(trace.get_current_span()) == own:
            return NOTHING
    live = hook.open(begin, args, kwargs)
    if live is not NOTHING:
        with guard("noting a call"):
            _owners[live.span] = own
    return live


# Chats and turns.


def _begin_chat(call: Call) -> tuple[Workflow, Observe[Any]]:
    """``initiate_chat`` and its asynchronous twin."""
    chat = Workflow(name=f"{_name(call.args[0])} to {_name(argument(call, 1, 'recipient'))}")
    if call.content:
        chat.input = _said(argument(call, 8, "message"))

    def observe(chat: Workflow, got: Any) -> None:
        history = items(got, "chat_history")
        if call.content:
            chat.input = chat.input or (_said(history[0]) if history else None)
            chat.output = dig(got, "summary", str) or (_said(history[-1]) if history else None)

    return chat, observe


def _begin_chats(call: Call) -> tuple[Workflow, Observe[Any]]:
    """``initiate_chats`` of an agent: a queue of chats, which have a span each."""
    return Workflow(name=f"chats of {_name(call.args[0])}"), _observe_chats if call.content else _ignore


def _begin_queue(call: Call) -> tuple[Workflow, Observe[Any]]:
    """``initiate_chats`` alone, where each chat names its sender."""
    senders = {_name(get(one, "sender")) for one in argument(call, 0, "chat_queue") or ()}
    name = f"chats of {senders.pop()}" if len(senders) == 1 else "chats"
    return Workflow(name=name), _observe_chats if call.content else _ignore


def _observe_chats(chats: Workflow, got: Any) -> None:
    chats.output = [dig(one, "summary", str) for one in (got.values() if isinstance(got, dict) else got)]


def _ignore(_record: Workflow, _got: Any) -> None: ...


def _begin_turn(call: Call) -> tuple[Agent, Observe[Any]]:
    """``generate_reply`` and its asynchronous twin."""
    own = call.args[0]
    turn = Agent(name=_name(own), description=dig(own, "description", str) or None)
    messages = argument(call, 1, "messages")
    if messages is None and (sender := argument(call, 2, "sender")) is not None:
        messages = (get(own, "chat_messages") or {}).get(sender)
    if call.content and messages:
        turn.input = _said(messages[-1])

    def observe(turn: Agent, got: Any) -> None:
        take_over(turn.name)
        if call.content:
            turn.output = _said(got)

    return turn, observe


def _said(message: Any) -> Any:
    """Text, or the calls that a message asks for."""
    if not isinstance(message, Mapping):
        return message if isinstance(message, str) else None
    asked = message.get("tool_calls")
    return [model.asked_call(one) for one in asked] if asked else snapshot(message.get("content"))


def _begin_human(call: Call) -> tuple[Step, Observe[Any]]:
    """``get_human_input`` and its asynchronous twin: a person is asked, and waited for."""
    step = Step(type="human_input", name="human input")
    if call.content:
        step.input = argument(call, 1, "prompt")

    def observe(step: Step, got: Any) -> None:
        step.output = got if call.content else None

    return step, observe


# Tools, hand-offs and code.


def _begin_function(call: Call) -> tuple[Tool, Observe[Any]]:
    """``execute_function`` and its asynchronous twin, which turn an error into an answer."""
    asked, id = argument(call, 1, "func_call"), argument(call, 2, "call_id")
    name = dig(asked, "name", str) or "unknown"
    tool = Tool(
        name=name, type="function", agent=_name(call.args[0]), call_id=id if id and isinstance(id, str) else None
    )
    if call.content:
        tool.input = loads(dig(asked, "arguments", str) or "{}")

    def observe(tool: Tool, got: Any) -> None:
        succeeded, content = got[0], get(got[1], "content")
        if not succeeded:
            tool.failure = ("tool_error", str(content) if call.content else "")
        result = _result(content)
        if result is not None and (target := result.get("target")) is not None:
            hand_over(target)
        if call.content:
            tool.output = snapshot(content) if result is None else result

    return tool, observe


def _result(content: Any) -> dict[str, str] | None:
    """Where a tool answers with AG2's own words: what it says and the agent that it hands over to, as far as it does.

    It answers with an agent, a target, or a result that has one; those of swarms have other names for the same.
    """
    if hasattr(content, "generate_reply"):
        return {"target": _name(content)}
    if not type(content).__module__.startswith("autogen."):
        return None
    to = next((one for one in (get(content, "target"), get(content, "agent")) if one is not None), content)
    target = to if isinstance(to, str) else _name(to) if hasattr(to, "generate_reply") else dig(to, "agent_name", str)
    message = dig(content, "message", str) or dig(content, "values", str)
    result = {"target": target, "message": message}
    return {name: value for name, value in result.items() if value} or {"message": str(content)}


def _begin_code(call: Call) -> tuple[Tool, Observe[Any]]:
    """``execute_code_blocks`` of an executor, or of an agent that has none."""
    tool = Tool(name=type(call.args[0]).__name__, type="extension")
    if call.content:
        blocks = argument(call, 1, "code_blocks") or ()
        pairs = [one if isinstance(one, tuple) else (get(one, "language"), get(one, "code")) for one in blocks]
        tool.input = [{"language": language, "code": code} for language, code in pairs]

    def observe(tool: Tool, got: Any) -> None:
        code, output = got[:2] if isinstance(got, tuple) else (get(got, "exit_code"), get(got, "output"))
        if call.content:
            tool.output = {"exit_code": code, "output": output}
        if code:
            tool.failure = ("exit_code", f"exit code {code}")

    return tool, observe


# What is watched.

_BOTH: Final = {
    "initiate_chat": _begin_chat,
    "initiate_chats": _begin_chats,
    "generate_reply": _begin_turn,
    "get_human_input": _begin_human,
    "execute_function": _begin_function,
}
_AGENT: Final = {f"{prefix}{name}": begin for prefix in ("", "a_") for name, begin in _BOTH.items()}
_ALONE: Final = {
    "autogen.oai.client:OpenAIWrapper.create": model.begin,
    "autogen.agentchat.conversable_agent:ConversableAgent.execute_code_blocks": _begin_code,
    # These two say of no base class that they are executors.
    "autogen.coding.jupyter:EmbeddedIPythonCodeExecutor.execute_code_blocks": _begin_code,
    "autogen.coding:DaytonaCodeExecutor.execute_code_blocks": _begin_code,
    # Alone, they are bound by name wherever they are imported from: these are the documented places.
    "autogen:initiate_chats": _begin_queue,
    "autogen:a_initiate_chats": _begin_queue,
    "autogen.agentchat:initiate_chats": _begin_queue,
    "autogen.agentchat:a_initiate_chats": _begin_queue,
}


def _family(hook: Hook, base: str, begins: Mapping[str, Begin]) -> Undo:
    return watch_family(base, {name: functools.partial(_open, hook, begin) for name, begin in begins.items()})


def install(hook: Hook) -> Undo:
    executors = {"execute_code_blocks": _begin_code}
    return all_there(
        [
            ("agents", lambda: _family(hook, "autogen.agentchat.conversable_agent:ConversableAgent", _AGENT)),
            ("executors", lambda: _family(hook, "autogen.coding.base:CodeExecutor", executors)),
            ("what belongs to no family", lambda: methods(_ALONE)(hook)),
            ("what a call has cost", lambda: tap("autogen.oai.client:OpenAIWrapper._update_usage", model.note_usage)),
            *CARRIES,
        ]
    )
