"""The agents of AG2 1.x, recorded by a middleware: turns, model calls, tool calls and requests for human input."""

from __future__ import annotations

import functools
import importlib
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final, TypeVar

from ..._guard import guard
from ..._shape import get_field, get_fields, get_list, get_nested
from ...hooks.call import BegunCall, Call
from ...hooks.hook import Hook
from ...hooks.openai_format import FINISH_REASONS
from ...hooks.patching import Patch, Undo, apply_patches, replace_attribute, resolve_target
from ...hooks.requests import read_failed_completion, read_usage
from ...tracing.operations.content import to_plain_data
from ...tracing.operations.exceptions import get_error_type
from ...tracing.operations.message_drafts import OutputDraft
from ...tracing.operations.messages import (
    Message,
    Part,
    ToolDefinition,
    make_media_part,
    make_tool_call,
    make_tool_call_response,
    parse_json,
)
from ...tracing.operations.records import Agent, Chat, Step, Tool, sees_errors

# Private names that some versions or classes lack, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_create_options": "the model of an agent, where its configuration does not name it",
}

_T = TypeVar("_T")
_chunk_guard: Final = guard("reading a chunk")
_subscription_guard: Final = guard("listening to a model's chunks")
_PROVIDERS: Final = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertexai": "gcp.vertex_ai",
    "xai": "x_ai",
}
# These providers leave cached tokens out of their input tokens; in the conventions, input tokens include them.
_COUNT_CACHE_SEPARATELY: Final = {"anthropic", "aws.bedrock"}


def install(hook: Hook) -> Undo:
    """Record each turn of an agent, and add a middleware that records its model and tool calls; return the undo.

    AG2's ``Agent._drive_scope`` is private. If it is gone, a warning says so and nothing is patched.
    """
    patch = functools.partial(_patch_drive_scope, hook)
    return apply_patches([Patch("ag2.agent:Agent._drive_scope", patch, "turns of agents", is_required=True)])


def _patch_drive_scope(hook: Hook, target: str) -> Undo:
    agents, name = resolve_target(target)
    own, on = vars(agents)[name], [True]
    middleware = _make_middleware(hook, importlib.import_module("ag2.middleware").BaseMiddleware)

    @functools.wraps(own)
    @asynccontextmanager
    async def open_scope(self: object, event: object, **kwargs: Any) -> AsyncIterator[object]:
        if on:
            ours = functools.partial(middleware, agent=self, client=kwargs.get("client"))
            kwargs["additional_middleware"] = (*kwargs.get("additional_middleware", ()), ours)
        async with own(self, event, **kwargs) as drive:
            yield _trace_turn(hook, (self, event, kwargs.get("context")), drive) if on else drive

    return replace_attribute(agents, name, own, open_scope, on)


def _trace_turn(
    hook: Hook, turn: tuple[object, ...], drive: Callable[[], Awaitable[object]]
) -> Callable[[], Awaitable[object]]:
    """Wrap *drive*, which runs a turn, in the span of that turn."""

    async def run_turn() -> object:
        with hook.start_operation(_begin_agent_turn, turn, {}) as operation:
            return operation.record_result(await drive(), awaited=True)

    return run_turn


def _make_middleware(hook: Hook, base: type) -> type:
    """Return a middleware class that records model calls, tool calls and human input.

    It runs inside of the caller's middleware, so each attempt of a retry is a call of its own.
    """

    class TracingMiddleware(base):  # type: ignore[misc]
        def __init__(self, event: object, context: object, agent: Any, client: Any) -> None:
            super().__init__(event, context)
            self._asked = agent, client

        async def on_llm_call(self, call_next: Any, events: Any, context: object) -> object:
            offered = (get_field(call_next, "keywords") or {}).get("tools") or ()
            asked = (*self._asked, events, context, offered)
            with hook.start_operation(_begin_llm_call, asked, {}) as operation, _noted_chunks(operation, context):
                return operation.record_result(await call_next(events, context), awaited=True)

        async def on_tool_execution(self, call_next: Any, event: object, context: object) -> object:
            with hook.start_operation(_begin_tool, (event,), {}) as operation:
                return operation.record_result(await call_next(event, context), awaited=True)

        async def on_human_input(self, call_next: Any, event: Any, context: object) -> object:
            with hook.start_operation(_begin_human_input, (event,), {}) as operation:
                return operation.record_result(await call_next(event, context), awaited=True)

    return TracingMiddleware


