"""How long spans are kept, where, and how many; light, as the settings are read when the application starts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Keeping:
    """How spans are kept until they are sent.

    Args:
        durability: "none": in memory. "batch": on disk within the second. "span": on disk before the span has ended.
        folder: of the spools; None: :func:`default_folder`.
        most_bytes: of everything in the folder together; what comes on top is dropped and counted.
        most_age: seconds, after which what nobody has taken is dropped and counted.
        most_memory: bytes, where there is no disk to be had.
    """

    durability: Literal["none", "batch", "span"] = "none"
    folder: Path | None = None
    most_bytes: int = 512 * 1024 * 1024
    most_age: float = 7 * 24 * 3600.0
    most_memory: int = 64 * 1024 * 1024


IN_MEMORY: Final = Keeping()


def default_folder() -> Path:
    """This user's ``$XDG_STATE_HOME/mlspan/spool``, or what stands for it. Raises RuntimeError without a home."""
    state = os.environ.get("XDG_STATE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(state) if state else Path.home() / ".local" / "state") / "mlspan" / "spool"
