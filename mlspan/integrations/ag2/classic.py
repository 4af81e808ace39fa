"""The classic API of AG2 0.x: chats are workflows, replies are agent turns, and functions and code are tool calls."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from opentelemetry import trace
from opentelemetry.trace import Span

from ..._guard import guard
from ..._shape import get_field, get_list, get_nested
from ...hooks.call import Begin, BegunCall, Call
from ...hooks.hook import Hook
from ...hooks.patching import CallStarter, Patch, Undo, apply_patches, observe_method, trace_method
from ...hooks.subclasses import trace_subclasses
from ...tracing.operations.content import to_plain_data
from ...tracing.operations.messages import parse_json
from ...tracing.operations.noop import NOOP_OPERATION
from ...tracing.operations.records import Agent, Observe, Step, Tool, Workflow
from . import model
from .thread_context import CONTEXT_PATCHES


def _read_agent_name(agent: object) -> str:
    return get_nested(agent, "name", str) or type(agent).__name__


# span -> the begin function and the id() of the object of the call that opened it
_methods_by_span: Final[WeakKeyDictionary[Span, tuple[Begin, int]]] = WeakKeyDictionary()


def _start_outermost_operation(
    hook: Hook, begin: Begin, args: tuple[object, ...], kwargs: dict[str, Any], *, function: Any = None
) -> object:
    """Start an operation as the hook does, unless a subclass's method calls its parent's: those two are one operation.

    Return the operation, or a no-op.
    """
    method = begin, id(args[0])
    with guard("looking at a call"):
        if _methods_by_span.get(trace.get_current_span()) == method:
            return NOOP_OPERATION
    operation = hook.start_operation(begin, args, kwargs, function=function)
    if operation is not NOOP_OPERATION:
        with guard("noting a call"):
            _methods_by_span[operation.span] = method
    return operation


# Chats and turns.


def _begin_conversation(call: Call) -> tuple[Workflow, Observe[Workflow]]:
    """Begin a call of ``initiate_chat`` or ``a_initiate_chat``."""
    chat = Workflow(name=f"{_read_agent_name(call.args[0])} to {_read_agent_name(call.argument('recipient'))}")
    if call.capture_content:
        chat.input = _read_message_content(call.argument("message"))

    def observe(chat: Workflow, got: object) -> None:
        history = get_list(got, "chat_history")
        if call.capture_content:
            chat.input = chat.input or (_read_message_content(history[0]) if history else None)
            chat.output = get_nested(got, "summary", str) or (_read_message_content(history[-1]) if history else None)

    return chat, observe


def _begin_conversations(call: Call) -> tuple[Workflow, Observe[Workflow]]:
    """Begin a call of an agent's ``initiate_chats``: a queue of chats, each of which has a span of its own."""
    return Workflow(
        name=f"chats of {_read_agent_name(call.args[0])}"
    ), _observe_summaries if call.capture_content else _ignore_result


def _begin_chat_queue(call: Call) -> tuple[Workflow, Observe[Workflow]]:
    """Begin a call of the module's function ``initiate_chats``, where each chat names its sender."""
    senders = {_read_agent_name(get_field(one, "sender")) for one in call.argument("chat_queue") or ()}
    name = f"chats of {senders.pop()}" if len(senders) == 1 else "chats"
    return Workflow(name=name), _observe_summaries if call.capture_content else _ignore_result


def _observe_summaries(chats: Workflow, got: Any) -> None:
    chats.output = [get_nested(one, "summary", str) for one in (got.values() if isinstance(got, dict) else got)]


def _ignore_result(_record: Workflow, _got: object) -> None: ...


def _begin_reply(call: Call) -> tuple[Agent, Observe[Agent]]:
    """Begin a call of ``generate_reply`` or ``a_generate_reply``: a turn of an agent."""
    agent = call.args[0]
    turn = Agent(name=_read_agent_name(agent), description=get_nested(agent, "description", str) or None)
    messages = call.argument("messages")
    if messages is None and (sender := call.argument("sender")) is not None:
        messages = (get_field(agent, "chat_messages") or {}).get(sender)
    if call.capture_content and messages:
        turn.input = _read_message_content(messages[-1])

    def observe(turn: Agent, got: object) -> None:
        if turn.name is not None:
            turn.add_cause("handed_off_by", turn.name, once=True)
        if call.capture_content:
            turn.output = _read_message_content(got)

    return turn, observe


def _read_message_content(message: object) -> object:
    """Return the tool calls that a message requests, else its content; a string is its own content."""
    if not isinstance(message, Mapping):
        return message if isinstance(message, str) else None
    tool_calls = message.get("tool_calls")
    return [model.convert_tool_call(one) for one in tool_calls] if tool_calls else to_plain_data(message.get("content"))


def _begin_human_input(call: Call) -> tuple[Step, Observe[Step]]:
    """Begin a call of ``get_human_input`` or ``a_get_human_input``, which waits for a person's answer."""
    step = Step(type="human_input", name="human input")
    if call.capture_content:
        step.input = call.argument("prompt")

    def observe(step: Step, got: object) -> None:
        step.output = got if call.capture_content else None

    return step, observe


# Tools, hand-offs and code.


