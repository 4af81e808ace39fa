"""A new SQLite database for MLflow: it is made beside its place and renamed, so that a kill leaves nothing half made.

MLflow refuses a database whose migrations have not ended, and so do we, from then on.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..destination import make_store_path_absolute
from ..types import BackendUnavailable
from . import private_names

_SQLITE_FILE: Final = re.compile(r"^(sqlite(?:\+\w+)?:///)(?!:memory:|file:)([^?]+)")
_SUFFIX: Final = ".new"


def create_database(uri: str) -> None:
    """Create the SQLite database of a tracking URI if its file is missing. The caller holds the database's lock.

    Raise what MLflow raises if it cannot be made.
    """
    parts = _split_uri(uri)
    if parts is None or parts[1].exists() or not parts[1].parent.is_dir():
        return
    scheme, path, options = parts
    for stale in path.parent.glob(f"{path.name}.*{_SUFFIX}*"):  # of processes that were killed
        with suppress(OSError):
            stale.unlink()
    beside = path.with_name(f"{path.name}.{os.getpid()}{_SUFFIX}")
    try:
        _let_mlflow_create(f"{scheme}{beside}{options}")
        _move_if_missing(beside, path)
    finally:
        for left in path.parent.glob(f"{beside.name}*"):
            with suppress(OSError):
                left.unlink()


def check_permission(uri: str) -> None:
    """Raise BackendUnavailable where this process may not write to a SQLite file: MLflow would try for a minute."""
    if (parts := _split_uri(uri)) is None:
        return
    _, path, _ = parts
    place = path if path.exists() else path.parent
    if place.exists() and not os.access(place, os.R_OK | os.W_OK):
        msg = f"cannot write to {place}: this process has no permission to; set MLFLOW_TRACKING_URI to another place"
        raise BackendUnavailable(msg)


def _split_uri(uri: str) -> tuple[str, Path, str] | None:
    """Return scheme, file and options of the URI of a SQLite file; None for any other URI."""
    uri = make_store_path_absolute(uri)
    found = _SQLITE_FILE.match(uri)
    return None if found is None else (found[1], Path(found[2]), uri[found.end() :])


def _let_mlflow_create(uri: str) -> None:
    store = private_names.open_store(uri)
    store.engine.dispose()
    private_names.forget_engine(store, uri)


def _move_if_missing(beside: Path, path: Path) -> None:
    """Give the file its name, unless another program has made one of that name meanwhile."""
    try:
        os.link(beside, path)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        if not path.exists():
            beside.rename(path)
