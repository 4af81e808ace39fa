"""Settings of the spool: how durable spans are, in which folder, and how many.

Imports little, as every start needs it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

SPOOL_SUFFIX: Final = ".spool"
MAX_OPEN_SPOOLS: Final = 64  # of other processes: each has two descriptors, of which a process has 1,024 or even 256


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """The way spans are stored until they are sent.

    Args:
        durability: "none": in memory. "batch": on disk within a second. "span": on disk before the span has ended.
        folder: the folder of the spools; None: :func:`default_folder`.
        max_bytes: the most bytes of all files in the folder; further spans are dropped and counted.
        max_age: seconds after which unsent spans are dropped and counted.
        max_memory_bytes: the most bytes if spans are stored in memory.
    """

    durability: Literal["none", "batch", "span"] = "none"
    folder: Path | None = None
    max_bytes: int = 512 * 1024 * 1024
    max_age: float = 7 * 24 * 3600.0
    max_memory_bytes: int = 64 * 1024 * 1024


IN_MEMORY: Final = SpoolSettings()


def require_own(path: Path) -> None:
    """Raise PermissionError if a file or folder belongs to another user, who may have put anything into it.

    What belongs to root is trusted, as volumes are mounted so. A path that does not exist is fine.
    """
    if not hasattr(os, "geteuid"):  # Windows
        return
    try:
        owner = path.stat().st_uid
    except FileNotFoundError:
        return
    if owner not in {0, os.geteuid()}:
        raise PermissionError(f"{path} belongs to another user (id {owner})")


def default_folder() -> Path:
    """Return ``$XDG_STATE_HOME/mlspan/spool`` or its equivalent. Raise RuntimeError if there is no home directory."""
    state = os.environ.get("XDG_STATE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(state) if state else Path.home() / ".local" / "state") / "mlspan" / "spool"
