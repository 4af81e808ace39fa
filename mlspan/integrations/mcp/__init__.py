"""The Model Context Protocol's Python SDK: what a client asks, what a server answers, in one trace.

Each JSON-RPC request is a span of the side that sends it and one of the side that handles it, whoever that is: a server
may ask its client for a completion. The sender's context travels in the request's ``_meta``, as the conventions say, so
that both are in one trace, whatever the transport and the process.

The SDK opens spans of its own from version 2 on, which say neither arguments nor results; while mlspan records a
request, its own span is held back. The package ``fastmcp`` is turned on with it. Notifications are not recorded.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

from ...hooks.hook import Hook
from ...hooks.patching import Undo, apply_patches
from . import connections, fastmcp, receiving, sending

__all__ = ["HOOK", "autolog"]

# Private names that some versions lack, each with what is then left out.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "mcp.server._otel": "the requests that a server of version 2 handles",
    "_handle_request": "the requests that a server of version 1 handles",
    "_received_request": "what a server asks of a client of version 1, as the client sees it",
    "_on_request": "what a server asks of a client of version 2, as the client sees it",
}


def _install(hook: Hook) -> Undo:
    with ExitStack() as undo:
        undo.callback(apply_patches(sending.list_patches(hook)))
        undo.callback(apply_patches(receiving.list_patches(hook)))
        undo.callback(apply_patches(connections.list_patches()))
        return undo.pop_all().close


HOOK = Hook("mcp>=1.10,<3", "mcp", _install, also=(fastmcp.HOOK,))
autolog = HOOK.autolog
