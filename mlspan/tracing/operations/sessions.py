"""Ids of sessions as text. A session of several levels is a JSON array of texts, the outermost first, as in MLflow."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from functools import partial
from typing import Final

from .foreign_objects import as_text

_SHORTEST_LEVEL: Final = 3  # characters of an empty one, with its comma


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
    path = _read_path(text) or []
    for levels in range(min(len(path), longest // _SHORTEST_LEVEL), 0, -1):  # fewer, where there are too many
        cut_levels = partial(_cut_levels, path[:levels])
        if most := bisect_right(range(1, longest + 1), longest, key=lambda most: len(cut_levels(most))):  # used at once
            return cut_levels(most)
    return text[: longest - 1] + "…"


def _cut_levels(path: Sequence[str], most: int) -> str:
    """Return the array of levels of which each has *most* characters at most."""
    return _write_path([level[:most] for level in path])


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
