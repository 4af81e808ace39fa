"""Elasticsearch's clients, against a server that a test scripts."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("elasticsearch", reason="in the nox session vectors")
import elasticsearch
from elasticsearch import AsyncElasticsearch, Elasticsearch, helpers
from engines_kit import BULK, DONE, HITS, METHODS, AsyncEngineCalls, EngineCalls
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from vectors_kit import NEAR_FIRST, TEXTS, VECTORS, read_attributes

from mlspan import integrations, tracing

KNN: Any = {"knn": {"field": "v", "query_vector": NEAR_FIRST, "k": 2, "num_candidates": 10}}


class TestClient(EngineCalls):
    fails = elasticsearch.BadRequestError
    system = "elasticsearch"
    knn = KNN

    def make_client(self, url: str) -> Any:
        return Elasticsearch(url)

    def run_search(self, **body: Any) -> Any:
        return self.client.search(index="docs", **body)

    def list_writes(self) -> Any:
        actions = [{"_index": "docs", "_id": str(id), "text": text} for id, text in enumerate(TEXTS)]
        document = {"text": TEXTS[0], "vector": VECTORS[0]}
        return {
            "index docs": (lambda: self.client.index(index="docs", document=document), DONE, 1),
            "bulk": (lambda: helpers.bulk(self.client, actions), BULK, 2),
            "delete docs": (lambda: self.client.delete(index="docs", id="1"), DONE, 1),
            "delete_by_query docs": (
                lambda: self.client.delete_by_query(index="docs", query={"term": {"page": 7}}),
                {"deleted": 3},
                3,
            ),
        }

    def test_a_search_by_its_body(self) -> None:
        """The parts of a request may stand in a body as well."""
        self.answer(HITS)
        self.client.search(index=["docs", "more"], body={**KNN, "size": 2})
        span = self.spans.one()
        got = read_attributes(span)
        assert (span.name, got["mlspan.vectors.dimension"], got["gen_ai.retrieval.top_k"]) == (
            "retrieval docs,more",
            3,
            2,
        )

    def test_the_clients_own_span_is_held_back(self) -> None:
        """It stands for the same request; what is not recorded here keeps it."""
        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        self.client._otel.enabled, self.client._otel.tracer = True, provider.get_tracer("elasticsearch-api")
        self.search()
        assert [span.name for span in exporter.get_finished_spans()] == []
        self.client.count(index="docs")
        self.run_search(query={"match_all": {}})
        assert [span.name for span in exporter.get_finished_spans()] == ["count", "search"]
        with tracing.span("answer"):
            self.answer(BULK)
            helpers.bulk(self.client, [{"_index": "docs", "text": TEXTS[0]}])
        assert len(self.spans.named("bulk")) == 1
        assert [span.name for span in exporter.get_finished_spans()][2:] in ([], ["helpers.bulk"])  # by version

    def autolog(self, **options: Any) -> None:
        integrations.elasticsearch.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(cls, name) for cls in (Elasticsearch, AsyncElasticsearch) for name in METHODS]


class TestAsyncClient(AsyncEngineCalls):
    fails = elasticsearch.BadRequestError
    client_type = AsyncElasticsearch
    knn = KNN

    def autolog(self, **options: Any) -> None:
        integrations.elasticsearch.autolog(**options)
