"""A new database appears whole or not at all, so that a process that is killed while it is made breaks nothing."""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from servers.program import environment, run

pytest.importorskip("mlflow")

from mlspan.tracing.export.mlflow import new_database
from mlspan.tracing.export.mlflow.database import DatabaseStore
from mlspan.tracing.export.sending.executor import BoundedExecutor


def read_version(path: Path) -> str:
    with sqlite3.connect(path) as db:
        (version,) = db.execute("select version_num from alembic_version").fetchone()
    db.close()
    return str(version)


def test_it_gets_its_name_when_it_is_whole(tmp_path: Path, mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then MLflow's file is not there; what a killed process has left half made is removed."""
    whole = read_version(Path(mlflow_store.removeprefix("sqlite:///")))
    (tmp_path / "new").mkdir()
    path = tmp_path / "new" / "mlflow.db"
    (tmp_path / "new" / "mlflow.db.1.new").write_bytes(b"half of it")
    (tmp_path / "new" / "mlflow.db.1.new-journal").write_bytes(b"half of it")
    seen: list[tuple[bool, str]] = []
    move = new_database._move_if_missing

    def watch(beside: Path, to: Path) -> None:
        seen.append((to.exists(), read_version(beside)))
        move(beside, to)

    monkeypatch.setattr(new_database, "_move_if_missing", watch)
    store = DatabaseStore(f"sqlite:///{path}", BoundedExecutor(1))
    assert store.find_or_create_experiment("a") == "1"
    store.close()
    assert seen == [(False, whole)]
    assert sorted(file.name for file in path.parent.iterdir()) == ["mlflow.db"]


@pytest.mark.parametrize("name", ["mlflow.db", "with space.db", "a.db?timeout=5"])
def test_a_failure_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    made: list[str] = []

    def fail(uri: str) -> None:
        made.append(uri)
        Path(uri.removeprefix("sqlite:///").partition("?")[0]).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(new_database, "_let_mlflow_create", fail)
    with pytest.raises(KeyboardInterrupt):
        new_database.create_database(f"sqlite:///{tmp_path}/{name}")
    assert list(tmp_path.iterdir()) == []
    assert made[0].partition("?")[2] == name.partition("?")[2]


def test_a_faster_program_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(uri: str) -> None:
        Path(uri.removeprefix("sqlite:///")).write_bytes(b"ours")
        (tmp_path / "mlflow.db").write_bytes(b"theirs")

    monkeypatch.setattr(new_database, "_let_mlflow_create", create)
    new_database.create_database(f"sqlite:///{tmp_path}/mlflow.db")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("mlflow.db", b"theirs")]


@pytest.mark.parametrize(
    "uri", ["sqlite:///:memory:", "sqlite://", "postgresql://h/db", "http://h", "sqlite:////no/such/a.db"]
)
def test_what_is_no_new_file_is_left_alone(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    touched: list[Any] = []
    monkeypatch.setattr(new_database, "_let_mlflow_create", touched.append)
    new_database.create_database(uri)
    assert touched == []


def test_what_is_there_is_left_alone(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    touched: list[Any] = []
    monkeypatch.setattr(new_database, "_let_mlflow_create", touched.append)
    new_database.create_database(mlflow_store)
    assert touched == []


_KILL = """
from sqlalchemy import Engine, event
seen = []
@event.listens_for(Engine, "after_cursor_execute")
def kill_late(connection, cursor, statement, parameters, context, many):
    if statement.startswith("UPDATE alembic_version"):
        seen.append(statement)
        if len(seen) == {point}:
            os.kill(os.getpid(), signal.SIGKILL)
work(0, 1)
tracing.flush(100)
"""


@pytest.mark.parametrize("point", [10, 30, 50, 60] if os.environ.get("MLSPAN_WIDE") == "1" else [60])
def test_a_kill_late_in_the_migrations(tmp_path: Path, point: int) -> None:
    """The next process makes the database, stores what both have recorded, and MLflow opens it."""
    database = tmp_path / "mlflow.db"
    env = environment(tmp_path / "spool", f"sqlite:///{database}")
    killed = run(_KILL.format(point=point), env, timeout=110)
    assert (killed.returncode, killed.stderr) == (-signal.SIGKILL, "")
    assert not database.exists()
    after = run("work(1, 2)\nprint(bool(tracing.flush(100)), tracing.drain(timeout=60).stay)", env, timeout=170)
    assert (after.returncode, after.stdout) == (0, "True 0\n"), after.stderr
    from mlflow import MlflowClient

    found = MlflowClient(f"sqlite:///{database}").search_traces(locations=["0"])
    assert sorted(trace.info.tags["mlflow.traceName"] for trace in found) == ["execute_tool 0", "execute_tool 1"]
    assert not list(tmp_path.glob("mlflow.db.*"))
