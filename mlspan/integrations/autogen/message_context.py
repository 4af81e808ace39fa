"""AutoGen's message loop: a message carries the context of its sender, and the loop's own spans are suppressed."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Final

from opentelemetry import context as otel
from opentelemetry import trace

from ..._shape import get_field, get_nested
from ...hooks.hook import Hook
from ...hooks.own_spans import suppress_own_spans
from ...hooks.patching import Patch, observe_method, replace_function, trace_method
from ...tracing.operations.call_context import get_call_scope, use_context, use_scope
from ...tracing.operations.noop import NoOpOperation
from ...tracing.otel.provider import is_tracer_joined

_RUNTIME_MODULE: Final = "autogen_core._single_threaded_agent_runtime"
_LOCAL_RUNTIME: Final = "SingleThreadedAgentRuntime"  # mlspan does not record messages of the distributed runtime
_SCOPE: Final = f"autogen {_LOCAL_RUNTIME}"  # of the runtime's own spans
_Patches = Iterator[Patch]


def carry_sender_context(hook: Hook) -> _Patches:
    """Yield patches that handle each message in the context of its sender rather than in that of the loop.

    AutoGen's runtime module is private; a patch whose target is gone is skipped.
    """

    def attach_context(_args: object, _kwargs: object, envelope: Any) -> None:
        if hook.settings.log_traces:
            envelope._mlspan_from = (otel.get_current(), get_call_scope())

    loss = "that a message is handled in the context of its sender"
    envelope = f"{_RUNTIME_MODULE}:get_telemetry_envelope_metadata"
    yield Patch(envelope, functools.partial(observe_method, callback=attach_context), loss)
    noted = functools.partial(replace_function, make=_note_outer_span)
    yield Patch(_RUNTIME_SPANS, noted, "the parent of spans inside a runtime that has a TracerProvider of its own")
    for name in ("_process_send", "_process_publish"):
        target = f"{_RUNTIME_MODULE}:SingleThreadedAgentRuntime.{name}"
        yield Patch(target, functools.partial(trace_method, start=_MessageDelivery), loss)


class _MessageDelivery(NoOpOperation):
    """A context manager around the handling of a message, which restores the context of the message's sender."""

    def __init__(self, args: Any, kwargs: Any) -> None:
        self._message = next(iter((*args[1:], *kwargs.values())), None)
        self._undo = ExitStack()

    def __enter__(self) -> _MessageDelivery:
        sent_from = getattr(getattr(self._message, "metadata", None), "_mlspan_from", None)
        if sent_from is not None:
            context, around = sent_from
            self._undo.enter_context(use_scope(around))
            self._undo.enter_context(use_context(context))
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()


_OUTER_SPAN_KEY: Final = otel.create_key("mlspan-autogen-outer")  # context key of the span around the runtime's own


def use_outer_span() -> AbstractContextManager[object]:
    """Make the span around the runtime's own current inside the block, where the runtime's own is current.

    That is so where the runtime has a TracerProvider of its own: a span of ours below one of those would have a parent
    that mlspan does not get.
    """
    outer = _find_outer_span()
    return nullcontext() if outer is None else use_context(trace.set_span_in_context(outer))


def _find_outer_span() -> trace.Span | None:
    """Return the span around the runtime's own, or None if the current one is not the runtime's."""
    context = otel.get_current()
    outer: Any = context.get(_OUTER_SPAN_KEY)
    scope = get_nested(trace.get_current_span(context), "instrumentation_scope.name", str)
    return outer if scope == _SCOPE else None


def _note_outer_span(own: Any) -> object:
    """Wrap AutoGen's function that opens a span, so that what runs inside knows the span around it."""

    @functools.wraps(own)
    @contextmanager
    def open_and_note_span(*args: Any, **kwargs: Any) -> Iterator[object]:
        outer = _find_outer_span() or trace.get_current_span()
        with use_context(otel.set_value(_OUTER_SPAN_KEY, outer)), own(*args, **kwargs) as span:
            yield span

    return open_and_note_span


# The places where AutoGen opens spans of its own for operations that mlspan records. The helpers are replaced there
# only, so an application that uses the same helpers keeps its spans.
_RUNTIME_SPANS: Final = "autogen_core._telemetry:TraceHelper.trace_block"
CORE_SPANS: Final = ("autogen_core.tools._base:trace_tool_span", _RUNTIME_SPANS)
AGENTCHAT_SPANS: Final = (
    "autogen_agentchat.agents._base_chat_agent:trace_create_agent_span",
    "autogen_agentchat.agents._base_chat_agent:trace_invoke_agent_span",
    "autogen_agentchat.teams._group_chat._chat_agent_container:trace_invoke_agent_span",
)
MCP_SPANS: Final = ("autogen_ext.tools.mcp._workbench:trace_tool_span",)


def suppress_framework_spans(hook: Hook, helpers: tuple[str, ...]) -> _Patches:
    """Yield patches that stop AutoGen's *helpers* from opening a span while mlspan records the same operation.

    A runtime that was given a TracerProvider of its own keeps its spans there, as mlspan's do not go to that provider.
    """

    def is_told_twice(args: tuple[object, ...]) -> bool:
        config = getattr(args[0], "instrumentation_builder_config", None) if args else None
        return config is None or (config.name == _LOCAL_RUNTIME and is_tracer_joined(get_field(args[0], "tracer")))

    return suppress_own_spans(hook, helpers, applies=is_told_twice)
