"""Requests and answers of Elasticsearch and OpenSearch, which have the same shape.

Both are used for much that has nothing to do with models. So a search without a vector, and a write, are recorded
inside of a trace only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from ..._shape import find_known, get_field, get_list, get_nested
from ...hooks.call import Call
from .database import Asked, Search, Write
from .documents import Document, make_document

__all__ = ["make_methods"]

PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_id": "ids of hits",
    "_score": "scores of hits",
    "_source": "what hits hold",
}
FindServer = Callable[[Any], object]
_QUERY_PARTS: Final = ("query", "knn", "retriever", "rank", "sub_searches")
_MODEL_WORDS: Final = frozenset(  # parts of a query whose text the server turns into a vector
    {"semantic", "neural", "neural_sparse", "query_vector_builder", "sparse_vector", "text_expansion", "hybrid"}
)
_DEFAULT_SIZE: Final = 10
_DEEPEST: Final = 10


def make_methods(find_server: FindServer) -> dict[str, Search | Write]:
    """Return the methods of a client, whose server's address *find_server* returns."""

    def describe(call: Call, **more: object) -> Asked:
        return Asked(**{"collection": call.argument("index"), "url": find_server(call.args[0]), **more})

    def ask_search(call: Call) -> Asked | None:
        return _ask_search(call, describe)

    def ask_one(call: Call) -> Asked:
        """Read a write of one document."""
        given = (call.argument(name) for name in ("document", "doc", "body"))
        return describe(call, records=1, query=find_known(given))

    def ask_by_query(call: Call) -> Asked:
        query = call.argument("query")
        return describe(call, filter=query if query is not None else get_field(call.argument("body"), "query"))

    return {
        "search": Search("search", ask_search, _read_hits),
        "index": Write("index", ask_one, lambda _: 1),
        "create": Write("create", ask_one, lambda _: 1),
        "update": Write("update", ask_one, lambda _: 1),
        "delete": Write("delete", describe, lambda _: 1),
        "bulk": Write("bulk", describe, lambda got: len(get_list(_read_body(got), "items")) or None),
        "delete_by_query": Write("delete_by_query", ask_by_query, lambda got: get_field(_read_body(got), "deleted")),
    }


def _ask_search(call: Call, describe: Callable[..., Asked]) -> Asked | None:
    """Read a search, whose parts are arguments or stand in its body; None for one that wants sums and no documents."""
    body = call.argument("body")
    asked: dict[str, Any] = dict(body) if isinstance(body, Mapping) else {}
    asked |= {name: call.kwargs[name] for name in (*_QUERY_PARTS, "size") if call.kwargs.get(name) is not None}
    asked = {name: one.to_dict() if hasattr(one, "to_dict") else one for name, one in asked.items()}
    if asked.get("size") == 0:
        return None
    query = {name: asked[name] for name in _QUERY_PARTS if asked.get(name) is not None}
    return describe(
        call,
        query=query,
        top_k=asked.get("size", get_nested(asked, "knn.k", int) or _DEFAULT_SIZE),
        is_for_vectors=not _MODEL_WORDS.isdisjoint(_iterate_keys(query)),
    )


def _iterate_keys(query: object, depth: int = _DEEPEST) -> Iterator[str]:
    """Yield the keys of all dicts of a query."""
    if depth and isinstance(query, Mapping):
        yield from query
        for one in query.values():
            yield from _iterate_keys(one, depth - 1)
    elif depth and isinstance(query, (list, tuple)) and query and isinstance(query[0], Mapping):
        for one in query:
            yield from _iterate_keys(one, depth - 1)


def _read_body(got: object) -> object:
    """Return the answer as plain data; Elasticsearch's client puts it into an object."""
    return got if isinstance(got, dict) else get_field(got, "body")


def _read_hits(got: object) -> Iterator[Document]:
    for hit in get_list(_read_body(got), "hits.hits"):
        stored = get_field(hit, "_source")
        yield make_document(
            get_field(hit, "_id"),
            score=get_field(hit, "_score"),
            metadata=stored if stored is not None else get_field(hit, "fields"),
        )
