"""Backends that refuse, hang, fail, ask for patience: nobody waits for them, and nothing is lost or sent twice."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import time
from pathlib import Path

import pytest
from servers.program import environment, run
from servers.receiver import Receiver, once

from mlspan import tracing

BOTH = """
from mlspan import tracing
work(0, 20)
times = []
for number in range(20, 40):
    begun = time.perf_counter()
    work(number, number + 1)
    times.append(time.perf_counter() - begun)
    time.sleep(0.02)
print(sorted(times)[10] * 1000)
print(time.time())
"""


def drained(spool: Path, **more: object) -> tracing.DrainResult:
    return tracing.drain(spool_dir=spool, **more)


def spools(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.exists() else []


@pytest.mark.parametrize("fault", ["refused", "hang", "slow", 500, 429])
def test_an_outage_costs_nobody_and_loses_nothing(receiver: Receiver, spool: Path, fault: str | int) -> None:
    """A call costs under 5 ms more, the process ends within 5 s, and a drain sends each span to each backend once."""
    where = receiver.url
    if fault == "refused":
        receiver.stop()
    else:
        receiver.mode, receiver.retry_after = fault, "30"
    done = run(BOTH, environment(spool, where, where))
    ended = time.time()
    milliseconds, finished = done.stdout.split()
    assert done.returncode == 0, done.stderr
    assert float(milliseconds) < 5
    assert ended - float(finished) < 5
    back = Receiver(receiver.port) if fault == "refused" else receiver
    back.mode = "ok"
    after = drained(spool)
    assert (after.stay, after.refused, after.in_use, dict(after.reasons)) == (0, 0, 0, {})
    assert back.otlp == once(40)
    # The process may end in the middle of a request: what is not acknowledged is sent again, and replaces itself.
    assert back.mlflow.keys() == once(40).keys() if fault == "slow" else back.mlflow == once(40)
    assert spools(spool) == []
    if back is not receiver:
        back.stop()


def test_the_same_process_sends_when_the_backend_is_back(
    receiver: Receiver, spool: Path, tracing_off: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Away for an hour, as the clock has it: tries grow rare, and all arrives once the backend answers."""
    from mlspan.tracing.export.sending import sender

    hours = [0.0]
    monkeypatch.setattr(sender, "monotonic", lambda: time.monotonic() + hours[0])
    receiver.mode = 500
    tracing.configure(tracking_uri="none", otlp_endpoint=receiver.url, spool_dir=spool)
    for number in range(50):
        with tracing.span(str(number), kind="tool"):
            pass
    assert not tracing.flush(10)
    for _ in range(60):
        hours[0] += 60
        time.sleep(0.01)
    receiver.mode = "ok"
    hours[0] += 60
    assert tracing.flush(10)
    assert receiver.otlp == once(50)


def test_retry_after_is_heeded(receiver: Receiver, spool: Path, tracing_off: None) -> None:
    """A receiver that asks for 2 s is left alone for as long."""
    receiver.mode, receiver.retry_after = 429, "2"
    tracing.configure(tracking_uri="none", otlp_endpoint=receiver.url, spool_dir=spool)
    with tracing.span("0", kind="tool"):
        pass
    until = time.monotonic() + 15
    while not receiver.requests and time.monotonic() < until:
        time.sleep(0.05)
    receiver.mode = "ok"
    while not receiver.otlp and time.monotonic() < until:
        time.sleep(0.05)
    first, second = receiver.requests
    assert 1.9 < second - first < 10
    assert receiver.otlp == once(1)


def test_the_next_process_sends_what_the_last_one_could_not(receiver: Receiver, spool: Path) -> None:
    """Started with the same settings, it takes over what waits, and each span arrives once."""
    receiver.mode = 500
    assert run("work(0, 10)", environment(spool, receiver.url, receiver.url)).returncode == 0
    receiver.mode = "ok"
    assert run("work(10, 20)", environment(spool, receiver.url, receiver.url)).returncode == 0
    assert (receiver.otlp, receiver.mlflow) == (once(20), once(20))
    assert spools(spool) == []


def test_one_sink_is_away_and_the_other_is_not(receiver: Receiver, spool: Path) -> None:
    """Each acknowledges for itself: what OTLP has taken is not sent to it again when MLflow is back."""
    away = Receiver()
    away.mode = 503
    assert run("work(0, 10)", environment(spool, away.url, receiver.url)).returncode == 0
    assert receiver.otlp == once(10)
    away.mode = "ok"
    assert drained(spool).sent == 10
    assert (away.mlflow, receiver.otlp) == (once(10), once(10))
    away.stop()


