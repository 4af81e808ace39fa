"""Pipecat, which traces itself: its spans of conversations, turns and services join mlspan's.

Tracing is on for each pipeline whose program has not said otherwise. Pipecat has no spans of the functions that a model
calls; mlspan makes them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context

from .._bounded import BoundedDict
from ..hooks import Call, Hook, Patch, Tool, Undo, apply_patches, get_field, get_nested, observe_method, trace_method
from ..hooks.joined_spans import join_trace_module
from ..hooks.patching import replace_method
from ..tracing.operations.call_context import use_context

__all__ = ["HOOK", "autolog"]

_TRACING: Final = "pipecat.utils.tracing"
_SERVICE: Final = "pipecat.services.llm_service:LLMService"
# Private names, each with what is lost without it.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_run_function_call": "calls of functions",
}
PRIVATE_FIELDS: Final[dict[str, str]] = {
    **dict.fromkeys(("_tracing_context", "_turn_context"), "calls of functions in the turn that they belong to"),
}

_running: BoundedDict[tuple[int, str], Tool] = BoundedDict(10_000)  # by the service and the call's id


def begin_function(call: Call) -> tuple[Tool, Callable[[Tool, object], None]]:
    """Read a call of a function by its model into a record; what it returns is told by a frame."""
    service, item = call.args[0], call.kwargs.get("runner_item", call.args[-1])
    call_id = get_nested(item, "tool_call_id", str)
    tool = Tool(name=get_nested(item, "function_name", str), type="function", call_id=call_id)
    if call.capture_content:
        arguments = get_field(item, "arguments")
        tool.input = dict(arguments) if isinstance(arguments, dict) else arguments
    if call_id is not None:
        _running[id(service), call_id] = tool

    def forget_call(*_: object) -> None:
        _running.pop((id(service), call_id or ""), None)

    return tool, forget_call


def _read_frame(args: tuple[object, ...], kwargs: dict[str, Any], _: object) -> None:
    """Read the frame with the result of a function into the record of its call."""
    tool = _running.get((id(args[0]), kwargs.get("tool_call_id", "")))
    if tool is None or "result" not in kwargs:
        return
    tool.output = kwargs["result"]
    if (error := kwargs.get("error")) is not None:
        tool.failure = "tool_error", str(error)


def _start_in_turn(start: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    """Start the operation of a call under the turn of its conversation: its task may be older than that."""
    turn = get_nested(args[0], "_tracing_context._turn_context", Context)
    if turn is None:
        return start(args, kwargs)
    with use_context(trace.set_span_in_context(trace.get_current_span(turn))):
        return start(args, kwargs)


def _enable_tracing(hook: Hook, target: str) -> Undo:
    """Have tracing on in each pipeline that is made, if the program says nothing of it."""

    def make(own: Callable[..., None], enabled: list[bool]) -> Callable[..., None]:
        @functools.wraps(own)
        def make_worker(*args: object, **kwargs: object) -> None:
            if enabled and hook.should_record():
                kwargs.setdefault("enable_tracing", True)
            own(*args, **kwargs)

        return make_worker

    return replace_method(target, make)


def _install(hook: Hook) -> Undo:
    start = functools.partial(_start_in_turn, hook.make_starter(begin_function))

    def list_patches() -> Iterator[Patch]:
        for module in ("service_decorators", "turn_trace_observer"):
            yield join_trace_module(hook, f"{_TRACING}.{module}:trace", "spans of Pipecat")
        yield Patch(
            "pipecat.pipeline.worker:PipelineWorker.__init__", functools.partial(_enable_tracing, hook), "pipelines"
        )
        yield Patch(
            f"{_SERVICE}._run_function_call", functools.partial(trace_method, start=start), "calls of functions"
        )
        watch = functools.partial(observe_method, callback=_read_frame)
        yield Patch(f"{_SERVICE}.broadcast_frame", watch, "results of functions")

    return apply_patches(list_patches())


HOOK = Hook("pipecat-ai>=1.14,<2", "pipecat", _install)
autolog = HOOK.autolog
