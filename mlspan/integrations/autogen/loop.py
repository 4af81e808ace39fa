"""AutoGen's message loop, across which a message carries its sender's surroundings, and the spans that it opens."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from typing import Any, Final

from opentelemetry import context as otel
from opentelemetry import trace

from ...tracing.context import _within as within
from ...tracing.context import scope
from .._hook import Hook
from .._patch import Undo, replace, tap, watch

_RUNTIME: Final = "autogen_core._single_threaded_agent_runtime"
_Patches = Iterator[tuple[str, Callable[[], Undo]]]


def follow(hook: Hook) -> _Patches:
    """Have whoever handles a message stand where its sender stood, rather than where the loop was started."""

    def carry(_args: Any, _kwargs: Any, envelope: Any) -> None:
        if hook.settings.log_traces:
            envelope._mlspan_from = (otel.get_current(), scope())

    yield "the envelope of a message", lambda: tap(f"{_RUNTIME}:get_telemetry_envelope_metadata", carry)
    for name in ("_process_send", "_process_publish"):
        yield name, functools.partial(watch, f"{_RUNTIME}:SingleThreadedAgentRuntime.{name}", _Delivery)


class _Delivery:
    """Around the handling of a message."""

    def __init__(self, args: Any, kwargs: Any) -> None:
        self._message = next(iter((*args[1:], *kwargs.values())), None)
        self._undo = ExitStack()

    def __enter__(self) -> _Delivery:
        sent_from = getattr(getattr(self._message, "metadata", None), "_mlspan_from", None)
        if sent_from is not None:
            context, around = sent_from
            self._undo.enter_context(within(around))
            self._undo.callback(otel.detach, otel.attach(context))
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def result(self, value: Any) -> Any:
        return value


# Where AutoGen opens spans of its own for what we record. A span that an application opens by the same helpers stays.
CORE_SPANS: Final = ("autogen_core.tools._base:trace_tool_span", "autogen_core._telemetry:TraceHelper.trace_block")
AGENTCHAT_SPANS: Final = (
    "autogen_agentchat.agents._base_chat_agent:trace_create_agent_span",
    "autogen_agentchat.agents._base_chat_agent:trace_invoke_agent_span",
    "autogen_agentchat.teams._group_chat._chat_agent_container:trace_invoke_agent_span",
)
MCP_SPANS: Final = ("autogen_ext.tools.mcp._workbench:trace_tool_span",)
_HERE: Final = "SingleThreadedAgentRuntime"  # what crosses processes is told by AutoGen alone


def keep_back(hook: Hook, helpers: tuple[str, ...]) -> _Patches:
    """Have AutoGen's *helpers* open no span while we record the same turn, tool or message."""

    def is_ours(args: tuple[Any, ...]) -> bool:
        config = getattr(args[0], "instrumentation_builder_config", None) if args else None
        return hook.records() and (config is None or config.name == _HERE)

    def quieter(own: Any) -> Any:
        @functools.wraps(own)
        def helper(*args: Any, **kwargs: Any) -> Any:
            return nullcontext(trace.INVALID_SPAN) if is_ours(args) else own(*args, **kwargs)

        return helper

    for target in helpers:
        yield target, functools.partial(replace, target, quieter)
