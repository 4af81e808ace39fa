"""The network of AG2 1.x: an agent that is told something has its turn in the trace of whoever told it.

Envelopes have a field for a W3C traceparent, which only AG2's own telemetry fills; where it does not, we do.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from contextlib import ExitStack
from typing import Any, Final

from opentelemetry import context as otel
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..._guard import guard
from ..._shape import dig
from ...tracing.context import Scope, scope, suppressed
from ...tracing.context import _within as within
from .._hook import Hook
from .._patch import Undo, all_there, replace

_KEPT: Final = 1000
_W3C: Final = TraceContextTextMapPropagator()
_here: Final[OrderedDict[str, tuple[otel.Context, Scope]]] = OrderedDict()  # what surrounded a post of this process


def _stamp(envelope: Any) -> None:
    """Let *envelope* say where it was posted."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    parent = carrier.get("traceparent")
    if parent is None or suppressed() or envelope.trace_id is not None:
        return
    envelope.trace_id = parent
    _here[parent] = otel.get_current(), scope()
    while len(_here) > _KEPT:
        _here.popitem(last=False)


def _surroundings(envelope: Any) -> tuple[otel.Context, Scope] | None:
    """What surrounded whoever posted *envelope*, here or in another process."""
    if (parent := dig(envelope, "trace_id", str)) is None:
        return None
    return _here.get(parent) or (_W3C.extract({"traceparent": parent}, otel.get_current()), scope())


def _install(hook: Hook) -> Undo:
    on = [True]

    def post(own: Any) -> Any:
        @functools.wraps(own)
        async def posted(self: Any, envelope: Any, *args: Any, **kwargs: Any) -> Any:
            if on and hook.settings.log_traces:
                with guard("looking at an envelope"):
                    _stamp(envelope)
            return await own(self, envelope, *args, **kwargs)

        return posted

    def receive(own: Any) -> Any:
        @functools.wraps(own)
        async def received(self: Any, envelope: Any, *args: Any, **kwargs: Any) -> Any:
            with ExitStack() as stack:
                if on and hook.settings.log_traces:
                    with guard("looking at an envelope"):
                        if (around := _surroundings(envelope)) is not None:
                            stack.callback(otel.detach, otel.attach(around[0]))
                            stack.enter_context(within(around[1]))
                return await own(self, envelope, *args, **kwargs)

        return received

    client = "ag2.network.client"
    undo = all_there(
        [
            ("post_envelope", lambda: replace(f"{client}.hub_client:HubClient.post_envelope", post)),
            ("receive", lambda: replace(f"{client}.agent_client:AgentClient.receive", receive)),
        ]
    )

    def off() -> None:
        on.clear()
        undo()

    return off


HOOK: Final = Hook("ag2>=1.2,<2", "ag2.network.client", _install)  # which nobody need import who has no network
