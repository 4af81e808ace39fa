"""A signal handler that raises, as those of time limits do (Celery's soft one, ``signal.setitimer``): wherever in our
code it strikes, its exception reaches the program, and what comes after is as ever.
"""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from opentelemetry import context as otel

import mlspan
from mlspan import testing, tracing
from mlspan._guard import guard, swallowed_errors

OURS = str(Path(mlspan.__file__).parent)


class OutOfTimeError(Exception):
    """What the handler raises: an ``Exception``, as Celery's is."""


class Handler:
    """A callable object that handles signals."""

    def __call__(self, *_: object) -> None:
        raise OutOfTimeError

    def handle(self, *_: object) -> None:
        raise OutOfTimeError


HANDLERS: dict[str, Callable[..., Any]] = {
    "a function": lambda *_: Handler().handle(),
    "a method": Handler().handle,
    "an object": Handler(),
    "a partial": functools.partial(Handler().handle, "more"),
}


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a program: our own errors are swallowed."""
    monkeypatch.delenv("MLSPAN_STRICT")
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", HANDLERS)
def test_what_a_handler_raises_is_no_error_of_ours(name: str, lenient: None) -> None:
    """It leaves a guard; what our own code raises there does not, nor what a handler has caught itself."""
    signal.signal(signal.SIGALRM, HANDLERS[name])
    before = swallowed_errors.total()
    with pytest.raises(OutOfTimeError), guard("waiting for a handler"):
        signal.raise_signal(signal.SIGALRM)
    assert swallowed_errors.total() == before
    with guard("failing"):
        raise OutOfTimeError
    assert swallowed_errors.total() == before + 1


def strike_at(number: int, run: Callable[[], object]) -> bool:
    """Run *run* and raise the signal at the place *number* of ours; return whether there were so many.

    Places are where Python looks for signals: at the start of a function, and after a call of one that is not Python's.
    """
    left = [number]

    def strike(frame: FrameType, event: str, _: object) -> None:
        if event not in {"call", "c_return"} or not frame.f_code.co_filename.startswith(OURS):
            return
        left[0] -= 1
        if left[0] == 0:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGALRM)

    sys.setprofile(strike)
    try:
        run()
    finally:
        sys.setprofile(None)
    return left[0] <= 0


@tracing.trace
def count(most: int) -> Iterator[int]:
    yield from range(most)


@tracing.trace(kind="tool")
def look_up(city: str) -> str:
    return f"sunny in {city}"


def work() -> None:
    with tracing.session("s"), tracing.span("job", kind="agent"):
        look_up("Paris")
        for _ in count(2):
            pass


def test_a_handler_strikes_anywhere(lenient: None, caplog: pytest.LogCaptureFixture) -> None:
    """Each place in turn: the program gets the exception, no line is logged, and the next work is whole.

    Spans that are struck may not end, so this looks at none but those of the work that follows.
    """
    signal.signal(signal.SIGALRM, HANDLERS["a function"])
    work()  # what is made at first use is there
    context, number = otel.get_current(), 1
    while True:
        try:
            if not strike_at(number, work):
                break
        except OutOfTimeError:
            pass
        else:
            raise AssertionError(f"swallowed at {number}")
        otel.attach(context)  # what a handler interrupts at the end of a block stays attached, ours and anybody's
        number += 1
    assert number > 100
    assert caplog.records == []
    with testing.spans() as spans:
        work()
    assert spans.tree() == "invoke_agent job\n  execute_tool look_up\n  count"
