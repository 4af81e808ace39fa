"""Chroma's collections: searches, writes, and the odd shapes of what they take and return."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("chromadb", reason="in the nox session vectors")
import chromadb
import chromadb.errors
from chromadb.api.models.AsyncCollection import AsyncCollection
from chromadb.api.models.Collection import Collection
from vectors_kit import NEAR_FIRST, TEXTS, VECTORS, VectorCalls, only, read_attributes, read_documents

from mlspan import integrations, tracing
from mlspan.testing import Spans, content

METHODS = ("query", "add", "upsert", "update", "delete")


@pytest.fixture
def collection() -> Iterator[Any]:
    client = chromadb.EphemeralClient(chromadb.Settings(anonymized_telemetry=False))
    made = client.create_collection("docs", embedding_function=None, configuration={"hnsw": {"space": "cosine"}})
    made.add(ids=["1", "2"], embeddings=VECTORS, documents=TEXTS, metadatas=[{"page": 7}, {"page": 8}])
    yield made
    client.delete_collection("docs")


class TestCollection(VectorCalls):
    fails = chromadb.errors.InvalidArgumentError
    system = "chroma"
    has_distance = True
    writes = {  # noqa: RUF012  # as ClassVar in the base
        "add docs": ("add", 2),
        "upsert docs": ("upsert", 1),
        "update docs": ("update", 1),
        "delete docs": ("delete", 1),
    }

    @pytest.fixture(autouse=True)
    def _collection(self, _trace_this_test: None, collection: Any) -> None:
        self.collection = collection
        self.spans.clear()

    def search(self, **more: Any) -> Any:
        return self.collection.query(query_embeddings=[NEAR_FIRST], n_results=2, **more)

    def search_with_vectors(self) -> Any:
        return self.search(include=["embeddings", "documents"], where={"page": {"$gt": 0}})

    def make_failing_call(self) -> Any:
        return self.collection.query(query_embeddings=[[0.1]], n_results=2)

    def read_answer(self, answer: Any) -> Any:
        return answer["ids"], answer["documents"]

    def add(self) -> None:
        self.collection.add(ids=["3", "4"], embeddings=np.array(VECTORS), documents=TEXTS)

    def upsert(self) -> None:
        self.collection.upsert(ids="1", embeddings=VECTORS[0], documents=TEXTS[0])

    def update(self) -> None:
        self.collection.update(["1"], metadatas=[{"page": 9}])

    def delete(self) -> None:
        self.collection.delete(ids=["1"])

    def autolog(self, **options: Any) -> None:
        integrations.chromadb.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(cls, name) for cls in (Collection, AsyncCollection) for name in METHODS]


@pytest.fixture
def traced(collection: Any, spans: Spans) -> Iterator[Any]:
    integrations.chromadb.autolog()
    yield collection
    integrations.chromadb.autolog(disable=True)


def test_several_queries_in_one_call(traced: Any, spans: Spans) -> None:
    """Each document says which query has found it; the vectors may be an array, and may be whole numbers."""
    traced.query(query_embeddings=np.array([[1, 0, 0], [0, 1, 0]]), n_results=1)
    got = only(spans)
    assert [(one["query"], one["id"]) for one in read_documents(spans.one())] == [(0, "1"), (1, "2")]
    assert (got["mlspan.vectors.count"], got["mlspan.vectors.dimension"]) == (2, 3)
    assert "gen_ai.retrieval.query.text" not in got


def test_a_query_by_text(traced: Any, spans: Spans) -> None:
    """The collection turns texts into vectors itself; nobody else tells what was asked."""

    class Embedder:
        def embed_query(self, input: Any) -> Any:
            return [np.array(NEAR_FIRST, dtype=np.float32) for _ in input]

        __call__ = embed_query

    traced._embedding_function = Embedder()
    traced.query(query_texts=["where is the bridge?"], n_results=1, where_document={"$contains": "bridge"})
    assert only(spans)["gen_ai.retrieval.query.text"] == "where is the bridge?"
    assert content(spans.one(), "mlspan.retrieval.filter") == {"where_document": {"$contains": "bridge"}}


def test_nothing_but_ids(traced: Any, spans: Spans) -> None:
    """A caller may ask for nothing else: no distance, no text. The conventions want a score all the same."""
    traced.query(query_embeddings=NEAR_FIRST, n_results=2, include=[])
    assert read_documents(spans.one()) == [{"id": "1", "score": 0.0}, {"id": "2", "score": 0.0}]


def test_nothing_found(traced: Any, spans: Spans) -> None:
    """An empty answer is one, and not a failure; a record may lack text and metadata."""
    traced.query(query_embeddings=NEAR_FIRST, where={"page": 99})
    assert only(spans)["db.response.returned_rows"] == 0
    assert read_documents(spans.one()) == []
    spans.clear()
    traced.upsert(ids=["3"], embeddings=[NEAR_FIRST])
    traced.query(query_embeddings=NEAR_FIRST, n_results=1)
    (found,) = read_documents(spans.named("retrieval docs")[0])
    assert {*found} == {"id", "score", "distance"}


def test_a_deletion_by_a_filter(traced: Any, spans: Spans) -> None:
    """What was meant is told, and how many that were where the answer has it."""
    traced.delete(where={"page": 8})
    assert content(spans.one(), "mlspan.input") == {"where": {"page": 8}}


def test_large_documents_are_cut(traced: Any, spans: Spans) -> None:
    """A search that returns more than fits is bounded, as all content is."""
    traced.upsert(ids=["1"], embeddings=[NEAR_FIRST], documents=["x" * 100_000])
    tracing.configure(max_content_bytes=2_000)
    spans.clear()
    traced.query(query_embeddings=NEAR_FIRST, n_results=2)
    assert len(only(spans)["gen_ai.retrieval.documents"]) <= 2_000
    tracing.configure()


def test_below_a_retriever(traced: Any, spans: Spans) -> None:
    """LangChain's retriever tells the documents: the search below it tells ids and distances alone."""
    retrievers = pytest.importorskip("langchain_core.retrievers")
    from langchain_core.documents import Document

    class Bridges(retrievers.BaseRetriever):  # type: ignore[misc]  # it is Any
        def _get_relevant_documents(self, query: str, **_: Any) -> list[Any]:
            found = traced.query(query_embeddings=NEAR_FIRST, n_results=1)
            return [Document(page_content=text) for text in found["documents"][0]]

    integrations.langchain.autolog()
    try:
        Bridges().invoke("a bridge")
    finally:
        integrations.langchain.autolog(disable=True)
    search, retriever = spans.named("retrieval docs")[0], next(one for one in spans.all if one.parent is None)
    assert {*read_documents(search)[0]} == {"id", "score", "distance"}
    assert TEXTS[0] in str(read_attributes(retriever))


def test_an_asynchronous_collection(spans: Spans) -> None:
    """It has the same methods, and a server; one that does not answer as expected is an error of the caller's."""

    class Server:
        _api_url = "http://127.0.0.1:1/api/v2"

        async def _query(self, **_: Any) -> dict[str, Any]:
            return {"ids": [["1"]], "documents": [[TEXTS[0]]], "distances": [[0.25]], "metadatas": [[None]]}

    class Model:
        name, tenant, database, id = "docs", "t", "d", "x"
        configuration_json: ClassVar[Any] = {}

    integrations.chromadb.autolog()
    try:
        collection = AsyncCollection(Server(), Model(), embedding_function=None)  # type: ignore[arg-type]
        collection._transform_query_response = lambda response, include: response  # type: ignore[assignment,method-assign]
        asyncio.run(collection.query(query_embeddings=[NEAR_FIRST], n_results=1))
    finally:
        integrations.chromadb.autolog(disable=True)
    got = only(spans)
    assert (got["server.address"], got["server.port"], got["db.namespace"]) == ("127.0.0.1", 1, "d")
    assert read_documents(spans.one()) == [{"id": "1", "score": 0.75, "distance": 0.25, "content": TEXTS[0]}]
