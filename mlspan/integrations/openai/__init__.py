"""OpenAI's Python client, also for Azure and compatible servers, and OpenAI's Agents SDK.

Every public method of the client calls ``OpenAI.request`` or its async twin, with a body that is plain JSON already.
So two patches trace the whole client, and the request's path selects the ``begin`` of its endpoint.

Options of ``autolog``:

- ``include_usage=True`` asks the server for the token counts of streams. It adds ``stream_options.include_usage``
  where the caller has not set it, and hides the additional chunk from the caller.
- ``log_images=True`` records generated pictures themselves rather than their sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from ...hooks.call import BegunCall, Call
from ...hooks.hook import Hook, trace_methods
from ...hooks.patching import Undo
from . import background, chat, media, objects, realtime, responses, responses_socket, stream_usage
from ._paths import OBJECT_TYPES, Path, is_fetch, is_recorded, split_path
from ._read import OpenAIRequest

__all__ = ["HOOK", "autolog"]

_ENDPOINTS: Final[dict[str, Callable[[OpenAIRequest], BegunCall]]] = {
    "/chat/completions": chat.begin_chat,
    "/completions": chat.begin_completion,
    "/responses": responses.begin_response,
    "/responses/compact": responses.begin_compaction,
    "/embeddings": media.begin_embeddings,
    "/images/generations": media.begin_images,
    "/images/edits": media.begin_images,
    "/images/variations": media.begin_images,
    "/audio/speech": media.begin_speech,
    "/audio/transcriptions": media.begin_transcription,
    "/audio/translations": media.begin_transcription,
    "/moderations": media.begin_moderation,
    "/decisions": media.begin_decision,
}


def begin_request(call: Call, *, provider: str = "openai") -> BegunCall | None:
    """Select the endpoint by method and path, and begin its record; None for a request that is not recorded.

    *provider* is whose client it is, which names the provider where the host does not.
    """
    args, kwargs, content, settings, _ = call
    options = kwargs.get("options") or args[2]
    body = options.json_data
    if not isinstance(body, dict):
        body = {}
    if options.extra_json:
        body = {**body, **options.extra_json}
    ask = tuple.__new__(OpenAIRequest, (args[0], options, body, content, settings, provider))  # its own is Python code
    if (endpoint := _ENDPOINTS.get(options.url)) is not None and options.method == "post":
        return endpoint(ask)
    return _begin_other_request(ask, split_path(options.url), options.method.lower())


def _begin_other_request(ask: OpenAIRequest, path: Path, method: str) -> BegunCall | None:
    """Begin the record of a request whose URL is no endpoint's as it stands; None if it is not recorded."""
    if not path:
        return None
    if method == "post" and (endpoint := _ENDPOINTS.get("/" + "/".join(path))) is not None:
        return endpoint(ask)
    if is_fetch(path, method):
        return background.begin_fetch(ask, path[1])
    if path[0] in OBJECT_TYPES:
        return objects.begin_object_request(ask, path, method) if is_recorded(path) else None
    # An endpoint below another prefix, such as /openai/deployments/NAME/chat/completions.
    ends = ("/" + "/".join(path[start:]) for start in range(1, len(path))) if method == "post" else ()
    return next((_ENDPOINTS[end](ask) for end in ends if end in _ENDPOINTS), None)


_trace_requests: Final = trace_methods(
    {"openai:OpenAI.request": begin_request, "openai:AsyncOpenAI.request": begin_request}
)


def _install_client(hook: Hook) -> Undo:
    with ExitStack() as undo:
        if hook.settings.options.get("include_usage"):  # first, so that a request that is sent again is one traced call
            undo.callback(stream_usage.install_fallback())
        undo.callback(_trace_requests(hook))
        undo.callback(realtime.install(hook))
        undo.callback(responses_socket.install(hook))
        return undo.pop_all().close


def _install_agents(hook: Hook) -> Undo:
    from . import agents  # imported only when the Agents SDK is: most programs have the client alone

    return agents.install(hook)


AGENTS_HOOK: Final = Hook("openai-agents>=0.2,<1", "agents", _install_agents)
HOOK = Hook(
    "openai>=1.66,<4",
    "openai",
    _install_client,
    options=frozenset({"include_usage", "log_images"}),
    patching_options=frozenset({"include_usage"}),
    also=(AGENTS_HOOK,),
)
autolog = HOOK.autolog
