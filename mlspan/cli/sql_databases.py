"""Databases of MLflow's that are read by plain SQL: SQLite by the standard library, PostgreSQL by psycopg2 or psycopg.

Only databases whose schema is known are read this way, and only for reading.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sqlite3
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, urlsplit

import orjson

from ..tracing.export.shown_addresses import hide_user_info
from .common import CommandFailure, print_detail

# The revisions of MLflow's schema since spans have a table of their own (3.4), up to 3.18.
_KNOWN_REVISIONS: Final = frozenset(
    {
        *("a1b2c3d4e5f6", "de4033877273", "1a0cddfcaa16", "534353b11cbc", "71994744cf8e", "3da73c924c2f"),
        *("bf29a5ff90ea", "1bd49d398cd23", "b7c8d9e0f1a2", "5d2d30f0abce", "c9d4e5f6a7b8", "2c33131f4dae"),
        *("d3e4f5a6b7c8", "d0e1f2a3b4c5", "c8d9e0f1a2b3", "1b5f0d9ad7c1", "e1f2a3b4c5d6", "76601a5f987d"),
        *("c3d6457b6d8a", "a5b4c3d2e1f0", "ae8bbe7743c9", "7d34483879f0", "da6fb0208061", "89d3d66ed43f"),
        *("b7e4c1a90f23", "a8b9c0d1e2f3", "c1d2e3f4a5b6", "c3d9e7f1a2b4", "6f8d9c3b2a1e", "1971f2d9a75b"),
        *("17e22815139b", "b7e2c1a4d9f3", "75868b020152", "dc11669786a5", "e7d1f4b2a9c6"),
        *("8b6ad64cb8f5", "f4a9b2c7d1e6"),
    }
)
_DRIVERS: Final = ("psycopg2", "psycopg")  # of PostgreSQL, in the order in which they are tried
_CONNECT_SECONDS: Final = 20


class DriverMissing(CommandFailure):
    """No driver of PostgreSQL is installed."""


class SqlDatabase(Protocol):
    """A database that is open for reading, in several threads. Its queries mark parameters with ``?``."""

    def select(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """Return all rows of a query, as tuples.

        Raises:
            CommandFailure: if the database does not answer, or refuses the query. The next query tries again.
        """

    def select_at_once(self, query: str, names: Sequence[str], values: Sequence[object] = ()) -> list[Any]:
        """Return all rows of a query whose columns have these *names*, with the interpreter's lock given up once.

        Raises:
            CommandFailure: as :meth:`select`.
        """

    def list_columns(self, table: str) -> set[str]:
        """Return the names of a table's columns."""

    def extract_attribute(self, name: str) -> str:
        """Return the expression for an attribute of a span, as text, in its stored ``content``."""

    def compare_any_case(self, column: str) -> str:
        """Return the term that compares a *column* with a pattern in any case. That of LIKE is for this case alone."""

    def aggregate_texts(self, column: str, separator: str) -> str:
        """Return the expression for all texts of a *column*, joined in the order of its rows."""

    def open_another(self) -> SqlDatabase:
        """Open a connection of its own to the same database.

        Raises:
            CommandFailure: if there is none to be had.
        """

    def close(self) -> None:
        """Close the connection."""


