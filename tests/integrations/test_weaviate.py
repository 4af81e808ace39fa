"""Weaviate's collections, against a server of its two protocols that a test scripts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

pytest.importorskip("weaviate", reason="in the nox session vectors")
import grpc
import weaviate
import weaviate.exceptions
from vectors_kit import NEAR_FIRST, TEXTS, VECTORS, VectorCalls, only, read_attributes, read_documents
from weaviate.classes.query import Filter, MetadataQuery
from weaviate.collections.data import _DataCollection
from weaviate.collections.generate import _GenerateCollectionAsync
from weaviate.collections.query import _QueryCollection, _QueryCollectionAsync
from weaviate.connect import ConnectionParams
from weaviate.proto.v1 import batch_delete_pb2, batch_pb2, properties_pb2, search_get_pb2

from mlspan import integrations
from mlspan.testing import Spans

IDS = [str(UUID(int=number)) for number in (1, 2)]
SEARCHES = ("near_text", "near_vector", "near_object", "near_image", "near_media", "hybrid", "bm25")


def make_hit(place: int, **metadata: Any) -> Any:
    value = properties_pb2.Value(text_value=TEXTS[place])
    fields = properties_pb2.Properties(fields={"text": value, "page": properties_pb2.Value(int_value=7 + place)})
    found = search_get_pb2.MetadataResult(id_as_bytes=UUID(IDS[place]).bytes, vector=VECTORS[place], **metadata)
    properties = search_get_pb2.PropertiesResult(non_ref_props=fields)
    return search_get_pb2.SearchResult(metadata=found, properties=properties)


FOUND = search_get_pb2.SearchReply(
    results=[make_hit(0, distance=0.01, distance_present=True), make_hit(1, distance=0.9, distance_present=True)]
)


class GrpcServer:
    """Answers each kind of request with what a test has set."""

    def __init__(self) -> None:
        self.search: Any = FOUND
        self.delay = 0.0
        self._server = grpc.server(ThreadPoolExecutor(2))
        replies = {
            "Search": (search_get_pb2.SearchRequest, self._reply_search),
            "BatchObjects": (batch_pb2.BatchObjectsRequest, lambda *_: batch_pb2.BatchObjectsReply()),
            "BatchDelete": (batch_delete_pb2.BatchDeleteRequest, self._reply_delete),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                reply, request_deserializer=request.FromString, response_serializer=lambda one: one.SerializeToString()
            )
            for name, (request, reply) in replies.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("weaviate.v1.Weaviate", handlers),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def _reply_search(self, _request: Any, context: Any) -> Any:
        if self.search is None:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "wrong dimension")
        return self.search

    def _reply_delete(self, _request: Any, _context: Any) -> Any:
        return batch_delete_pb2.BatchDeleteReply(matches=3, successful=3)

    def stop(self) -> None:
        self._server.stop(None).wait(10)


@pytest.fixture
def grpc_server() -> Iterator[GrpcServer]:
    server = GrpcServer()
    yield server
    server.stop()


def make_params(scripted: Any, server: GrpcServer) -> Any:
    port = int(scripted.base_url.rpartition(":")[2].removesuffix("/v1"))
    return ConnectionParams.from_params("127.0.0.1", port, False, "127.0.0.1", server.port, False)


@pytest.fixture
def collection(scripted: Any, grpc_server: GrpcServer) -> Iterator[Any]:
    scripted.reply({"version": "1.34.0", "modules": {}})
    with weaviate.WeaviateClient(make_params(scripted, grpc_server), skip_init_checks=True) as client:
        yield client.collections.use("docs")


class TestCollection(VectorCalls):
    span = "retrieval Docs"
    source = "Docs"
    first = IDS[0]
    fails = weaviate.exceptions.WeaviateQueryError
    system = "weaviate"
    has_distance = True
    writes = {  # noqa: RUF012  # as ClassVar in the base
        "insert Docs": ("insert", 1),
        "insert_many Docs": ("insert_many", 2),
        "delete Docs": ("delete", 3),
    }

    @pytest.fixture(autouse=True)
    def _collection(self, _trace_this_test: None, collection: Any, grpc_server: GrpcServer, scripted: Any) -> None:
        self.collection, self.server, self.scripted = collection, grpc_server, scripted

    def search(self, **more: Any) -> Any:
        self.server.search = FOUND
        asked = MetadataQuery(distance=True)
        return self.collection.query.near_vector(NEAR_FIRST, limit=2, return_metadata=asked, **more)

    def search_with_vectors(self) -> Any:
        return self.search(include_vector=True, filters=Filter.by_property("page").greater_than(1))

    def make_failing_call(self) -> Any:
        self.server.search = None
        return self.collection.query.near_vector([0.1], limit=2)

    def read_answer(self, answer: Any) -> Any:
        return [(one.uuid, one.properties) for one in answer.objects]

    def insert(self) -> None:
        self.scripted.clear()
        self.scripted.reply({"id": IDS[0]})
        self.collection.data.insert({"text": TEXTS[0]}, vector=VECTORS[0])

    def insert_many(self) -> None:
        self.collection.data.insert_many([{"text": text} for text in TEXTS])

    def delete(self) -> None:
        self.collection.data.delete_many(Filter.by_property("page").greater_than(1))

    def autolog(self, **options: Any) -> None:
        integrations.weaviate.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(_QueryCollection, name) for name in SEARCHES] + [(_DataCollection, "insert")]

    def check_disabled(self, function: Any) -> None:
        """What is patched are methods that the class inherits: without a patch it has none of its own."""
        super().check_disabled(function)
        assert not {*SEARCHES} & {*vars(_QueryCollection)}


@pytest.fixture
def traced(collection: Any, spans: Spans) -> Iterator[Any]:
    integrations.weaviate.autolog()
    yield collection
    integrations.weaviate.autolog(disable=True)


def test_searches_by_text(traced: Any, grpc_server: GrpcServer, spans: Spans) -> None:
    """A hybrid search may have both a text and a vector; its score is a number, and nothing else has to be there."""
    grpc_server.search = search_get_pb2.SearchReply(results=[make_hit(0, score=0.7, score_present=True)])
    traced.query.hybrid("a bridge", vector=NEAR_FIRST, limit=1, return_metadata=MetadataQuery(score=True))
    traced.query.near_text(["a bridge", "a tower"], limit=1)
    traced.query.bm25("a bridge")
    hybrid, by_text, by_words = map(read_attributes, spans.all)
    assert hybrid["gen_ai.retrieval.query.text"] == '{"query":"a bridge","vector":"[vector of 3 numbers]"}'
    assert hybrid["mlspan.vectors.dimension"] == 3
    assert round(read_documents(spans.all[0])[0]["score"], 3) == 0.7
    assert (by_text["gen_ai.retrieval.query.text"], by_words["db.operation.name"]) == ("a bridge\na tower", "bm25")
    assert "gen_ai.retrieval.top_k" not in by_words


def test_nothing_found_and_a_picture(traced: Any, grpc_server: GrpcServer, spans: Spans) -> None:
    """The data of a picture are no text."""
    grpc_server.search = search_get_pb2.SearchReply()
    traced.query.near_image("aGVsbG8gd29ybGQ=", limit=1)
    got = only(spans)
    assert (got["db.response.returned_rows"], read_documents(spans.one())) == (0, [])
    assert "aGVsbG8" not in json.dumps({name: str(value) for name, value in got.items()})


def test_an_asynchronous_client(scripted: Any, grpc_server: GrpcServer, spans: Spans) -> None:
    """Its span lasts until the answer has come, and holds it."""

    async def search() -> None:
        params = make_params(scripted, grpc_server)
        async with weaviate.WeaviateAsyncClient(params, skip_init_checks=True) as client:
            docs = client.collections.use("docs")
            await docs.query.near_vector(NEAR_FIRST, limit=2, return_metadata=MetadataQuery(distance=True))
            grpc_server.search = None
            with pytest.raises(weaviate.exceptions.WeaviateQueryError):
                await docs.generate.near_text("a bridge", single_prompt="say it", limit=2)

    scripted.reply({"version": "1.34.0", "modules": {}})
    integrations.weaviate.autolog()
    try:
        asyncio.run(search())
    finally:
        integrations.weaviate.autolog(disable=True)
    found, failed = spans.all
    assert [one["content"] for one in read_documents(found)] == TEXTS
    assert "WeaviateQueryError" in read_attributes(failed)["error.type"]
    assert (
        {"near_vector"} & {*vars(_QueryCollectionAsync)} == {*vars(_GenerateCollectionAsync)} & {"near_text"} == set()
    )
