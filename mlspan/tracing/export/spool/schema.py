"""The file of a spool: its schema, and how it is opened."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import orjson

from ..text_size import sum_text

SCHEMA_VERSION: Final = 1
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

_SMALLEST_PAGE: Final = 512  # bytes of SQLite's smallest page

# Rows in one statement. SQLite limits the number of values.
_ROWS_PER_INSERT: Final = 100 if sqlite3.sqlite_version_info < (3, 32) else 1000
_BYTES_PER_INSERT: Final = 256 * 1024  # of all values in one statement, as its cached form keeps a copy of them


class UnknownSchemaVersion(Exception):  # noqa: N818  # a state of the file, not an error in the program
    """The spool was written by another version of mlspan."""


def open_database(path: Path | None) -> sqlite3.Connection:
    """Open the file at *path* with an exclusive lock that lasts until it is closed. None opens a database in memory.

    Raises UnknownSchemaVersion, and sqlite3.Error if the file is locked, damaged or missing.
    """
    # rw: a file that was deleted is not created again
    name = ":memory:" if path is None else f"file:{quote(str(path))}?mode=rw"
    db = sqlite3.connect(name, timeout=0, isolation_level=None, check_same_thread=False, uri=True)
    try:
        _prepare_database(db, journal=path is not None and has_journal(path))
    except BaseException:
        db.close()
        raise
    return db


def require_content(path: Path) -> None:
    """Raise sqlite3.DatabaseError if the file at *path* has been cut to less than a page, OSError if it is gone.

    SQLite would take it for a new database, and delete the journal beside it.
    """
    if (size := path.stat().st_size) < _SMALLEST_PAGE:
        raise sqlite3.DatabaseError("the file is empty" if not size else f"the file has only {size} bytes")


def has_journal(path: Path) -> bool:
    """Return whether there is something in SQLite's journal beside the file at *path*."""
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size > 0
    except FileNotFoundError:
        return False


def check_version(db: sqlite3.Connection, *, journal: bool) -> bool:
    """Return whether *db* has the tables of a spool. If not, its process ended before it stored anything.

    If it has none although there was a *journal*, the journal is damaged. Raises UnknownSchemaVersion, sqlite3.Error.
    """
    (version,) = db.execute("pragma user_version").fetchone()
    if version not in {0, SCHEMA_VERSION}:
        raise UnknownSchemaVersion(f"it is of version {version}, not {SCHEMA_VERSION}")
    if version == 0 and journal:
        raise sqlite3.DatabaseError("its journal is damaged")
    return bool(version)


def _prepare_database(db: sqlite3.Connection, *, journal: bool) -> None:
    """Lock the file and create the tables if it is new. Raise UnknownSchemaVersion.

    *journal* tells whether SQLite's journal of the file had something in it before.
    """
    db.execute("pragma locking_mode = exclusive")
    db.execute("pragma auto_vacuum = incremental")
    db.execute("pragma journal_mode = wal")
    db.execute("pragma synchronous = normal")
    db.execute("begin immediate")
    if not check_version(db, journal=journal):
        for statement in filter(str.strip, _SCHEMA.split(";")):
            db.execute(statement)
        db.execute(f"pragma user_version = {SCHEMA_VERSION}")
    db.execute("commit")


def insert_rows(db: sqlite3.Connection, into: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert many rows in one statement, as the thread gives up the interpreter's lock after each statement."""
    some: list[tuple[Any, ...]] = []
    size = 0
    for row in rows:
        length = sum_text(row) + sum(map(len, filter(bytes.__instancecheck__, row)))
        if length > _BYTES_PER_INSERT:
            _insert_large(db, into, row)
            continue
        if some and (len(some) == _ROWS_PER_INSERT or size + length > _BYTES_PER_INSERT):
            _insert_some(db, into, some)
            some, size = [], 0
        some.append(row)
        size += length
    if some:
        _insert_some(db, into, some)


def _insert_some(db: sqlite3.Connection, into: str, rows: Sequence[tuple[Any, ...]]) -> None:
    one = f"({', '.join('?' * len(rows[0]))})"
    db.execute(f"{into} {', '.join([one] * len(rows))}", [value for row in rows for value in row])


def _insert_large(db: sqlite3.Connection, into: str, row: tuple[Any, ...]) -> None:
    """Insert one row, then none by the same statement, so that its cached form does not keep the row's values."""
    statement = f"{into.removesuffix('values')} select {', '.join('?' * len(row))} where ?"
    db.execute(statement, [*row, 1])
    db.execute(statement, [*[None] * len(row), 0])


def numbers_to_json(numbers: Sequence[int]) -> str:
    """Return the numbers as one value for SQLite's ``json_each``."""
    return orjson.dumps(list(numbers)).decode()
