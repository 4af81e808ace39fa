"""The agents of AG2 1.x, by its own middleware: turns, calls to models, tools, and what is asked of people."""

from __future__ import annotations

import functools
import importlib
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from ..._shape import dig, get, items
from ...tracing.content import snapshot
from ...tracing.live import _type_name as type_name
from ...tracing.messages import Draft, Message, Part, ToolDefinition, loads, media, tool_call, tool_call_response
from ...tracing.records import Agent, Chat, Observe, Record, Step, Tool
from .._hook import Call, Hook
from .._patch import Undo
from .handoffs import hand_over, take_over

_PROVIDERS: Final = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertexai": "gcp.vertex_ai",
    "xai": "x_ai",
}

_APART: Final = {"anthropic", "aws.bedrock"}  # which count cached tokens beside the others; input tokens are all


def install(hook: Hook) -> Undo:
    """Have each turn of an agent opened by us, with a middleware of ours nearest to its model and its tools."""
    agents: Any = importlib.import_module("ag2.agent").Agent
    own, on = vars(agents)["_drive_scope"], [True]
    middleware = _middleware(hook, importlib.import_module("ag2.middleware").BaseMiddleware)

    @functools.wraps(own)
    @asynccontextmanager
    async def scope(self: Any, event: Any, **kwargs: Any) -> AsyncIterator[Any]:
        if on:
            ours = functools.partial(middleware, agent=self, client=kwargs.get("client"))
            kwargs["additional_middleware"] = (*kwargs.get("additional_middleware", ()), ours)
        async with own(self, event, **kwargs) as drive:
            yield _driven(hook, (self, event, kwargs.get("context")), drive) if on else drive

    def undo() -> None:
        on.clear()
        if vars(agents).get("_drive_scope") is scope:
            agents._drive_scope = own

    agents._drive_scope = scope
    return undo


def _driven(hook: Hook, turn: tuple[Any, ...], drive: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
    async def driven() -> Any:
        with hook.open(_begin_turn, turn, {}) as live:
            return live.result(await drive())

    return driven


def _middleware(hook: Hook, base: type) -> type:
    """A class of middleware; nearest to model and tool, so that each attempt of a retry is a call."""

    class Watching(base):  # type: ignore[misc]
        def __init__(self, event: Any, context: Any, agent: Any, client: Any) -> None:
            super().__init__(event, context)
            self._asked = agent, client

        async def on_llm_call(self, call_next: Any, events: Any, context: Any) -> Any:
            offered = (get(call_next, "keywords") or {}).get("tools") or ()
            with hook.open(_begin_chat, (*self._asked, events, context, offered), {}) as live:
                return live.result(await call_next(events, context))

        async def on_tool_execution(self, call_next: Any, event: Any, context: Any) -> Any:
            with hook.open(_begin_tool, (event,), {}) as live:
                return live.result(await call_next(event, context))

        async def on_human_input(self, call_next: Any, event: Any, context: Any) -> Any:
            with hook.open(_begin_human, (event,), {}) as live:
                return live.result(await call_next(event, context))

    return Watching


def _begin_turn(call: Call) -> tuple[Record, Observe[Any]]:
    own, event, context = call.args
    stream = get(get(context, "stream"), "id")  # what later turns of this conversation share
    turn = Agent(name=dig(own, "name", str), conversation=None if stream is None else str(stream))
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
        said: list[Message] = [{"role": "system", "parts": system}] if system else []
        chat.input = [*said, *(message for event in events for message in _messages(event))]
        chat.tools = [_tool(tool) for tool in offered if get(tool, "function") is not None] or None
    return chat, _observe_chat


def _of(config: Any, name: str) -> str | None:
    with suppress(NotImplementedError):  # what a configuration says that has none, as those for tests do
        return dig(config, name, str)
    return None


def _provider(config: Any) -> str | None:
    with suppress(NotImplementedError):
        return _named(get(config, "provider"))
    return None


def _named(provider: Any) -> str | None:
    named = str(getattr(provider, "value", provider) or "") or None
    return _PROVIDERS.get(named, named) if named else None


def _observe_chat(chat: Chat, got: Any) -> None:
    """A ModelResponse."""
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
    """What an event of the history tells the model."""
    kind = type(event).__name__
    if kind in {"ModelRequest", "DrainedModelRequest"}:
        return [{"role": "user", "parts": [_part(part) for part in event.parts]}]
    if kind == "ModelResponse":
        said: list[Part] = [{"type": "text", "content": event.content}] if event.content else []
        asked = [tool_call(call.name, call.arguments, call.id) for call in items(event, "tool_calls.calls")]
        return [{"role": "assistant", "parts": [*said, *asked]}]
    if kind == "ToolResultsEvent":
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
    """One text as it is, several things as a list."""
    said = [_part(part).get("content") for part in parts or ()]
    return said[0] if len(said) == 1 else said or None


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
