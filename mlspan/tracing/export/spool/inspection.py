"""A look into a spool that changes nothing: no schema, journal or lock file is made, and none is deleted.

A process that sends from spools must not look into them so: SQLite would drop the locks that the process has on a file.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Final

from .schema import check_version, has_journal, require_content

_LOCK_REFUSED: Final = "disk I/O error"  # what SQLite says of an exclusive lock on a file that is open for reading


class SpoolInUse(Exception):  # noqa: N818  # a state of the file, not an error in the program
    """A running process holds the spool."""


def open_read_only(path: Path) -> sqlite3.Connection | None:
    """Open the spool of an ended process for reading alone; None if the process ended before it stored anything.

    Raises SpoolInUse if it is locked, UnknownSchemaVersion, OSError if the file is gone, and sqlite3.Error if it is
    damaged.
    """
    require_content(path)
    if _is_locked(path):
        raise SpoolInUse(str(path))
    journal = has_journal(path)
    # Beside a spool without a journal, SQLite would make one; what a killed process has left is read without its locks.
    db = _connect(path, "vfs=unix-none" if journal and os.name == "posix" else "immutable=1")
    try:
        db.execute("pragma locking_mode = exclusive")  # or SQLite would make a file for an index of the journal
        db.execute("pragma synchronous = off")  # or closing would wait for the disk, though nothing is written
        if sys.version_info >= (3, 12):
            db.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)
        if check_version(db, journal=journal):
            return db
    except BaseException:
        _close_unreadable(db, journal=journal)
        raise
    db.close()
    return None


def _close_unreadable(db: sqlite3.Connection, *, journal: bool) -> None:
    """Close a database that cannot be read; if that would delete its *journal*, leave it open."""
    if journal and sys.version_info < (3, 12):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(db))
    else:
        db.close()


def _is_locked(path: Path) -> bool:
    """Return whether a process holds the file. The lock that is asked for is refused in any case: none is taken."""
    with closing(_connect(path, "cache=private")) as db:
        try:
            db.execute("pragma locking_mode = exclusive")
            db.execute("pragma user_version").fetchone()
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                return True
            if _LOCK_REFUSED not in str(error):
                raise
    return False


def _connect(path: Path, how: str) -> sqlite3.Connection:
    """Return a connection that may only read. *how* is a parameter of SQLite's address."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&{how}", uri=True, timeout=0, isolation_level=None)
