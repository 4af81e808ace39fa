"""What wakes the exporter and what a flush waits for: set from any thread, and by the handler of a signal."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from time import monotonic

import pytest

from mlspan.tracing.export import wakes
from mlspan.tracing.export.flush_request import FlushRequest
from mlspan.tracing.export.wakes import Latch, Wake


def test_all_that_wait_for_a_latch_go_on() -> None:
    latch = Latch()
    went: SimpleQueue[bool] = SimpleQueue()
    threads = [threading.Thread(target=lambda: went.put(latch.wait(60))) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert not latch.wait(0)
    assert not latch.wait(-1)
    for thread in [threading.Thread(target=latch.set) for _ in range(4)]:
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join(60)
    assert [went.get(timeout=60) for _ in range(5)] == [True] * 5
    assert latch.is_set()
    assert latch.wait(0)


def test_a_waiter_that_is_struck_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between a waiter's taking of the lock and giving it back: the others find out by themselves."""
    monkeypatch.setattr(wakes, "_TURN", 0.01)
    latch = Latch()
    latch.set()
    assert latch._closed.acquire(timeout=1)
    latch._is_set = False
    threading.Timer(0.05, setattr, (latch, "_is_set", True)).start()
    assert latch.wait(60)


def test_a_wake_is_set_until_it_is_cleared() -> None:
    wake = Wake()
    assert not wake.wait(0)
    wake.set()
    wake.set()
    assert [wake.wait(0), wake.wait(None)] == [True, True]
    wake.clear()
    assert not wake.wait(0)
    threading.Timer(0.01, wake.set).start()
    assert wake.wait(60)


def test_a_wake_that_a_signal_interrupts_is_set_by_its_handler() -> None:
    """The one that is interrupted has noted that it is set, and has not yet woken who waits."""
    wake = Wake()
    wake._is_set = True
    wake.set()
    assert wake._tokens.get_nowait() is None


def test_who_waits_for_one_kind_holds_no_lock() -> None:
    """A signal may interrupt it anywhere, and the senders have to be able to answer."""
    asked = FlushRequest(last=False, send=True)
    asked.expect_answers(1)
    with asked._lock:
        started = monotonic()
        assert not asked.wait_for("mlflow", 0.01)
        assert monotonic() - started < 30
    asked.record_answer(sent=True, kind="mlflow")
    assert asked.wait_for("mlflow", 0)
    assert not asked.is_done
    asked.record_answer(sent=True)
    assert asked.is_done
    assert asked.wait_for("otlp", 0)
