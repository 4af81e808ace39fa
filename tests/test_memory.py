"""Memory: bounded in bytes while a burst of large content is stored and sent, and given back afterwards.

``MLSPAN_WIDE=1`` runs the bursts that take longer too, as ``make matrix`` does.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.program import environment, run
from servers.receiver import Receiver

from mlspan import tracing
from mlspan.tracing import runtime
from mlspan.tracing.export.processor import ExportProcessor
from mlspan.tracing.export.worker import ExportWorker

_MIB = 1024 * 1024
_AFTER = 64  # MiB: the most that may be left once all is sent
_PEAK = 256  # MiB
_is_wide = pytest.mark.skipif(os.environ.get("MLSPAN_WIDE") != "1", reason="make matrix runs it")

_PROGRAM = """
def measure(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) / 1024
def record(number):
    with tracing.span(str(number), kind="tool") as span:
        span.output = format(number, "04x") * (1 << 18)  # 1 MiB
record(0); tracing.flush(30)
before = measure("VmRSS")
{burst}
result = tracing.flush(100)
print(result.stored, round(measure("VmRSS") - before), round(measure("VmHWM") - before))
"""
_BURSTS = {
    "traces": "for number in range(1, 151): record(number)",
    "one trace": """
with tracing.span("root", kind="tool"):
    for number in range(1, 151): record(number)
""",
}


@pytest.fixture
def light_receiver(receiver: Receiver) -> Receiver:
    receiver.keeps_bodies = False
    return receiver


@pytest.mark.parametrize(
    ("kind", "burst", "peak"),
    [
        ("mlflow", "traces", _PEAK),
        pytest.param("otlp", "traces", _PEAK, marks=_is_wide),
        pytest.param("mlflow", "one trace", 3 * _PEAK, marks=_is_wide),
    ],
)
def test_a_burst_of_150_mib_leaves_little(
    light_receiver: Receiver, spool: Path, kind: str, burst: str, peak: int
) -> None:
    """One trace of that size is in memory as a whole for a moment, as its totals are those of all its spans."""
    env = environment(spool, **{kind: light_receiver.url})
    done = run(_PROGRAM.format(burst=_BURSTS[burst]), env, timeout=150)
    assert done.stderr == ""
    stored, after, most = map(int, done.stdout.split())
    assert stored == 150 + (burst == "one trace")
    assert after <= _AFTER
    assert most <= peak


@pytest.fixture
def held_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The export worker takes nothing from the queue until the event is set."""
    go = threading.Event()
    for name in ("accept_start", "accept_end"):
        take = getattr(ExportWorker, name)

        def wait(self: ExportWorker, *given: object, take: object = take) -> None:
            go.wait(60)
            take(self, *given)  # type: ignore[operator]

        monkeypatch.setattr(ExportWorker, name, wait)
    yield go
    go.set()


def _record(start: int, end: int) -> None:
    for number in range(start, end):
        with tracing.span(str(number), kind="tool") as span:
            span.output = format(number, "04x") * (_MIB // 4)


def _open_exporter(receiver: Receiver, spool: Path, kind: str, durability: str) -> ExportProcessor:
    """Record one span, so that the worker is open, and have it wait."""
    where = {"mlflow": {"tracking_uri": receiver.url}, "otlp": {"otlp_endpoint": receiver.url, "tracking_uri": "none"}}
    tracing.configure(spool_dir=spool, durability=durability, **where[kind])  # type: ignore[arg-type]
    _record(0, 1)
    (processor,) = runtime.get_runtime()._pipelines.values()  # type: ignore[union-attr]
    assert processor._opened.wait(30)
    return processor


@pytest.mark.parametrize(
    ("kind", "durability"),
    [("mlflow", "batch"), ("otlp", "span"), pytest.param("otlp", "batch", marks=_is_wide)],
)
def test_what_waits_in_the_queue_is_on_disk(
    receiver: Receiver, spool: Path, tracing_off: None, held_worker: threading.Event, kind: str, durability: str
) -> None:
    """A worker that cannot keep up: the queue holds 64 MiB at most, the rest is on disk, and all of it arrives."""
    receiver.keeps_bodies = False
    processor = _open_exporter(receiver, spool, kind, durability)
    _record(1, 80)
    assert 16 * _MIB < processor._queue.bytes_in - processor._queue.bytes_out <= 64 * _MIB
    held_worker.set()
    result = tracing.flush(60)
    assert (bool(result), result.stored) == (True, 80)
    taken = receiver.mlflow if kind == "mlflow" else receiver.otlp
    assert taken == {f"execute_tool {number}": 1 for number in range(80)}
    assert receiver.content_bytes > 79 * _MIB
    assert processor._queue.bytes_in == processor._queue.bytes_out
    tracing.shutdown(10)
    assert list(spool.iterdir()) == []


def test_without_a_disk_the_queue_ends_at_its_bound(
    receiver: Receiver, spool: Path, tracing_off: None, held_worker: threading.Event
) -> None:
    """What finds no room is dropped and counted."""
    processor = _open_exporter(receiver, spool, "otlp", "none")
    _record(1, 80)
    assert processor._queue.bytes_in - processor._queue.bytes_out <= 66 * _MIB
    held_worker.set()
    result = tracing.flush(60)
    assert not result
    (otlp,) = result.destinations
    assert 10 < sum(otlp.dropped.values()) == 80 - otlp.stored
