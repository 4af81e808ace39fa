"""The network of AG2 1.x: an agent that receives an envelope has its turn in the trace of the sender.

An envelope has a field for a W3C traceparent, which only AG2's own telemetry fills in. If that is off, mlspan fills in
the field.
"""

from __future__ import annotations

import functools
from contextlib import ExitStack
from typing import Any, Final

from opentelemetry import context as otel
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..._bounded import BoundedDict
from ..._guard import guard
from ..._shape import get_nested
from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo, apply_patches, replace_method
from ...tracing.operations.call_context import CallScope, get_call_scope, use_context, use_scope
from ...tracing.operations.suppression import is_suppressed

_W3C_PROPAGATOR: Final = TraceContextTextMapPropagator()
# traceparent -> the context of a post of this process, which holds more than a traceparent can say
_contexts_of_posts: Final[BoundedDict[str, tuple[otel.Context, CallScope]]] = BoundedDict(1000)


def _inject_parent(envelope: Any) -> None:
    """Write the traceparent of the current span into *envelope*, unless it has one."""
    carrier: dict[str, str] = {}
    _W3C_PROPAGATOR.inject(carrier)
    parent = carrier.get("traceparent")
    if parent is None or is_suppressed() or envelope.trace_id is not None:
        return
    envelope.trace_id = parent
    _contexts_of_posts[parent] = otel.get_current(), get_call_scope()


def _extract_parent(envelope: object) -> tuple[otel.Context, CallScope] | None:
    """Return the context of the post of *envelope*, in this or another process; None if it has no traceparent."""
    if (parent := get_nested(envelope, "trace_id", str)) is None:
        return None
    return _contexts_of_posts.get(parent) or (
        _W3C_PROPAGATOR.extract({"traceparent": parent}, otel.get_current()),
        get_call_scope(),
    )


def _install(hook: Hook) -> Undo:
    def wrap_post(own: Any, enabled: list[bool]) -> object:
        @functools.wraps(own)
        async def post_envelope(self: Any, envelope: object, *args: Any, **kwargs: Any) -> object:
            if enabled and hook.settings.log_traces:
                with guard("looking at an envelope"):
                    _inject_parent(envelope)
            return await own(self, envelope, *args, **kwargs)

        return post_envelope

    def wrap_receive(own: Any, enabled: list[bool]) -> object:
        @functools.wraps(own)
        async def receive_envelope(self: Any, envelope: object, *args: Any, **kwargs: Any) -> object:
            with ExitStack() as stack:
                if enabled and hook.settings.log_traces:
                    with guard("looking at an envelope"):
                        if (around := _extract_parent(envelope)) is not None:
                            stack.enter_context(use_context(around[0]))
                            stack.enter_context(use_scope(around[1]))
                return await own(self, envelope, *args, **kwargs)

        return receive_envelope

    client, loss, partial = "ag2.network.client", "that an envelope is handled below its sender", functools.partial
    return apply_patches(
        [
            Patch(f"{client}.hub_client:HubClient.post_envelope", partial(replace_method, make=wrap_post), loss),
            Patch(f"{client}.agent_client:AgentClient.receive", partial(replace_method, make=wrap_receive), loss),
        ]
    )


HOOK: Final = Hook("ag2>=1.2,<2", "ag2.network.client", _install)  # imported only by applications that use a network
