"""The agents of AG2 1.x, recorded by a middleware: turns, model calls, tool calls and requests for human input."""

from __future__ import annotations

import functools
import importlib
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from ..._shape import dig, get, items
from ...hooks.hook import Call, Hook
from ...hooks.patching import Undo
from ...tracing.operations.content import snapshot
from ...tracing.operations.messages import (
    Draft,
    Message,
    Part,
    ToolDefinition,
    loads,
    media,
    tool_call,
    tool_call_response,
)
from ...tracing.operations.operation import _type_name as type_name
from ...tracing.operations.records import Agent, Chat, Observe, Record, Step, Tool
from .handoffs import hand_over, take_over

_PROVIDERS: Final = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertexai": "gcp.vertex_ai",
    "xai": "x_ai",
}

# These providers leave cached tokens out of their input tokens; in the conventions, input tokens include them.
_APART: Final = {"anthropic", "aws.bedrock"}


def install(hook: Hook) -> Undo:
    """Record each turn of an agent, and add a middleware that records its model and tool calls; return the undo.

    AG2's ``Agent._drive_scope`` is private. If it is gone, a KeyError says so and nothing is patched.
    """
    agents: Any = importlib.import_module("ag2.agent").Agent
    own, on = vars(agents)["_drive_scope"], [True]
    middleware = _middleware(hook, importlib.import_module("ag2.middleware").BaseMiddleware)

    @functools.wraps(own)
    @asynccontextmanager
    async def open_scope(self: Any, event: Any, **kwargs: Any) -> AsyncIterator[Any]:
        if on:
            ours = functools.partial(middleware, agent=self, client=kwargs.get("client"))
            kwargs["additional_middleware"] = (*kwargs.get("additional_middleware", ()), ours)
        async with own(self, event, **kwargs) as drive:
            yield _driven(hook, (self, event, kwargs.get("context")), drive) if on else drive

    def restore_drive_scope() -> None:
        on.clear()
        if vars(agents).get("_drive_scope") is open_scope:
            agents._drive_scope = own

    agents._drive_scope = open_scope
    return restore_drive_scope


