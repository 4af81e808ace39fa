"""Pinecone's indexes, sync, async and by gRPC: queries, searches by text, and what is written and deleted.

An index that exists before ``autolog`` keeps some of the methods that its class had then, and is not traced.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from .._shape import find_known, get_field, get_fields, get_list, get_nested
from ..hooks.call import Call
from ..hooks.hook import Hook
from ..hooks.requests import read_host_and_port
from ._vectors.database import Asked, Database, Search, Write, make_hook
from ._vectors.documents import Document, make_document

__all__ = ["HOOK", "autolog"]

PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_host": "the address of the server, and the name of the index",
    "_id": "ids of documents",
    "_score": "scores of documents",
}
_REQUIRES: Final = "pinecone>=10,<11"


def _describe(call: Call, **more: Any) -> Asked:
    """Return which index is asked. Its name is told by its host alone: ``NAME-PROJECT.svc.REGION.pinecone.io``."""
    url = get_nested(call.args[0], "_host", str)
    host, _ = read_host_and_port(url)
    name = host.partition(".")[0].rpartition("-")[0] if host and host.endswith(".pinecone.io") else None
    namespace = call.kwargs.get("namespace", call.kwargs.get("namespaces"))
    return Asked(**{"collection": name, "namespace": namespace, "url": url, **more})


def _ask_query(call: Call) -> Asked:
    given = {name: call.kwargs.get(name) for name in ("vector", "sparse_vector", "id")}
    asked = {name: one for name, one in given.items() if one is not None}
    query = next(iter(asked.values())) if len(asked) == 1 else asked
    return _describe(call, query=query, top_k=call.kwargs.get("top_k"), filter=call.kwargs.get("filter"))


def _read_matches(got: object) -> Iterator[Document]:
    for match in get_list(got, "matches"):
        yield make_document(
            get_field(match, "id"), score=get_field(match, "score"), metadata=get_field(match, "metadata")
        )


def _ask_search(call: Call) -> Asked:
    """Read a search by text, which the server turns into a vector. Its *query* holds what the arguments may."""
    query = call.kwargs.get("query")
    found = {
        name: call.kwargs.get(name, get_field(query, name)) for name in ("inputs", "vector", "id", "top_k", "filter")
    }
    given = [found[name] for name in ("inputs", "vector", "id") if found[name] is not None]
    text = get_nested(found["inputs"], "text", str)
    return _describe(call, query=text or next(iter(given), None), top_k=found["top_k"], filter=found["filter"])


def _read_record_hits(got: object) -> Iterator[Document]:
    for hit in get_list(got, "result.hits"):
        id, score = (get_field(hit, name) for name in ("id", "score"))
        yield make_document(id, score=score, metadata=get_field(hit, "fields"))


def _ask_document_search(call: Call) -> Asked:
    return _describe(
        call,
        query=call.kwargs.get("score_by"),
        top_k=call.kwargs.get("top_k"),
        filter=call.kwargs.get("filter"),
    )


def _read_document_matches(got: object) -> Iterator[Document]:
    for match in get_list(got, "matches"):
        stored = get_fields(match.to_dict() if hasattr(match, "to_dict") else match)
        yield make_document(
            get_field(match, "id"),
            score=get_field(match, "score"),
            metadata={name: value for name, value in stored.items() if name not in {"_id", "_score"}},
        )


def _ask_write(call: Call) -> Asked:
    """Read what is written: vectors with ids, or records and documents with an id among their fields."""
    given = (call.kwargs.get(name) for name in ("vectors", "records", "documents", "df"))
    records = find_known(given)
    first = records[0] if isinstance(records, (list, tuple)) and records else None
    vector = first[1] if isinstance(first, tuple) and len(first) > 1 else get_field(first, "values")
    return _describe(call, records=records, query=vector)


def _ask_change(call: Call) -> Asked:
    """Read which records are meant: one, several, those of a filter, or all."""
    id, ids, documents = (call.kwargs.get(name) for name in ("id", "ids", "documents"))
    meant = call.kwargs.get("filter") or ("all" if call.kwargs.get("delete_all") else None)
    records = find_known((id, ids, documents))
    return _describe(call, records=records, query=call.kwargs.get("values"), filter=meant)


def _count_upserted(got: object) -> object:
    return get_field(got, "upserted_count")


_QUERY: Final = Search("query", _ask_query, _read_matches)
_METHODS: Final[dict[str, Search | Write]] = {
    "query": _QUERY,
    "query_namespaces": Search("query_namespaces", _ask_query, _read_matches),
    "search": Search("search", _ask_search, _read_record_hits),
    "upsert": Write("upsert", _ask_write, _count_upserted),
    "upsert_from_dataframe": Write("upsert", _ask_write, _count_upserted),
    "upsert_records": Write("upsert", _ask_write),
    "update": Write("update", _ask_change),
    "delete": Write("delete", _ask_change),
}
_DOCUMENT_METHODS: Final[dict[str, Search | Write]] = {
    "search": Search("search", _ask_document_search, _read_document_matches),
    "upsert": Write("upsert", _ask_write, _count_upserted),
    "batch_upsert": Write("upsert", _ask_write),
    "update": Write("update", _ask_change),
    "delete": Write("delete", _ask_change),
}


def _make_class_hook(cls: str, methods: dict[str, Search | Write], *also: Hook) -> Hook:
    """Return the hook of a class, whose module may never be imported."""
    named = {f"{cls}.{name}": method for name, method in methods.items()}
    return make_hook(Database("pinecone", _REQUIRES, cls.partition(":")[0], named), *also)


HOOK = _make_class_hook(
    "pinecone.index:Index",
    _METHODS,
    _make_class_hook("pinecone.async_client.async_index:AsyncIndex", _METHODS),
    _make_class_hook("pinecone.grpc:GrpcIndex", _METHODS),
    _make_class_hook("pinecone.client.documents:Documents", _DOCUMENT_METHODS),
    _make_class_hook("pinecone.async_client.documents:AsyncDocuments", _DOCUMENT_METHODS),
)
autolog = HOOK.autolog
