"""Instructor: one step for each structured answer, with the calls to the model that it takes, and what they failed at.

Every client that Instructor has patched goes through one function, which asks until the answer fits the response
model. That function is traced. Instructor's own hooks tell of its attempts; the application's handlers stay in force.

Each attempt is a chat. The request of the client that Instructor has patched is part of that, with its hook on.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from .._guard import guard
from .._shape import find_known, get_field, get_fields, get_nested
from ..hooks.anthropic_answers import observe_message, set_message_request
from ..hooks.call import Call
from ..hooks.hook import Hook
from ..hooks.openai_format import FINISH_REASONS
from ..hooks.patching import CallStarter, Patch, Undo, apply_patches, replace_method, trace_function
from ..hooks.requests import find_base_url, find_provider_by_url, read_provider_usage, read_server_fields
from ..tracing.operations.content import to_plain_data
from ..tracing.operations.generators import is_generator, keep_open
from ..tracing.operations.message_drafts import OutputDraft
from ..tracing.operations.operation import Operation
from ..tracing.operations.records import Chat, Observe, Step
from .openai.methods import make_chat, make_response, observe_chat, observe_response

__all__ = ["HOOK", "autolog"]

_ATTEMPTS: Final = "mlspan.instructor.attempts"
_SYNC: Final = "instructor.v2.core.patch:retry_sync_v2 instructor.core.patch:retry_sync"
_ASYNC: Final = "instructor.v2.core.patch:retry_async_v2 instructor.core.patch:retry_async"
_HOOKS: Final = ("instructor.v2.core.hooks", "instructor.core.hooks")  # where the class Hooks is, by version
# The package of a client -> value of gen_ai.provider.name, where the host does not tell.
_PROVIDERS: Final = {
    "anthropic": "anthropic",
    "cerebras": "cerebras",
    "fireworks": "fireworks",
    "groq": "groq",
    "mistralai": "mistral_ai",
    "openai": "openai",
    "together": "together",
}


def _begin_extraction(call: Call) -> tuple[Step, Observe[Step]] | None:
    wanted = call.argument("response_model")
    if wanted is None:  # the answer is the client's own
        return None
    record = Step(type="parser", name=f"create {getattr(wanted, '__name__', type(wanted).__name__)}")
    if call.capture_content:
        asked = get_fields(call.argument("kwargs"))
        record.input = to_plain_data(asked.get("messages", asked.get("input", asked.get("contents"))))

    def observe(record: Step, got: object) -> None:
        if call.capture_content:
            record.output = got  # each piece of a stream takes the place of the one before

    return record, observe


def _begin_attempt(call: Call, *, client: object) -> tuple[Chat, Observe[Chat]] | None:
    """Begin a request of the client that Instructor has patched; None if its format is not known here."""
    url, body, capture = find_base_url(get_field(client, "_client")), call.kwargs, call.capture_content
    provider = find_provider_by_url(url)
    package = type(client).__module__.partition(".")[0]
    provider = provider or _PROVIDERS.get(package)
    if package == "anthropic":
        chat = Chat(provider="anthropic", draft=OutputDraft(kept=capture), outer=True, **read_server_fields(url))
        set_message_request(chat, body, capture_content=capture)
        chat.model, chat.stream = get_nested(body, "model", str), True if body.get("stream") is True else None
        return chat, _observe_anthropic
    if provider is None:
        return None
    if "messages" in body:
        chat, observe = make_chat(provider, url, body, capture_content=capture), observe_chat
    else:
        chat, observe = make_response(provider, url, body, capture_content=capture), observe_response
    chat.outer = True
    return chat, observe


def _observe_anthropic(chat: Chat, got: object) -> None:
    """Read a whole message, or an event of a stream."""
    if get_nested(got, "type", str) == "message":
        observe_message(chat, got)
        return
    choice, begun = chat.draft.get_choice(), get_field(got, "message")
    chat.response_id = get_nested(begun, "id", str) or chat.response_id
    chat.response_model = get_nested(begun, "model", str) or chat.response_model
    slot, block, delta = get_nested(got, "index", int), get_field(got, "content_block"), get_field(got, "delta")
    if get_nested(block, "type", str) == "tool_use":
        choice.add_tool_call(slot, get_nested(block, "id", str), get_nested(block, "name", str), None)
    if arguments := get_nested(delta, "partial_json", str):
        choice.add_tool_call(slot, None, None, arguments)
    if text := get_nested(delta, "text", str):
        choice.add_text(text)
    if reason := get_nested(delta, "stop_reason", str):
        choice.finish_reason = FINISH_REASONS.get(reason, reason)
    for usage in (get_field(begun, "usage"), get_field(got, "usage")):
        read_provider_usage(chat, usage)


def _trace_call(hook: Hook, func: Any, enabled: list[bool], *, is_async: bool) -> Any:
    """Return the client's own method such that each of its calls is a chat."""
    begin = functools.partial(
        _begin_attempt, client=find_known(getattr(one, "__self__", None) for one in (func, inspect.unwrap(func)))
    )
    start = CallStarter(hook.start_operation, begin)
    return trace_function(func, start, enabled, is_awaited=is_async)


