"""Clocks that are set, servers that never finish an answer, and backends that fail in the middle of a drain."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.program import environment, run, start
from servers.receiver import Receiver, once

from mlspan import tracing
from mlspan.tracing.export import answers
from mlspan.tracing.export.spool import directory, drain

_DAY = 24 * 3600.0


def _work(start: int, end: int) -> None:
    for number in range(start, end):
        with tracing.span(str(number), kind="tool") as span:
            span.output = "done"


class Dripping:
    """A server that answers one byte every tenth of a second, for as long as it is asked: of the head, or of a line."""

    def __init__(self, first: bytes) -> None:
        self._first, self._stopped = first, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._drip, args=(near,), daemon=True).start()

    def _drip(self, near: socket.socket) -> None:
        with near:
            try:
                near.recv(65536)
                near.sendall(self._first)
                while not self._stopped.wait(0.1):
                    near.sendall(b"x")
            except OSError:
                return

    def stop(self) -> None:
        self._stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.fixture(params=[b"HTTP/1.1 200 OK\r\nX-Filler: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"])
def dripping(request: pytest.FixtureRequest) -> Iterator[Dripping]:
    server = Dripping(request.param)
    yield server
    server.stop()


@pytest.mark.parametrize("kind", ["mlflow", "otlp"])
def test_an_answer_that_never_ends(
    dripping: Dripping, tmp_path: Path, tracing_off: None, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """No byte of it is late, but all of it is: the request is given up, the spans are kept, and a line says why."""
    monkeypatch.setattr(answers, "MAX_SECONDS", 1.0)
    to = {"tracking_uri": dripping.url} if kind == "mlflow" else {"tracking_uri": "none", "otlp_endpoint": dripping.url}
    tracing.configure(spool_dir=tmp_path, **to)
    _work(0, 3)
    result = tracing.flush(20)
    assert result.in_time, "the sender still waits for the answer"
    (one,) = result.destinations
    assert (bool(one), one.stored, one.kept.spans) == (False, 0, 3)
    assert dripping.connections > 0
    tracing.shutdown(5)  # while the time is short


@pytest.mark.parametrize("set_by", [-400 * _DAY, 400 * _DAY])
def test_a_clock_that_is_set(
    receiver: Receiver, spool: Path, tracing_off: None, monkeypatch: pytest.MonkeyPatch, set_by: float
) -> None:
    """What has waited for a moment is not too old because somebody has set the clock meanwhile."""
    receiver.mode = 503
    tracing.configure(tracking_uri=receiver.url, otlp_endpoint=receiver.url, spool_dir=spool, spool_age=7 * _DAY)
    _work(0, 5)
    assert not tracing.flush(10)
    now, now_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: now() + set_by)
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + round(set_by * 1e9))
    monkeypatch.setattr(directory, "_SCAN_INTERVAL", 0.0)
    _work(5, 10)
    assert not tracing.flush(10)
    receiver.mode = "ok"
    result = tracing.flush(30)
    assert result, str(result)
    assert (receiver.otlp, receiver.mlflow.keys()) == (once(10), once(10).keys())


def test_a_clock_that_was_wrong_at_the_start(receiver: Receiver, spool: Path) -> None:
    """A device without a clock of its own begins in 1970: what it has left then is not half a century old."""
    receiver.mode = 503
    run("work(0, 5)", environment(spool, receiver.url))
    (path,) = spool.glob("*.spool")
    db = sqlite3.connect(path)
    db.execute("update span set stored = stored - (select min(stored) from span) + 60")
    db.commit()
    db.close()
    receiver.mode = "ok"
    result = tracing.drain(spool_dir=spool)
    assert (result.sent, result.expired) == (5, 0)
    assert receiver.mlflow == once(5)


def test_a_span_that_ends_before_it_begins(mlflow_store: str, spool: Path, tracing_off: None) -> None:
    """As its clock was set back meanwhile: it is stored."""
    tracing.configure(tracking_uri=mlflow_store, spool_dir=spool)
    real = time.time_ns
    with pytest.MonkeyPatch.context() as patch:
        context = tracing.span("root", kind="agent")
        context.__enter__()
        patch.setattr(time, "time_ns", lambda: real() - 3600 * 10**9)
        context.__exit__(None, None, None)
    result = tracing.flush(60)
    assert result, str(result)


def test_an_outage_in_the_middle_of_a_drain(receiver: Receiver, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each span arrives once, and each outage waits as if it were the first."""
    receiver.mode = 503
    for part in range(3):
        run(f"work({part * 10}, {part * 10 + 10})", environment(spool, None, receiver.url))
    outages = iter([True, False, True, False, True])
    real = receiver._judge

    def judge(path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        return (503, b"") if next(outages, False) else real(path, headers, body)

    receiver.mode, receiver._judge = "ok", judge  # type: ignore[method-assign]
    failures: list[int] = []
    monkeypatch.setattr(drain, "choose_wait", lambda count, _: failures.append(count) or 0.01)
    result = tracing.drain(spool_dir=spool, timeout=60)
    assert failures == [1, 1, 1]
    assert (result.sent, result.stay) == (30, 0)
    assert receiver.otlp == once(30)


def test_two_drains_at_once(receiver: Receiver, spool: Path) -> None:
    """Each spool is sent by one of them; nothing is sent twice, and neither of them fails."""
    receiver.mode = 503
    for part in range(3):
        run(f"work({part * 10}, {part * 10 + 10})", environment(spool, receiver.url, receiver.url))
    receiver.mode = "slow"
    code = "done = tracing.drain(timeout=30); print(done.sent, done.stay)"
    drains = [start(code, environment(spool, receiver.url, receiver.url)) for _ in range(2)]
    told = [one.communicate(timeout=90) for one in drains]
    assert [error for _, error in told] == ["", ""]
    assert sum(int(out.split()[0]) for out, _ in told) == 60
    assert (receiver.otlp, receiver.mlflow) == (once(30), once(30))
    assert list(spool.glob(f"{os.getpid()}-*")) == []
