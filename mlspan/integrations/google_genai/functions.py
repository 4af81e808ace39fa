"""Functions of the program's that the client calls for the model: the span around all requests, and each function's."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Final

from ..._guard import guard
from ..._shape import get_field, get_list, get_nested, list_items
from ...hooks.call import BegunCall, Call
from ...hooks.hook import Hook
from ...hooks.patching import CallStarter, Patch, Undo, apply_patches, replace_method, trace_method
from ...tracing.operations.generators import TracedGenerator, wrap_async_generator, wrap_generator
from ...tracing.operations.noop import NOOP_OPERATION
from ...tracing.operations.records import Step, Tool
from .contents import read_contents
from .requests import read_config, read_model

_FUNCTION_HELPERS: Final = (  # private: what calls a function with the arguments of the model
    "google.genai._extra_utils:invoke_function_from_dict_args",
    "google.genai._extra_utils:invoke_function_from_dict_args_async",
)


def install(hook: Hook) -> Undo:
    """Trace the functions, and the calls that may run several requests."""
    around = CallStarter(_start_function_calling, hook)
    function = hook.make_starter(_begin_function)
    return apply_patches(_list_patches(around, function))


def _list_patches(around: CallStarter, function: CallStarter) -> Iterator[Patch]:
    for cls in ("Models", "AsyncModels"):
        target = f"google.genai.models:{cls}.generate_content"
        yield Patch(target, functools.partial(trace_method, start=around), f"the functions around {cls}' requests")
        streamed = functools.partial(replace_method, make=functools.partial(_wrap_stream, start=around))
        yield Patch(f"{target}_stream", streamed, f"the functions around {cls}' streams")
    for target in _FUNCTION_HELPERS:
        yield Patch(target, functools.partial(trace_method, start=function), "functions that the client calls")


def _may_call_functions(config: object) -> bool:
    """Return whether a call with this *config* may run several requests, with functions in between."""
    if config is None:  # as in most calls
        return False
    with _start_guard:
        if any(map(callable, list_items(read_config(config, "tools")))):
            return get_field(read_config(config, "automatic_function_calling"), "disable") is not True
    return False


_start_guard: Final = guard("starting a span")


def _start_function_calling(
    hook: Hook, args: tuple[object, ...], kwargs: dict[str, Any], *, function: Any = None
) -> Any:
    """Start the operation around requests that call functions in between; a single request needs none."""
    if not _may_call_functions(kwargs.get("config")):  # which can only be given by its name
        return NOOP_OPERATION
    return hook.start_operation(_begin_function_calling, args, kwargs, function=function)


def _begin_function_calling(call: Call) -> BegunCall:
    """Begin the record around requests that call functions in between."""
    step = Step(type="chain", name=f"generate_content with functions {read_model(call) or ''}".strip())
    if call.capture_content:
        step.input = read_contents(call.argument("contents"))
    return step, _observe_last_answer if call.capture_content else None


def _observe_last_answer(step: Step, got: object) -> None:
    """Read the text of the answer: that of the last request, or of all chunks of a stream."""
    chunks = got if isinstance(got, list) else [got]
    parts = [part for chunk in chunks for part in get_list(_get_first(get_list(chunk, "candidates")), "content.parts")]
    said = [get_nested(part, "text", str) or "" for part in parts if get_field(part, "thought") is not True]
    step.output = "".join(said) or None


def _get_first(candidates: list[object]) -> object:
    return candidates[0] if candidates else None


def _begin_function(call: Call) -> BegunCall:
    """Begin the record of a function that the client calls for the model."""
    function = call.argument("function_to_invoke")
    tool = Tool(name=get_nested(function, "__name__", str) or "function", type="function")
    tool.description = get_nested(function, "__doc__", str)
    if call.capture_content:
        tool.input = call.argument("args")
    return tool, _observe_function if call.capture_content else None


def _observe_function(tool: Tool, got: object) -> None:
    tool.output = got


def _wrap_stream(own: Any, enabled: list[bool], *, start: CallStarter) -> Callable[..., object]:
    """Return *own* with a span that is current in each of its steps: requests and functions are its children."""
    start_operation = start.bind_function(own)

    def open_stream_operation(args: object, kwargs: dict[str, Any]) -> object:
        return start_operation(args, kwargs) if enabled and _may_call_functions(kwargs.get("config")) else None

    if inspect.iscoroutinefunction(inspect.unwrap(own)):

        @functools.wraps(own)
        async def open_traced_stream(*args: Any, **kwargs: Any) -> object:
            result = await own(*args, **kwargs)  # no request is made before the first read
            if not _may_call_functions(kwargs.get("config")):
                return result
            return wrap_async_generator(lambda *_, **__: result, open_stream_operation, TracedGenerator)(
                *args, **kwargs
            )

        return open_traced_stream

    return functools.wraps(own)(wrap_generator(own, open_stream_operation, TracedGenerator))
