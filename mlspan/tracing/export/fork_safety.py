"""Fork safety: a fork waits until imports and SQLite calls in progress have ended.

A child that is forked in the middle of an import keeps half of a module. One that is forked inside SQLite inherits
locks that are never released.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final


class Gate:
    """A lock that delays forks. A fork waits at most *longest* seconds for the blocks of ``delay_forks`` to end."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._lock = threading.RLock()
        self._held = False

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Delay forks, and other blocks under the same lock, until the block ends."""
        with self._lock:
            yield

    def before(self) -> None:
        """Take the lock before a fork, or give up after the time limit."""
        self._held = self._lock.acquire(timeout=self._longest)

    def in_parent(self) -> None:
        """Release the lock in the parent."""
        if self._held:
            self._lock.release()

    def in_child(self) -> None:
        """Replace the lock in the child, as its owner may be a thread that does not exist there."""
        self._lock = threading.RLock()


IMPORTS: Final = Gate(15.0)  # seconds; importing MLflow takes a few on a busy machine
OPENING: Final = Gate(1.0)  # seconds, for opening a spool
STORING: Final = Gate(2.0)  # seconds, for writing one batch to a database

# Everything that a fork waits for, with the methods of a ForkLock. This is our own list because Python runs only
# the hooks registered when the fork began, and the import that the fork waits for may register more.
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
