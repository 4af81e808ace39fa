"""Golden trees: the tree of a test's spans in a file beside the test, compared at each run.

``pytest --update-golden`` writes the files. Which test runs is known from the variable that pytest sets.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from pathlib import Path
from typing import Final

from .running_session import find_running_session, note_written

_PHASE: Final = re.compile(r" \((?:setup|call|teardown)\)$")
_PLAIN: Final = re.compile(r"[^\w.\-]+")
_LONGEST_NAME: Final = 100  # characters of a file's name


def locate_file(folder: str, suffix: str, name: str | None = None, node: str | None = None) -> Path:
    """Return ``<folder of the test>/<folder>/<file of the test>/<test><suffix>``.

    Args:
        folder: a folder beside the test's file.
        suffix: what the name ends in.
        name: added to the test's name, if one test has several files.
        node: the node id of the test; by default of the one that runs.

    Raises:
        RuntimeError: no test of pytest runs, or its plugin is off.
    """
    session, node = find_running_session(), node or os.environ.get("PYTEST_CURRENT_TEST")
    if session is None or node is None:
        raise RuntimeError("no test of pytest runs with mlspan's plugin, so the file has to be named: pass its path")
    file, _, test = _PHASE.sub("", node).partition("::")
    test = test.replace("::", ".").replace("[", "-").removesuffix("]")
    plain = _PLAIN.sub("_", test)
    if plain != test or len(plain) > _LONGEST_NAME:  # two tests may look alike then
        plain = f"{plain[:_LONGEST_NAME]}-{hashlib.sha256(test.encode()).hexdigest()[:8]}"
    path = session.root / file
    added = "" if name is None else f".{_PLAIN.sub('_', name)}"
    return path.parent / folder / path.stem / f"{plain}{added}{suffix}"


def check_golden(tree: str, path: Path, *, update: bool | None) -> None:
    """Compare *tree* with the file at *path*, or write it there.

    Args:
        tree: lines, one a span.
        path: a text file.
        update: whether to write; by default what the command line of pytest says.

    Raises:
        AssertionError: the file is another tree, or there is none; the message shows the difference.
    """
    __tracebackhide__ = True
    session = find_running_session()
    should_write = update if update is not None else session is not None and session.update_golden
    expected = path.read_text(encoding="utf-8").rstrip("\n") if path.exists() else None
    if expected == tree:
        return
    if should_write:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{tree}\n", encoding="utf-8", newline="\n")
        note_written(path)
        return
    shown = str(path) if session is None else session.shorten(path)
    if expected is None:
        raise AssertionError(f"there is no golden tree {shown} yet; `pytest --update-golden` writes it:\n{tree}")
    raise AssertionError(
        f"the spans are not the golden tree {shown}:\n{render_difference(expected, tree)}\n"
        "(- golden, + this run; if this is meant to be so: pytest --update-golden)"
    )


def render_difference(expected: str, found: str) -> str:
    """Return both texts as one, with ``-`` before lines of *expected* alone and ``+`` before those of *found*."""
    lines = difflib.ndiff(expected.splitlines(), found.splitlines())
    return "\n".join(line.rstrip() for line in lines if not line.startswith("?"))