def _watch_attempts(hook: Hook, given: Any, operation: object, name: str) -> Any:
    """Return the *given* hooks of Instructor's and ours, which count attempts and tell what answers have failed at."""
    module = next((sys.modules[one] for one in _HOOKS if one in sys.modules), None)
    if module is None or not isinstance(operation, Operation):
        return given
    ours, record, attempts = module.Hooks(), operation.record, 0

    def count_attempt(*_: object, **__: object) -> None:
        nonlocal attempts
        attempts += 1
        record.extra[_ATTEMPTS] = attempts

    def note_failure(error: Exception, **_: object) -> None:
        failed = hook.start_operation(lambda _: (Step(type="parser", name=f"parse {name}"), None), (), {})
        if isinstance(failed, Operation):
            failed.finish(error)

    ours.on("completion:kwargs", count_attempt)
    ours.on("parse:error", note_failure)
    return ours if given is None else given + ours


def _change_arguments(
    hook: Hook, fn: Any, operation: object, call: tuple[Any, Any], enabled: list[bool]
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return the arguments of Instructor's function with the client's method traced, and with our hooks."""
    args, kwargs = call
    with guard("reading a call"):
        given = inspect.signature(fn).bind(*args, **kwargs).arguments
        is_async = inspect.iscoroutinefunction(fn)
        name = getattr(given.get("response_model"), "__name__", "")
        given["func"] = _trace_call(hook, given["func"], enabled, is_async=is_async)
        given["hooks"] = _watch_attempts(hook, given.get("hooks"), operation, name)
        return (), given
    return args, kwargs


def _trace_retries(hook: Hook, fn: Callable[..., Any], enabled: list[bool]) -> Callable[..., Any]:
    """Return Instructor's function such that the attempts of each call are one step."""

    @functools.wraps(fn)
    def retry(*args: Any, **kwargs: Any) -> Any:
        if not enabled:
            return fn(*args, **kwargs)
        with hook.start_operation(_begin_extraction, args, kwargs, function=fn) as operation:
            args, kwargs = _change_arguments(hook, fn, operation, (args, kwargs), enabled)  # type: ignore[assignment]
            result = fn(*args, **kwargs)
            if isinstance(operation, Operation) and is_generator(result):
                return keep_open(operation, result)
            return operation.record_result(result)

    return retry


def _trace_async_retries(hook: Hook, fn: Callable[..., Any], enabled: list[bool]) -> Callable[..., Any]:
    """Do the same for the asynchronous function."""

    @functools.wraps(fn)
    async def retry(*args: Any, **kwargs: Any) -> Any:
        if not enabled:
            return await fn(*args, **kwargs)
        with hook.start_operation(_begin_extraction, args, kwargs, function=fn) as operation:
            args, kwargs = _change_arguments(hook, fn, operation, (args, kwargs), enabled)  # type: ignore[assignment]
            result = await fn(*args, **kwargs)
            if isinstance(operation, Operation) and is_generator(result):
                return keep_open(operation, result)
            return operation.record_result(result, awaited=True)

    return retry


def _install(hook: Hook) -> Undo:
    loss = "structured answers"
    return apply_patches(
        Patch(target, functools.partial(replace_method, make=functools.partial(trace, hook)), loss)
        for target, trace in ((_SYNC, _trace_retries), (_ASYNC, _trace_async_retries))
    )


HOOK = Hook("instructor>=1.12,<2", "instructor", _install)
autolog = HOOK.autolog
