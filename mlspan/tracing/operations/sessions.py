"""Ids of sessions as text. A session of several levels is a JSON array of texts, the outermost first, as in MLflow."""

from __future__ import annotations

import json
from collections.abc import Sequence

from .foreign_objects import as_text


def name_session(id: object) -> str | None:
    """Return the text of a session's id: what it is, or the array of its levels; None if it has none."""
    if isinstance(id, (list, tuple)):
        return _write_path([as_text(level) for level in id]) if id else None
    return None if id is None else as_text(id)


def cut_session(id: object, longest: int) -> str | None:
    """Return the text of a session's id within *longest* characters. Of an array of levels the longest are cut."""
    text = name_session(id)
    if text is None or len(text) <= longest:
        return text
    path = _read_path(text)
    while path:
        for most in range(longest, 0, -1):
            cut = _write_path([level[:most] for level in path])
            if len(cut) <= longest:
                return cut
        path = path[:-1]  # more levels than characters
    return text[: longest - 1] + "…"


def _write_path(levels: Sequence[str]) -> str:
    return json.dumps(levels, separators=(",", ":"), ensure_ascii=False)


def _read_path(text: str) -> list[str] | None:
    """Return the levels in a JSON array of texts; None if *text* is anything else."""
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and all(isinstance(level, str) for level in found) else None
