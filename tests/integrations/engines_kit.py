"""What the tests of Elasticsearch and OpenSearch share: answers of one shape, from a server that a test scripts."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import pytest
from opentelemetry import trace
from vectors_kit import TEXTS, VECTORS, VectorCalls, read_attributes, read_documents

from mlspan import tracing
from mlspan.testing import contracts

METHODS = ("search", "index", "create", "update", "delete", "bulk", "delete_by_query")
HITS: Any = {
    "took": 1,
    "timed_out": False,
    "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
    "hits": {
        "total": {"value": 2, "relation": "eq"},
        "max_score": 0.99,
        "hits": [
            {"_index": "docs", "_id": "1", "_score": 0.99, "_source": {"text": TEXTS[0], "page": 7, "v": VECTORS[0]}},
            {"_index": "docs", "_id": "2", "_score": 0.35, "_source": {"text": TEXTS[1], "page": 8, "v": VECTORS[1]}},
        ],
    },
}
REFUSAL: Any = {"error": {"type": "illegal_argument_exception", "reason": "wrong dimension"}, "status": 400}
DONE: Any = {"_index": "docs", "_id": "1", "result": "created"}
BULK: Any = {"errors": False, "items": [{"index": {"_id": "1", "status": 201}}, {"index": {"_id": "2", "status": 201}}]}
HEADERS = {"X-Elastic-Product": "Elasticsearch", "Content-Type": "application/json"}


def describe_targets(targets: list[tuple[Any, str]]) -> list[tuple[object, ...]]:
    """Return what patched methods look like, but for their kind: theirs return coroutines, ours are such functions."""
    found = [getattr(owner, name) for owner, name in targets]
    return [(one.__name__, one.__doc__, inspect.signature(one)) for one in found]


class EngineCalls(VectorCalls):
    """Searches by vectors, which are recorded anywhere, and what is recorded inside of a trace only.

    Attributes:
        knn: the part of a search that holds a vector.
    """

    writes: ClassVar[dict[str, tuple[str, int | None]]] = {}
    knn: ClassVar[dict[str, Any]]
    client: Any

    def _describe_targets(self) -> list[tuple[object, ...]]:
        return describe_targets(self.list_targets())

    @pytest.fixture(autouse=True)
    def _client(self, _trace_this_test: None, scripted: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setenv("OTEL_PYTHON_INSTRUMENTATION_ELASTICSEARCH_ENABLED", "false")  # the client's own spans
        self.server = scripted
        self.client = self.make_client(str(scripted.base_url).removesuffix("/v1"))
        yield
        self.client.close()

    def make_client(self, url: str) -> Any:
        raise NotImplementedError

    def run_search(self, **body: Any) -> Any:
        """Search in the way of the client."""
        raise NotImplementedError

    def answer(self, what: Any, status: int = 200) -> None:
        self.server.clear()
        self.server.reply(what, status=status, headers=HEADERS)

    def search(self, **more: Any) -> Any:
        self.answer(HITS)
        return self.run_search(**self.knn, size=2, **more)

    def search_with_vectors(self) -> Any:
        return self.search()

    def make_failing_call(self) -> Any:
        self.answer(REFUSAL, status=400)
        return self.run_search(**self.knn)

    def read_answer(self, answer: Any) -> Any:
        return answer["hits"]

    def test_a_search_without_a_vector_belongs_to_a_trace(self) -> None:
        """These stores are used for much else: alone such a search is not recorded, inside of a trace it is."""
        self.answer(HITS)
        self.run_search(query={"match": {"text": "a bridge"}})
        assert self.spans.tree() == ""
        with tracing.span("answer"):
            self.run_search(query={"match": {"text": "a bridge"}})
        (span,) = self.spans.named("retrieval docs")
        assert read_attributes(span)["gen_ai.retrieval.query.text"] == '{"query":{"match":{"text":"a bridge"}}}'
        assert read_attributes(span)["gen_ai.retrieval.top_k"] == 10
        assert "mlspan.vectors.count" not in read_attributes(span)

    def test_a_text_that_the_server_turns_into_a_vector(self) -> None:
        """Its search is one by vectors as well."""
        self.answer(HITS)
        self.run_search(query={"bool": {"must": [{"semantic": {"field": "text", "query": "a bridge"}}]}})
        assert self.spans.tree() == "retrieval docs"

    def test_sums_are_no_search(self) -> None:
        """A request that wants no documents is none, even inside of a trace."""
        self.answer(HITS)
        with tracing.span("answer"):
            self.run_search(size=0, query={"match_all": {}})
        assert self.spans.tree() == "answer"

    def test_odd_hits(self) -> None:
        """A hit may lack its score, where it is sorted by something else, and what it holds; and there may be none."""
        self.answer({**HITS, "hits": {"hits": [{"_id": "1", "_score": None}, {"_id": 2, "fields": {"page": [7]}}]}})
        self.run_search(**self.knn)
        assert read_documents(self.check_span()) == [
            {"id": "1", "score": 0.0},
            {"id": "2", "score": 0.0, "metadata": {"page": [7]}},
        ]
        self.spans.clear()
        self.answer({"took": 1})  # a filter path may leave out everything
        self.run_search(**self.knn)
        assert read_documents(self.check_span()) == []

    def test_writes_are_counted(self) -> None:
        """Inside of a trace each is a span; alone none is one."""
        calls = self.list_writes()
        for call, answer, _ in calls.values():
            self.answer(answer)
            call()
        assert self.spans.tree() == ""
        for name, (call, answer, count) in calls.items():
            self.spans.clear()
            self.answer(answer)
            with tracing.span("answer"):
                call()
            (span,) = self.spans.named(name)
            got = read_attributes(span)
            assert (got["db.system.name"], got.get("mlspan.records.count")) == (self.system, count)
            assert not any(text in str(got) for text in TEXTS)

    def list_writes(self) -> dict[str, tuple[Any, Any, int | None]]:
        """Return calls that write, by the names of their spans, with what the server answers and their count."""
        raise NotImplementedError

    def test_the_server_is_told(self) -> None:
        self.search()
        assert read_attributes(self.check_span())["server.address"] == "127.0.0.1"
        assert not trace.get_current_span().get_span_context().is_valid


class AsyncEngineCalls(contracts.AsyncCallContract):
    """A search by a vector of an asynchronous client.

    Attributes:
        client_type: the client's class, which is given the address of the server.
        knn: the arguments of a search that holds a vector, besides the index.
    """

    span = "retrieval docs"
    texts = (TEXTS[0],)
    client_type: ClassVar[Any]
    knn: ClassVar[dict[str, Any]]

    @pytest.fixture(autouse=True)
    def _server(self, _trace_this_test: None, scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_PYTHON_INSTRUMENTATION_ELASTICSEARCH_ENABLED", "false")  # the client's own spans
        self.server = scripted

    def _describe_targets(self) -> list[tuple[object, ...]]:
        return describe_targets(self.list_targets())

    async def ask(self, answer: Any, **how: Any) -> Any:
        self.server.clear()
        self.server.reply(answer, headers=HEADERS, **how)
        async with self.client_type(str(self.server.base_url).removesuffix("/v1")) as client:
            return await client.search(index="docs", **self.knn)

    async def make_call(self) -> Any:
        return await self.ask(HITS)

    async def make_failing_call(self) -> Any:
        return await self.ask(REFUSAL, status=400)

    async def make_hanging_call(self) -> Any:
        return await self.ask(HITS, delay=0.6)

    def read_answer(self, answer: Any) -> Any:
        return answer["hits"]

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(self.client_type, name) for name in METHODS]
