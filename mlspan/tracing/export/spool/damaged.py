"""Damaged spools, which are set aside under another name for a person to look at."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ...._guard import log
from .limits import SPOOL_SUFFIX, SpoolSettings

ASIDE_SUFFIX: Final = ".aside"


def set_aside_spool(path: Path, error: Exception) -> None:
    """Rename a damaged spool, so that a person can look at it, and log a warning."""
    aside = path.with_name(path.name + ASIDE_SUFFIX)
    with suppress(OSError):
        for extra in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + extra).rename(aside.with_name(aside.name + extra))
        path.rename(aside)
        log.warning("mlspan: the spool %s cannot be read (%s): set aside as %s", path, error, aside.name)


def is_set_aside(path: Path) -> bool:
    """Return whether the spool at *path* was set aside."""
    return path.with_name(path.name + ASIDE_SUFFIX).exists()


def find_set_aside(folder: Path) -> Sequence[Path]:
    """Return the damaged spools in *folder* that were set aside."""
    return sorted(folder.glob(f"*{SPOOL_SUFFIX}{ASIDE_SUFFIX}"))


def delete_old_files_aside(folder: Path, keeping: SpoolSettings) -> None:
    """Delete damaged spools that are older than the age limit, and the oldest of those beyond the limit of bytes."""
    files = []
    for path in folder.glob(f"*{SPOOL_SUFFIX}{ASIDE_SUFFIX}*"):
        with suppress(OSError):
            found = path.stat()
            files.append((found.st_mtime, found.st_size, path))
    room = keeping.max_bytes
    for changed, size, path in sorted(files, reverse=True):
        room -= size
        if room < 0 or changed < time.time() - keeping.max_age:
            with suppress(OSError):
                path.unlink()
