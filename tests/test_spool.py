"""The queue on disk itself, the journal in front of it, and draining into a real MLflow."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from servers.program import environment, run
from servers.receiver import Receiver, once

from mlspan import tracing
from mlspan.tracing import runtime
from mlspan.tracing.export.destination import (
    fill_destination,
    make_store_path_absolute,
    restore_credentials,
    strip_credentials,
)
from mlspan.tracing.export.spool import write_ahead
from mlspan.tracing.export.spool.write_ahead import LogFinder, WriteAheadLog, read_log
from mlspan.tracing.operations.call_context import TraceOrigin


def test_a_drain_into_mlflow(receiver: Receiver, spool: Path, mlflow_store: str) -> None:
    """What a server could not take goes into a database instead, with run, session, user and tags, and once."""
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient(mlflow_store)
    experiment = client.create_experiment("spooled")
    run_id = client.create_run(experiment).info.run_id
    receiver.mode = 500
    code = f"""
    with tracing.session("s-1"), tracing.user("ada"), tracing.tags(env="test"), tracing.run({run_id!r}):
        with tracing.span("agent", kind="agent"), tracing.span("look up", kind="tool") as tool:
            tool.output = "found"
        time.sleep(2)
        with tracing.span("cut off"):
            work(0, 3)
            time.sleep(2)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    env = environment(spool, receiver.url, MLSPAN_EXPERIMENT="spooled")
    assert run(code, env).returncode == -signal.SIGKILL
    seen: list[tracing.DrainResult] = []
    done = tracing.drain(spool_dir=spool, tracking_uri=mlflow_store, progress=seen.append)
    assert (done.sent, done.stay, done.refused) == (5, 0, 0)
    assert seen[-1].sent == 5
    traces = client.search_traces([experiment])
    assert sorted((t.info.tags["mlflow.traceName"], len(t.data.spans)) for t in traces) == [
        ("execute_tool 0", 3),
        ("invoke_agent agent", 2),
    ]
    for trace in traces:
        assert trace.info.trace_metadata["mlflow.sourceRun"] == run_id
        assert trace.info.trace_metadata["mlflow.trace.session"] == "s-1"
        assert trace.info.trace_metadata["mlflow.trace.user"] == "ada"
        assert trace.info.tags["env"] == "test"
        ids = {span.span_id for span in trace.data.spans}
        assert {span.parent_id for span in trace.data.spans} <= {None, *ids}
    missing = [trace.info.trace_metadata.get("mlspan.missing_parent") for trace in traces]
    assert len(list(filter(None, missing))) == 1  # of the root that never ended


def test_a_trace_that_outlives_its_memory(receiver: Receiver, spool: Path, tracing_off: None) -> None:
    """With more waiting than is kept at hand, the rest is read back from the disk, and all arrives once."""
    receiver.mode = 500
    tracing.configure(tracking_uri=receiver.url, spool_dir=spool)
    for number in range(0, 6_000, 20):
        with tracing.span("root"):
            for below in range(number, number + 20):
                with tracing.span(str(below), kind="tool"):
                    pass
    assert not tracing.flush(30)
    receiver.mode = "ok"
    assert tracing.flush(60)
    assert receiver.mlflow == {**once(6_000), "root": 300}


def test_nothing_grows(receiver: Receiver, spool: Path, tracing_off: None) -> None:
    """After thousands of traces, failed ones and ones that nobody wants among them, every table is empty."""
    tracing.configure(tracking_uri="none", otlp_endpoint=receiver.url, spool_dir=spool)
    for number in range(3_000):
        try:
            with tracing.span(str(number), kind="tool"):
                if number % 3 == 0:
                    raise ValueError("bad")
        except ValueError:
            pass
        if number % 1_000 == 999:
            assert tracing.flush(30)
    (pipeline,) = runtime.get_runtime()._pipelines.values()
    worker = pipeline._worker
    (own,) = worker.directory.list_spools()
    assert (
        own.count_spans(),
        own._recent._held,
        own._recent._spans,
        worker._fresh,
        worker._ready,
        worker.writer._stored_open,
    ) == (
        0,
        {},
        0,
        [],
        [],
        set(),
    )
    assert (worker.assembly._open_traces, worker.assembly._waiting, pipeline._origins) == ({}, {}, {})
    assert own.count_used_bytes() < 1024 * 1024
    assert receiver.otlp.total() == 3_000


def test_a_torn_journal(tmp_path: Path) -> None:
    """A record that was cut off, or spoilt, is passed over; those before and after it are read."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
    journal = WriteAheadLog(tmp_path / "x.spool")
    sizes = []
    for number in range(4):
        span = tracer.start_span(str(number), attributes={"text": "x" * 100})
        span.end()
        journal.append_span(span._readable_span(), TraceOrigin(session=f"s-{number}", tracking_uri="http://u:p@h"))
        sizes.append(LogFinder(tmp_path).find_logs(tmp_path / "x.spool")[0].stat().st_size)
    journal.close()
    (path,) = LogFinder(tmp_path).find_logs(tmp_path / "x.spool")
    data = bytearray(path.read_bytes())
    assert b"u:p" not in data
    data[sizes[0] + 60] ^= 0xFF
    path.write_bytes(data[:-10])
    found = [(place, origin.session) for place, origin, _ in read_log(path)]
    assert found == [(1, "s-0"), (3, "s-2")]


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_full_journals_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is full stays open while a thread may write to it, and is then closed, not left to the collector."""
    monkeypatch.setattr(write_ahead, "_ROTATE_BYTES", 10)
    monkeypatch.setattr(write_ahead, "_DELETE_DELAY", -1.0)
    span = TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("x")
    span.end()
    journal = WriteAheadLog(tmp_path / "x.spool")
    files = []
    for _ in range(3):
        files.append(journal._file)
        journal.append_span(span._readable_span(), TraceOrigin())  # type: ignore[attr-defined]
        journal.rotate_file()
    assert journal.delete_old_files() > 0
    assert [file.closed for file in files] == [True] * 3
    journal.rotate_file()
    journal.close()
    assert journal._file.closed


def test_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A destination is whole for another process, and holds no credentials; this process still knows them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    filled = fill_destination(TraceOrigin(), "sqlite:///mlflow.db", None, None)
    assert filled == TraceOrigin(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", experiment_id="0")
    assert fill_destination(TraceOrigin(experiment_name="a", run_id="r"), "http://h", "b", "s") == TraceOrigin(
        tracking_uri="http://h", experiment_name="a", run_id="r"
    )
    assert fill_destination(TraceOrigin(), "http://h", "b", "s").experiment_name == "b"
    # Where spans go by OTLP alone, no store is named: whoever drains them into MLflow chooses it.
    assert fill_destination(TraceOrigin(), "", None, None) == TraceOrigin(tracking_uri="")
    assert make_store_path_absolute("") == ""
    assert make_store_path_absolute("mlruns") == (tmp_path / "mlruns").as_uri()
    for uri, left in {
        "https://ada:pa@ss@h:1/x": "https://h:1/x",
        "postgresql+psycopg2://u:p@h/db?password=x&sslmode=require": "postgresql+psycopg2://h/db?sslmode=require",
        "http://h?api_key=1": "http://h",
        "sqlite:////a/b@c.db": "sqlite:////a/b@c.db",
    }.items():
        assert (strip_credentials(uri), restore_credentials(left)) == (left, uri)
