"""Totals that SQL makes are the very same as those of reading each span, over stores of random traces."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from servers.postgres import connect, postgres, require_postgres

from mlspan.cli import sql_sums
from mlspan.cli.common import CommandFailure
from mlspan.cli.opening import open_reader
from mlspan.cli.outlines import AlikeTraces, TraceOutline
from mlspan.cli.places import StoreLocation
from mlspan.cli.reading import EVERYTHING, TraceFilter, TraceReader
from mlspan.cli.reading_ahead import read_ahead
from mlspan.cli.sql_databases import SqliteDatabase
from mlspan.cli.sql_pages import iterate_slices
from mlspan.cli.sql_reader import SqlReader
from mlspan.cli.trace_totals import ALL_GROUPS, DEFAULT_GROUPS, Group, TraceStats

mlflow = pytest.importorskip("mlflow")

HOUR = 3_600_000  # milliseconds
ODD_NAMES = (
    *("chat a", "execute_tool b", "", "it's", "a,b", "Ä ? %s"),
    *("a\x1fb", "a\x1eb", "a\x1db", "a\x1f\x1e0", "x\x1f\x1f\x1eTOOL\x1fy"),
)
TYPES = ("CHAT_MODEL", "LLM", "EMBEDDING", "TOOL", "AGENT", "WORKFLOW", "CHAIN", None)
MODELS = ("gpt-4o", "gpt-4o-mini", "", 7, None)

Insert = Callable[[str, dict[str, Any]], None]


def pick_parent(drawn: random.Random, ids: list[str], own: str) -> str | None:
    """Return an earlier span, mostly; or none, itself, or one that is not there."""
    if not ids or drawn.random() < 0.03:
        return drawn.choice([None, None, None, "", own, "f" * 16]) if drawn.random() < 0.3 else None
    return drawn.choice(ids[:2] if drawn.random() < 0.7 else ids)


def insert_span(drawn: random.Random, insert: Insert, trace_id: str, ids: list[str], at: int) -> None:
    """Insert a span with whatever a span may have."""
    own = f"{drawn.getrandbits(64):016x}"
    kind, model = drawn.choice(TYPES), drawn.choice(MODELS)
    sent, cost = drawn.choice([None, 0, 10]), drawn.choice([None, 0.25, float("nan")])
    attributes: dict[str, Any] = {
        "mlflow.spanType": kind,
        drawn.choice(["mlflow.llm.model", "gen_ai.request.model"]): model,
    }
    attributes["mlflow.chat.tokenUsage"] = None if sent is None else {"input_tokens": sent, "output_tokens": 3}
    attributes["mlflow.llm.cost"] = None if cost is None else {"total_cost": cost}
    stored = {name: json.dumps(value) for name, value in attributes.items() if value is not None}
    failed = drawn.random() < 0.1
    if failed:
        stored["error.type"] = json.dumps(drawn.choice(["ValueError", "http.Timeout"]))
    named = attributes.get("mlflow.llm.model")
    content = {
        "attributes": stored,
        "events": [],
        "status": {"code": "STATUS_CODE_ERROR" if failed else "STATUS_CODE_OK", "message": ""},
    }
    took = drawn.choice([None, 0, 1, drawn.randrange(10**10)])
    insert(
        "spans",
        {
            "trace_id": trace_id,
            "experiment_id": 0,
            "span_id": own,
            "parent_span_id": pick_parent(drawn, ids, own),
            "name": drawn.choice(ODD_NAMES) if drawn.random() < 0.3 else "step",
            "type": kind,
            "status": "ERROR" if failed else "OK",
            "start_time_unix_nano": at,
            "end_time_unix_nano": None if took is None else at + took,
            "content": json.dumps(content),
            "model_name": named if isinstance(named, str) and drawn.random() < 0.7 else None,
        },
    )
    ids.append(own)


def insert_trace(drawn: random.Random, insert: Insert, number: int) -> None:
    """Insert a trace with a few spans, in any tree."""
    trace_id, at = f"tr-{drawn.getrandbits(128):032x}", 1_767_225_600_000 + drawn.randrange(20) * HOUR // 2
    insert(
        "trace_info",
        {
            "request_id": trace_id,
            "experiment_id": 0,
            "timestamp_ms": at,
            "execution_time_ms": drawn.choice([None, 0, drawn.randrange(10_000)]),
            "status": drawn.choice(["OK", "ERROR", "IN_PROGRESS"]),
            "session_id": drawn.choice([None, "s1", "s 2"]),
            "input_tokens": drawn.choice([None, 0, 50]),
            "output_tokens": drawn.choice([None, 20]),
            "total_tokens": drawn.choice([None, 70]),
            "total_cost": drawn.choice([None, 0.125, 1e-7]),
            "db_payload_generation": 1,
        },
    )
    tags = {"mlflow.trace.spansLocation": "TRACKING_STORE", "mlflow.other": "x"}
    tags |= {name: drawn.choice(["a", "b=c"]) for name in ("team", "MLFLOW.x") if drawn.random() < 0.5}
    tags |= {"mlflow.sourceRun": "r1"} if drawn.random() < 0.2 else {}
    metadata = {"mlflow.trace.user": drawn.choice(["ada", ""]), "mlflow.sourceRun": drawn.choice(["", "r2"])}
    for table, pairs in (("trace_tags", tags), ("trace_request_metadata", metadata)):
        for key, value in pairs.items():
            if drawn.random() < 0.8 or key.endswith("Location"):
                insert(table, {"request_id": trace_id, "key": key, "value": value})
    ids: list[str] = []
    for step in range(drawn.choice([0, 1, 2, 3, 3, 4, 6]) if number % 3 else drawn.choice([1, 2])):
        insert_span(drawn, insert, trace_id, ids, at * 1_000_000 + step // 2)


def fill_sqlite(file: Path, seed: int, traces: int) -> None:
    """Insert random traces into an SQLite database."""
    with closing(sqlite3.connect(file)) as database, database:
        fill_store(lambda query, values: database.execute(query.replace("%s", "?"), values), seed, traces)


def fill_store(execute: Callable[[str, list[Any]], object], seed: int, traces: int) -> None:
    def insert(table: str, row: dict[str, Any]) -> None:
        execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})", list(row.values()))

    drawn = random.Random(seed)
    for number in range(traces):
        insert_trace(drawn, insert, number)


@pytest.fixture
def file(_template_store: Path, tmp_path: Path) -> Path:
    """An empty database of MLflow's."""
    return Path(shutil.copy(_template_store, tmp_path / "mlflow.db"))


