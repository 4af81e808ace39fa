"""OpenSearch's clients, against a server that a test scripts."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("opensearchpy", reason="in the nox session vectors")
import opensearchpy
from engines_kit import BULK, DONE, METHODS, AsyncEngineCalls, EngineCalls
from opensearchpy import AsyncOpenSearch, OpenSearch, helpers
from vectors_kit import NEAR_FIRST, TEXTS, VECTORS

from mlspan import integrations

KNN: Any = {"query": {"knn": {"v": {"vector": NEAR_FIRST, "k": 2}}}}


class TestClient(EngineCalls):
    fails = opensearchpy.RequestError
    system = "opensearch"
    knn = KNN

    def make_client(self, url: str) -> Any:
        return OpenSearch(url)

    def run_search(self, **body: Any) -> Any:
        return self.client.search(index="docs", body=body)

    def list_writes(self) -> Any:
        actions = [{"_index": "docs", "_id": str(id), "text": text} for id, text in enumerate(TEXTS)]
        document = {"text": TEXTS[0], "vector": VECTORS[0]}
        return {
            "index docs": (lambda: self.client.index(index="docs", body=document), DONE, 1),
            "bulk": (lambda: helpers.bulk(self.client, actions), BULK, 2),
            "delete docs": (lambda: self.client.delete(index="docs", id="1"), DONE, 1),
            "delete_by_query docs": (
                lambda: self.client.delete_by_query(index="docs", body={"query": {"term": {"page": 7}}}),
                {"deleted": 3},
                3,
            ),
        }

    def autolog(self, **options: Any) -> None:
        integrations.opensearchpy.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(cls, name) for cls in (OpenSearch, AsyncOpenSearch) for name in METHODS]


class TestAsyncClient(AsyncEngineCalls):
    fails = opensearchpy.RequestError
    client_type = AsyncOpenSearch
    knn = {"body": KNN}  # noqa: RUF012  # as ClassVar in the base

    def autolog(self, **options: Any) -> None:
        integrations.opensearchpy.autolog(**options)
