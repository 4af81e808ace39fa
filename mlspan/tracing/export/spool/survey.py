"""A survey of a spool folder: what waits in it, for which destination, and whose it is. Nothing is changed or sent."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from .damaged import find_set_aside
from .directory import find_spools
from .inspection import SpoolInUse, open_read_only
from .limits import require_own
from .schema import UnknownSchemaVersion
from .waiting_counts import read_counts


@dataclass(frozen=True, slots=True)
class WaitingSpans:
    """Spans that one file of the folder holds for one destination."""

    destination: str | None  # such as "mlflow http://127.0.0.1:5000"; None if the file cannot be read
    spans: int | None  # None if the file cannot be read
    since: float | None  # when the oldest was stored, in seconds since 1970
    state: str  # "waiting": of an ended process; "in use": its process is running and sends it; "damaged"
    path: Path


def survey_folder(folder: Path) -> list[WaitingSpans]:
    """Return what waits in *folder*, the oldest file first. A file that its process has locked is not looked into."""
    found = [one for path in find_spools(folder) for one in _survey_spool(path)]
    return found + [WaitingSpans(None, None, None, "damaged", path) for path in find_set_aside(folder)]


def find_folder_fault(folder: Path) -> str | None:
    """Return why spans cannot be kept in *folder*; None if they can. A folder that does not exist yet is not made."""
    try:
        there = next((one for one in (folder, *folder.parents) if os.path.lexists(one)), folder)
        if not there.is_dir():
            return f"{there} is not a folder"
        require_own(folder)
    except OSError as error:
        return str(error)
    missing = os.W_OK | os.X_OK | (os.R_OK if there == folder else 0)
    return None if os.access(there, missing) else f"{there} does not let this user in"


def _survey_spool(path: Path) -> Iterator[WaitingSpans]:
    """Yield what a file holds, by destination."""
    try:
        if (db := open_read_only(path)) is None:
            return
        with closing(db):
            found = list(read_counts(db))
    except FileNotFoundError:  # its process has sent it meanwhile
        return
    except SpoolInUse:
        yield WaitingSpans(None, None, None, "in use", path)
    except (OSError, sqlite3.Error, UnknownSchemaVersion, ValueError):
        yield WaitingSpans(None, None, None, "damaged", path)
    else:
        for destination, spans, since in found:
            yield WaitingSpans(destination, spans, since, "waiting", path)
