"""Actions of browser-use, its own and the program's: what an agent has its browser do."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from ..._shape import get_field, get_list, get_nested
from ...hooks.call import Call
from ...hooks.hook import Hook
from ...hooks.operation_wrapper import OperationWrapper, get_raised_cause
from ...tracing.operations.content import to_plain_data
from ...tracing.operations.exceptions import get_error_type
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import Observe, Tool
from .running import Running, Secrets, find_running, mark_running

_TOLD: Final = ("extracted_content", "long_term_memory", "error", "is_done", "success", "attachments", "metadata")


def start_action(hook: Hook, args: Any, kwargs: Any, *, function: Any = None) -> Any:
    """Start the operation of ``execute_action`` of a registry of actions."""
    operation = hook.start_operation(_begin_action, args, kwargs, function=function)
    if not isinstance(operation, Operation):
        return operation
    mark_running(operation, "action", args[0])
    told = Call(args, kwargs, capture_content=False, options={}, function=function).argument("sensitive_data")
    return OperationWrapper(operation, partial(_convert_error, operation, Secrets(told)))


def _convert_error(operation: Operation, secrets: Secrets, error: BaseException) -> BaseException | None:
    """Return the error that an action has raised. With secrets, note the failure without them, and return None."""
    error = get_raised_cause(error)
    if not secrets or not isinstance(error, Exception):
        return error
    said = str(error) if operation.captures_content else ""
    operation.record.failure = get_error_type(error), secrets.mask(said)
    return None  # its message and the lines of its traceback may hold them


def _begin_action(call: Call) -> tuple[Tool, Observe[Tool]]:
    """Read a call of an action. Its parameters are the model's: their secrets are put in further inside."""
    name = call.argument("action_name", want=str)
    actions = get_nested(call.args[0], "registry.actions", dict) or {}
    described = get_nested(actions.get(name), "description", str)
    record = Tool(name=name, type="function", description=described or None)
    _link_to_chat(record, find_running())
    secrets = Secrets(call.argument("sensitive_data"))
    if call.capture_content:
        record.input = secrets.mask(to_plain_data(call.argument("params")))

    def observe(record: Tool, got: object) -> None:
        if (said := get_nested(got, "error", str)) is not None:
            record.failure = "action_error", secrets.mask(said) if call.capture_content else ""
        if call.capture_content:
            record.output = secrets.mask(_read_result(got))

    return record, observe


def _link_to_chat(record: Tool, running: Running | None) -> None:
    """Link an action to the last call to a model of the step around it: browser-use has no ids for what is asked."""
    if running is not None and running.kind == "step" and running.chats:
        record.add_cause("asked_by", running.chats[-1].span.get_span_context())


def _read_result(got: object) -> Any:
    """Return what an ActionResult says, or a text in place of one; pictures are named, and not kept."""
    if got is None or isinstance(got, str):
        return got
    found = {name: get_field(got, name) for name in _TOLD}
    found = {name: value for name, value in found.items() if value or (name == "success" and value is not None)}
    if pictures := get_list(got, "images"):
        found["images"] = [get_nested(one, "name", str) for one in pictures]
    if list(found) == ["extracted_content"]:
        return found["extracted_content"]
    return to_plain_data(found) or None
