"""LanceDB's tables in a folder: searches by vector, text and both, sync and async, and writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("lancedb", reason="in the nox session vectors")
import lancedb
import pyarrow as pa
from lancedb.merge import LanceMergeInsertBuilder
from lancedb.query import (
    AsyncQueryBase,
    LanceFtsQueryBuilder,
    LanceHybridQueryBuilder,
    LanceVectorQueryBuilder,
    MatchQuery,
)
from lancedb.table import AsyncTable, LanceTable
from vectors_kit import NEAR_FIRST, TEXTS, VECTORS, VectorCalls, only, read_attributes, read_documents

from mlspan import integrations
from mlspan.testing import Spans

ROWS = [
    {"id": id, "vector": vector, "text": text, "page": id + 6}
    for id, vector, text in zip((1, 2), VECTORS, TEXTS, strict=True)
]


@pytest.fixture
def table(tmp_path: Path) -> Any:
    return lancedb.connect(tmp_path / "lance").create_table("docs", ROWS)


class TestTable(VectorCalls):
    fails: Any = (ValueError, RuntimeError)  # by version
    system = "lancedb"
    has_distance = True
    writes = {  # noqa: RUF012  # as ClassVar in the base
        "add docs": ("add", 2),
        "merge_insert docs": ("merge", 1),
        "update docs": ("update", 1),
        "delete docs": ("delete", 1),
    }

    @pytest.fixture(autouse=True)
    def _table(self, _trace_this_test: None, table: Any) -> None:
        self.table = table
        self.spans.clear()

    def search(self, **more: Any) -> Any:
        return self.table.search(NEAR_FIRST, **more).limit(2).to_list()

    def search_with_vectors(self) -> Any:
        return self.table.search(np.array(NEAR_FIRST)).limit(2).select(["vector", "text"]).to_pandas()

    def make_failing_call(self) -> Any:
        return self.table.search(NEAR_FIRST).where("unknown < 9").to_list()

    def add(self) -> None:
        self.table.add(pa.table({name: [row[name] for row in ROWS] for name in ROWS[0]}, self.table.schema))

    def merge(self) -> None:
        self.table.merge_insert("text").when_not_matched_insert_all().execute([{**ROWS[0], "text": "a fish"}])

    def update(self) -> None:
        self.table.update(where="text = 'a fish'", values={"page": 9})

    def delete(self) -> None:
        self.table.delete("text = 'a fish'")

    def test_writes_are_counted(self) -> None:
        super().test_writes_are_counted()
        assert self.table.count_rows() == 4

    def autolog(self, **options: Any) -> None:
        integrations.lancedb.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        queries = (AsyncQueryBase, LanceFtsQueryBuilder, LanceHybridQueryBuilder, LanceVectorQueryBuilder)
        writes = [(cls, name) for cls in (AsyncTable, LanceTable) for name in ("add", "delete", "update")]
        return [*((cls, "to_arrow") for cls in queries), (LanceMergeInsertBuilder, "execute"), *writes]


@pytest.fixture
def traced(table: Any, spans: Spans) -> Any:
    try:
        table.create_index("text", config=lancedb.index.FTS())
    except TypeError:  # older versions have a method of its own for it
        table.create_fts_index("text", use_tantivy=False)
    integrations.lancedb.autolog()
    yield table
    integrations.lancedb.autolog(disable=True)


def test_a_search_by_text(traced: Any, spans: Spans) -> None:
    """It has a score, and no distance."""
    traced.search("bridge", query_type="fts").limit(2).to_list()
    got = only(spans)
    assert got["gen_ai.retrieval.query.text"] == "bridge"
    (found,) = read_documents(spans.one())
    assert (found["id"], found["content"], found["metadata"]) == ("1", TEXTS[0], {"id": 1, "page": 7})
    assert found["score"] > 0
    assert "distance" not in found


def test_a_hybrid_search_is_one_span(traced: Any, spans: Spans) -> None:
    """Its two searches run in threads of their own, and are a part of it."""
    traced.search(query_type="hybrid").vector(NEAR_FIRST).text("bridge").where("page < 9").limit(2).to_list()
    got = only(spans)
    assert got["gen_ai.retrieval.query.text"] == '{"text":"bridge","vector":"[vector of 3 numbers]"}'
    assert (got["gen_ai.retrieval.top_k"], got["mlspan.retrieval.filter"]) == (2, "page < 9")
    assert read_documents(spans.one())[0]["id"] == "1"


def test_rows_that_are_read_are_no_search(traced: Any, spans: Spans) -> None:
    """A table may be read by a filter alone, or in batches, which stay what Arrow makes of them."""
    traced.search().where("page = 7").to_list()
    batches = traced.search(NEAR_FIRST).to_batches()
    assert isinstance(batches, pa.RecordBatchReader)
    assert batches.read_all().num_rows == 2
    assert spans.tree() == ""


def test_nothing_found(traced: Any, spans: Spans) -> None:
    """An empty table of results is an answer; without a column of ids a row has the id that was asked for, if any."""
    traced.search(NEAR_FIRST).where("page = 99").to_list()
    assert (only(spans)["db.response.returned_rows"], read_documents(spans.one())) == (0, [])
    spans.clear()
    traced.search(NEAR_FIRST).select(["page"]).limit(1).to_list()
    (found,) = read_documents(spans.one())
    assert (found["id"], found["metadata"]) == ("", {"page": 7})


ASYNC: dict[str, Callable[[Any], Any]] = {
    "vector": lambda table: table.query().nearest_to(NEAR_FIRST).limit(2).to_list(),
    "text": lambda table: table.query().nearest_to_text("bridge").limit(2).to_arrow(),
    "match": lambda table: table.query().nearest_to_text(MatchQuery("bridge", "text")).limit(2).to_list(),
    "hybrid": lambda table: table.query().nearest_to(NEAR_FIRST).nearest_to_text("bridge").limit(2).to_pandas(),
}


@pytest.mark.parametrize("kind", ASYNC)
def test_asynchronous_searches(traced: Any, spans: Spans, tmp_path: Path, kind: str) -> None:
    """Each is one span, whichever way its result is taken."""

    async def search() -> None:
        table = await (await lancedb.connect_async(tmp_path / "lance")).open_table("docs")
        await ASYNC[kind](table)

    asyncio.run(search())
    got = only(spans)
    assert read_documents(spans.one())[0]["id"] == "1"
    assert got["gen_ai.data_source.id"] == "docs"
    assert ("mlspan.vectors.dimension" in got) == (kind in {"vector", "hybrid"})
    assert ("bridge" in got.get("gen_ai.retrieval.query.text", "")) == (kind != "vector")


def test_asynchronous_writes(traced: Any, spans: Spans, tmp_path: Path) -> None:
    async def write() -> None:
        table = await (await lancedb.connect_async(tmp_path / "lance")).open_table("docs")
        await table.add(ROWS)
        await table.delete("page = 7")

    asyncio.run(write())
    assert spans.tree() == "add docs\ndelete docs"
    assert [read_attributes(span).get("mlspan.records.count") for span in spans.all] == [2, 2]
