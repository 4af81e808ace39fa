"""Endpoints for batches of messages and for files: one request is one span, with its ids, status and counts.

A batch's tokens are billed when it has been worked off: :func:`_observe_result` adds up what its results tell.
"""

from __future__ import annotations

from typing import Any, Final

from ..._shape import get_field, get_nested, list_items
from ...hooks.stored_objects import read_stored_object
from ...tracing.operations.records import Observe, ProviderRequest
from ._request import AnthropicRequest

_WORDS: Final = frozenset({"messages", "batches", "cancel", "results", "files", "content"})
_VERBS: Final = {"get": "retrieve", "post": "create", "delete": "delete"}


def begin_object_request(ask: AnthropicRequest, path: list[str]) -> tuple[ProviderRequest, Observe[ProviderRequest]]:
    """Begin the record of a request; *path* is split into segments: ``["messages", "batches", "msgbatch_1"]``."""
    record = ProviderRequest(type=path[0], name=name_request(path, ask.options.method), **ask.read_server_fields())
    for id in path:
        if id not in _WORDS:
            record.extra["mlspan.request.id"] = id
    requests = list_items(ask.body.get("requests"))
    if requests:
        record.extra["mlspan.request.count"] = len(requests)
        models = {get_nested(one, "params.model", str) for one in requests}
        record.model = models.pop() if len(models) == 1 else None
    if ask.capture_content and ask.body:
        record.input = dict(ask.body)
    return record, _observe_object


def name_request(path: list[str], method: str) -> str:
    """Return the request's name, such as ``messages.batches.create``: the path without its ids, and a verb."""
    words = [word for word in path if word in _WORDS]
    if words[-1] in {"cancel", "results", "content"}:
        return ".".join(words)
    listing = method == "get" and path[-1] in _WORDS
    return ".".join([*words, "list" if listing else _VERBS.get(method, method)])


def _observe_object(record: ProviderRequest, got: object) -> None:
    """Read an object, a list of objects, a file, or a line of a batch's results."""
    if get_field(got, "custom_id") is not None:
        _observe_result(record.extra, got)
    else:
        read_stored_object(record, got, status="processing_status", size="size_bytes")


def _observe_result(extra: dict[str, Any], result: object) -> None:
    """Count a result of a batch by its type, and add up its tokens."""
    kind = get_nested(result, "result.type", str) or "unknown"
    usage = get_field(get_field(get_field(result, "result"), "message"), "usage")
    counts = {f"mlspan.result_counts.{kind}": 1}
    for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
        if tokens := get_nested(usage, name, int):
            counts[f"mlspan.batch.{name}"] = tokens
    for name, number in counts.items():
        extra[name] = extra.get(name, 0) + number
