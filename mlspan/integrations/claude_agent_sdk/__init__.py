"""The Claude Agent SDK: each turn of the agent that its process runs, with the model's calls, tools and subagents.

A turn lasts from a prompt to its ``ResultMessage``, which tells its tokens and its cost. It is current while ``query``
starts the process, so the SDK hands its ``TRACEPARENT`` to it. A ``ClaudeSDKClient`` starts its process when it
connects: below the caller's span, if there is one.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from typing import Any, Final
from weakref import WeakKeyDictionary

from opentelemetry import context as otel

from ..._guard import guard
from ..._shape import get_nested
from ...hooks.call import Call
from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo, apply_patches, replace_method
from ...tracing.operations.call_context import use_context
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import Step
from ...tracing.operations.stream import AsyncStream
from .conversation import Conversation
from .messages import begin_turn

__all__ = ["HOOK", "autolog"]

# Names of a private module, each with what is lost without it.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_handle_control_request": "spans of hooks; what a tool of the program's own does stands beside the tool's span",
    "_internal": "likewise: its module",
}

_CONVERSATION_KEY: Final = otel.create_key("mlspan-claude-conversation")  # of the one that a context belongs to
_conversations: Final[WeakKeyDictionary[object, Conversation]] = WeakKeyDictionary()  # by ClaudeSDKClient
Wrapper = Callable[..., Any]


def _find_conversation(client: object, hook: Hook) -> Conversation:
    return _conversations.setdefault(client, Conversation(hook))


def _wrap_query(own: Wrapper, enabled: list[bool], *, hook: Hook) -> Wrapper:
    """Wrap ``query``, an asynchronous generator: it starts the process at its first read, inside of the turn."""

    @functools.wraps(own)
    async def query(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        turn = hook.start_operation(begin_turn, args, kwargs, function=own) if enabled else None
        messages: Any = own(*args, **kwargs)
        if isinstance(turn, Operation):
            conversation = Conversation(hook)
            conversation.add_turn(turn)
            messages = AsyncStream(
                messages, conversation, otel.set_value(_CONVERSATION_KEY, conversation, turn.context)
            )
        try:
            async for message in messages:
                yield message
        finally:
            await messages.aclose()

    return query


def _wrap_prompt(own: Wrapper, enabled: list[bool], *, hook: Hook) -> Wrapper:
    """Wrap ``ClaudeSDKClient.query``, which sends a prompt: a turn begins."""

    @functools.wraps(own)
    async def query(client: Any, *args: Any, **kwargs: Any) -> Any:
        turn = hook.start_operation(begin_turn, (client, *args), kwargs, function=own) if enabled else None
        if not isinstance(turn, Operation):
            return await own(client, *args, **kwargs)
        conversation = _find_conversation(client, hook)
        with conversation.send_prompt(turn):
            return await own(client, *args, **kwargs)

    return query


def _wrap_connect(own: Wrapper, enabled: list[bool], *, hook: Hook) -> Wrapper:
    """Wrap ``ClaudeSDKClient.connect``, whose tasks belong to the conversation. It may send a first prompt."""

    @functools.wraps(own)
    async def connect(client: object, *args: object, **kwargs: object) -> object:
        if not enabled or not hook.should_record():
            return await own(client, *args, **kwargs)
        conversation = _conversations[client] = Conversation(hook)
        asked = Call((client, *args), kwargs, capture_content=False, options={}, function=own).argument("prompt")
        with ExitStack() as around:
            if isinstance(asked, str):
                turn = hook.start_operation(begin_turn, (client, *args), kwargs, function=own)
                if isinstance(turn, Operation):
                    around.enter_context(conversation.send_prompt(turn))
            around.enter_context(use_context(otel.set_value(_CONVERSATION_KEY, conversation)))
            return await own(client, *args, **kwargs)

    return connect


def _wrap_receive(own: Wrapper, enabled: list[bool], *, hook: Hook) -> Wrapper:
    """Wrap ``receive_messages``: one that is left may be read on later, so only an error ends what is open."""

    @functools.wraps(own)
    async def receive_messages(client: object) -> AsyncIterator[object]:
        conversation = _find_conversation(client, hook) if enabled and hook.should_record() else None
        messages = own(client)
        try:
            async for message in messages:
                if conversation is not None:
                    conversation.observe(message)
                yield message
        except Exception as error:
            if conversation is not None:
                conversation.finish(error)
            raise
        finally:
            await messages.aclose()

    return receive_messages


def _wrap_disconnect(own: Wrapper, enabled: list[bool], *, hook: Hook) -> Wrapper:  # noqa: ARG001  # as the others
    """Wrap ``ClaudeSDKClient.disconnect``, which ends what is open."""

    @functools.wraps(own)
    async def disconnect(client: object) -> Any:
        try:
            return await own(client)
        finally:
            if (conversation := _conversations.pop(client, None)) is not None:
                conversation.finish(stream_end="closed")

    return disconnect


def _wrap_control(own: Wrapper, enabled: list[bool], *, hook: Hook) -> Wrapper:
    """Wrap what answers requests of the process: to call a tool or a hook of the program's, or to permit a tool."""

    @functools.wraps(own)
    async def handle(query: object, request: object) -> object:
        conversation = otel.get_value(_CONVERSATION_KEY)
        if not enabled or not isinstance(conversation, Conversation) or not hook.should_record():
            return await own(query, request)
        context: Any = None
        with guard("reading a request of Claude Code"):
            context = conversation.find_context(request)
        with ExitStack() as around:
            if context is not None:
                around.enter_context(use_context(context))
            step = _describe_callback(request)
            if step is not None:
                around.enter_context(hook.start_operation(lambda call: _begin_callback(step, request, call), (), {}))
            return await own(query, request)

    return handle


def _describe_callback(request: object) -> str | None:
    """Return the name of the program's function that is asked for; None if it is none that has a span here."""
    kind = get_nested(request, "request.subtype", str)
    if kind == "hook_callback":
        return get_nested(request, "request.input.hook_event_name", str) or "hook"
    return "can_use_tool" if kind == "can_use_tool" else None


def _begin_callback(name: str, request: object, call: Call) -> tuple[Step, None]:
    step = Step(type="hook", name=f"hook {name}")
    if call.capture_content:
        step.input = get_nested(request, "request.input", dict)
    return step, None


_WRAPPERS: Final[dict[str, tuple[Callable[..., Wrapper], str]]] = {
    "claude_agent_sdk:query claude_agent_sdk.query:query": (_wrap_query, "calls of query()"),
    "claude_agent_sdk.client:ClaudeSDKClient.query": (_wrap_prompt, "turns of a ClaudeSDKClient"),
    "claude_agent_sdk.client:ClaudeSDKClient.connect": (_wrap_connect, "first prompts of a ClaudeSDKClient"),
    "claude_agent_sdk.client:ClaudeSDKClient.receive_messages": (_wrap_receive, "what a ClaudeSDKClient receives"),
    "claude_agent_sdk.client:ClaudeSDKClient.disconnect": (_wrap_disconnect, "the end of a turn that is left"),
    "claude_agent_sdk._internal.query:Query._handle_control_request": (_wrap_control, "hooks"),
}


def _install(hook: Hook) -> Undo:
    return apply_patches(
        Patch(target, functools.partial(replace_method, make=functools.partial(wrap, hook=hook)), loss)
        for target, (wrap, loss) in _WRAPPERS.items()
    )


HOOK = Hook("claude-agent-sdk>=0.1.40,<1", "claude_agent_sdk", _install)
autolog = HOOK.autolog
