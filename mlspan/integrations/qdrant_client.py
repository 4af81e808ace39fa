"""Qdrant's clients, in memory, in a folder or at a server: queries, and what is written and deleted.

A score is what Qdrant calls so, which for a collection with a Euclidean metric is the distance.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from .._shape import get_field, get_list, get_nested, list_items
from ..hooks.call import Call
from ._vectors.database import Asked, Database, Search, Write, make_hook
from ._vectors.documents import Document, make_document

__all__ = ["HOOK", "autolog"]

PRIVATE_FIELDS: Final[dict[str, str]] = {"_client": "the address of the server"}


def _describe(call: Call, **more: Any) -> Asked:
    url = get_nested(call.args[0], "_client.rest_uri", str)
    return Asked(**{"collection": call.argument("collection_name", want=str), "url": url, **more})


def _ask_points(call: Call) -> Asked:
    prefetch = call.argument("prefetch")
    query = _find_text(call.argument("query"))
    return _describe(
        call,
        query=query if prefetch is None else {"query": query, "prefetch": prefetch},
        top_k=call.argument("limit", 10),
        filter=call.argument("query_filter"),
    )


def _find_text(query: object) -> object:
    """Return the text that the server or the client is to turn into a vector; without one, the query as it is."""
    text = get_nested(query, "text", str) or get_nested(query, "nearest.text", str)
    return text or query


def _ask_batch(call: Call) -> Asked:
    """Read several queries of one call."""
    requests = list_items(call.argument("requests"))
    queries = [_find_text(get_field(one, "query")) for one in requests]
    filters = [one for one in (get_field(one, "filter") for one in requests) if one is not None]
    return _describe(call, query=queries, top_k=get_nested(next(iter(requests), None), "limit", int), filter=filters)


def _read_points(got: object, number: int | None = None) -> Iterator[Document]:
    for point in get_list(got, "points"):
        yield _read_point(point, number)


def _read_point(point: object, number: int | None = None) -> Document:
    payload = get_field(point, "payload")
    return make_document(get_field(point, "id"), score=get_field(point, "score"), metadata=payload, query=number)


def _read_batch(got: object) -> Iterator[Document]:
    for number, answer in enumerate(list_items(got)):
        yield from _read_points(answer, number)


def _read_groups(got: object) -> Iterator[Document]:
    for group in get_list(got, "groups"):
        yield from (_read_point(point) for point in get_list(group, "hits"))


def _ask_upsert(call: Call) -> Asked:
    """Read points, one by one or in columns; an iterator of them is not counted, as that would read it."""
    points = call.argument("points")
    columns = points if get_field(points, "ids") is not None else None  # a Batch
    first = columns if columns is not None else next(iter(list_items(points)), None)
    vectors = get_field(first, "vectors" if columns is not None else "vector")
    if isinstance(vectors, dict):  # by their names
        vectors = next(iter(vectors.values()), None)
    return _describe(call, records=get_field(points, "ids") if columns is not None else points, query=vectors)


def _ask_upload(call: Call) -> Asked:
    vectors = call.argument("vectors")
    if isinstance(vectors, dict):
        vectors = next(iter(vectors.values()), None)
    return _describe(call, records=vectors, query=vectors)


def _ask_delete(call: Call) -> Asked:
    """Read which points are meant: ids, alone or in a selector, or a filter."""
    selector = call.argument("points_selector")
    ids = selector if isinstance(selector, (list, tuple)) else get_field(selector, "points")
    is_filter = hasattr(selector, "must")
    return _describe(call, records=ids, filter=selector if is_filter else get_field(selector, "filter"))


_METHODS: Final[dict[str, Search | Write]] = {
    "query_points": Search("query_points", _ask_points, _read_points),
    "query_points_groups": Search("query_points_groups", _ask_points, _read_groups),
    "query_batch_points": Search("query_batch_points", _ask_batch, _read_batch),
    "upsert": Write("upsert", _ask_upsert),
    "upload_points": Write("upload_points", _ask_upsert),
    "upload_collection": Write("upload_collection", _ask_upload),
    "delete": Write("delete", _ask_delete),
}
_CLASSES: Final = (
    "qdrant_client.qdrant_client:QdrantClient",
    "qdrant_client.async_qdrant_client:AsyncQdrantClient",
)
HOOK = make_hook(
    Database(
        "qdrant",
        "qdrant-client>=1.12,<2",
        "qdrant_client",
        {f"{cls}.{name}": method for cls in _CLASSES for name, method in _METHODS.items()},
    )
)
autolog = HOOK.autolog
