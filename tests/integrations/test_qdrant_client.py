"""Qdrant's clients, in memory: searches of every shape, writes, and deletions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("qdrant_client", reason="in the nox session vectors")
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from vectors_kit import NEAR_FIRST, TEXTS, VECTORS, VectorCalls, only, read_attributes, read_documents

from mlspan import integrations
from mlspan.testing import Spans, content, contracts

METHODS = ("query_points", "query_points_groups", "query_batch_points", "upsert", "upload_points", "delete")
SPACE = models.VectorParams(size=3, distance=models.Distance.COSINE)
POINTS = [
    models.PointStruct(id=id, vector=vector, payload={"text": text, "page": id + 6})
    for id, vector, text in zip((1, 2), VECTORS, TEXTS, strict=True)
]


@pytest.fixture
def client() -> Iterator[Any]:
    made = QdrantClient(":memory:")
    made.create_collection("docs", vectors_config=SPACE)
    made.upsert("docs", POINTS)
    yield made
    made.close()


class TestClient(VectorCalls):
    fails = ValueError
    system = "qdrant"
    writes = {  # noqa: RUF012  # as ClassVar in the base
        "upsert docs": ("upsert", 2),
        "upload_points docs": ("upload", None),
        "upload_collection docs": ("upload_collection", 2),
        "delete docs": ("delete", 1),
    }

    @pytest.fixture(autouse=True)
    def _client(self, _trace_this_test: None, client: Any) -> None:
        self.client = client
        self.spans.clear()

    def search(self, **more: Any) -> Any:
        return self.client.query_points("docs", query=NEAR_FIRST, limit=2, **more)

    def search_with_vectors(self) -> Any:
        return self.search(with_vectors=True)

    def make_failing_call(self) -> Any:
        return self.client.query_points("missing", query=NEAR_FIRST)

    def check_span(self, **how: Any) -> Any:
        name = type(self).span
        if how.get("error") is not None:
            type(self).span = "retrieval missing"
        try:
            return super().check_span(**how)
        finally:
            type(self).span = name

    def upsert(self) -> None:
        self.client.upsert(collection_name="docs", points=models.Batch(ids=[3, 4], vectors=VECTORS))

    def upload(self) -> None:
        self.client.upload_points("docs", (point for point in POINTS))
        assert self.client.count("docs").count == 4

    def upload_collection(self) -> None:
        self.client.upload_collection("docs", vectors=np.array(VECTORS), ids=[5, 6])

    def delete(self) -> None:
        self.client.delete("docs", models.PointIdsList(points=[1]))

    def autolog(self, **options: Any) -> None:
        integrations.qdrant_client.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(cls, name) for cls in (QdrantClient, AsyncQdrantClient) for name in METHODS]


class TestAsyncClient(contracts.AsyncCallContract):
    span = "retrieval docs"
    texts = (TEXTS[0],)
    fails = ValueError

    async def make_client(self) -> Any:
        self.client = AsyncQdrantClient(":memory:")
        await self.client.create_collection("docs", vectors_config=SPACE)
        await self.client._client.upsert("docs", POINTS)  # below what is traced
        return self.client

    async def make_call(self) -> Any:
        return await (await self.make_client()).query_points("docs", query=NEAR_FIRST, limit=2)

    async def make_failing_call(self) -> Any:
        return await (await self.make_client()).query_points("docs", query=[0.5])

    async def make_hanging_call(self) -> Any:
        client = await self.make_client()

        async def wait(**_: Any) -> None:
            await asyncio.sleep(5)

        client._client.query_points = wait
        return await client.query_points("docs", query=NEAR_FIRST)

    async def close_client(self) -> None:
        await self.client.close()

    def autolog(self, **options: Any) -> None:
        integrations.qdrant_client.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(AsyncQdrantClient, name) for name in METHODS]


@pytest.fixture
def traced(client: Any, spans: Spans) -> Iterator[Any]:
    integrations.qdrant_client.autolog()
    yield client
    integrations.qdrant_client.autolog(disable=True)


def test_a_batch_of_queries(traced: Any, spans: Spans) -> None:
    """Each document says which query has found it."""
    asked = [models.QueryRequest(query=vector, limit=1, with_payload=True) for vector in VECTORS]
    traced.query_batch_points("docs", requests=asked)
    assert [(one["query"], one["id"]) for one in read_documents(spans.one())] == [(0, "1"), (1, "2")]
    got = only(spans)
    assert (got["mlspan.vectors.count"], got["gen_ai.retrieval.top_k"]) == (2, 1)


def test_a_fusion_of_searches(traced: Any, spans: Spans) -> None:
    """What is fetched first is part of the query; its vectors are counted and left out."""
    first = [models.Prefetch(query=vector, limit=2) for vector in VECTORS]
    traced.query_points("docs", prefetch=first, query=models.FusionQuery(fusion=models.Fusion.RRF), limit=2)
    got = only(spans)
    assert (got["mlspan.vectors.count"], got["mlspan.vectors.dimension"]) == (2, 3)
    assert "[vector of 3 numbers]" in got["gen_ai.retrieval.query.text"]
    assert "rrf" in got["gen_ai.retrieval.query.text"]


def test_a_search_in_groups(traced: Any, spans: Spans) -> None:
    """The hits of all groups are documents."""
    traced.query_points_groups("docs", group_by="page", query=np.array(NEAR_FIRST), limit=2)
    assert sorted(one["id"] for one in read_documents(spans.one())) == ["1", "2"]


def test_filters(traced: Any, spans: Spans) -> None:
    """A filter is told without what it leaves open; nothing found is an empty list."""
    chosen = models.Filter(must=[models.FieldCondition(key="page", match=models.MatchValue(value=99))])
    traced.query_points("docs", query=NEAR_FIRST, query_filter=chosen)
    assert content(spans.one(), "mlspan.retrieval.filter") == {"must": [{"key": "page", "match": {"value": 99}}]}
    assert read_documents(spans.one()) == []
    spans.clear()
    traced.delete("docs", chosen)
    assert content(spans.one(), "mlspan.input") == content(spans.one(), "mlspan.input") != {}


def test_a_query_by_an_id_and_no_payload(traced: Any, spans: Spans) -> None:
    """A point that is there already may be what is searched with."""
    traced.query_points("docs", query=1, with_payload=False)
    assert "mlspan.vectors.count" not in only(spans)
    assert [{*one} for one in read_documents(spans.one())] == [{"id", "score"}]


def test_named_vectors(traced: Any, spans: Spans) -> None:
    """Their dimension is that of the first, and a record with several vectors is one record."""
    traced.create_collection("many", vectors_config={"a": SPACE, "b": SPACE})
    traced.upsert("many", [models.PointStruct(id=1, vector={"a": VECTORS[0], "b": VECTORS[1]})])
    traced.query_points("many", query=NEAR_FIRST, using="b")
    upsert, search = spans.all
    assert read_attributes(upsert)["mlspan.vectors.dimension"] == 3
    assert read_attributes(upsert)["mlspan.records.count"] == 1
    assert read_documents(search)[0]["id"] == "1"
