"""Fork safety: a fork waits until imports and SQLite calls in progress have ended.

A child that is forked in the middle of an import keeps half of a module. One that is forked inside SQLite inherits
locks that are never released.

A fork runs these functions of ours, and no others. Each stands beside the state that it resets:

- before the fork, in the parent and in the child: :data:`FORK_HANDLERS`, which are the locks below and
  ``spool/queue._SpoolForkHandler``. In the child, a spool then forgets the connection of its parent.
- in the parent: ``export/processor._note_fork_in_parent`` looks for what the child leaves unsent.
- in the child: ``export/processor._reset_after_fork`` makes a new queue and starts no thread,
  ``export/self_metrics._reset_counters`` starts counting at zero, ``propagation._renew_process_id`` gives the child an
  id of its own, ``spending._begin_anew_after_fork`` counts its costs from zero, ``shared_spans._renew_lock`` gives it
  a lock for the traces that it shares with MLflow, ``renew_lock`` of ``_training/current.py`` one for MLflow's switch
  of autologging, and ``ExitWatcher.handle_fork`` of ``exit_watcher.py``, which ``runtime`` registers, has the spans of
  a child of multiprocessing sent when it ends.
- around all of these: ``ForkSignals.before``, ``ForkSignals.in_parent`` and ``ForkSignals.in_child`` of
  ``fork_signals.py`` have SIGTERM wait.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final


class ForkLock:
    """A lock that delays forks. A fork waits at most *longest* seconds for the blocks of ``delay_forks`` to end."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._lock = threading.RLock()
        self._held = threading.local()  # ``here``: this thread holds the lock for its fork; two may fork at once

    @contextmanager
    def delay_forks(self) -> Iterator[None]:
        """Delay forks, and other blocks under the same lock, until the block ends."""
        with self._lock:
            yield

    def before(self) -> None:
        """Take the lock before a fork, or give up after the time limit."""
        self._held.here = False  # should the waiting be interrupted
        self._held.here = self._lock.acquire(timeout=self._longest)

    def in_parent(self) -> None:
        """Release the lock in the parent."""
        if getattr(self._held, "here", False):
            self._held.here = False
            self._lock.release()

    def in_child(self) -> None:
        """Replace the lock in the child, as its owner may be a thread that does not exist there."""
        self._lock = threading.RLock()


IMPORT_LOCK: Final = ForkLock(15.0)  # seconds; importing MLflow takes a few on a busy machine
SPOOL_OPEN_LOCK: Final = ForkLock(1.0)  # seconds, for opening a spool
DATABASE_WRITE_LOCK: Final = ForkLock(2.0)  # seconds, for writing one batch to a database

# Everything that a fork waits for, with the methods of a ForkLock. This is our own list because Python runs only
# the hooks registered when the fork began, and the import that the fork waits for may register more.
FORK_HANDLERS: Final[list[Any]] = [IMPORT_LOCK, SPOOL_OPEN_LOCK, DATABASE_WRITE_LOCK]


_interrupts: Final[list[int]] = []  # signals that have ended the waiting for a lock


def take_interrupts() -> list[int]:
    """Return SIGINT for each Ctrl-C that came while a fork waited. It would be lost, as nothing can be raised there."""
    found = _interrupts.copy()
    _interrupts.clear()
    return found


def _call_fork_handlers(what: str) -> None:
    if what == "in_child":
        _interrupts.clear()  # the parent's
    for handler in FORK_HANDLERS:
        try:
            getattr(handler, what)()
        except KeyboardInterrupt:
            _interrupts.append(signal.SIGINT)
            if what != "before":  # which is over then; what it has taken must be released
                getattr(handler, what)()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _call_fork_handlers("before"),
        after_in_parent=lambda: _call_fork_handlers("in_parent"),
        after_in_child=lambda: _call_fork_handlers("in_child"),
    )
