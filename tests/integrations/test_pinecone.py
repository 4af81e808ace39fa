"""Pinecone's indexes, against a server that a test scripts: queries, searches by text, documents, writes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("pinecone.index", reason="in the nox session vectors")
import pinecone
from pinecone.async_client.async_index import AsyncIndex
from pinecone.index import Index
from vectors_kit import NEAR_FIRST, TEXTS, VECTORS, VectorCalls, only, read_documents

from mlspan import integrations
from mlspan.testing import Spans, content, contracts

METHODS = ("query", "query_namespaces", "search", "upsert", "upsert_records", "update", "delete")
MATCHES: Any = {
    "matches": [
        {"id": "1", "score": 0.99, "values": VECTORS[0], "metadata": {"text": TEXTS[0], "page": 7}},
        {"id": "2", "score": 0.35, "values": VECTORS[1], "metadata": {"text": TEXTS[1], "page": 8}},
    ],
    "namespace": "",
    "usage": {"readUnits": 5},
}
REFUSAL: Any = {"code": 3, "message": "Vector dimension 1 does not match the dimension of the index 3"}


def find_host(server: Any) -> str:
    return str(server.base_url).removesuffix("/v1")


class PineconeCalls:
    """A client and the server that answers it."""

    span = "retrieval"
    texts = (TEXTS[0],)
    fails = pinecone.errors.exceptions.ApiError

    @pytest.fixture(autouse=True)
    def _server(self, _trace_this_test: None, scripted: Any) -> None:
        self.server = scripted

    def script(self, answer: Any, status: int = 200, delay: float = 0) -> None:
        self.server.clear()
        self.server.reply(answer, status=status, delay=delay)

    def autolog(self, **options: Any) -> None:
        integrations.pinecone.autolog(**options)


class TestIndex(PineconeCalls, VectorCalls):
    system = "pinecone"
    source = None
    writes = {  # noqa: RUF012  # as ClassVar in the base
        "upsert": ("upsert", 2),
        "update": ("update", 1),
        "delete": ("delete", 2),
    }

    def make_index(self, answer: Any, **how: Any) -> Any:
        self.script(answer, **how)
        return Index(host=find_host(self.server), api_key="test")

    def search(self, **more: Any) -> Any:
        with self.make_index(MATCHES) as index:
            return index.query(vector=NEAR_FIRST, top_k=2, include_metadata=True, **more)

    def search_with_vectors(self) -> Any:
        return self.search(include_values=True, filter={"page": {"$gt": 1}})

    def make_failing_call(self) -> Any:
        with self.make_index(REFUSAL, status=400) as index:
            return index.query(vector=[0.1], top_k=2)

    def read_answer(self, answer: Any) -> Any:
        return [(one.id, one.score, one.metadata) for one in answer.matches]

    def upsert(self) -> None:
        with self.make_index({"upsertedCount": 2}) as index:
            index.upsert(vectors=[("1", VECTORS[0], {"text": TEXTS[0]}), {"id": "2", "values": VECTORS[1]}])

    def update(self) -> None:
        with self.make_index({}) as index:
            index.update(id="1", set_metadata={"text": TEXTS[0]})

    def delete(self) -> None:
        with self.make_index({}) as index:
            index.delete(ids=["1", "2"])

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(cls, name) for cls in (Index, AsyncIndex) for name in METHODS]


class TestAsyncIndex(PineconeCalls, contracts.AsyncCallContract):
    async def ask(self) -> Any:
        async with AsyncIndex(host=find_host(self.server), api_key="test") as index:
            return await index.query(vector=NEAR_FIRST, top_k=2, include_metadata=True)

    async def make_call(self) -> Any:
        self.script(MATCHES)
        return await self.ask()

    async def make_failing_call(self) -> Any:
        self.script(REFUSAL, status=400)
        return await self.ask()

    async def make_hanging_call(self) -> Any:
        self.script(MATCHES, delay=0.6)
        return await self.ask()

    def read_answer(self, answer: Any) -> Any:
        return [(one.id, one.score, one.metadata) for one in answer.matches]

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(AsyncIndex, name) for name in METHODS]


@pytest.fixture
def traced(scripted: Any, spans: Spans) -> Any:
    integrations.pinecone.autolog()
    with Index(host=find_host(scripted), api_key="test") as index:
        yield index
    integrations.pinecone.autolog(disable=True)


def test_a_search_by_text(traced: Any, scripted: Any, spans: Spans) -> None:
    """The server makes the vector, and nobody tells its dimension; the namespace is told."""
    hits = [{"_id": "1", "_score": 0.5, "fields": {"chunk_text": TEXTS[0]}}]
    scripted.reply({"result": {"hits": hits}, "usage": {"read_units": 1}})
    traced.search(namespace="n", top_k=1, inputs={"text": "where is the bridge?"}, filter={"page": 7})
    got = only(spans)
    assert (got["gen_ai.retrieval.query.text"], got["db.namespace"]) == ("where is the bridge?", "n")
    assert content(spans.one(), "mlspan.retrieval.filter") == {"page": 7}
    assert read_documents(spans.one()) == [{"id": "1", "score": 0.5, "content": TEXTS[0]}]
    assert (got["server.address"], "mlspan.vectors.count" in got) == ("127.0.0.1", False)


def test_documents(traced: Any, scripted: Any, spans: Spans) -> None:
    """Indexes with a schema have methods of their own, and fields that may be vectors."""
    found = {"_id": "1", "_score": 0.5, "title": TEXTS[0], "field": VECTORS[0]}
    scripted.reply({"matches": [found], "namespace": "n", "usage": {"read_units": 1}})
    traced.documents.search(
        namespace="n", top_k=1, score_by=[pinecone.DenseVectorQuery(field="field", values=NEAR_FIRST)]
    )
    got = only(spans)
    assert (got["mlspan.vectors.count"], got["mlspan.vectors.dimension"]) == (1, 3)
    assert read_documents(spans.one())[0]["metadata"] == {"title": TEXTS[0], "field": "[vector of 3 numbers]"}
    spans.clear()
    scripted.clear()
    scripted.reply({"upserted_count": 1})
    traced.documents.upsert(namespace="n", documents=[{"_id": "1", "field": VECTORS[0]}])
    assert (spans.tree(), only(spans)["mlspan.records.count"]) == ("upsert", 1)


def test_the_index_is_told_by_its_host(spans: Spans) -> None:
    """Nothing else of a client knows its name."""
    integrations.pinecone.autolog()
    index = Index(host="movie-search-a1b2c3d.svc.aped-4627-b74a.pinecone.io", api_key="test")
    index._http.post = lambda *_, **__: type("Answer", (), {"content": b'{"matches": []}', "headers": {}})()
    try:
        index.query(id="7", top_k=3)
    finally:
        integrations.pinecone.autolog(disable=True)
        index.close()
    got = only(spans)
    assert spans.one().name == "retrieval movie-search"
    assert (got["gen_ai.retrieval.query.text"], got["db.response.returned_rows"]) == ("7", 0)
    assert got["server.address"] == "movie-search-a1b2c3d.svc.aped-4627-b74a.pinecone.io"


def test_a_deletion_of_everything(traced: Any, scripted: Any, spans: Spans) -> None:
    scripted.reply({})
    traced.delete(delete_all=True, namespace="n")
    assert only(spans)["mlspan.input"] == "all"
    assert "mlspan.records.count" not in only(spans)


def test_an_asynchronous_deletion(scripted: Any, spans: Spans) -> None:
    async def delete() -> None:
        async with AsyncIndex(host=find_host(scripted), api_key="test") as index:
            await index.delete(filter={"page": 7})

    integrations.pinecone.autolog()
    scripted.reply({})
    try:
        asyncio.run(delete())
    finally:
        integrations.pinecone.autolog(disable=True)
    assert content(spans.one(), "mlspan.input") == {"page": 7}
