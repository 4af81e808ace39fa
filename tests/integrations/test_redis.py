"""Redis's search and RedisVL's indexes, against a server that a test scripts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("redis.commands.search.commands", reason="in the nox session vectors")
import redis
import redis.asyncio
from redis.commands.search.commands import AsyncSearchCommands, SearchCommands
from redis.commands.search.query import Query
from redis_server import RedisServer
from vectors_kit import DIGITS, NEAR_FIRST, TEXTS, VECTORS, VectorCalls, only, read_attributes, read_documents

from mlspan import integrations, tracing
from mlspan.testing import Spans, contracts

BYTES = [np.array(vector, dtype=np.float32).tobytes() for vector in VECTORS]
NEAR = {"vec": np.array(NEAR_FIRST, dtype=np.float32).tobytes()}
HITS: Any = [
    2,
    "1",
    ["dist", "0.01", "text", TEXTS[0], "page", "7", "v", BYTES[0]],
    "2",
    ["dist", "0.9", "text", TEXTS[1], "page", "8", "v", BYTES[1]],
]
KNN = "(@page:[1 9])=>[KNN 2 @v $vec AS dist]"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    made = RedisServer()
    yield made
    made.stop()


class TestSearch(VectorCalls):
    fails = redis.ResponseError
    system = "redis"
    has_distance = True

    @pytest.fixture(autouse=True)
    def _client(self, _trace_this_test: None, server: RedisServer) -> Iterator[None]:
        self.server = server
        self.client = redis.Redis(port=server.port, protocol=2)
        yield
        self.client.close()

    def search(self, **more: Any) -> Any:
        self.server.search = HITS
        return self.client.ft("docs").search(Query(KNN).sort_by("dist").dialect(2), query_params=NEAR, **more)

    def search_with_vectors(self) -> Any:
        return self.search()

    def make_failing_call(self) -> Any:
        self.server.search = RuntimeError("ERR wrong dimension")
        return self.client.ft("docs").search(Query(KNN).dialect(2), query_params=NEAR)

    def read_answer(self, answer: Any) -> Any:
        return [vars(one) for one in answer.docs]

    def test_a_search_tells_what_it_has_found(self) -> None:
        """The size of a vector's numbers is not known, and so neither is its dimension."""
        type(self).has_vectors = False
        super().test_a_search_tells_what_it_has_found()
        got = read_attributes(self.spans.one())
        assert (got["mlspan.vectors.count"], "mlspan.vectors.dimension" in got) == (1, False)
        assert got["gen_ai.retrieval.query.text"] == json.dumps(
            {"query": KNN, "vectors": ["[12 bytes]"]}, separators=(",", ":")
        )
        assert read_documents(self.spans.one())[0]["metadata"] == {"page": "7"}
        assert got["server.port"] == self.server.port

    def autolog(self, **options: Any) -> None:
        integrations.redis.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(cls, "search") for cls in (SearchCommands, AsyncSearchCommands)]


class TestAsyncSearch(contracts.AsyncCallContract):
    span = "retrieval docs"
    texts = (TEXTS[0],)
    fails = redis.ResponseError

    @pytest.fixture(autouse=True)
    def _server(self, _trace_this_test: None, server: RedisServer) -> None:
        self.server = server

    async def ask(self, answer: Any, delay: float = 0) -> Any:
        self.server.search, self.server.delay = answer, delay
        async with redis.asyncio.Redis(port=self.server.port, protocol=2) as client:
            return await client.ft("docs").search(Query(KNN).dialect(2), query_params=NEAR)

    async def make_call(self) -> Any:
        return await self.ask(HITS)

    async def make_failing_call(self) -> Any:
        return await self.ask(RuntimeError("ERR wrong dimension"))

    async def make_hanging_call(self) -> Any:
        return await self.ask(HITS, delay=0.6)

    def read_answer(self, answer: Any) -> Any:
        return [vars(one) for one in answer.docs]

    def autolog(self, **options: Any) -> None:
        integrations.redis.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(AsyncSearchCommands, "search")]


@pytest.fixture
def traced(server: RedisServer, spans: Spans) -> Iterator[Any]:
    integrations.redis.autolog()
    with redis.Redis(port=server.port, protocol=2) as client:
        yield client
    integrations.redis.autolog(disable=True)


def test_a_search_without_a_vector_belongs_to_a_trace(traced: Any, server: RedisServer, spans: Spans) -> None:
    """Redis is used for much else: alone such a search is not recorded, inside of a trace it is."""
    server.search = [1, "1", ["text", TEXTS[0]]]
    traced.ft("docs").search("bridge")
    assert spans.tree() == ""
    with tracing.span("answer"):
        traced.ft("docs").search(Query("bridge").paging(0, 3))
    (span,) = spans.named("retrieval docs")
    got = read_attributes(span)
    assert (got["gen_ai.retrieval.query.text"], got["gen_ai.retrieval.top_k"]) == ("bridge", 3)
    assert read_documents(span) == [{"id": "1", "score": 0.0, "content": TEXTS[0]}]