@pytest.fixture(scope="module")
def reader(_template_store: Path, tmp_path_factory: pytest.TempPathFactory) -> SqlReader:
    """The reader of a store of random traces."""
    file = tmp_path_factory.mktemp("sums") / "mlflow.db"
    shutil.copy(_template_store, file)
    fill_sqlite(file, 7, 600)
    return open_store(f"sqlite:///{file}")


@pytest.fixture(scope="module")
def outlines(reader: SqlReader) -> list[TraceOutline | AlikeTraces]:
    """What reading each span tells of that store."""
    return list(TraceReader.iterate_outlines(reader))


def open_store(uri: str) -> SqlReader:
    found = open_reader(StoreLocation(uri, None))
    assert isinstance(found, SqlReader)
    return found


def add_up(
    reader: TraceReader, found: Iterator[TraceOutline | AlikeTraces], groups: tuple[Group, ...], every: int | None
) -> tuple[dict[str, dict[str, dict[str, Any]]], int]:
    """Return all rows, by group and name, and how many traces were added with others that are alike."""
    totals, alike = TraceStats(groups, every, reader.experiments), 0
    for one in found:
        if isinstance(one, TraceOutline):
            totals.add_trace(one)
        else:
            totals.add_alike(one)
            alike += len(one.traces)
    rows = {"all": [totals.traces], "every": list(totals.intervals.values()), **totals.rows_by_group}
    described = {
        group: {row.name: {**row.to_json_object(), "priced": row.priced_calls} for row in some}
        for group, some in rows.items()
    }
    return described, alike


def compare_totals(
    reader: SqlReader,
    where: TraceFilter,
    groups: tuple[Group, ...],
    every: int | None,
    outlines: list[TraceOutline | AlikeTraces] | None = None,
) -> int:
    """Compare both ways, and return how many traces were added with others. *outlines* are those of reading all."""
    quick, alike = add_up(reader, reader.iterate_outlines(where, groups), groups, every)
    read = iter(outlines) if outlines else TraceReader.iterate_outlines(reader, where, groups)
    slow, none = add_up(reader, read, groups, every)
    assert none == 0
    assert quick.keys() == slow.keys()
    for group, rows in slow.items():
        assert quick[group].keys() == rows.keys()
        for name, row in rows.items():
            told = quick[group][name]
            cost = row.pop("cost_usd") or 0.0
            assert (told.pop("cost_usd") or 0.0) == pytest.approx(cost, rel=1e-12)  # added in another order
            assert told == row, (group, name)
    return alike


@pytest.mark.parametrize("every", [None, HOUR])
@pytest.mark.parametrize("groups", [DEFAULT_GROUPS, ALL_GROUPS, *((group,) for group in ALL_GROUPS)])
def test_sums_are_those_of_reading(
    groups: tuple[Group, ...], every: int | None, reader: SqlReader, outlines: list[TraceOutline | AlikeTraces]
) -> None:
    """Each group by itself, the usual ones, and all; whole and by hours. Many traces are added at once."""
    assert compare_totals(reader, EVERYTHING, groups, every, outlines) > 100


