"""What happens at odd moments: a folder that goes, a disk that is full for a while, a server that hangs."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import urllib3
from servers.receiver import Receiver, once
from test_store import make_segment

from mlspan import tracing
from mlspan.tracing.export.mlflow import http
from mlspan.tracing.export.mlflow.sink import MlflowSink
from mlspan.tracing.operations.call_context import TraceOrigin


def work(start: int, end: int, name: str = "") -> None:
    for number in range(start, end):
        with tracing.span(f"{name}{number}", kind="tool"):
            pass


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


@pytest.mark.parametrize("header", ["0", "nan"])
def test_a_server_in_no_hurry_is_not_pressed(
    receiver: Receiver, tmp_path: Path, tracing_off: None, header: str
) -> None:
    """Whatever Retry-After says, each sink asks again after its own backoff only."""
    receiver.mode, receiver.retry_after = 429, header
    tracing.configure(tracking_uri="none", otlp_endpoint=receiver.url, spool_dir=tmp_path)
    work(0, 5)
    assert wait_for(lambda: len(receiver.requests) > 0)
    time.sleep(2)
    assert len(receiver.requests) <= 3
    receiver.mode = "ok"
    assert tracing.flush(10)


@pytest.mark.parametrize("sink", ["mlflow", "otlp"])
def test_each_kind_of_refusal_is_one_line(
    receiver: Receiver, tmp_path: Path, tracing_off: None, caplog: pytest.LogCaptureFixture, sink: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A hundred refusals that each quote an id of a request are told once; what is kept of lines is bounded."""
    judge, numbers = receiver._judge, iter(range(10**6))

    def refuse(path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        status, words = judge(path, headers, body)
        bad = path == "/v1/traces" and b"bad" in body
        return (400, b"no: request %d" % next(numbers)) if bad else (status, words)

    monkeypatch.setattr(receiver, "_judge", refuse)
    where = {"tracking_uri": receiver.url} if sink == "mlflow" else {"otlp_endpoint": receiver.url}
    tracing.configure(**{"tracking_uri": "none", "spool_dir": tmp_path, **where})
    with caplog.at_level(logging.WARNING, "mlspan"):
        work(0, 1)
        assert tracing.flush(20)
        set_aside = 0
        for turn in range(4):
            work(turn * 25, turn * 25 + 25, "bad")
            set_aside += tracing.flush(20).set_aside
    assert set_aside == 100
    assert sum("no: request" in line for line in caplog.messages) == 1


@pytest.mark.parametrize("durability", ["batch", "span"])
def test_the_folder_is_removed_while_spans_wait(
    receiver: Receiver, tmp_path: Path, tracing_off: None, durability: str
) -> None:
    """Somebody cleans up: what waits and what comes after it is sent once the server is back."""
    spool = tmp_path / "spool"
    receiver.mode = 503
    tracing.configure(tracking_uri="none", otlp_endpoint=receiver.url, spool_dir=spool, durability=durability)
    work(0, 5)
    assert not tracing.flush(5)
    shutil.rmtree(spool)
    work(5, 10)
    assert not tracing.flush(5)
    receiver.mode = "ok"
    assert tracing.flush(20)
    assert receiver.otlp == once(10)


def test_a_disk_that_is_full_for_a_while(
    receiver: Receiver, tmp_path: Path, tracing_off: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans go by memory meanwhile, and to the disk again afterwards; each arrives once."""
    from mlspan.tracing.export.spool import queue

    tracing.configure(tracking_uri="none", otlp_endpoint=receiver.url, spool_dir=tmp_path)
    work(0, 5)
    assert tracing.flush(10)
    add = queue.Spool.add_spans

    def fail(self: queue.Spool, *rows: object) -> object:
        if self.path is not None:
            raise sqlite3.OperationalError("database or disk is full")
        return add(self, *rows)  # type: ignore[arg-type]

    with monkeypatch.context() as full:
        full.setattr(queue.Spool, "add_spans", fail)
        work(5, 10)
        assert tracing.flush(10)
    work(10, 15)
    assert tracing.flush(10)
    assert receiver.otlp == once(15)


def test_a_server_that_hangs_takes_no_other_along(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traces for two tracking servers are in one batch: one hangs and its own wait, the other gets its own."""
    hung = Receiver()
    hung.mode = "hang"
    monkeypatch.setattr(http, "_TIMEOUT", urllib3.Timeout(connect=1, read=0.5))
    segments = [make_segment("chat", origin=TraceOrigin(tracking_uri=uri)) for uri in (hung.url, receiver.url) * 3]
    sink = MlflowSink(tracking_uri=receiver.url)
    try:
        refused = sink.send(segments)
    finally:
        sink.close()
        hung.stop()
    assert [one.item for one in refused] == segments[::2]
    assert all(one.keep for one in refused)
    assert receiver.mlflow.total() == 3
