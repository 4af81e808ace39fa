"""xAI's Python client, which speaks gRPC, sync and async: whole answers, streams, parsed and deferred answers.

The client does not say which server it asks, so no record does. A stream is a generator: its request is made at the
first read. The client opens OpenTelemetry spans of its own; while mlspan records a call, its span is held back.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final

from .._shape import get_count, get_field, is_a, list_items, list_texts
from ..hooks.call import Call
from ..hooks.hook import Hook, trace_methods
from ..hooks.openai_format import FINISH_REASONS
from ..hooks.own_spans import is_request_recorded, make_unrecorded_context, suppress_own_spans
from ..hooks.patching import Patch, Undo, apply_patches, replace_method
from ..tracing.operations import semconv as sc
from ..tracing.operations.message_drafts import OutputDraft
from ..tracing.operations.messages import (
    Message,
    Part,
    ToolDefinition,
    make_media_part,
    make_tool_call,
    make_tool_call_response,
    parse_json,
)
from ..tracing.operations.operation import Operation
from ..tracing.operations.records import Chat, Observe
from ..tracing.operations.stream import AsyncStream, Generated

__all__ = ["HOOK", "autolog"]

# Private fields of the client, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_conversation_id": "the conversation of a chat",
}
_MODULES: Final = ("xai_sdk.sync.chat", "xai_sdk.aio.chat")
_METHODS: Final = ("sample", "sample_batch", "parse", "defer", "defer_batch")
_STREAMS: Final = ("stream", "stream_batch")
_USD_PER_TICK: Final = 1e-10  # as the client's ``cost`` module says
_FLOATS: Final = ("frequency_penalty", "presence_penalty", "temperature", "top_p")
_INTEGERS: Final = ("max_tokens", "seed")
_REASONS: Final = {**FINISH_REASONS, "max_len": "length", "max_context": "length"}


def _begin(call: Call, *, stream: bool = False) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of a call of a ``Chat``, which holds its request as a message of protobuf."""
    chat, asked = call.args[0], call.args[0].proto
    record = Chat(
        provider="x_ai",
        model=asked.model or None,
        stream=stream or None,
        draft=OutputDraft(kept=call.capture_content),
    )
    _read_parameters(record, asked)
    conversation = getattr(chat, "_conversation_id", None)
    record.conversation = conversation if isinstance(conversation, str) else None
    if is_a(count := call.argument("n"), int) and count != 1:
        record.choice_count = count
    if call.capture_content:
        record.input = [_read_message(one) for one in asked.messages]
        record.tools = [_read_tool_definition(one) for one in asked.tools] or None
    return record, _observe


def _read_parameters(record: Chat, asked: Any) -> None:
    for name in _FLOATS:
        if asked.HasField(name):
            setattr(record, name, round(getattr(asked, name), 6))  # 32 bits wide
    for name in _INTEGERS:
        if asked.HasField(name):
            setattr(record, name, getattr(asked, name))
    record.stop_sequences = list_texts(list(asked.stop)) or None
    record.previous_response = get_field(asked, "previous_response_id") or None
    if asked.HasField("reasoning_effort"):
        record.reasoning_level = _name_value(asked, "reasoning_effort", "EFFORT_")
    if asked.HasField("response_format"):
        kind = _name_value(asked.response_format, "format_type", "FORMAT_TYPE_")
        record.output_type = "text" if kind == "text" else "json"


def _name_value(message: Any, field: str, prefix: str) -> str:
    """Return the name of an enumeration's value in a field, in lower case and without its *prefix*."""
    number = getattr(message, field)
    value = message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number.get(number)
    return value.name.removeprefix(prefix).lower() if value is not None else str(number)


def _read_message(raw: Any) -> Message:
    role = _name_value(raw, "role", "ROLE_")
    parts: list[Part] = [_read_content_part(one) for one in raw.content]
    if role == "tool":
        said = "".join(one.text for one in raw.content)
        return {"role": role, "parts": [make_tool_call_response(said, get_field(raw, "tool_call_id") or None)]}
    if raw.reasoning_content:
        parts.insert(0, {"type": "reasoning", "content": raw.reasoning_content})
    parts += [make_tool_call(one.function.name, one.function.arguments, one.id or None) for one in raw.tool_calls]
    message: Message = {"role": role, "parts": parts}
    if raw.name:
        message["name"] = raw.name
    return message


def _read_content_part(raw: Any) -> Part:
    kind = raw.WhichOneof("content")
    if kind == "image_url":
        return make_media_part("image", raw.image_url.image_url)
    if kind == "file":
        return {"type": "file", "modality": "document", "file_id": raw.file.file_id}
    return {"type": "text", "content": raw.text}


