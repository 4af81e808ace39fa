"""The classic API of AG2 0.x: chats are workflows, replies are agent turns, and functions and code are tool calls."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from opentelemetry import trace
from opentelemetry.trace import Span

from ..._guard import guard
from ..._shape import dig, get, items
from ...hooks.hook import Begin, Call, Hook, methods
from ...hooks.patching import Undo, all_there, tap
from ...hooks.subclasses import watch_family
from ...tracing.operations.content import snapshot
from ...tracing.operations.messages import loads
from ...tracing.operations.noop import NOTHING
from ...tracing.operations.records import Agent, Observe, Step, Tool, Workflow
from . import model
from .handoffs import hand_over, take_over
from .thread_context import CARRIES


def argument(call: Call, index: int, name: str) -> Any:
    return call.args[index] if len(call.args) > index else call.kwargs.get(name)


def _name(agent: Any) -> str:
    return dig(agent, "name", str) or type(agent).__name__


# span -> the begin function and the id() of the object of the call that opened it
_owners: Final[WeakKeyDictionary[Span, tuple[Begin, int]]] = WeakKeyDictionary()


def _open(hook: Hook, begin: Begin, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Start an operation as the hook does, unless a subclass's method calls its parent's: those two are one operation.

    Return the operation, or a no-op.
    """
    method = begin, id(args[0])
    with guard("looking at a call"):
        if _owners.get(trace.get_current_span()) == method:
            return NOTHING
    operation = hook.open(begin, args, kwargs)
    if operation is not NOTHING:
        with guard("noting a call"):
            _owners[operation.span] = method
    return operation


# Chats and turns.


def _begin_chat(call: Call) -> tuple[Workflow, Observe[Any]]:
    """Begin a call of ``initiate_chat`` or ``a_initiate_chat``."""
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
    """Begin a call of an agent's ``initiate_chats``: a queue of chats, each of which has a span of its own."""
    return Workflow(name=f"chats of {_name(call.args[0])}"), _observe_chats if call.content else _ignore


def _begin_queue(call: Call) -> tuple[Workflow, Observe[Any]]:
    """Begin a call of the module's function ``initiate_chats``, where each chat names its sender."""
    senders = {_name(get(one, "sender")) for one in argument(call, 0, "chat_queue") or ()}
    name = f"chats of {senders.pop()}" if len(senders) == 1 else "chats"
    return Workflow(name=name), _observe_chats if call.content else _ignore


def _observe_chats(chats: Workflow, got: Any) -> None:
    chats.output = [dig(one, "summary", str) for one in (got.values() if isinstance(got, dict) else got)]


def _ignore(_record: Workflow, _got: Any) -> None: ...


def _begin_turn(call: Call) -> tuple[Agent, Observe[Any]]:
    """Begin a call of ``generate_reply`` or ``a_generate_reply``: a turn of an agent."""
    agent = call.args[0]
    turn = Agent(name=_name(agent), description=dig(agent, "description", str) or None)
    messages = argument(call, 1, "messages")
    if messages is None and (sender := argument(call, 2, "sender")) is not None:
        messages = (get(agent, "chat_messages") or {}).get(sender)
    if call.content and messages:
        turn.input = _said(messages[-1])

    def observe(turn: Agent, got: Any) -> None:
        take_over(turn.name)
        if call.content:
            turn.output = _said(got)

    return turn, observe


def _said(message: Any) -> Any:
    """Return the tool calls that a message requests, else its content; a string is its own content."""
    if not isinstance(message, Mapping):
        return message if isinstance(message, str) else None
    tool_calls = message.get("tool_calls")
    return [model.asked_call(one) for one in tool_calls] if tool_calls else snapshot(message.get("content"))


def _begin_human(call: Call) -> tuple[Step, Observe[Any]]:
    """Begin a call of ``get_human_input`` or ``a_get_human_input``, which waits for a person's answer."""
    step = Step(type="human_input", name="human input")
    if call.content:
        step.input = argument(call, 1, "prompt")

    def observe(step: Step, got: Any) -> None:
        step.output = got if call.content else None

    return step, observe


# Tools, hand-offs and code.


def _begin_function(call: Call) -> tuple[Tool, Observe[Any]]:
    """Begin a call of ``execute_function`` or ``a_execute_function``, which report an error in their answer."""
    function_call, id = argument(call, 1, "func_call"), argument(call, 2, "call_id")
    name = dig(function_call, "name", str) or "unknown"
    tool = Tool(
        name=name, type="function", agent=_name(call.args[0]), call_id=id if id and isinstance(id, str) else None
    )
    if call.content:
        tool.input = loads(dig(function_call, "arguments", str) or "{}")

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
    """Return message and target of a tool's answer if it is one of AG2's own objects, else None.

    The answer may be an agent, a target, or a result with a target; swarms have names of their own for these. The
    target is the name of the agent that takes over; a key without a value is left out.
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
    """Begin a call of ``execute_code_blocks``, of a code executor or of an agent without one."""
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


# The watched methods.

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
    # These two executors do not inherit from CodeExecutor.
    "autogen.coding.jupyter:EmbeddedIPythonCodeExecutor.execute_code_blocks": _begin_code,
    "autogen.coding:DaytonaCodeExecutor.execute_code_blocks": _begin_code,
    # Module functions can be watched only under the names from which applications import them: the documented ones.
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
            ("single methods", lambda: methods(_ALONE)(hook)),
            ("usage of model calls", lambda: tap("autogen.oai.client:OpenAIWrapper._update_usage", model.note_usage)),
            *CARRIES,
        ]
    )
