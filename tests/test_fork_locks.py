"""The locks that a fork takes are released after it, also when Ctrl-C ends the waiting for one of them."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from mlspan.tracing.export import fork_safety
from mlspan.tracing.export.spool import queue


class Lock:
    """A lock that is interrupted at the moments that *interrupted* names, once each."""

    def __init__(self, *interrupted: str) -> None:
        self._interrupted = list(interrupted)
        self.is_held = False

    def _reach(self, moment: str) -> None:
        if moment in self._interrupted:
            self._interrupted.remove(moment)
            raise KeyboardInterrupt

    def acquire(self, **_: Any) -> bool:
        self._reach("acquire")
        self.is_held = True
        return True

    def release(self) -> None:
        assert self.is_held
        self.is_held = False
        self._reach("release")


@pytest.mark.parametrize("moments", [("acquire",), ("release",), ("acquire", "release")])
@pytest.mark.parametrize("at", range(3))
def test_ctrl_c_at_one_of_several_spools(monkeypatch: pytest.MonkeyPatch, moments: tuple[str, ...], at: int) -> None:
    """None stays locked, and the interrupt is noted."""
    locks = [Lock(*moments) if number == at else Lock() for number in range(3)]
    monkeypatch.setattr(queue, "_open_spools", [SimpleNamespace(_lock=lock) for lock in locks])
    for what in ("before", "in_parent"):
        fork_safety._call_fork_handlers(what)
    assert [lock.is_held for lock in locks] == [False] * 3
    assert fork_safety.take_interrupts()


def test_ctrl_c_as_a_lock_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler is called again: as it is entered, nothing of it has run."""
    lock = fork_safety.ForkLock(0.1)
    interrupts = [KeyboardInterrupt]

    def release() -> None:
        if interrupts:
            raise interrupts.pop()
        lock.in_parent()

    handler = SimpleNamespace(before=lock.before, in_parent=release)
    monkeypatch.setattr(fork_safety, "FORK_HANDLERS", [handler])
    for what in ("before", "in_parent"):
        fork_safety._call_fork_handlers(what)
    got: list[bool] = []
    other = threading.Thread(target=lambda: got.append(lock._lock.acquire(timeout=1)))
    other.start()
    other.join(10)
    assert got == [True]
    assert fork_safety.take_interrupts()