@pytest.mark.parametrize(
    "where", [TraceFilter(status="ERROR"), TraceFilter(session="s1"), TraceFilter(since_ms=1_767_225_600_000 + HOUR)]
)
def test_with_a_filter(where: TraceFilter, reader: SqlReader) -> None:
    """Sums are of what the filter lets through."""
    assert 0 < compare_totals(reader, where, ALL_GROUPS, None) < 600


def test_many_shapes_are_forgotten(reader: SqlReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store in which no two traces are alike takes no more memory, and gives the same."""
    monkeypatch.setattr(sql_sums, "_MOST_SHAPES", 3)
    compare_totals(reader, EVERYTHING, DEFAULT_GROUPS, None)


def test_an_older_schema(file: Path) -> None:
    """Without columns for a trace's tokens and cost and a span's model, which are in metadata and content then."""
    fill_sqlite(file, 8, 200)
    with closing(sqlite3.connect(file)) as database, database:
        for index in ("index_trace_info_experiment_id_session_id", "idx_spans_cost_trace_time_cover"):
            database.execute(f"DROP INDEX IF EXISTS {index}")
        named = "mlflow.trace.tokenUsage"
        usage = "'{\"input_tokens\": ' || input_tokens || ', \"output_tokens\": 3}'"
        database.execute(
            f"INSERT INTO trace_request_metadata (key, value, request_id) SELECT '{named}', {usage}, request_id "
            "FROM trace_info WHERE input_tokens IS NOT NULL"
        )
        for column in ("trace_name", "session_id", "input_tokens", "output_tokens", "total_tokens", "total_cost"):
            database.execute(f"ALTER TABLE trace_info DROP COLUMN {column}")
        database.execute("ALTER TABLE spans RENAME COLUMN model_name TO model_names")
    assert compare_totals(open_store(f"sqlite:///{file}"), EVERYTHING, ALL_GROUPS, HOUR) > 30


@pytest.mark.skipif(os.environ.get("MLSPAN_WIDE") != "1", reason="make matrix runs it")
def test_postgresql() -> None:
    """The same there."""
    require_postgres()
    with postgres() as (address, _):
        uri = f"{address}/postgres"
        mlflow.MlflowClient(uri).search_experiments()  # makes the tables
        with closing(connect(uri)) as connection:
            with connection, connection.cursor() as cursor:
                fill_store(cursor.execute, 9, 300)
                cursor.execute("UPDATE trace_info SET total_cost = 'NaN' WHERE total_cost = 1e-7")
        reader = open_store(uri)
        for groups in (DEFAULT_GROUPS, ALL_GROUPS):
            assert compare_totals(reader, EVERYTHING, groups, HOUR) > 50


def test_the_next_pages_are_read_meanwhile() -> None:
    """Each page arrives once and in order, an error in its place, and who stops early leaves no thread behind."""
    reading, before = threading.Barrier(2), set(threading.enumerate())

    def read_together(page: int) -> int:
        reading.wait(60)  # breaks unless both are read at once
        return page

    def fail() -> int:
        raise CommandFailure("the store is away")

    pages = read_ahead([partial(read_together, 1), partial(read_together, 2), fail], threads=2)
    assert (next(pages), next(pages)) == (1, 2)
    with pytest.raises(CommandFailure, match="the store is away"):
        next(pages)
    early = read_ahead((partial(int, page) for page in range(100)), threads=2)
    assert next(early) == 0
    early.close()
    assert list(read_ahead([partial(int, page) for page in range(5)], threads=3)) == [0, 1, 2, 3, 4]
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("size", [1, 2, 7, 50, 1000])
def test_each_trace_is_in_one_slice(size: int, file: Path) -> None:
    """Also where many began in one millisecond, and where others land between two slices, newer and older ones."""
    fill_sqlite(file, 9, 200)
    reader = open_store(f"sqlite:///{file}")
    times: dict[str, int] = dict(reader._database.select("SELECT request_id, timestamp_ms FROM trace_info"))
    where = TraceFilter(since_ms=min(times.values()), until_ms=max(times.values()))
    wanted = {trace for trace, time in times.items() if time < max(times.values())}
    found: list[str] = []
    slices = []
    for number, one in enumerate(iterate_slices(reader._database, where, reader.experiments, reader._columns, size)):
        slices.append(one)
        found += [str(row[0]) for row in reader._database.select_at_once(*reader._make_query(one, ["t.request_id"]))]
        fill_sqlite(file, 100 + number, 3)
    assert all(one.since_ms is not None and one.until_ms is not None for one in slices)
    assert [one.until_ms for one in slices[1:]] == [one.since_ms for one in slices[:-1]]
    assert len(found) == len(set(found)) == len(wanted | set(found))
    assert len(slices) == 1 or size < 200


def test_a_store_with_no_more_connections(reader: SqlReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read with the one that there is."""

    def refuse(_: object) -> None:
        raise CommandFailure("too many clients")

    monkeypatch.setattr(SqliteDatabase, "open_another", refuse)
    assert compare_totals(reader, EVERYTHING, DEFAULT_GROUPS, None) > 100
