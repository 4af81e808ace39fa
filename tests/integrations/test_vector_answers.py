"""Answers of a shape that no database has: each table reads what there is, and fails at nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mlspan.integrations import chromadb, pinecone, pymilvus, qdrant_client, redis, weaviate
from mlspan.integrations._vectors import search_engines
from mlspan.tracing.operations.content import to_json

READERS = [
    chromadb._read_query,
    pinecone._read_matches,
    pinecone._read_record_hits,
    pinecone._read_document_matches,
    qdrant_client._read_points,
    qdrant_client._read_batch,
    qdrant_client._read_groups,
    weaviate._read_objects,
    pymilvus._read_hits,
    redis._read_result,
    search_engines._read_hits,
]
ODD: list[Any] = [
    None,
    7,
    "x",
    object(),
    [],
    {},
    [None],
    [[None]],
    [{}],
    {"id": None},
    {"id": {}, "score": "x"},
    float("nan"),
]
ABOVE = [
    "ids",
    "distances",
    "documents",
    "metadatas",
    "matches",
    "result",
    "points",
    "groups",
    "objects",
    "docs",
    "results",
]
BELOW = ["id", "score", "distance", "payload", "metadata", "fields", "_source", "properties", "hits", "entity", "uuid"]


def make_answers() -> Iterator[Any]:
    for odd in ODD:
        yield from (
            odd,
            [odd],
            [[odd]],
            {"hits": {"hits": odd}},
            {"result": {"hits": odd}},
            {"groups": [{"hits": odd}]},
        )
        yield {"ids": [["1"]], "documents": odd, "metadatas": odd, "distances": odd}
        for name in ABOVE:
            yield from ({name: odd}, [{name: odd}], {name: [dict.fromkeys(BELOW, odd)]})


@pytest.mark.parametrize("read", READERS, ids=lambda read: f"{read.__module__.rpartition('.')[2]}.{read.__name__}")
def test_odd_answers(read: Any) -> None:
    """A document that is read has an id and a score, as the conventions demand."""
    for answer in make_answers():
        for document in read(answer):
            assert type(document["id"]) is str
            assert type(document["score"]) is float
            assert to_json(document)
