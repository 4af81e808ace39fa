"""LanceDB's tables, in a folder or at a server: vector, text and hybrid searches, and what is written and deleted.

A query is built first, and runs where its result is taken: ``to_arrow``, which ``to_list`` and its kin call. What is
read in batches is not recorded.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Final
from weakref import WeakSet

from .._shape import find_known, get_field, get_nested, is_a
from ..hooks.call import Call
from ..hooks.patching import Patch, observe_method
from ._vectors.database import Asked, Database, Search, Write, make_hook
from ._vectors.documents import Document, make_document

__all__ = ["HOOK", "autolog"]

PRIVATE_NAMES: Final[dict[str, str]] = {
    "_create_query_builders": "that the two searches of a hybrid one are part of it",
}
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_table": "the name of the table",
    "_query": "what a search looks for",
    "_text": "what a hybrid search looks for",
    "_vector": "the vector of a hybrid search",
    "_inner": "what an asynchronous search looks for",
    "_limit": "how many rows a search wants",
    "_where": "the filter of a search",
    "_fts_query": "that the two searches of a hybrid one are part of it",
    "_vector_query": "that the two searches of a hybrid one are part of it",
    "_relevance_score": "the score of a hybrid search",
    "_score": "the score of a search by text",
    "_distance": "the distance of a vector",
    "_rowid": "the id of a row without a column of ids",
}
_HYBRID: Final = "lancedb.query:LanceHybridQueryBuilder"
_searches_below: WeakSet[Any] = WeakSet()  # the searches that a hybrid one makes, in threads of their own
_MOST_ROWS: Final = 1000  # that are read; all of them are counted


def _note_searches_below(args: tuple[object, ...], _kwargs: object, _result: object) -> None:
    for name in ("_fts_query", "_vector_query"):
        if (search := get_field(args[0], name)) is not None:
            _searches_below.add(search)


def _ask_built(call: Call) -> Asked | None:
    """Read a query that was built, of vectors or of text."""
    query = call.args[0]
    if query in _searches_below:
        return None
    return Asked(
        collection=get_nested(query, "_table.name", str),
        query=get_field(query, "_query"),
        top_k=get_field(query, "_limit"),
        filter=get_field(query, "_where"),
    )


def _ask_hybrid(call: Call) -> Asked:
    """Read a query by text and vector, which may both be made of one text."""
    query = call.args[0]
    text, vector = (get_field(query, name) for name in ("_text", "_vector"))
    text = text if text is not None else get_field(query, "_query")
    return Asked(
        collection=get_nested(query, "_table.name", str),
        query=text if vector is None else {"text": text, "vector": vector},
        top_k=get_field(query, "_limit"),
        filter=get_field(query, "_where"),
    )


def _ask_async(call: Call) -> Asked | None:
    """Read an asynchronous query from the requests inside; it says nothing of a text in one of these."""
    query, kind = call.args[0], type(call.args[0]).__name__
    inner = get_field(query, "_inner")
    if kind == "AsyncHybridQuery":
        request, texts = inner.to_vector_query().to_query_request(), inner.to_fts_query()
        asked: object = {"text": texts.get_query(), "vector": get_field(request, "query_vector")}
    elif kind in {"AsyncVectorQuery", "AsyncFTSQuery"}:
        request = inner.to_query_request()
        asked = query.get_query() if kind == "AsyncFTSQuery" else get_field(request, "query_vector")
    else:  # it reads rows, and searches for nothing
        return None
    return Asked(
        collection=get_nested(query, "_table.name", str),
        query=asked,
        top_k=get_field(request, "limit"),
        filter=get_field(request, "filter"),
    )


def _read_table(got: Any) -> Iterator[Document]:
    """Read a table of Arrow, without its columns of vectors."""
    names = [field.name for field in got.schema if "list<" not in str(field.type)]
    rows = got.select(names).slice(0, _MOST_ROWS).to_pylist()
    for row in rows:
        scores = (row.get(name) for name in ("_relevance_score", "_score"))
        yield make_document(
            row.get("id", row.get("_rowid")),
            score=find_known(scores),
            distance=row.get("_distance"),
            metadata={name: value for name, value in row.items() if not name.startswith("_")},
        )
    yield from (make_document(None) for _ in range(got.num_rows - len(rows)))


def _ask_add(call: Call) -> Asked:
    data = call.argument("data")
    return Asked(collection=get_nested(call.args[0], "name", str), records=data, query=data)


def _ask_delete(call: Call) -> Asked:
    where = call.args[1] if len(call.args) > 1 else call.kwargs.get("where", call.kwargs.get("predicate"))
    return Asked(collection=get_nested(call.args[0], "name", str), filter=where)


def _ask_update(call: Call) -> Asked:
    return Asked(collection=get_nested(call.args[0], "name", str), filter=call.argument("where"))


def _ask_merge(call: Call) -> Asked | None:
    """Read an upsert; that of an asynchronous table only begins here."""
    table, data = get_field(call.args[0], "_table"), call.argument("new_data")
    is_async = type(table).__name__ == "AsyncTable"
    return None if is_async else Asked(collection=get_nested(table, "name", str), records=data, query=data)


def _count_merged(got: object) -> int | None:
    counts = [get_nested(got, f"num_{what}_rows", int) for what in ("inserted", "updated", "deleted")]
    return sum(one for one in counts if is_a(one, int) and one is not None) if any(counts) else None


_SEARCH: Final = Search("search", _ask_built, _read_table)
_TABLES: Final = ("lancedb.table:LanceTable", "lancedb.table:AsyncTable", "lancedb.remote.table:RemoteTable")
_WRITES: Final = {
    "add": Write("add", _ask_add),
    "delete": Write("delete", _ask_delete, lambda got: get_field(got, "num_deleted_rows")),
    "update": Write("update", _ask_update, lambda got: get_field(got, "rows_updated")),
}
HOOK = make_hook(
    Database(
        "lancedb",
        "lancedb>=0.34,<1",
        "lancedb",
        {
            "lancedb.query:LanceVectorQueryBuilder.to_arrow": _SEARCH,
            "lancedb.query:LanceFtsQueryBuilder.to_arrow": _SEARCH,
            f"{_HYBRID}.to_arrow": Search("search", _ask_hybrid, _read_table),
            "lancedb.query:AsyncQueryBase.to_arrow": Search("search", _ask_async, _read_table),
            "lancedb.merge:LanceMergeInsertBuilder.execute": Write("merge_insert", _ask_merge, _count_merged),
            **{f"{table}.{name}": write for table in _TABLES for name, write in _WRITES.items()},
        },
    ),
    list_patches=lambda _: [
        Patch(
            f"{_HYBRID}._create_query_builders",
            functools.partial(observe_method, callback=_note_searches_below),
            "that the two searches of a hybrid one are part of it",
        )
    ],
)
autolog = HOOK.autolog
