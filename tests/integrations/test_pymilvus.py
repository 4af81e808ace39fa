"""Milvus's clients, on the small Milvus that runs in this process: searches, writes, and deletions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("milvus_lite", reason="in the nox session vectors")
from pymilvus import AnnSearchRequest, AsyncMilvusClient, Collection, MilvusClient, RRFRanker
from pymilvus.exceptions import MilvusException
from vectors_kit import NEAR_FIRST, TEXTS, VECTORS, VectorCalls, only, read_attributes, read_documents

from mlspan import integrations
from mlspan.testing import Spans

METHODS = ("search", "hybrid_search", "insert", "upsert", "delete")
ROWS = [
    {"id": id, "vector": vector, "text": text, "page": id + 6}
    for id, vector, text in zip((1, 2), VECTORS, TEXTS, strict=True)
]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    made = MilvusClient(str(tmp_path / "milvus.db"))
    made.create_collection("docs", dimension=3, metric_type="COSINE")
    made.insert("docs", ROWS)
    yield made
    made.close()


class TestClient(VectorCalls):
    fails = MilvusException
    system = "milvus"
    has_distance = True
    writes = {  # noqa: RUF012  # as ClassVar in the base
        "insert docs": ("insert", 1),
        "upsert docs": ("upsert", 2),
        "delete docs": ("delete", 1),
    }

    @pytest.fixture(autouse=True)
    def _client(self, _trace_this_test: None, client: Any) -> None:
        self.client = client
        self.spans.clear()

    def search(self, **more: Any) -> Any:
        return self.client.search("docs", [NEAR_FIRST], limit=2, output_fields=["text", "vector"], **more)

    def search_with_vectors(self) -> Any:
        return self.search(filter="page > 1")

    def make_failing_call(self) -> Any:
        return self.client.search("docs", [NEAR_FIRST], anns_field="unknown")

    def read_answer(self, answer: Any) -> Any:
        return [[dict(hit) for hit in hits] for hits in answer]

    def test_the_caller_gets_the_same_exception(self) -> None:
        """Its text tells how long it took, so only the kind is compared."""
        with pytest.raises(MilvusException):
            self.make_failing_call()
        self.check_span(error=MilvusException)

    def insert(self) -> None:
        self.client.insert("docs", {**ROWS[0], "id": 3})

    def upsert(self) -> None:
        self.client.upsert(collection_name="docs", data=ROWS)

    def delete(self) -> None:
        self.client.delete("docs", ids=[3])

    def autolog(self, **options: Any) -> None:
        integrations.pymilvus.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(cls, name) for cls in (MilvusClient, AsyncMilvusClient, Collection) for name in METHODS]


@pytest.fixture
def traced(client: Any, spans: Spans) -> Iterator[Any]:
    integrations.pymilvus.autolog()
    yield client
    integrations.pymilvus.autolog(disable=True)


def test_several_queries_in_one_call(traced: Any, spans: Spans) -> None:
    """Each document says which query has found it."""
    traced.search("docs", np.array(VECTORS, dtype=np.float32), limit=1)
    got = only(spans)
    assert [(one["query"], one["id"]) for one in read_documents(spans.one())] == [(0, "1"), (1, "2")]
    assert got["mlspan.vectors.count"] == 2
    assert got.get("server.address", "127.0.0.1") == "127.0.0.1"  # older versions do not tell it
    assert "gen_ai.retrieval.query.text" not in got


def test_a_search_of_two(traced: Any, spans: Spans) -> None:
    """The vectors of both count, and the filters of either are told."""
    requests = [
        AnnSearchRequest([vector], "vector", {"metric_type": "COSINE"}, limit=2, expr=where)
        for vector, where in zip(VECTORS, ("page > 1", None), strict=True)
    ]
    traced.hybrid_search("docs", requests, RRFRanker(), limit=2, output_fields=["page"])
    got = only(spans)
    assert (got["mlspan.vectors.count"], got["mlspan.retrieval.filter"]) == (2, '["page > 1"]')
    assert {*read_documents(spans.one())[0]} == {"id", "score", "distance", "metadata"}


def test_nothing_found(traced: Any, spans: Spans) -> None:
    traced.search("docs", [NEAR_FIRST], filter="page == 99")
    assert (only(spans)["db.response.returned_rows"], read_documents(spans.one())) == (0, [])


def test_a_deletion_by_a_filter(traced: Any, spans: Spans) -> None:
    traced.delete("docs", filter="page == 7")
    assert only(spans)["mlspan.input"] == "page == 7"


def test_an_asynchronous_client(traced: Any, spans: Spans, tmp_path: Path) -> None:
    """It has the same methods."""

    async def search() -> None:
        client = AsyncMilvusClient(str(tmp_path / "milvus.db"))
        try:
            await client.search("docs", [NEAR_FIRST], limit=1, output_fields=["text"])
            with pytest.raises(MilvusException):
                await client.search("unknown", [NEAR_FIRST])
        finally:
            await client.close()

    asyncio.run(search())
    found, failed = spans.all
    assert read_documents(found)[0]["content"] == TEXTS[0]
    assert read_attributes(failed)["error.type"] == "pymilvus.exceptions.MilvusException"