@pytest.mark.parametrize(
    ("query", "field", "number"),
    [
        ("*=>[KNN $k @v $vec]", "__v_score", 5),
        ("@v:[VECTOR_RANGE 0.5 $vec]=>{$YIELD_DISTANCE_AS: far}", "far", 10),
        ("*=>[KNN 2 @v $vec EF_RUNTIME 9 AS score]", "score", 2),
    ],
)
def test_ways_to_name_a_distance(
    traced: Any, server: RedisServer, spans: Spans, query: str, field: str, number: int
) -> None:
    """It is named in the query, or after the field of the vector."""
    server.search = [1, "1", [field, "0.25"]]
    traced.ft("docs").search(Query(query).dialect(2), query_params={**NEAR, "k": 5})
    assert read_documents(spans.one()) == [{"id": "1", "score": 0.75, "distance": 0.25}]
    assert only(spans)["gen_ai.retrieval.top_k"] == number


def test_json_documents_and_odd_fields(traced: Any, server: RedisServer, spans: Spans) -> None:
    """A JSON document is a text with its vector; a second vector of a hash is no text; a distance may be missing."""
    stored = json.dumps({"text": TEXTS[0], "v": VECTORS[0]})
    server.search = [3, "1", ["$", stored], "2", ["w", b"\x00\x01ab"], "3", ["dist", "none"]]
    traced.ft("docs").search(Query(KNN).dialect(2), query_params=NEAR)
    json_one, binary, bare = read_documents(spans.one())
    assert (json_one["content"], json_one["metadata"]) == (TEXTS[0], {"v": "[vector of 3 numbers]"})
    assert (binary["metadata"], bare) == ({"w": "[bytes]"}, {"id": "3", "score": 0.0})
    assert not any(digits in str(only(spans)) for digits in DIGITS)


def test_nothing_found_and_a_pipeline(traced: Any, server: RedisServer, spans: Spans) -> None:
    """What a pipeline collects is not asked yet."""
    server.search = [0]
    traced.ft("docs").search(Query(KNN).dialect(2), query_params=NEAR)
    assert only(spans)["db.response.returned_rows"] == 0
    spans.clear()
    pipeline = traced.ft("docs").pipeline()
    pipeline.search(Query(KNN).dialect(2), query_params=NEAR)
    assert spans.tree() == ""


def test_indexes_of_redisvl(traced: Any, server: RedisServer, spans: Spans) -> None:
    """What is loaded and dropped is counted, and a query is one span."""
    index = pytest.importorskip("redisvl.index")
    from redisvl.query import VectorQuery

    attributes = {"dims": 3, "distance_metric": "cosine", "algorithm": "flat", "datatype": "float32"}
    fields = [{"name": "text", "type": "text"}, {"name": "v", "type": "vector", "attrs": attributes}]
    schema = {"index": {"name": "docs", "prefix": "docs"}, "fields": fields}
    docs = index.SearchIndex.from_dict(schema, redis_client=traced)
    docs.load([{"text": text, "v": data} for text, data in zip(TEXTS, BYTES, strict=True)])
    docs.drop_keys(["docs:1", "docs:2"])
    server.search = [1, "docs:1", ["vector_distance", "0.25", "text", TEXTS[0]]]
    docs.query(VectorQuery(NEAR_FIRST, "v", num_results=2, return_fields=["text"]))
    assert spans.tree() == "load docs\ndelete docs\nretrieval docs"
    load, drop, search = spans.all
    assert [read_attributes(span)["mlspan.records.count"] for span in (load, drop)] == [2, 2]
    assert read_documents(search) == [{"id": "docs:1", "score": 0.75, "distance": 0.25, "content": TEXTS[0]}]
    assert read_attributes(search)["gen_ai.retrieval.top_k"] == 2


def test_an_asynchronous_index_of_redisvl(server: RedisServer, spans: Spans) -> None:
    index = pytest.importorskip("redisvl.index")
    schema = {"index": {"name": "docs", "prefix": "docs"}, "fields": [{"name": "text", "type": "text"}]}

    async def load() -> None:
        async with redis.asyncio.Redis(port=server.port, protocol=2) as client:
            docs = index.AsyncSearchIndex.from_dict(schema, redis_client=client)
            await docs.load([{"text": TEXTS[0]}])

    integrations.redis.autolog()
    try:
        asyncio.run(load())
    finally:
        integrations.redis.autolog(disable=True)
    assert (spans.tree(), only(spans)["mlspan.records.count"]) == ("load docs", 1)
