"""Milvus's clients, sync and async, and the older collections: searches, and what is written and deleted.

Milvus calls a similarity a distance as well: a document has it under both names, and with ``L2`` less of it is nearer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from .._shape import find_known, get_field, get_nested, list_items
from ..hooks.call import Call
from ._vectors.database import Asked, Database, Search, Write, make_hook
from ._vectors.documents import Document, make_document

__all__ = ["HOOK", "autolog"]

PRIVATE_FIELDS: Final[dict[str, str]] = {"_config": "the address of the server"}


def _describe(call: Call, **more: Any) -> Asked:
    """Return which collection is asked: a client is told its name, the older class has one."""
    client = call.args[0]
    name = call.argument("collection_name", want=str) or get_nested(client, "name", str)
    database = get_nested(client, "_config.db_name", str)
    return Asked(**{"collection": name, "namespace": database, "url": get_nested(client, "_config.uri", str), **more})


def _ask_search(call: Call) -> Asked:
    """Read a search by vectors, by texts that the server turns into vectors, or by ids of records."""
    given = (call.argument(name) for name in ("data", "ids"))
    return _describe(
        call,
        query=find_known(given),
        top_k=call.argument("limit", 10),
        filter=call.argument("filter") or call.argument("expr"),
    )


def _ask_hybrid(call: Call) -> Asked:
    """Read a search that is made of several."""
    requests = list_items(call.argument("reqs"))
    filters = [one for one in (get_field(request, "expr") for request in requests) if one]
    return _describe(
        call,
        query=[get_field(request, "data") for request in requests],
        top_k=call.argument("limit", 10),
        filter=filters,
    )


def _read_hits(got: object) -> Iterator[Document]:
    queries = list(got) if isinstance(got, list) else []
    for number, hits in enumerate(queries):
        for hit in hits if isinstance(hits, list) else ():
            distance = get_field(hit, "distance")
            yield make_document(
                getattr(hit, "id", None),
                score=distance,
                distance=distance,
                metadata=_read_entity(hit),
                query=number if len(queries) > 1 else None,
            )


def _read_entity(hit: object) -> object:
    """Return the fields of a record that were asked for."""
    entity = hit.get("entity") if hasattr(hit, "get") else None
    return dict(entity) if isinstance(entity, dict) else None


def _ask_upsert(call: Call) -> Asked:
    data = call.argument("data")
    return _describe(call, records=data, query=data)


def _ask_delete(call: Call) -> Asked:
    return _describe(
        call, records=call.argument("ids"), filter=call.argument("filter") or call.argument("expr") or None
    )


def _count_written(got: object) -> object:
    """Return the count of an answer: by the name of the operation, or as many as there are ids."""
    if isinstance(got, list):  # of what was deleted
        return len(got)
    counts = (get_field(got, f"{what}_count") for what in ("insert", "upsert", "delete"))
    return next((count for count in counts if count), None)


_METHODS: Final[dict[str, Search | Write]] = {
    "search": Search("search", _ask_search, _read_hits),
    "hybrid_search": Search("hybrid_search", _ask_hybrid, _read_hits),
    "insert": Write("insert", _ask_upsert, _count_written),
    "upsert": Write("upsert", _ask_upsert, _count_written),
    "delete": Write("delete", _ask_delete, _count_written),
}
_CLASSES: Final = ("pymilvus:MilvusClient", "pymilvus:AsyncMilvusClient", "pymilvus:Collection")
HOOK = make_hook(
    Database(
        "milvus",
        "pymilvus>=2.6,<4",
        "pymilvus",
        {f"{cls}.{name}": method for cls in _CLASSES for name, method in _METHODS.items()},
    )
)
autolog = HOOK.autolog