def _read_tool_definition(raw: Any) -> ToolDefinition:
    kind = raw.WhichOneof("tool") or "function"
    if kind != "function":
        return {"type": kind, "name": kind}
    tool: ToolDefinition = {"type": kind, "name": raw.function.name}
    if raw.function.description:
        tool["description"] = raw.function.description
    if isinstance(parameters := parse_json(raw.function.parameters), dict):
        tool["parameters"] = parameters
    return tool


def _observe(chat: Chat, got: object) -> None:
    """Read what a method returns: an answer or a list of them, one with what was parsed of it, or one with a chunk."""
    if isinstance(got, tuple) and len(got) == 2:  # a pair
        answer, second = got
        chunk = second[0] if isinstance(second, list) and second else second
        _read_answer_proto(chat, getattr(chunk, "proto", None) if chat.stream else getattr(answer, "proto", None))
    else:
        answers = list_items(got) or [got]  # each holds the whole answer of the server
        _read_answer_proto(chat, getattr(answers[0], "proto", None))


def _read_answer_proto(chat: Chat, proto: Any) -> None:
    """Read an answer or a chunk of one, a message of protobuf."""
    if proto is None:
        return
    chat.response_id, chat.response_model = proto.id or chat.response_id, proto.model or chat.response_model
    if proto.system_fingerprint:
        chat.extra[sc.OPENAI_RESPONSE_SYSTEM_FINGERPRINT] = proto.system_fingerprint
    for output in proto.outputs:
        _read_output(chat, output)
    if proto.HasField("usage"):
        _read_usage(chat, proto.usage)


def _read_output(chat: Chat, output: Any) -> None:
    choice = chat.draft.get_choice(output.index)
    said = output.delta if chat.stream else output.message
    if said.reasoning_content:
        choice.add_text(said.reasoning_content, "reasoning")
    if said.content:
        choice.add_text(said.content)
    for one in said.tool_calls:  # each comes whole
        choice.add_tool_call(None, one.id or None, one.function.name, one.function.arguments)
    if output.finish_reason:
        reason = _name_value(output, "finish_reason", "REASON_")
        choice.finish_reason = _REASONS.get(reason, reason)


def _read_usage(chat: Chat, usage: Any) -> None:
    """Read the tokens: reasoning stands beside the output, and is a part of it in the conventions."""
    counts = {field.name: value for field, value in usage.ListFields()}
    if not counts:
        return
    thought = get_count(counts, "reasoning_tokens")
    chat.input_tokens = get_count(counts, "prompt_tokens") or 0  # a zero is not sent
    chat.output_tokens = (get_count(counts, "completion_tokens") or 0) + (thought or 0)
    chat.reasoning_tokens = thought
    chat.cache_read_tokens = get_count(counts, "cached_prompt_text_tokens")
    chat.image_input_tokens = get_count(counts, "prompt_image_tokens")
    if (ticks := get_count(counts, "cost_in_usd_ticks")) is not None:
        chat.extra[sc.USAGE_COST] = ticks * _USD_PER_TICK


def _make_stream(own: Any, enabled: list[bool], *, hook: Hook) -> Callable[..., Any]:
    """Wrap a generator: its operation begins at the first read, and its request is made inside of it."""
    begin = functools.partial(_begin, stream=True)

    @functools.wraps(own)
    def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
        operation = hook.start_operation(begin, args, kwargs, function=own) if enabled else None
        if not isinstance(operation, Operation):
            yield from own(*args, **kwargs)
            return
        operation.hand_over()
        events = Generated(own(*args, **kwargs), operation, operation.context)
        try:
            yield from events
        finally:
            events.close()

    return stream


def _make_async_stream(own: Any, enabled: list[bool], *, hook: Hook) -> Callable[..., Any]:
    """Wrap an asynchronous one."""
    begin = functools.partial(_begin, stream=True)

    @functools.wraps(own)
    async def stream(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        operation = hook.start_operation(begin, args, kwargs, function=own) if enabled else None
        events: Any = own(*args, **kwargs)
        if isinstance(operation, Operation):
            operation.hand_over()
            events = AsyncStream(events, operation, operation.context)
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()

    return stream


def _install(hook: Hook) -> Undo:
    with ExitStack() as undo:
        undo.callback(
            trace_methods({f"{module}:Chat.{name}": _begin for module in _MODULES for name in _METHODS})(hook)
        )
        for module, make in zip(_MODULES, (_make_stream, _make_async_stream), strict=True):
            replace = functools.partial(replace_method, make=functools.partial(make, hook=hook))
            streams = [Patch(f"{module}:Chat.{name}", replace, "streams") for name in _STREAMS]
            undo.callback(apply_patches(streams))
        own = [f"{module}:tracer.start_as_current_span" for module in _MODULES]
        held = suppress_own_spans(hook, own, applies=lambda _: is_request_recorded(), instead=make_unrecorded_context)
        undo.callback(apply_patches(held))
        return undo.pop_all().close


HOOK = Hook("xai-sdk>=1.4,<2", "xai_sdk", _install)
autolog = HOOK.autolog
