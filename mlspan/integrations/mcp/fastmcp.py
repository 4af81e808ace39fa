"""The package ``fastmcp``: its servers' requests, and its own spans held back while ours record the same requests.

Until version 3 it serves by the SDK's functions that :mod:`.receiving` traces. Version 4 takes the middleware that is
patched there out of its servers, so its own middleware is patched. From version 3 on it opens spans without arguments
and results: a client's around the SDK's request, a server's inside of it.
"""

from __future__ import annotations

import functools
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, Final

from opentelemetry.trace import SpanKind

from ...hooks.hook import Hook
from ...hooks.own_spans import make_unrecorded_context, make_unrecorded_span
from ...hooks.patching import Patch, Undo, patch_when_imported, replace_function, replace_method
from .receiving import trace_middleware
from .requests import current_request

_BESIDE: Final = "nothing, but fastmcp's own span stands beside ours"


def _install(hook: Hook) -> Undo:
    """Patch what is imported of the package, whose client and server are imported at need."""
    loss = "requests that servers of fastmcp 4 handle"
    handling = functools.partial(replace_method, make=functools.partial(trace_middleware, hook))
    server = functools.partial(replace_function, make=_hold_back_at_server)
    client = functools.partial(replace_function, make=functools.partial(_hold_back_at_client, hook))
    patches = (
        Patch("fastmcp.server.low_level:FastMCPServerMiddleware.__call__", handling, loss, is_optional=True),
        Patch("fastmcp.server.telemetry:get_tracer", server, _BESIDE),
        Patch("fastmcp.client.telemetry:get_tracer", client, _BESIDE),
    )
    return patch_when_imported(patches)


def _hold_back_at_server(own: Any) -> object:
    """Return ``get_tracer`` changed to return a tracer that opens no span for a request that is recorded."""

    @functools.wraps(own)
    def get_tracer(*args: Any, **kwargs: Any) -> object:
        open_own_span = own(*args, **kwargs).start_as_current_span

        def open_server_span(name: str, *args: object, **kwargs: object) -> object:
            if kwargs.get("kind") is SpanKind.SERVER and _is_request_handled(name):
                return nullcontext(make_unrecorded_span())
            return open_own_span(name, *args, **kwargs)

        return SimpleNamespace(start_as_current_span=open_server_span)

    return get_tracer


def _is_request_handled(name: str) -> bool:
    """Return whether a span of that name is of the request that is being handled, rather than a call inside of it."""
    request = current_request.get()
    if request is None or request.kind is not SpanKind.SERVER:
        return False
    method, _, target = name.partition(" ")
    return method == request.method and target in {"", request.target, request.params.get("uri")}


def _hold_back_at_client(hook: Hook, own: Any) -> object:
    """Return ``get_tracer`` changed to return a tracer that opens no span while requests are recorded."""

    @functools.wraps(own)
    def get_tracer(*args: Any, **kwargs: Any) -> object:
        if not hook.should_record():
            return own(*args, **kwargs)
        return SimpleNamespace(start_as_current_span=lambda *_, **__: make_unrecorded_context())

    return get_tracer


HOOK: Final = Hook("fastmcp>=2.14,<5", "fastmcp", _install)
