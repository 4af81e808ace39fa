"""Tools of smolagents, managed agents among them, and the code that its agents run."""

from __future__ import annotations

from typing import Any

from ..._shape import get_field, get_nested, list_items
from ...hooks.call import BegunCall, Call
from ...hooks.hook import Hook
from ...hooks.operation_wrapper import OperationWrapper, get_raised_cause
from ...tracing.operations.content import to_plain_data
from ...tracing.operations.noop import NOOP_OPERATION
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import Chat, Tool
from .wrappers import Running, find_running, is_running, mark_running


def start_asked_tool(hook: Hook, args: Any, kwargs: Any, *, function: Any = None) -> Any:
    """Start the operation of a tool, or of a managed agent, that a model has asked for."""
    operation = hook.start_operation(_begin_asked_tool, args, kwargs, function=function)
    name = Call(args, kwargs, capture_content=False, options={}, function=function).argument("tool_name")
    mark_running(operation, "tool", _find_tool(args[0], name))
    # Its error is what the tool has raised, not what was made of it.
    return OperationWrapper(operation, get_raised_cause) if isinstance(operation, Operation) else operation


def _find_tool(agent: object, name: Any) -> object:
    """Return the tool or the managed agent of that name; None if there is none."""
    holders = (get_field(agent, "tools"), get_field(agent, "managed_agents"))
    return next((one[name] for one in holders if isinstance(one, dict) and name in one), None)


def _begin_asked_tool(call: Call) -> BegunCall:
    name, arguments = call.argument("tool_name"), call.argument("arguments")
    tool, running = _find_tool(call.args[0], name), find_running()
    record = Tool(name=str(name), type="function", description=get_nested(tool, "description", str))
    if running is not None:
        record.call_id = _claim_call(running, name, arguments)
        _link_to_chat(record, running)
    return _fill_in(record, call, arguments)


def _claim_call(running: Running, name: object, arguments: object) -> str | None:
    """Return the id of the tool call that is executed: of those that the step's model has asked for, each once."""
    message = get_field(running.owner, "model_output_message")
    waiting = [one for one in list_items(get_field(message, "tool_calls")) if one not in running.asked]
    same = [one for one in waiting if get_field(get_field(one, "function"), "arguments") is arguments]
    named = [one for one in waiting if get_nested(one, "function.name", str) == name]
    for one in (*same, *named)[:1]:
        running.asked.append(one)
        return get_nested(one, "id", str)
    return None


def _link_to_chat(record: Tool, running: Running | None) -> None:
    """Link a tool to the last call to a model of the step around it, unless the id of its call links the two."""
    if running is None or running.kind != "step" or not running.chats:
        return
    chat = running.chats[-1]
    if isinstance(chat.record, Chat) and record.call_id not in chat.record.draft.call_ids:
        record.add_cause("asked_by", chat.span.get_span_context())


def _fill_in(record: Tool, call: Call, arguments: object) -> BegunCall:
    if not call.capture_content:
        return record, None
    record.input = to_plain_data(arguments)
    return record, _observe_tool


def _observe_tool(record: Tool, got: object) -> None:
    record.output = to_plain_data(got)


def start_tool(hook: Hook, args: Any, kwargs: Any, *, function: Any = None) -> Any:
    """Start the operation of a call of a tool, which code of an agent makes, or the program."""
    if is_running("tool", args[0]):
        return NOOP_OPERATION  # an agent's call, which is an operation already
    return mark_running(hook.start_operation(_begin_tool, args, kwargs, function=function), "tool", args[0])


def _begin_tool(call: Call) -> BegunCall:
    tool = call.args[0]
    described = get_nested(tool, "description", str)
    record = Tool(name=get_nested(tool, "name", str), type="function", description=described)
    given = {name: value for name, value in call.kwargs.items() if name != "sanitize_inputs_outputs"}
    return _fill_in(record, call, {**_name_positions(tool, call.args[1:]), **given})


def _name_positions(tool: object, given: tuple[object, ...]) -> dict[str, object]:
    """Return arguments that were passed by position, by their names."""
    if len(given) == 1 and isinstance(given[0], dict):
        return given[0]
    names = [*(get_nested(tool, "inputs", dict) or {})]
    return {names[index] if index < len(names) else str(index): value for index, value in enumerate(given)}


def start_code(hook: Hook, args: Any, kwargs: Any, *, function: Any = None) -> Any:
    """Start the operation of code that an agent runs."""
    if is_running("code", args[0]):
        return NOOP_OPERATION
    return mark_running(hook.start_operation(_begin_python_execution, args, kwargs, function=function), "code", args[0])


def _begin_python_execution(call: Call) -> BegunCall:
    record = Tool(name="python_interpreter", type="function")
    record.extra["mlspan.smolagents.executor"] = type(call.args[0]).__name__
    _link_to_chat(record, find_running())
    if not call.capture_content:
        return record, None
    record.input = {"code": next(iter((*call.args[1:], *call.kwargs.values())), None)}
    return record, _observe_code


def _observe_code(record: Tool, got: object) -> None:
    """Read what the code has returned and printed."""
    record.output = {"output": to_plain_data(get_field(got, "output")), "logs": get_nested(got, "logs", str)}
