"""The paths of requests: from the URL that a caller has given to an endpoint's path, and to the name of a request.

A path is a tuple of its segments: ``("vector_stores", "vs_1", "files")``.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

Path = tuple[str, ...]

_VERSION: Final = re.compile(r"v\d+[a-z\d]*")  # v1, v1beta


def split_path(url: str) -> Path:
    """Return the segments of *url* behind the host, the API's version and whatever stands before that.

    *url* is what a method of the client was given: ``/responses?beta=true``, ``chat/completions``, or an absolute URL.
    """
    try:
        path = urlsplit(url).path
    except ValueError:  # brackets that are no address
        path = url
    words = [word for word in path.split("/") if word]
    starts = [place + 1 for place, word in enumerate(words[:-1]) if _VERSION.fullmatch(word)]
    is_absolute = "://" in url
    start = starts[0] if starts and (is_absolute or starts[0] == 1) else 0
    return tuple(words[start:])


OBJECT_TYPES: Final = frozenset(  # first segments of the paths that are recorded, with the models' own endpoints
    {"agents", "assistants", "audio", "batches", "chat", "chatkit", "containers", "content_provenance_checks"}
    | {"conversations", "evals", "files", "fine_tuning", "live", "realtime", "responses", "safety", "skills"}
    | {"threads", "uploads", "vector_stores", "videos"}
)
# What is not recorded: requests that hand out or keep secrets, what an administrator does, and the list of models.
_SECRETS: Final = frozenset({"client_secrets", "transcription_sessions", "vaults", "webhook_endpoints"})
_ACTIONS: Final = frozenset(  # last segments of a path that are verbs themselves
    {"accept", "attach", "cancel", "complete", "content", "fork", "hangup", "pause", "refer", "reject", "remix"}
    | {"resume", "search", "submit_tool_outputs"}
)
_PATH_WORDS: Final = (  # all fixed segments of the paths; any other segment is an id
    OBJECT_TYPES
    | _ACTIONS
    | frozenset(
        {"alerts", "alpha", "artifacts", "automations", "calls", "cases", "characters", "checkpoints", "completions"}
        | {"edits", "environments", "events", "extensions", "file_batches", "graders", "input_items", "input_tokens"}
        | {"invocations", "items", "jobs", "messages", "output_items", "parts", "permissions", "run", "runs"}
        | {"sessions", "steps", "subagents", "templates", "traces", "turns", "validate", "versions"}
        | {"voice_consents", "voices"}
    )
)
_VERBS_BY_METHOD: Final = {"get": "retrieve", "post": "create", "delete": "delete", "put": "update", "patch": "update"}


def is_recorded(path: Path) -> bool:
    """Return whether a request with this path is recorded, if it is no call of a model."""
    return path[0] in OBJECT_TYPES and _SECRETS.isdisjoint(path) and path != ("realtime", "sessions")


def is_fetch(path: Path, method: str) -> bool:
    """Return whether a request asks for a response that was asked for before: ``/responses/{id}``, or its cancel."""
    named = len(path) > 1 and path[0] == "responses" and path[2:] in {(), ("cancel",)}
    return named and is_id(path[1]) and method != "delete"


def name_request(path: Path, method: str) -> str:
    """Return the request's name, such as ``vector_stores.files.create``: the path without its ids, and a verb."""
    words = [word for word in path if not is_id(word)]
    if words[-1] in _ACTIONS:
        return ".".join(words)
    ends_in_id = is_id(path[-1])
    if method == "get" and not ends_in_id:
        verb = "list"
    else:
        verb = "update" if method == "post" and ends_in_id else _VERBS_BY_METHOD.get(method, method)
    return ".".join([*words, verb])


def find_ids(path: Path) -> list[str]:
    """Return the ids in *path*."""
    return [word for word in path if is_id(word)]


def is_id(word: str) -> bool:
    """Return whether a segment of a path is an id."""
    return word not in _PATH_WORDS
