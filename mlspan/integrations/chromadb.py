"""Chroma's collections, in this process or at a server: queries, searches, and what is added and deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from .._shape import find_known, get_field, get_list, get_nested, list_items
from ..hooks.call import Call
from ._vectors.database import Asked, Database, Search, Write, make_hook, read_arguments
from ._vectors.documents import Document, make_document

__all__ = ["HOOK", "autolog"]

PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_client": "the address of the server",
    "_api_url": "the address of the server",
    "_server": "the address of the server, of a client in use",
}


def _describe(call: Call, **more: Any) -> Asked:
    """Return which collection is asked, and at which server."""
    collection = call.args[0]
    client = get_field(collection, "_client")
    url = get_nested(client, "_api_url", str) or get_nested(client, "_server._api_url", str)
    names = {"collection": get_nested(collection, "name", str), "namespace": get_nested(collection, "database", str)}
    return Asked(**{**names, "url": url, **more})


def _ask_query(call: Call) -> Asked:
    """Read a query, by texts, by vectors, by pictures (which are arrays as well) or by their addresses."""
    queries = ("query_texts", "query_embeddings", "query_uris", "query_images")
    given = (call.argument(name) for name in queries)
    filters = {name: call.argument(name) for name in ("where", "where_document", "ids")}
    return _describe(
        call,
        query=find_known(given),
        top_k=call.argument("n_results", 10),
        filter={name: one for name, one in filters.items() if one is not None},
    )


def _read_query(got: object) -> Iterator[Document]:
    """Read an answer in columns: of each query the ids, and what else the caller has asked for."""
    queries = get_list(got, "ids")
    columns = {name: get_list(got, name) for name in ("distances", "scores", "documents", "metadatas", "uris")}
    for number, ids in enumerate(queries):
        rows = {name: list_items(column[number]) if number < len(column) else [] for name, column in columns.items()}
        for place, id in enumerate(list_items(ids)):
            row = {name: column[place] if place < len(column) else None for name, column in rows.items()}
            yield make_document(
                id,
                distance=row["distances"] if row["distances"] is not None else row["scores"],  # the less, the nearer
                content=row["documents"] if row["documents"] is not None else row["uris"],
                metadata=row["metadatas"],
                query=number if len(queries) > 1 else None,
            )


def _ask_search(call: Call) -> Asked:
    """Read a search, whose request is an expression; several of them are one call."""
    searches = call.argument("searches")
    told = [one.to_dict() if hasattr(one, "to_dict") else one for one in list_items(searches) or [searches]]
    return _describe(call, query=told[0] if len(told) == 1 else told, top_k=get_nested(told[0], "limit.limit", int))


def _ask_write(call: Call) -> Asked:
    return _describe(call, records=call.argument("ids"), query=call.argument("embeddings"))


def _ask_delete(call: Call) -> Asked:
    filters = read_arguments(call, where="where", where_document="where_document")
    return _describe(
        call,
        records=call.argument("ids"),
        filter={name: one for name, one in filters.items() if one is not None},
    )


_METHODS: Final[dict[str, Search | Write]] = {
    "query": Search("query", _ask_query, _read_query),
    "search": Search("search", _ask_search, _read_query, is_optional=True),
    "add": Write("add", _ask_write),
    "upsert": Write("upsert", _ask_write),
    "update": Write("update", _ask_write),
    "delete": Write("delete", _ask_delete, lambda got: get_field(got, "deleted")),
}
_CLASSES: Final = (
    "chromadb.api.models.Collection:Collection",
    "chromadb.api.models.AsyncCollection:AsyncCollection",
)
HOOK = make_hook(
    Database(
        "chroma",
        "chromadb>=1,<2",
        "chromadb",
        {f"{cls}.{name}": method for cls in _CLASSES for name, method in _METHODS.items()},
    )
)
autolog = HOOK.autolog