def _driven(hook: Hook, turn: tuple[Any, ...], drive: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
    """Wrap *drive*, which runs a turn, in the span of that turn."""

    async def run_turn() -> Any:
        with hook.open(_begin_turn, turn, {}) as operation:
            return operation.result(await drive())

    return run_turn


def _middleware(hook: Hook, base: type) -> type:
    """Return a middleware class that records model calls, tool calls and human input.

    It runs inside of the caller's middleware, so each attempt of a retry is a call of its own.
    """

    class TracingMiddleware(base):  # type: ignore[misc]
        def __init__(self, event: Any, context: Any, agent: Any, client: Any) -> None:
            super().__init__(event, context)
            self._asked = agent, client

        async def on_llm_call(self, call_next: Any, events: Any, context: Any) -> Any:
            offered = (get(call_next, "keywords") or {}).get("tools") or ()
            with hook.open(_begin_chat, (*self._asked, events, context, offered), {}) as operation:
                return operation.result(await call_next(events, context))

        async def on_tool_execution(self, call_next: Any, event: Any, context: Any) -> Any:
            with hook.open(_begin_tool, (event,), {}) as operation:
                return operation.result(await call_next(event, context))

        async def on_human_input(self, call_next: Any, event: Any, context: Any) -> Any:
            with hook.open(_begin_human, (event,), {}) as operation:
                return operation.result(await call_next(event, context))

    return TracingMiddleware


def _begin_turn(call: Call) -> tuple[Record, Observe[Any]]:
    agent, event, context = call.args
    stream = get(get(context, "stream"), "id")  # all turns of a conversation share it
    turn = Agent(name=dig(agent, "name", str), conversation=None if stream is None else str(stream))
    if call.content:
        turn.input = _texts(get(event, "parts"))

    def observe(turn: Agent, got: Any) -> None:
        take_over(turn.name)
        if call.content:
            turn.output = dig(got, "body", str)

    return turn, observe


def _begin_chat(call: Call) -> tuple[Record, Observe[Any]]:
    agent, client, events, context, offered = call.args
    config, options = get(agent, "config"), get(client, "_create_options")
    chat = Chat(outer=True, provider=_provider(config), draft=Draft(kept=call.content))
    chat.model = dig(options, "model", str) or _of(config, "model")
    chat.stream = dig(options, "stream", bool) or None
    if call.content:
        system: list[Part] = [{"type": "text", "content": text} for text in get(context, "prompt") or ()]
        instructions: list[Message] = [{"role": "system", "parts": system}] if system else []
        chat.input = [*instructions, *(message for event in events for message in _messages(event))]
        chat.tools = [_tool(tool) for tool in offered if get(tool, "function") is not None] or None
    return chat, _observe_chat


def _of(config: Any, name: str) -> str | None:
    with suppress(NotImplementedError):  # configurations for tests raise it
        return dig(config, name, str)
    return None


def _provider(config: Any) -> str | None:
    with suppress(NotImplementedError):
        return _named(get(config, "provider"))
    return None


def _named(provider: Any) -> str | None:
    name = str(getattr(provider, "value", provider) or "") or None
    return _PROVIDERS.get(name, name) if name else None


def _observe_chat(chat: Chat, got: Any) -> None:
    """Read the ``ModelResponse`` *got* into the record."""
    chat.provider = _named(get(got, "provider")) or chat.provider
    chat.response_model, chat.response_id = dig(got, "model", str), dig(got, "response_id", str)
    choice = chat.draft.choice()
    choice.finish_reason = dig(got, "finish_reason", str)
    if text := dig(got, "content", str):
        choice.say(text)
    for call in items(got, "tool_calls.calls"):
        choice.add(tool_call(call.name, call.arguments, call.id))
    for name, field in _USAGE.items():
        count = get(get(got, "usage"), name)
        if isinstance(count, (int, float)) and count:
            setattr(chat, field, int(count))
    if chat.provider in _APART and chat.input_tokens is not None:
        chat.input_tokens += (chat.cache_read_tokens or 0) + (chat.cache_write_tokens or 0)


_USAGE: Final = {
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "cache_read_input_tokens": "cache_read_tokens",
    "cache_creation_input_tokens": "cache_write_tokens",
    "thinking_tokens": "reasoning_tokens",
}


def _messages(event: Any) -> list[Message]:
    """Convert an event of the history to the messages that the model receives, in the form of the conventions."""
    event_type = type(event).__name__
    if event_type in {"ModelRequest", "DrainedModelRequest"}:
        return [{"role": "user", "parts": [_part(part) for part in event.parts]}]
    if event_type == "ModelResponse":
        texts: list[Part] = [{"type": "text", "content": event.content}] if event.content else []
        tool_calls = [tool_call(call.name, call.arguments, call.id) for call in items(event, "tool_calls.calls")]
        return [{"role": "assistant", "parts": [*texts, *tool_calls]}]
    if event_type == "ToolResultsEvent":
        answers = [tool_call_response(_texts(one.result.parts), one.parent_id) for one in event.results]
        return [{"role": "tool", "parts": [*answers]}]
    return []


def _part(part: Any) -> Part:
    if isinstance(text := get(part, "content"), str):
        return {"type": "text", "content": text}
    if isinstance(url := get(part, "url"), str):
        return media("document", url)
    if isinstance(file_id := get(part, "file_id"), str):
        return {"type": "file", "modality": "document", "file_id": file_id}
    if isinstance(data := get(part, "data"), bytes):
        modality = str(get(part, "media_type")).partition("/")[0]
        modality = modality if modality in {"audio", "image", "video"} else "document"
        return media(modality, f"data:{get(part, 'media_type')};base64,{b64encode(data).decode()}")
    return {"type": "data", "content": snapshot(data)}


def _texts(parts: Any) -> Any:
    """Return the content of the parts: one part's content itself, several as a list, None if there are none."""
    contents = [_part(part).get("content") for part in parts or ()]
    return contents[0] if len(contents) == 1 else contents or None


def _tool(raw: Any) -> ToolDefinition:
    tool: ToolDefinition = {"type": "function", "name": str(raw.function.name)}
    if description := dig(raw, "function.description", str):
        tool["description"] = description
    if (parameters := get(raw.function, "parameters")) is not None:
        tool["parameters"] = snapshot(parameters)
    return tool


def _begin_tool(call: Call) -> tuple[Record, Observe[Any]]:
    event = call.args[0]
    tool = Tool(name=event.name, type="function", call_id=dig(event, "id", str))
    if call.content:
        tool.input = loads(event.arguments or "{}")

    def observe(tool: Tool, got: Any) -> None:
        error = get(got, "error")
        if isinstance(error, BaseException):
            tool.failure = (type_name(error), str(error) if call.content else "")
            return
        parts = get(get(got, "result"), "parts") or ()
        for part in parts:
            if type(data := get(part, "data")).__name__ == "Handoff" and (target := dig(data, "target", str)):
                hand_over(target)
        if call.content:
            tool.output = _texts(parts)

    return tool, observe


def _begin_human(call: Call) -> tuple[Record, Observe[Any]]:
    step = Step(type="human_input", name="human input")
    if call.content:
        step.input = dig(call.args[0], "content", str)

    def observe(step: Step, got: Any) -> None:
        step.output = dig(got, "content", str) if call.content else None

    return step, observe