@contextmanager
def _noted_chunks(operation: Any, context: object) -> Iterator[None]:
    """Read the pieces of a streamed answer inside the block: if the call fails, they are all that is known of it."""
    chat, stream = get_field(operation, "record"), get_field(context, "stream")
    if not isinstance(chat, Chat) or not chat.stream or not hasattr(stream, "subscribe"):
        yield
        return

    def note_event(event: object) -> None:
        with _chunk_guard:
            if type(event).__name__ == "ModelMessageChunk":
                if chat.time_to_first_chunk is None:
                    operation.note_first_chunk()
                chat.draft.get_choice().add_text(get_nested(event, "content", str) or "")

    subscription = None
    with _subscription_guard:  # another version's may want other arguments
        subscription = stream.subscribe(note_event, sync_to_thread=False)
    try:
        yield
    finally:
        if subscription is not None:
            with _subscription_guard:
                stream.unsubscribe(subscription)


def _begin_agent_turn(call: Call) -> BegunCall:
    agent, event, context = call.args
    stream = get_field(get_field(context, "stream"), "id")  # all turns of a conversation share it
    turn = Agent(name=get_nested(agent, "name", str), conversation=None if stream is None else str(stream))
    if call.capture_content:
        turn.input = _read_part_contents(get_field(event, "parts"))

    def observe(turn: Agent, got: object) -> None:
        if turn.name is not None:
            turn.add_cause("handed_off_by", turn.name, once=True)
        if call.capture_content:
            turn.output = get_nested(got, "body", str)

    return turn, observe


def _begin_llm_call(call: Call) -> BegunCall:
    agent, client, events, context, offered = call.args
    config, options = get_field(agent, "config"), get_field(client, "_create_options")
    chat = Chat(outer=True, provider=_read_config_provider(config), draft=OutputDraft(kept=call.capture_content))
    chat.model = get_nested(options, "model", str) or _read_config_field(config, "model", str)
    chat.stream = get_nested(options, "stream", bool) or _read_config_field(config, "streaming", bool) or None
    if call.capture_content:
        system: list[Part] = [{"type": "text", "content": text} for text in get_field(context, "prompt") or ()]
        instructions: list[Message] = [{"role": "system", "parts": system}] if system else []
        chat.input = [*instructions, *(message for event in events for message in _convert_event(event))]
        chat.tools = [_read_tool_schema(tool) for tool in offered if get_field(tool, "function") is not None] or None
    return chat, _observe_model_response


def _read_config_field(config: object, name: str, want: type[_T]) -> _T | None:
    with suppress(NotImplementedError):  # configurations for tests raise it
        return get_nested(config, name, want)
    return None


def _read_config_provider(config: object) -> str | None:
    with suppress(NotImplementedError):
        return _map_provider(get_field(config, "provider"))
    return None


def _map_provider(provider: object) -> str | None:
    name = str(getattr(provider, "value", provider) or "") or None
    return _PROVIDERS.get(name, name) if name else None


@sees_errors
def _observe_model_response(chat: Chat, got: object) -> None:
    """Read the ``ModelResponse`` *got* into the record, or an exception, which may hold an answer."""
    if isinstance(got, BaseException):
        read_failed_completion(chat, got)
        return
    chat.provider = _map_provider(get_field(got, "provider")) or chat.provider
    chat.response_model, chat.response_id = get_nested(got, "model", str), get_nested(got, "response_id", str)
    chat.draft = OutputDraft(kept=chat.draft.kept)  # the whole answer, in place of what its pieces have said
    choice = chat.draft.get_choice()
    reason = get_nested(got, "finish_reason", str)
    choice.finish_reason = FINISH_REASONS.get(reason or "", reason)
    if text := get_nested(got, "content", str):
        choice.add_text(text)
    for call in get_list(got, "tool_calls.calls"):
        choice.add_part(make_tool_call(call.name, call.arguments, call.id))
    usage = get_fields(get_field(got, "usage"))
    counts = {name: int(count) for name, count in usage.items() if isinstance(count, (int, float)) and count}
    read_usage(chat, counts, _USAGE_FIELDS)  # AG2 counts in floats, and 0 means that the server has sent no count
    if chat.provider in _COUNT_CACHE_SEPARATELY and chat.input_tokens is not None:
        chat.input_tokens += (chat.cache_read_tokens or 0) + (chat.cache_write_tokens or 0)


