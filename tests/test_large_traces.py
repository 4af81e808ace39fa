"""Traces of thousands of spans, a process with thousands of traces, and a root that is open for long.

``MLSPAN_WIDE=1``, as in ``make matrix``, takes 100,000 traces, 20,000 into a real server, which takes minutes for them,
and a root that is open for two minutes.
"""

from __future__ import annotations

import gzip
import os
import sqlite3
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from servers.process import Process, free_port
from servers.program import environment, run
from servers.receiver import Receiver, once

from mlspan import tracing

_IS_WIDE = os.environ.get("MLSPAN_WIDE") == "1"
_TRACES = 100_000 if _IS_WIDE else 4_000
_SERVER_TRACES = 20_000
_SECONDS = 3000 if _IS_WIDE else 170  # for all of them
_OPEN_SECONDS = 120.0 if _IS_WIDE else 3.0
_GROWTH = 24  # MiB

_MEASURE = """
def measure():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) / 1024
"""


def _count_spans(body: bytes) -> int:
    sent = ExportTraceServiceRequest.FromString(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
    return sum(len(scope.spans) for resource in sent.resource_spans for scope in resource.scope_spans)


def test_a_trace_of_5000_spans(receiver: Receiver, spool: Path) -> None:
    """A server gets it in several requests, of which each takes it a bounded time; nothing is sent twice."""
    code = """
    with tracing.span("root", kind="tool"):
        work(0, 4999)
    assert tracing.flush(60)
    """
    done = run(code, environment(spool, receiver.url, receiver.url), timeout=150)
    assert (done.returncode, done.stderr) == (0, "")
    assert receiver.mlflow == receiver.otlp == {"execute_tool root": 1, **once(4999)}
    sizes = [_count_spans(body) for body in receiver.bodies if b"trace_info" not in body]
    assert 1000 < max(sizes) <= 2000


@pytest.mark.timeout(_SECONDS + 100)
def test_many_small_traces_in_flat_memory(receiver: Receiver, spool: Path) -> None:
    """As many as a process makes: what they have left behind is bounded."""
    receiver.keeps_bodies = False
    assert _measure_growth(spool, receiver.url, _TRACES) < _GROWTH
    assert receiver.mlflow.total() == _TRACES


@pytest.mark.skipif(not _IS_WIDE, reason="make matrix runs it: the server takes minutes for so many")
@pytest.mark.timeout(_SECONDS + 100)
def test_many_into_a_real_server(mlflow_store: str, spool: Path, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", mlflow_store, "--port", str(port)]
    server = Process([*command, "--workers", "1", "--host", "127.0.0.1"], port, tmp_path / "log", cwd=tmp_path)
    try:
        server.wait(150)
        assert _measure_growth(spool, f"http://127.0.0.1:{port}", _SERVER_TRACES) < _GROWTH
    finally:
        server.stop()
    with closing(sqlite3.connect(mlflow_store.removeprefix("sqlite:///"))) as db:
        assert db.execute("select count(*), count(distinct trace_id) from spans").fetchone() == (_SERVER_TRACES,) * 2


def _measure_growth(spool: Path, destination: str, traces: int) -> float:
    """Return by how many MiB a process grows from its first 2,000 traces to its last, all of them stored."""
    code = f"""
    for part in range({traces // 2000}):
        work(part * 2000, part * 2000 + 2000)
        assert tracing.flush({_SECONDS})
        if part == 0:
            before = measure()
    print(measure() - before)
    """
    done = run(_MEASURE + textwrap.dedent(code), environment(spool, destination), timeout=_SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    return float(done.stdout)


@pytest.mark.timeout(_SECONDS + 100)
def test_a_root_that_is_open_for_long(receiver: Receiver, spool: Path) -> None:
    """Thousands of children of 8 KiB each wait on disk, not in memory, and are there when the root has ended."""
    receiver.keeps_bodies = False
    code = f"""
    work(0, 1); tracing.flush(30)
    before = measure()
    with tracing.span("root", kind="tool"):
        until = time.monotonic() + {_OPEN_SECONDS}
        for number in range(1, 4001):
            with tracing.span(str(number), kind="tool") as span:
                span.output = format(number, "04x") * 2048
            if number % 100 == 0:
                time.sleep(max(0, (until - time.monotonic()) / (41 - number // 100)))
        print(measure() - before)
    assert tracing.flush(120)
    """
    done = run(_MEASURE + textwrap.dedent(code), environment(spool, receiver.url), timeout=_SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    assert receiver.mlflow == {"execute_tool root": 1, **once(4001)}
    assert float(done.stdout) < 31.25 + _GROWTH  # what they hold together is 31 MiB


def _read_spans(store: str) -> dict[str, str | None]:
    """Return the name of each stored span, with the id of its parent."""
    with sqlite3.connect(store.removeprefix("sqlite:///")) as db:
        found = dict(db.execute("select name, parent_span_id from spans").fetchall())
    db.close()
    return found


def test_part_of_a_trace_whose_root_is_open(mlflow_store: str, spool: Path, tracing_off: None) -> None:
    """MLflow has what has ended, as roots; once their parent has ended too, they are below it, in its trace."""
    tracing.configure(tracking_uri=mlflow_store, spool_dir=spool, partial_interval=1)
    with tracing.span("root", kind="agent") as root:
        root.input = "asked"
        for number in range(3):
            with tracing.span(str(number), kind="tool"):
                pass
        until = time.monotonic() + 90
        while len(_read_spans(mlflow_store)) < 3 and time.monotonic() < until:
            time.sleep(0.1)
        assert _read_spans(mlflow_store) == dict.fromkeys([f"execute_tool {number}" for number in range(3)])
    assert tracing.flush(60)
    stored = _read_spans(mlflow_store)
    assert stored.pop("invoke_agent root") is None
    assert len(stored) == 3
    assert len(set(stored.values()) - {None}) == 1
    from mlflow import MlflowClient

    (trace,) = MlflowClient(mlflow_store).search_traces(locations=["0"])
    assert (trace.info.request_preview, trace.info.tags["mlflow.traceName"]) == ("asked", "invoke_agent root")
