"""A spool's file: what its tables are, and how it is opened."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import orjson

VERSION: Final = 1
SUFFIX: Final = ".spool"
_SCHEMA: Final = """
create table meta (name text primary key, value text) without rowid;
create table context (id integer primary key, resource blob, scope blob, unique (resource, scope));
create table parcel (number integer primary key, ready integer, origin text, root text, whole integer, genai integer);
create table span (
    id integer primary key, parcel integer, context integer, sinks integer, stored real, data blob, trace text
);
create table seen (seq integer primary key);
create index parcel_ready on parcel (ready);
create index span_parcel on span (parcel);
create index span_otlp on span (id) where sinks & 2;
"""

_ROWS: Final = 100 if sqlite3.sqlite_version_info < (3, 32) else 1000  # in one statement, by the values that it takes


class Foreign(Exception):  # noqa: N818  # a state of the file
    """A spool of another version."""


def connect(path: Path | None) -> sqlite3.Connection:
    """The file at *path*, which nobody else can open until its end. None is a spool in memory.

    Raises Foreign, and sqlite3.Error: one that is held, is torn or is gone.
    """
    name = ":memory:" if path is None else f"file:{quote(str(path))}?mode=rw"  # one that is gone stays so
    db = sqlite3.connect(name, timeout=0, isolation_level=None, check_same_thread=False, uri=True)
    try:
        _open(db)
    except BaseException:
        db.close()
        raise
    return db


def _open(db: sqlite3.Connection) -> None:
    db.execute("pragma locking_mode = exclusive")
    db.execute("pragma auto_vacuum = incremental")
    db.execute("pragma journal_mode = wal")
    db.execute("pragma synchronous = normal")
    db.execute("begin immediate")
    (version,) = db.execute("pragma user_version").fetchone()
    if version == 0:
        for statement in filter(str.strip, _SCHEMA.split(";")):
            db.execute(statement)
        db.execute(f"pragma user_version = {VERSION}")
    db.execute("commit")
    if version not in {0, VERSION}:
        raise Foreign(f"it is of version {version}, not {VERSION}")


def insert(db: sqlite3.Connection, into: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Many rows a statement: after each one this thread has to wait for its turn, where others compute."""
    for begin in range(0, len(rows), _ROWS):
        some = rows[begin : begin + _ROWS]
        one = f"({', '.join('?' * len(some[0]))})"
        db.execute(f"{into} {', '.join([one] * len(some))}", [value for row in some for value in row])


def as_json(numbers: Sequence[int]) -> str:
    """For ``json_each``: any number of values as one."""
    return orjson.dumps(list(numbers)).decode()
