"""The file of a spool: its schema, and how it is opened."""

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

# Rows in one statement. SQLite limits the number of values.
_ROWS: Final = 100 if sqlite3.sqlite_version_info < (3, 32) else 1000


class Foreign(Exception):  # noqa: N818  # a state of the file, not an error in the program
    """The spool was written by another version of mlspan."""


def connect(path: Path | None) -> sqlite3.Connection:
    """Open the file at *path* with an exclusive lock that lasts until it is closed. None opens a database in memory.

    Raises UnknownSchemaVersion, and sqlite3.Error if the file is locked, damaged or missing.
    """
    # rw: a file that was deleted is not created again
    name = ":memory:" if path is None else f"file:{quote(str(path))}?mode=rw"
    db = sqlite3.connect(name, timeout=0, isolation_level=None, check_same_thread=False, uri=True)
    try:
        _open(db)
    except BaseException:
        db.close()
        raise
    return db


def _open(db: sqlite3.Connection) -> None:
    """Lock the file and create the tables if it is new. Raise UnknownSchemaVersion."""
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
    """Insert many rows in one statement, as the thread gives up the interpreter's lock after each statement."""
    for begin in range(0, len(rows), _ROWS):
        some = rows[begin : begin + _ROWS]
        one = f"({', '.join('?' * len(some[0]))})"
        db.execute(f"{into} {', '.join([one] * len(some))}", [value for row in some for value in row])


def as_json(numbers: Sequence[int]) -> str:
    """Return the numbers as one value for SQLite's ``json_each``."""
    return orjson.dumps(list(numbers)).decode()
