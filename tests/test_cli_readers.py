"""The two readers of a store tell the same, and a command imports no more than it needs."""

from __future__ import annotations

import inspect
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import get_current_span
from servers.postgres import connect, postgres, require_postgres

from mlspan import tracing
from mlspan.cli import mlflow_reader, model, sql_databases, sql_reader
from mlspan.cli.commands import COMMANDS, load_command
from mlspan.cli.common import CommandFailure
from mlspan.cli.mlflow_reader import MlflowReader
from mlspan.cli.opening import open_reader
from mlspan.cli.outlines import TraceOutline
from mlspan.cli.places import StoreLocation
from mlspan.cli.reading import EVERYTHING, TraceFilter, TraceReader
from mlspan.cli.sql_reader import SqlReader
from mlspan.cli.trace_totals import ALL_GROUPS, Group, StatsRow, TraceStats

mlflow = pytest.importorskip("mlflow")


OPEN_ONE = """
UPDATE trace_info SET status = 'IN_PROGRESS', execution_time_ms = NULL WHERE request_id =
(SELECT request_id FROM trace_info WHERE experiment_id = 0 ORDER BY timestamp_ms LIMIT 1)
"""


@pytest.fixture(scope="module")
def store(_template_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with traces of every kind."""
    file = tmp_path_factory.mktemp("readers") / "mlflow.db"
    shutil.copy(_template_store, file)
    fill_store(f"sqlite:///{file}")
    with sqlite3.connect(file) as database:
        database.execute(OPEN_ONE)
    return f"sqlite:///{file}"


def fill_store(uri: str) -> None:
    """Store traces of every kind: runs, links, sessions, tags, feedback, errors, odd text."""
    client = mlflow.MlflowClient(uri)
    other = client.create_experiment("other")
    run = client.create_run(other, run_name='it\'s a "run"')
    for experiment, run_id in (("0", None), (other, run.info.run_id)):
        tracing.configure(tracking_uri=uri, experiment=experiment, run=run_id)
        record_traces(experiment)
        assert tracing.flush(60)
        tracing.shutdown()
    tracing.configure()  # later tests record again
    client.set_terminated(run.info.run_id)
    linked = client.search_traces(locations=["0"], max_results=1)[0].info.trace_id
    client.link_traces_to_run([linked], run.info.run_id)


def record_traces(experiment: str) -> None:
    for number in range(5):
        with tracing.session(f"s{number % 2}"), tracing.user("ada"), tracing.tags(team=f"té{number}"):
            with tracing.span(f"agent {number}", kind="agent", input={"q": "Is\nit \x1b[31msunny?"}) as outer:
                with tracing.span("call", kind="chat") as chat:
                    usage = {"input_tokens": 10 + number, "output_tokens": number}
                    named = {f"gen_ai.usage.{name}": count for name, count in usage.items()}
                    get_current_span().set_attributes({**named, "gen_ai.request.model": "gpt-4o-mini"})
                    chat.output = "yes, it is"
                outer.output = [1, None, {"a": float("inf")}]
    with pytest.raises(ValueError, match="no"), tracing.span(f"failing {experiment}"):
        raise ValueError("no such thing")


def open_both(store: str, experiment: str | None = None) -> tuple[TraceReader, TraceReader]:
    place = StoreLocation(store, experiment)
    fast = open_reader(place)
    assert isinstance(fast, SqlReader)
    return fast, MlflowReader(place)


def describe(trace: model.StoredTrace) -> dict[str, Any]:
    return {**model.trace_to_json(trace), "spans": model.spans_to_json(trace)}


FILTERS = {
    "everything": EVERYTHING,
    "a session": TraceFilter(session="s1"),
    "no such session": TraceFilter(session="' OR 1"),
    "errors": TraceFilter(status="ERROR"),
    "open": TraceFilter(status="IN_PROGRESS"),
    "since": TraceFilter(since_ms=1),
    "until": TraceFilter(until_ms=1),
    "an id": TraceFilter(id_prefix="tr-0"),
}


@pytest.mark.parametrize("spans", [False, True])
@pytest.mark.parametrize("which", FILTERS)
@pytest.mark.parametrize("experiment", [None, "other", "0"])
def test_both_tell_the_same(which: str, spans: bool, experiment: str | None, store: str) -> None:
    """Every fact of every trace that a filter lets through, in the same order."""
    fast, slow = open_both(store, experiment)
    assert fast.experiments == slow.experiments
    told, right = (
        [describe(one) for one in reader.iterate_traces(FILTERS[which], spans=spans)] for reader in (fast, slow)
    )
    assert told == right
    assert len(right) > 0 or which in {"no such session", "until", "an id"} or (which, experiment) == ("open", "other")


def test_a_page_reads_nothing_of_those_before_it(store: str) -> None:
    """Each begins where an index says; else, reading a store of twice the size takes four times as long."""
    reader, _ = open_both(store)
    assert isinstance(reader, SqlReader)
    asked: list[tuple[str, Any]] = []
    database = reader._database

    class Watched:
        def select(self, query: str, values: Any = ()) -> list[Any]:
            asked.append((query, values))
            return database.select(query, values)

        def select_at_once(self, query: str, names: list[str], values: Any = ()) -> list[Any]:
            asked.append((query, values))
            return database.select_at_once(query, names, values)

        def open_another(self) -> Watched:
            return self

        def close(self) -> None:
            """It is still wanted."""

        def __getattr__(self, name: str) -> Any:
            return getattr(database, name)

    reader._database = Watched()  # type: ignore[assignment]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sql_reader, "_SUMS_PER_PAGE", 2)
        found = list(reader.iterate_outlines(TraceFilter(until_ms=10**15)))
        assert sum(1 if isinstance(one, TraceOutline) else len(one.traces) for one in found) == 12
    pages = [(query, values) for query, values in asked if "FROM trace_info" in query]
    assert len(pages) > 7
    for query, values in pages:
        plan = " ".join(row[3] for row in database.select(f"EXPLAIN QUERY PLAN {query}", values))
        assert "timestamp_ms<?" in plan
    assert sum(10**15 in values for _, values in pages) <= 2  # the filter's end, for the first slice and its page


@pytest.mark.parametrize("details", [False, True])
@pytest.mark.parametrize("which", FILTERS)
def test_both_add_up_the_same(which: str, details: bool, store: str) -> None:
    """The totals of every group; without details, those that need none."""
    fast, slow = open_both(store)
    assert add_up(fast, FILTERS[which], details) == add_up(slow, FILTERS[which], details)


def add_up(reader: TraceReader, where: TraceFilter, details: bool) -> dict[str, Any]:
    groups: tuple[Group, ...] = (
        ALL_GROUPS if details else ("model", "agent", "tool", "workflow", "session", "experiment")
    )
    totals = TraceStats(groups, 3_600_000, reader.experiments)
    for found in reader.iterate_outlines(where, groups):
        if isinstance(found, TraceOutline):
            totals.add_trace(found)
        else:
            totals.add_alike(found)
    rows = {"all": [totals.traces], "every": list(totals.intervals.values()), **totals.rows_by_group}
    return {name: [describe_row(one) for one in found] for name, found in rows.items()}


def describe_row(row: StatsRow) -> dict[str, object]:
    """Return a row without what the order of adding changes in a sum."""
    cost = row.to_json_object()["cost_usd"]
    return {**row.to_json_object(), "cost_usd": round(cost, 12) if isinstance(cost, float) else cost}


@pytest.mark.parametrize(
    ("installed", "named", "taken"),
    [
        ({"psycopg2", "psycopg"}, "", "psycopg2"),
        ({"psycopg2", "psycopg"}, "+psycopg", "psycopg"),
        ({"psycopg"}, "+psycopg2", "psycopg"),
        (set(), "+psycopg2", sql_databases.DriverMissing),
        (set(), "", sql_databases.DriverMissing),
        (set(), "+pg8000", None),
    ],
)
def test_a_driver_of_postgresql(installed: set[str], named: str, taken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any that is installed will do; without one the error says what to install, unless MLflow may have it."""
    tried: list[str] = []

    def import_driver(name: str) -> Any:
        tried.append(name)
        raise OSError("no server")

    monkeypatch.setattr(sql_databases.importlib.util, "find_spec", lambda name: name in installed or None)
    monkeypatch.setattr(sql_databases.importlib, "import_module", import_driver)
    uri = f"postgresql{named}://127.0.0.1/mlflow"
    if isinstance(taken, type):
        with pytest.raises(taken, match="pip install psycopg2-binary"):
            sql_databases.open_known_database(uri, None)
    else:
        assert sql_databases.open_known_database(uri, None) is None
        assert tried == ([taken] if taken else [])


def test_postgresql_tells_the_same() -> None:
    """All of this in a PostgreSQL, of which nothing is changed."""
    driver = require_postgres()
    with postgres() as (address, _):
        uri = f"{address}/postgres"
        fill_store(uri)
        connection = connect(uri)
        with connection, connection.cursor() as cursor:
            cursor.execute(OPEN_ONE)
        connection.close()
        for experiment in (None, "other"):
            fast, slow = open_both(uri, experiment)
            assert fast.experiments == slow.experiments
            for where in FILTERS.values():
                told, right = ([describe(one) for one in it.iterate_traces(where, spans=True)] for it in (fast, slow))
                assert told == right
                assert add_up(fast, where, True) == add_up(slow, where, True)
            assert describe(fast.find_trace("last")) == describe(slow.find_trace("last"))
        run_id = fast.find_run_id('it\'s a "run"')
        assert fast.find_run_name(run_id) == slow.find_run_name(run_id) == 'it\'s a "run"'
        assert isinstance(fast, SqlReader)
        with pytest.raises(CommandFailure, match="cannot execute DELETE in a read-only transaction") as refused:
            fast._database.select("DELETE FROM trace_info RETURNING request_id")
        assert isinstance(refused.value.__cause__, driver.errors.ReadOnlySqlTransaction)
        end_sessions(uri)
        with pytest.raises(CommandFailure, match=r"terminating connection|server closed the connection"):
            fast._database.select("SELECT 1")
        assert fast._database.select("SELECT 1") == [(1,)]  # by a new connection


def end_sessions(uri: str) -> None:
    """End all sessions but this one, as a server that is restarted does."""
    connection = connect(uri)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    connection.close()


def test_a_run(store: str) -> None:
    """Its name is found, and its traces are those that ran in it and those that are linked to it."""
    fast, slow = open_both(store)
    run_id = fast.find_run_id('it\'s a "run"')
    assert fast.find_run_name(run_id) == 'it\'s a "run"'
    where = replace(EVERYTHING, run_id=run_id)
    ids = [one.id for one in fast.iterate_traces(where)]
    assert ids == [one.id for one in slow.iterate_traces(where)]
    assert len(ids) == 7
    with pytest.raises(CommandFailure, match="no run 'another'"):
        fast.find_run_id("another")


@pytest.mark.parametrize("text", ["last", "tr-zz", "0123456789abcdef", "", "t" * 40])
def test_a_trace_by_its_id(text: str, store: str) -> None:
    """Both find the same trace, or fail with the same words."""
    told = []
    for reader in open_both(store, "other"):
        try:
            told.append(describe(reader.find_trace(text)))
        except CommandFailure as failure:
            told.append({"failure": str(failure)})
    assert told[0] == told[1]


def test_an_experiment_that_is_not_there(store: str) -> None:
    """Both name those that are."""
    place = StoreLocation(store, "nothing")
    with pytest.raises(CommandFailure) as fast:
        open_reader(place)
    with pytest.raises(CommandFailure) as slow:
        MlflowReader(place)
    assert str(fast.value) == str(slow.value)


@pytest.mark.parametrize("kind", ["sqlite", "mlflow"])
def test_what_lands_meanwhile_moves_no_page(
    kind: str, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each trace is read once, although newer ones land between two pages."""
    file = tmp_path / "mlflow.db"
    shutil.copy(store.removeprefix("sqlite:///"), file)
    monkeypatch.setattr(sql_reader, "_TRACES_PER_PAGE", 3)
    monkeypatch.setattr(mlflow_reader, "TRACES_PER_PAGE", 3)
    place = StoreLocation(f"sqlite:///{file}", "0")
    reader = open_reader(place) if kind == "sqlite" else MlflowReader(place)
    before = {one.id for one in reader.iterate_traces()}
    read = []
    for trace in reader.iterate_traces():
        read.append(trace.id)
        copy_newest(file, len(read))
    assert len(read) == len(set(read))
    assert before <= set(read)


def copy_newest(file: Path, number: int) -> None:
    """Store another trace, newer than all others."""
    with sqlite3.connect(file) as database:
        names = [row[1] for row in database.execute("PRAGMA table_info(trace_info)")]
        changed = {"request_id": f"'tr-{number:032x}'", "timestamp_ms": f"timestamp_ms + 10000 + {number}"}
        values = ", ".join(changed.get(name, name) for name in names)
        database.execute(
            f"INSERT INTO trace_info ({', '.join(names)}) SELECT {values} FROM trace_info "
            "WHERE experiment_id = 0 AND status = 'OK' LIMIT 1"
        )


def test_a_schema_that_is_not_known(store: str, tmp_path: Path) -> None:
    """It is read by MLflow, and a file that is no database is refused as before."""
    file = tmp_path / "mlflow.db"
    shutil.copy(store.removeprefix("sqlite:///"), file)
    with sqlite3.connect(file) as database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    assert sql_databases.open_known_database(f"sqlite:///{file}", file) is None
    file.write_bytes(b"no database at all" * 100)
    assert sql_databases.open_known_database(f"sqlite:///{file}", file) is None


def test_the_newest_schema_is_known() -> None:
    """The schema of the MLflow that is installed is read by SQL: a newer one needs a look at what has changed."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    script = ScriptDirectory.from_config(_get_alembic_config("sqlite://"))
    assert set(script.get_heads()) <= sql_databases._KNOWN_REVISIONS


def test_nothing_is_written(store: str, tmp_path: Path) -> None:
    """A database that may only be read is read, and stays as it is."""
    file = tmp_path / "mlflow.db"
    shutil.copy(store.removeprefix("sqlite:///"), file)
    before = file.read_bytes()
    file.chmod(0o400)
    assert len(list(open_reader(StoreLocation(f"sqlite:///{file}", None)).iterate_traces(spans=True))) == 12
    assert file.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_lines_of_the_help(name: str) -> None:
    """Each command's line is the first of its docstring, so that the help needs no command's module."""
    command = COMMANDS[name]
    found = load_command(name)
    if isinstance(found, dict):
        assert [one for one in found.values() if not inspect.getdoc(one)] == []
        return
    assert (inspect.getdoc(found) or "").partition("\n\n")[0].replace("\n", " ") == command.summary


@pytest.mark.parametrize("arguments", [[], ["--help"], ["list"], ["show"], ["stats", "--since", "all"]])
def test_no_command_imports_what_it_does_not_need(arguments: list[str], store: str) -> None:
    """A store that is known is read without MLflow, and the help without the commands."""
    code = """
import sys
from mlspan.cli import main
try:
    main()
finally:
    unneeded = ("mlflow", "mlspan.cli.demo", "mlspan.integrations")
    print([name for name in unneeded if name in sys.modules], file=sys.stderr)
"""
    env = {**os.environ, "MLSPAN_TRACKING_URI": store}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr.splitlines()[-1] == "[]", done.stderr
    assert done.stdout.strip()


def test_rows_at_once_are_those_of_a_query(tmp_path: Path) -> None:
    """Also where JSON has no form for a value: bytes, infinity, text that is no UTF-8."""
    with sqlite3.connect(tmp_path / "any.db") as made:
        made.execute("CREATE TABLE t (c0, c1)")
        odd = [('é\x1f\x00"', 2**62), (None, -0.5), ("", "tr-1")]
        made.executemany("INSERT INTO t VALUES (?, ?)", odd)
    made.close()
    database = sql_databases.SqliteDatabase(tmp_path / "any.db")
    query = "SELECT c0, c1 FROM t WHERE rowid > ? ORDER BY rowid LIMIT 100"
    for value in (None, b"bytes", float("inf")):
        if value is not None:
            with sqlite3.connect(tmp_path / "any.db") as made:
                made.execute("INSERT INTO t VALUES (?, 1)", (value,))
            made.close()
        expected = [list(row) for row in database.select(query, (0,))]
        assert [list(row) for row in database.select_at_once(query, ["c0", "c1"], (0,))] == expected
    assert database.select_at_once(query, ["c0", "c1"], (1000,)) == []
    database.close()
