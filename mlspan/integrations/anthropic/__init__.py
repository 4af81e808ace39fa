"""Anthropic's Python client, also for Claude on Bedrock, on Vertex AI and in Foundry.

Every public method of the client calls ``request`` of its base class, with a body that is plain JSON already. So two
patches trace the whole client, and the request's path selects the ``begin`` of its endpoint. Recorded are messages
(whole, streamed, and by the helpers ``stream``, ``parse`` and ``tool_runner``), batches of them, and files.

The client opens an OpenTelemetry span of its own for each call, from version 2 on; while mlspan records the call, that
span is held back, so that the call is not recorded twice.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

from ...hooks.call import BegunCall, Call
from ...hooks.hook import Hook, trace_methods
from ...hooks.own_spans import is_request_recorded, make_unrecorded_span, suppress_own_spans
from ...hooks.patching import Undo, apply_patches
from ...tracing.otel.provider import is_tracer_joined
from . import batches, messages
from ._request import AnthropicRequest

__all__ = ["HOOK", "autolog"]

# The class that all clients share; its module is private. Without it nothing is traced, which is said.
_CLIENTS: Final = ("anthropic._base_client:SyncAPIClient.request", "anthropic._base_client:AsyncAPIClient.request")
_OWN_SPANS: Final = ("anthropic._base_client:start_api_call_span",)  # clients before version 2 have none


def _begin_request(call: Call) -> BegunCall | None:
    """Select the endpoint by method and path, and begin its record; None for a request that is not recorded."""
    options = call.kwargs.get("options") or call.args[2]
    body = options.json_data if isinstance(options.json_data, dict) else {}
    if options.extra_json:
        body = {**body, **options.extra_json}
    ask = AnthropicRequest(call.args[0], options, body, call.capture_content)
    path = _split_path(options.url)
    if path == ["messages"] and options.method == "post":
        return messages.begin_message(ask)
    if path[:2] == ["messages", "batches"] or path[:1] == ["files"]:
        return batches.begin_object_request(ask, path)
    return None


def _split_path(url: str) -> list[str]:
    """Return the segments behind ``/v1/`` of a path, or of the absolute URL that a batch has for its results."""
    return [word for word in url.partition("?")[0].rpartition("/v1/")[2].split("/") if word]


_trace_requests: Final = trace_methods(dict.fromkeys(_CLIENTS, _begin_request))


def _install(hook: Hook) -> Undo:
    with ExitStack() as undo:
        undo.callback(_trace_requests(hook))
        own_spans = suppress_own_spans(hook, _OWN_SPANS, applies=_is_call_recorded, instead=make_unrecorded_span)
        undo.callback(apply_patches(patch._replace(is_optional=True) for patch in own_spans))
        return undo.pop_all().close


def _is_call_recorded(args: tuple[object, ...]) -> bool:
    """Return whether the call whose span the client is about to open is one that mlspan is recording."""
    if not is_request_recorded() or not is_tracer_joined(args[0] if args else None):
        return False  # the client was given a TracerProvider of its own, which gets no span of ours
    path = _split_path(str(getattr(args[2], "url", ""))) if len(args) > 2 else []
    return path[:1] in (["messages"], ["files"]) and path[-1] != "count_tokens"


HOOK = Hook("anthropic>=0.75,<3", "anthropic", _install)
autolog = HOOK.autolog
