"""Weaviate's collections, sync and async: searches, also those that generate an answer, and writes and deletions.

What a batch context sends in the background is not recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from .._shape import find_known, get_field, get_fields, get_list, get_nested
from ..hooks.call import Call
from ._vectors.database import Asked, Database, Search, Write, make_hook
from ._vectors.documents import Document, make_document

__all__ = ["HOOK", "autolog"]

PRIVATE_NAMES: Final[dict[str, str]] = {
    "_QueryCollection": "searches",
    "_QueryCollectionAsync": "searches of the asynchronous client",
    "_GenerateCollection": "searches that have an answer generated",
    "_GenerateCollectionAsync": "searches of the asynchronous client that have an answer generated",
    "_DataCollection": "writes",
    "_DataCollectionAsync": "writes of the asynchronous client",
}
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_connection": "the address of the server",
    "_name": "the name of the collection",
    "_tenant": "the tenant",
}


def _describe(call: Call, **more: Any) -> Asked:
    collection = call.args[0]
    name = get_nested(collection, "_name", str) or get_nested(collection, "name", str)
    tenant, url = get_nested(collection, "_tenant", str), get_nested(collection, "_connection.url", str)
    return Asked(**{"collection": name, "namespace": tenant, "url": url, **more})


def _ask_search(call: Call) -> Asked:
    """Read a search. A picture or another medium is looked for by its data, which are left out."""
    given = {name: call.argument(name) for name in ("query", "vector", "near_vector", "near_object")}
    asked = {name: one for name, one in given.items() if one is not None}
    query = next(iter(asked.values())) if len(asked) == 1 else asked
    return _describe(call, query=query, top_k=call.argument("limit"), filter=call.argument("filters"))


def _read_objects(got: object) -> Iterator[Document]:
    for one in get_list(got, "objects"):
        metadata = get_field(one, "metadata")
        scores = (get_field(metadata, name) for name in ("rerank_score", "score", "certainty"))
        properties = get_field(one, "properties")
        yield make_document(
            get_field(one, "uuid"),
            score=find_known(scores),
            distance=get_field(metadata, "distance"),
            metadata=dict(get_fields(properties)),
        )


def _ask_one(call: Call) -> Asked:
    return _describe(call, records=1, query=call.argument("vector"))


def _ask_many(call: Call) -> Asked:
    objects = find_known((call.argument("objects"), call.argument("objs")))
    return _describe(call, records=objects, query=objects)


def _ask_delete(call: Call) -> Asked:
    return _describe(call, filter=call.argument("where"))


def _count_inserted(got: object) -> int | None:
    uuids = get_field(got, "uuids")
    return len(uuids) if isinstance(uuids, dict) else None


_SEARCHES: Final = {
    name: Search(name, _ask_search, _read_objects)
    for name in ("near_text", "near_vector", "near_object", "near_image", "near_media", "hybrid", "bm25")
}
_WRITES: Final = {
    "insert": Write("insert", _ask_one),
    "insert_many": Write("insert_many", _ask_many, _count_inserted),
    "ingest": Write("insert_many", _ask_many, _count_inserted, is_optional=True),
    "replace": Write("replace", _ask_one),
    "update": Write("update", _ask_one),
    "delete_by_id": Write("delete", _ask_one, int),
    "delete_many": Write("delete", _ask_delete, lambda got: get_field(got, "successful")),
}


def _await_all(methods: Mapping[str, Any]) -> dict[str, object]:
    """Return the methods of an asynchronous class, which return coroutines and are no coroutine functions."""
    return {name: method._replace(is_awaited=True) for name, method in methods.items()}


_CLASSES: Final[dict[str, dict[str, Any]]] = {
    "weaviate.collections.query:_QueryCollection": _SEARCHES,
    "weaviate.collections.query:_QueryCollectionAsync": _await_all(_SEARCHES),
    "weaviate.collections.generate:_GenerateCollection": _SEARCHES,
    "weaviate.collections.generate:_GenerateCollectionAsync": _await_all(_SEARCHES),
    "weaviate.collections.data:_DataCollection": _WRITES,
    "weaviate.collections.data:_DataCollectionAsync": _await_all(_WRITES),
}
_METHODS: Final = {f"{cls}.{name}": one for cls, methods in _CLASSES.items() for name, one in methods.items()}
HOOK = make_hook(Database("weaviate", "weaviate-client>=4.16,<5", "weaviate", _METHODS))
autolog = HOOK.autolog