class SqliteDatabase:
    """An SQLite database in a file, opened read-only."""

    def __init__(self, file: Path) -> None:
        self._file = file
        address = f"{file.absolute().as_uri()}?mode=ro"
        self._connection = sqlite3.connect(address, timeout=_CONNECT_SECONDS, uri=True, check_same_thread=False)
        weakref.finalize(self, self._connection.close)  # as Python 3.13 and later warn of one that nobody has closed
        self._connection.execute("PRAGMA case_sensitive_like = true")  # as MLflow has it

    def select(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            if "malformed JSON" in str(error) and (guarded := _guard_extractions(query)) != query:
                return self.select(guarded, values)
            raise CommandFailure(f"{self._file}: {error}") from error

    def select_at_once(self, query: str, names: Sequence[str], values: Sequence[object] = ()) -> list[Any]:
        # Row by row, SQLite would wait for the lock after each, and so for whatever another thread computes.
        whole = f"SELECT json_group_array(json_array({', '.join(names)})) FROM ({query})"  # noqa: S608  # our own names
        try:
            ((text,),) = self._connection.execute(whole, values).fetchall()
            rows: list[Any] = orjson.loads(text)
        except (sqlite3.Error, ValueError):  # no JSON, or what JSON cannot hold, such as bytes and infinite numbers
            return self.select(query, values)
        return rows

    def list_columns(self, table: str) -> set[str]:
        return {row[1] for row in self.select(f"PRAGMA table_info({table})")}

    def extract_attribute(self, name: str) -> str:
        return f"json_extract(content, '$.attributes.\"{name}\"')"

    def compare_any_case(self, column: str) -> str:
        return f"lower({column}) LIKE lower(?)"

    def aggregate_texts(self, column: str, separator: str) -> str:
        return f"group_concat({column}, '{separator}')"

    def open_another(self) -> SqlDatabase:
        try:
            return SqliteDatabase(self._file)
        except sqlite3.Error as error:
            raise CommandFailure(f"{self._file}: {error}") from error

    def close(self) -> None:
        self._connection.close()


_EXTRACTIONS: Final = re.compile(r"(?<!THEN )json_extract\(content, '[^']*'\)")


def _guard_extractions(query: str) -> str:
    """Return a query in which a damaged document has no attributes: to check each would slow all queries down."""
    return _EXTRACTIONS.sub(r"CASE WHEN json_valid(content) THEN \g<0> END", query)


class PostgresDatabase:
    """A PostgreSQL database, in a session that may only read."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._driver, self._address = _choose_driver(uri)
        self._connection: Any = self._open_connection()

    def _open_connection(self) -> Any:
        connection = self._driver.connect(self._address, connect_timeout=_CONNECT_SECONDS)
        weakref.finalize(self, connection.close)  # psycopg warns of a connection that nobody has closed
        connection.autocommit = True
        with connection.cursor() as cursor:  # psycopg's read_only is for transactions, of which autocommit begins none
            cursor.execute("SET default_transaction_read_only = on")
        return connection

    def select(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        try:
            if self._connection.closed:  # by an error before, as when the server has been restarted
                self._connection = self._open_connection()
            with self._connection.cursor() as cursor:
                cursor.execute(query.replace("%", "%%").replace("?", "%s"), tuple(values))
                rows: list[Any] = cursor.fetchall()
                return rows
        except self._driver.Error as error:
            reason, _, _ = str(error).strip().partition("\n")
            raise CommandFailure(f"{hide_user_info(self._address)}: {reason}") from error

    def select_at_once(self, query: str, names: Sequence[str], values: Sequence[object] = ()) -> list[Any]:  # noqa: ARG002  # all rows come at once
        return self.select(query, values)

    def list_columns(self, table: str) -> set[str]:
        columns = "SELECT column_name FROM information_schema.columns WHERE table_name = ? AND table_schema = ANY "
        return {row[0] for row in self.select(f"{columns}(current_schemas(false))", (table,))}

    def extract_attribute(self, name: str) -> str:
        return f"(content::json -> 'attributes' ->> '{name}')"

    def compare_any_case(self, column: str) -> str:
        return f"{column} ILIKE ?"

    def aggregate_texts(self, column: str, separator: str) -> str:
        return f"string_agg({column}, '{separator}')"

    def open_another(self) -> SqlDatabase:
        try:
            return PostgresDatabase(self._uri)
        except self._driver.Error as error:
            raise CommandFailure(f"{hide_user_info(self._address)}: {error}") from error

    def close(self) -> None:
        self._connection.close()


def _choose_driver(uri: str) -> tuple[Any, str]:
    """Return the driver that *uri* names, or another that is installed, and the address as drivers take it.

    Raises:
        DriverMissing: if none is installed.
        ImportError: if *uri* names another one, and none of these is installed.
    """
    scheme, _, rest = uri.partition("://")
    named = scheme.partition("+")[2]
    for name in sorted(_DRIVERS, key=lambda one: one != named):
        if importlib.util.find_spec(name) is not None:
            return importlib.import_module(name), f"postgresql://{rest}"
    if named not in {"", *_DRIVERS}:
        raise ImportError(named)  # MLflow's client may have it
    raise DriverMissing(f"reading PostgreSQL needs {' or '.join(_DRIVERS)}: pip install psycopg2-binary")


def open_known_database(uri: str, file: Path | None) -> SqlDatabase | None:
    """Open a database of MLflow's for reading; return None if it is of another kind, or its schema is not known.

    Args:
        uri: the tracking URI.
        file: the file of an SQLite database.

    Raises:
        DriverMissing: if it is PostgreSQL, and no driver is installed, so that MLflow cannot read it either.
    """
    scheme = uri.partition(":")[0].partition("+")[0]
    database: SqlDatabase | None = None
    try:
        if file is not None:
            database = SqliteDatabase(file)
        elif scheme in {"postgresql", "postgres"} and not _has_own_driver_options(uri):
            database = PostgresDatabase(uri)
        else:
            return None
        revisions = {found for (found,) in database.select("SELECT version_num FROM alembic_version")}
        if revisions and revisions <= _KNOWN_REVISIONS and not _has_workspaces(database):
            return database
        print_detail(f"this schema is read by MLflow's client: {', '.join(map(str, revisions))}")
    except DriverMissing:
        raise
    except Exception as error:  # noqa: BLE001  # each driver has errors of its own; MLflow's client says what is wrong
        print_detail(f"MLflow's client reads it: {type(error).__name__}: {error}")
    if database is not None:
        with suppress(Exception):
            database.close()
    return None


def _has_own_driver_options(uri: str) -> bool:
    """Return whether an address has parameters of SQLAlchemy's, which a driver does not know."""
    return bool(parse_qs(urlsplit(uri).query).keys() & {"driver", "charset", "client_encoding"})


def _has_workspaces(database: SqlDatabase) -> bool:
    """Return whether experiments belong to workspaces, which MLflow's client knows how to choose."""
    if "workspace" not in database.list_columns("experiments"):
        return False
    others = "SELECT 1 FROM experiments WHERE workspace != 'default' LIMIT 1"
    return "MLFLOW_WORKSPACE" in os.environ or bool(database.select(others))
