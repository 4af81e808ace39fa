"""What a fork must not cut in two: the child would be left with half of a module, or with SQLite's own locks taken."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final


class Gate:
    """A fork waits for the blocks of ``closed`` to end, *longest* seconds at most."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._lock = threading.RLock()
        self._held = False

    @contextmanager
    def closed(self) -> Iterator[None]:
        with self._lock:
            yield

    def before(self) -> None:
        self._held = self._lock.acquire(timeout=self._longest)

    def in_parent(self) -> None:
        if self._held:
            self._lock.release()

    def in_child(self) -> None:
        self._lock = threading.RLock()


IMPORTS: Final = Gate(15.0)  # MLflow takes a few seconds, on a busy machine
OPENING: Final = Gate(1.0)  # of spools
STORING: Final = Gate(2.0)  # of one batch in a database

# What else has to hold still, with the methods of a Gate. A list of ours, as Python runs only those hooks that were
# registered when the fork began, and the import that it waits for may bring more.
GATES: Final[list[Any]] = [IMPORTS, OPENING, STORING]


def _each(what: str) -> None:
    for gate in GATES:
        getattr(gate, what)()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _each("before"),
        after_in_parent=lambda: _each("in_parent"),
        after_in_child=lambda: _each("in_child"),
    )
