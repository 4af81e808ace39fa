"""A handler may run wherever our hooks of a fork call a function, and may raise there: the fork still ends whole."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from mlspan.tracing import fork_signals
from mlspan.tracing.export import threads
from mlspan.tracing.fork_signals import ForkSignals

FILES = (fork_signals.__file__, threads.__file__)


class Fork:
    """Our hooks of one fork, called as Python calls them. A handler comes at the place number *at* among them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, handler: Callable[[Fork], None]) -> None:
        self.hooks: dict[str, list[Callable[[], None]]] = {}
        self.signals = ForkSignals(lambda: signal.getsignal(signal.SIGTERM) == self.note, lambda: True)
        with monkeypatch.context() as patched:
            patched.setattr(os, "register_at_fork", self._register)
            self.signals.register()
        self._left, self._handler = at, handler
        self.got: list[int] = []
        self.expected: set[int] = set()
        self.has_threads = True  # as a child has not

    def _register(self, **hooks: Callable[[], None]) -> None:
        for name, hook in hooks.items():
            self.hooks.setdefault(name, []).append(hook)

    def note(self, number: int, _: FrameType | None) -> None:
        """Handle a signal as ours does."""
        if not self.signals.postpone(number):
            self.got.append(number)

    @property
    def has_come(self) -> bool:
        return self._left < 0

    def run(self, name: str) -> None:
        sys.setprofile(None if self.has_come else self._count)
        try:
            for hook in self.hooks[name]:
                try:
                    hook()
                except (KeyboardInterrupt, TimeoutError):
                    self.expected.discard(signal.SIGINT)
                    sys.setprofile(None)
        finally:
            sys.setprofile(None)

    def _count(self, frame: FrameType, event: str, _: Any) -> None:
        """Call the handler where Python would: in the first line of a function, and after a call."""
        if frame.f_code.co_filename in FILES and event in {"call", "c_return"}:
            self._left -= 1
            if self._left == -1:
                sys.setprofile(None)
                self._handler(self)

    def wait_for(self, number: int) -> None:
        for _ in range(1_000):
            if number in self.got:
                return
            time.sleep(0.01)
        pytest.fail(f"signal {number} never came")


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for thread in threading.enumerate():
        if thread.name == "mlspan-signal":
            thread.join(10)
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def interrupt(fork: Fork) -> None:
    fork.expected.add(signal.SIGINT)
    raise KeyboardInterrupt


def time_out(_: Fork) -> None:
    """Raise as a handler of SIGALRM may."""
    raise TimeoutError


def terminate(fork: Fork) -> None:
    """Handle a SIGTERM, which in the child comes only while it is not blocked."""
    if fork.has_threads or signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        fork.note(signal.SIGTERM, None)
        fork.expected.add(signal.SIGTERM)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("handler", [interrupt, time_out, terminate])
@pytest.mark.parametrize("ending", ["after_in_parent", "after_in_child"])
def test_a_handler_anywhere_in_a_fork(
    monkeypatch: pytest.MonkeyPatch, handler: Callable[[Fork], None], ending: str
) -> None:
    """Afterwards SIGTERM is neither postponed nor blocked, and what came meanwhile is sent again."""
    for at in range(200):
        fork = Fork(monkeypatch, at, handler)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, fork.note)
        fork.run("before")
        if ending == "after_in_child":
            fork.signals._process, fork.has_threads = 0, False  # it was set in the parent
            fork.expected.clear()
        else:
            fork.note(signal.SIGTERM, None)
            fork.expected.add(signal.SIGTERM)
        fork.run(ending)
        where = f"{at}: {ending}"
        assert not fork.signals._is_forking, where
        assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ()), where
        assert signal.getsignal(signal.SIGTERM) == fork.note, where
        for expected in fork.expected:
            fork.wait_for(expected)
        if not fork.has_come:
            assert at > 10
            return
    pytest.fail("the hooks have no end")


@pytest.mark.usefixtures("handlers")
def test_a_postponed_signal_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is sent at the end of the hook, as nothing can wait for more."""
    monkeypatch.setattr(fork_signals, "start", lambda *_: None)
    fork = Fork(monkeypatch, 1_000, interrupt)
    signal.signal(signal.SIGTERM, fork.note)
    fork.run("before")
    fork.note(signal.SIGTERM, None)
    fork.run("after_in_parent")
    assert fork.got == [signal.SIGTERM]