_USAGE_FIELDS: Final = {
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "cache_read_input_tokens": "cache_read_tokens",
    "cache_creation_input_tokens": "cache_write_tokens",
    "thinking_tokens": "reasoning_tokens",
}


def _convert_event(event: Any) -> list[Message]:
    """Convert an event of the history to the messages that the model receives, in the form of the conventions."""
    event_type = type(event).__name__
    if event_type in {"ModelRequest", "DrainedModelRequest"}:
        return [{"role": "user", "parts": [_convert_input_part(part) for part in event.parts]}]
    if event_type == "ModelResponse":
        texts: list[Part] = [{"type": "text", "content": event.content}] if event.content else []
        tool_calls = [
            make_tool_call(call.name, call.arguments, call.id) for call in get_list(event, "tool_calls.calls")
        ]
        return [{"role": "assistant", "parts": [*texts, *tool_calls]}]
    if event_type == "ToolResultsEvent":
        answers = [
            make_tool_call_response(_read_part_contents(one.result.parts), one.parent_id) for one in event.results
        ]
        return [{"role": "tool", "parts": [*answers]}]
    return []


def _convert_input_part(part: object) -> Part:
    if isinstance(text := get_field(part, "content"), str):
        return {"type": "text", "content": text}
    if isinstance(url := get_field(part, "url"), str):
        return make_media_part("document", url)
    if isinstance(file_id := get_field(part, "file_id"), str):
        return {"type": "file", "modality": "document", "file_id": file_id}
    if isinstance(data := get_field(part, "data"), bytes):
        modality = str(get_field(part, "media_type")).partition("/")[0]
        modality = modality if modality in {"audio", "image", "video"} else "document"
        return make_media_part(modality, f"data:{get_field(part, 'media_type')};base64,{b64encode(data).decode()}")
    return {"type": "data", "content": to_plain_data(data)}


def _read_part_contents(parts: Any) -> object:
    """Return the content of the parts: one part's content itself, several as a list, None if there are none."""
    contents = [_convert_input_part(part).get("content") for part in parts or ()]
    return contents[0] if len(contents) == 1 else contents or None


def _read_tool_schema(raw: Any) -> ToolDefinition:
    tool: ToolDefinition = {"type": "function", "name": str(raw.function.name)}
    if description := get_nested(raw, "function.description", str):
        tool["description"] = description
    if (parameters := get_field(raw.function, "parameters")) is not None:
        tool["parameters"] = to_plain_data(parameters)
    return tool


def _begin_tool(call: Call) -> BegunCall:
    event = call.args[0]
    tool = Tool(name=event.name, type="function", call_id=get_nested(event, "id", str))
    if call.capture_content:
        tool.input = parse_json(event.arguments or "{}")

    def observe(tool: Tool, got: object) -> None:
        error = get_field(got, "error")
        if isinstance(error, BaseException):
            tool.failure = (get_error_type(error), str(error) if call.capture_content else "")
            return
        parts = get_field(get_field(got, "result"), "parts") or ()
        for part in parts:
            if type(data := get_field(part, "data")).__name__ == "Handoff" and (
                target := get_nested(data, "target", str)
            ):
                tool.add_offer("handed_off_by", target, anywhere=False)
        if call.capture_content:
            tool.output = _read_part_contents(parts)

    return tool, observe


def _begin_human_input(call: Call) -> BegunCall:
    step = Step(type="human_input", name="human input")
    if call.capture_content:
        step.input = get_nested(call.args[0], "content", str)

    def observe(step: Step, got: object) -> None:
        step.output = get_nested(got, "content", str) if call.capture_content else None

    return step, observe
