"""What waits for one destination takes no room from another; what can be delivered is not dropped for what cannot."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.receiver import Receiver

from mlspan import tracing
from mlspan.tracing.export.spool.directory import create_spool

_BUDGET = 1024 * 1024  # bytes, the least that may be set


@pytest.fixture
def other() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


def record(start: int, end: int, size: int = 26_000) -> None:
    for number in range(start, end):
        with tracing.span(str(number), kind="tool") as span:
            span.output = "x" * size


def names(start: int, end: int) -> dict[str, int]:
    return {f"execute_tool {number}": 1 for number in range(start, end)}


def leave(spool: Path, receiver: Receiver, kind: str) -> None:
    """Fill the folder with what this receiver does not take."""
    receiver.mode = 503
    configure(spool, **{kind: receiver.url})
    record(0, 100)
    tracing.shutdown(1)


def configure(spool: Path, mlflow: str = "none", otlp: str | None = None) -> None:
    tracing.configure(
        tracking_uri=mlflow, **({"otlp_endpoint": otlp} if otlp else {}), spool_dir=spool, spool_bytes=_BUDGET
    )


@pytest.mark.parametrize("kind", ["otlp", "mlflow"])
def test_what_is_left_for_another_destination_starves_nobody(
    receiver: Receiver, other: Receiver, tmp_path: Path, tracing_off: None, kind: str
) -> None:
    leave(tmp_path, other, kind)
    assert sum(path.stat().st_size for path in tmp_path.glob("*.spool*")) > 0.8 * _BUDGET
    configure(tmp_path, **{kind: receiver.url})
    record(0, 20)
    result = tracing.flush(20)
    assert (bool(result), result.stored) == (True, 20)
    assert (receiver.otlp if kind == "otlp" else receiver.mlflow) == names(0, 20)


def test_one_of_two_destinations_is_away(
    receiver: Receiver, other: Receiver, tmp_path: Path, tracing_off: None
) -> None:
    """Once the disk is full of what one does not take, the other still gets all; what is lost counts for the first."""
    other.mode = 503
    configure(tmp_path, mlflow=other.url, otlp=receiver.url)
    record(0, 30)
    assert not tracing.flush(10)
    record(30, 120)
    result = tracing.flush(10)
    mlflow, otlp = result.destinations
    assert receiver.otlp == names(0, 120)
    assert (bool(otlp), bool(mlflow)) == (True, False)
    assert sum(mlflow.dropped.values()) > 50
    other.mode = "ok"
    assert tracing.flush(10)
    assert 20 < other.mlflow.total() == 120 - sum(mlflow.dropped.values())


def test_a_burst_beyond_the_disk_goes_to_a_healthy_destination_by_memory(
    receiver: Receiver, tmp_path: Path, tracing_off: None
) -> None:
    configure(tmp_path, otlp=receiver.url)
    record(0, 1)
    assert tracing.flush(20)
    record(1, 150)  # 4 MB at once
    result = tracing.flush(20)
    assert (bool(result), result.stored, result.dropped) == (True, 149, 0)
    assert receiver.otlp == names(0, 150)


def test_traces_that_are_open_while_the_disk_is_full(
    receiver: Receiver, other: Receiver, tmp_path: Path, tracing_off: None
) -> None:
    """A trace that begins on a full disk is in memory to its end, and whole."""
    configure(tmp_path, mlflow=receiver.url)
    record(100, 101)
    assert tracing.flush(20)
    with tracing.span("root", kind="agent"):
        record(0, 80)
        tracing.flush(5)
        record(80, 90)
    assert tracing.flush(20)
    assert receiver.mlflow == {**names(0, 90), **names(100, 101), "invoke_agent root": 1}


@pytest.mark.parametrize("kind", ["spool", "aside"])
def test_the_age_limit_holds_for_every_file(
    receiver: Receiver, other: Receiver, tmp_path: Path, tracing_off: None, kind: str
) -> None:
    """Whoever it is for, and whether it can be read or not."""
    leave(tmp_path, other, "otlp")
    old = time.time() - 8 * 24 * 3600
    if kind == "aside":
        for number, changed in enumerate([old, time.time()]):
            path = tmp_path / f"1-{number}.spool.aside"
            path.write_bytes(b"damaged")
            os.utime(path, (changed, changed))
    else:
        import sqlite3

        for path in tmp_path.glob("*.spool"):
            with sqlite3.connect(path) as db:
                db.execute("update span set stored = ?", [old])
            db.close()
    configure(tmp_path, otlp=receiver.url)
    record(0, 1)
    assert tracing.flush(10)
    tracing.shutdown(5)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left[0] == "1-1.spool.aside" if kind == "aside" else left == []


def test_files_set_aside_are_bounded(receiver: Receiver, tmp_path: Path, tracing_off: None) -> None:
    for number in range(4):
        (tmp_path / f"1-{number}.spool.aside").write_bytes(b"x" * 450_000)
        os.utime(tmp_path / f"1-{number}.spool.aside", (time.time() + number - 10,) * 2)
    tracing.drain(spool_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    configure(tmp_path, otlp=receiver.url)
    record(0, 1)
    assert tracing.flush(10)
    assert sorted(path.name for path in tmp_path.glob("*.aside")) == ["1-2.spool.aside", "1-3.spool.aside"]


def test_a_spool_is_found_by_its_suffix(tmp_path: Path) -> None:
    spool = create_spool(tmp_path, "0123abcd")
    assert spool.path is not None
    assert spool.path.name.startswith(f"{os.getpid()}-")
    spool.close()