def _begin_function_execution(call: Call) -> tuple[Tool, Observe[Tool]]:
    """Begin a call of ``execute_function`` or ``a_execute_function``, which report an error in their answer."""
    function_call, id = call.argument("func_call"), call.argument("call_id")
    name = get_nested(function_call, "name", str) or "unknown"
    tool = Tool(
        name=name,
        type="function",
        agent=_read_agent_name(call.args[0]),
        call_id=id if id and isinstance(id, str) else None,
    )
    if call.capture_content:
        tool.input = parse_json(get_nested(function_call, "arguments", str) or "{}")

    def observe(tool: Tool, got: Any) -> None:
        succeeded, content = got[0], get_field(got[1], "content")
        if not succeeded:
            tool.failure = ("tool_error", str(content) if call.capture_content else "")
        result = _read_tool_result(content)
        if result is not None and (target := result.get("target")) is not None:
            tool.add_offer("handed_off_by", target, anywhere=False)
        if call.capture_content:
            tool.output = to_plain_data(content) if result is None else result

    return tool, observe


def _read_tool_result(content: object) -> dict[str, str] | None:
    """Return message and target of a tool's answer if it is one of AG2's own objects, else None.

    The answer may be an agent, a target, or a result with a target; swarms have names of their own for these. The
    target is the name of the agent that takes over; a key without a value is left out.
    """
    if hasattr(content, "generate_reply"):
        return {"target": _read_agent_name(content)}
    if not type(content).__module__.startswith("autogen."):
        return None
    to = next((one for one in (get_field(content, "target"), get_field(content, "agent")) if one is not None), content)
    target = (
        to
        if isinstance(to, str)
        else _read_agent_name(to)
        if hasattr(to, "generate_reply")
        else get_nested(to, "agent_name", str)
    )
    message = get_nested(content, "message", str) or get_nested(content, "values", str)
    result = {"target": target, "message": message}
    return {name: value for name, value in result.items() if value} or {"message": str(content)}


def _begin_code(call: Call) -> BegunCall:
    """Begin a call of ``execute_code_blocks``, of a code executor or of an agent without one."""
    tool = Tool(name=type(call.args[0]).__name__, type="extension")
    if call.capture_content:
        blocks = call.argument("code_blocks") or ()
        pairs = [
            one if isinstance(one, tuple) else (get_field(one, "language"), get_field(one, "code")) for one in blocks
        ]
        tool.input = [{"language": language, "code": code} for language, code in pairs]

    def observe(tool: Tool, got: object) -> None:
        code, output = got[:2] if isinstance(got, tuple) else (get_field(got, "exit_code"), get_field(got, "output"))
        if call.capture_content:
            tool.output = {"exit_code": code, "output": output}
        if code:
            tool.failure = ("exit_code", f"exit code {code}")

    return tool, observe


# The traced methods.

_SYNC_AND_ASYNC_METHODS: Final[dict[str, Begin]] = {
    "initiate_chat": _begin_conversation,
    "initiate_chats": _begin_conversations,
    "generate_reply": _begin_reply,
    "get_human_input": _begin_human_input,
    "execute_function": _begin_function_execution,
}
_AGENT_METHODS: Final[dict[str, Begin]] = {
    f"{prefix}{name}": begin for prefix in ("", "a_") for name, begin in _SYNC_AND_ASYNC_METHODS.items()
}
_SINGLE_METHODS: Final = {  # methods that no base class stands for
    "autogen.oai.client:OpenAIWrapper.create": model.begin_model_call,
    "autogen.agentchat.conversable_agent:ConversableAgent.execute_code_blocks": _begin_code,
    # Module functions can be patched only under the names from which applications import them: the documented ones.
    "autogen:initiate_chats autogen.agentchat:initiate_chats": _begin_chat_queue,
    "autogen:a_initiate_chats autogen.agentchat:a_initiate_chats": _begin_chat_queue,
}
_OPTIONAL_METHODS: Final = {  # these two executors, which need packages of their own, do not inherit from CodeExecutor
    "autogen.coding.jupyter:EmbeddedIPythonCodeExecutor.execute_code_blocks": _begin_code,
    "autogen.coding:DaytonaCodeExecutor.execute_code_blocks": _begin_code,
}


def _trace_subclass_methods(hook: Hook, begins: Mapping[str, Begin], base: str) -> Undo:
    return trace_subclasses(
        base, {name: CallStarter(_start_outermost_operation, hook, begin) for name, begin in begins.items()}
    )


def _make_method_patches(hook: Hook, begins: Mapping[str, Begin], *, is_optional: bool) -> Iterator[Patch]:
    for target, begin in begins.items():
        patch = functools.partial(trace_method, start=hook.make_starter(begin))
        yield Patch(target, patch, f"calls of {target.rpartition(':')[2]}", is_optional=is_optional)


def install(hook: Hook) -> Undo:
    executors = functools.partial(_trace_subclass_methods, hook, {"execute_code_blocks": _begin_code})
    agents = functools.partial(_trace_subclass_methods, hook, _AGENT_METHODS)
    usage = functools.partial(observe_method, callback=model.note_usage)
    return apply_patches(
        [
            Patch("autogen.agentchat.conversable_agent:ConversableAgent", agents, "chats and turns of agents"),
            Patch("autogen.coding.base:CodeExecutor", executors, "code that an executor runs"),
            *_make_method_patches(hook, _SINGLE_METHODS, is_optional=False),
            *_make_method_patches(hook, _OPTIONAL_METHODS, is_optional=True),
            Patch("autogen.oai.client:OpenAIWrapper._update_usage", usage, "token counts of model calls"),
            *CONTEXT_PATCHES,
        ]
    )
