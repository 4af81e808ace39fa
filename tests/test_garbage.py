"""Receivers that answer with garbage: nobody waits for them, nothing is set aside for it, all of it is sent later."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from servers.garbage import ANSWERS, garbage
from servers.receiver import Receiver, once

from mlspan import tracing
from mlspan.tracing.export import answers


@pytest.mark.parametrize("sink", ["mlflow", "otlp"])
@pytest.mark.parametrize("kind", ANSWERS)
def test_garbage_is_no_answer(kind: str, sink: str, tmp_path: Path, tracing_off: None) -> None:
    """Spans wait until the server behind the address is the right one; a flush says that they do, soon."""
    with garbage(kind) as server:
        where = {"tracking_uri": server.url} if sink == "mlflow" else {"otlp_endpoint": server.url}
        tracing.configure(**{"tracking_uri": "none", "spool_dir": tmp_path, **where})
        for number in range(3):
            with tracing.span(str(number), kind="tool"):
                pass
        began = time.monotonic()
        result = tracing.flush(10)
        assert time.monotonic() - began < 9
        assert not result
        assert server.sent < 64 * answers.MAX_ANSWER
    assert tracing.dead(spool_dir=tmp_path) == []
    back = Receiver(server.port)
    try:
        assert tracing.flush(20)
        assert (back.mlflow if sink == "mlflow" else back.otlp) == once(3)
    finally:
        back.stop()


def test_an_answer_that_drips(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then never runs into a timeout between two bytes; the whole has one."""

    class Drip:
        closed = False

        def __init__(self) -> None:
            self.headers: dict[str, str] = {}

        def read1(self, _: int, *, decode_content: bool) -> bytes:
            assert decode_content
            clock[0] += 20
            return b"x"

        def close(self) -> None:
            self.closed = True

    clock, answer = [0.0], Drip()
    monkeypatch.setattr(answers, "monotonic", lambda: clock[0])
    with pytest.raises(answers.EndlessAnswer):
        answers.read_answer(answer)
    assert answer.closed
    assert clock[0] <= 80