def test_the_spool_is_private(receiver: Receiver, spool: Path) -> None:
    """Folder 0700, files 0600, and no credentials in them: neither of the address nor of the environment."""
    receiver.mode = 500
    secret = {
        "MLFLOW_TRACKING_TOKEN": "canary-token",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=canary-header",
        "MLSPAN_DURABILITY": "span",
    }
    where = receiver.url.replace("http://", "http://canary-user:canary-password@")
    done = run(
        "work(0, 5); os._exit(0) if not tracing.flush(3) else None", environment(spool, where, receiver.url, **secret)
    )
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(spool.stat().st_mode) == 0o700
    files = spools(spool)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert any(b"execute_tool 3" in path.read_bytes() for path in files)
    assert not any(b"canary" in path.read_bytes() for path in files)
    assert "canary" not in done.stderr


@pytest.mark.parametrize("durability", ["batch", "span"])
def test_a_folder_that_cannot_be_written(receiver: Receiver, tmp_path: Path, durability: str) -> None:
    """One line says so, and the spans are sent from memory."""
    (tmp_path / "file").write_text("")
    done = run("work(0, 5)", environment(tmp_path / "file/spool", None, receiver.url, MLSPAN_DURABILITY=durability))
    (line,) = done.stderr.splitlines()
    assert line.startswith("mlspan: traces cannot be kept in ")
    assert receiver.otlp == once(5)


@pytest.mark.parametrize("durability", ["batch", "span"])
def test_a_disk_that_is_full(receiver: Receiver, tmp_path: Path, durability: str) -> None:
    """One line says so; what no longer fits is in memory, and all of it arrives when the backend is back."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False, timeout=30).returncode
    ):
        pytest.skip("no small disk can be mounted here")
    receiver.mode = 500
    (tmp_path / "code").write_text("")
    code = """
    text = "x" * 20_000
    for number in range(100):
        with tracing.span(str(number), kind="tool") as span:
            span.output = text
    tracing.flush(5)
    print("full", flush=True)
    sys.stdin.readline()
    print(bool(tracing.flush(10)))
    """
    from servers.program import start

    env = environment(disk / "spool", None, receiver.url, MLSPAN_DURABILITY=durability)
    try:
        with start(code, env, stdin=subprocess.PIPE) as process:
            assert process.stdout.readline() == "full\n"
            receiver.mode = "ok"
            out, err = process.communicate("go\n", timeout=60)
        assert out == "True\n", err
        assert receiver.otlp == once(100)
        lines = [line for line in err.splitlines() if "cannot be kept" in line]
        assert len(lines) == 1, err
    finally:
        subprocess.run(["umount", disk], check=True, timeout=30)


def test_the_folder_has_a_bound(receiver: Receiver, spool: Path) -> None:
    """What is over ``spool_bytes`` is dropped, counted and told; the rest stays."""
    receiver.mode = 500
    code = """
    for number in range(100):
        with tracing.span(str(number), kind="tool") as span:
            span.output = "x" * 50_000
    tracing.flush(5)
    """
    done = run(code, environment(spool, None, receiver.url, MLSPAN_SPOOL_BYTES=str(1024 * 1024)))
    assert "mlspan: spans lost so far, as more came than could be kept: " in done.stderr
    assert sum(path.stat().st_size for path in spools(spool)) < 1.5 * 1024 * 1024
    receiver.mode = "ok"
    assert 10 <= drained(spool).sent <= 21


def test_what_is_too_old_is_dropped(receiver: Receiver, spool: Path) -> None:
    """Older than ``spool_age`` when somebody looks: dropped and counted, whatever was to have it."""
    receiver.mode = 500
    run("work(0, 10)", environment(spool, receiver.url, receiver.url))
    (kept,) = (path for path in spools(spool) if path.suffix == ".spool")
    with sqlite3.connect(kept) as db:
        db.execute("update span set stored = stored - 8 * 24 * 3600 where id % 2")
    db.close()
    receiver.mode = "ok"
    after = drained(spool)
    assert (after.expired, after.stay) == (5, 0)
    assert receiver.otlp.total() == 5
