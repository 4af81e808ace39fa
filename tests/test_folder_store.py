"""Traces in a folder, where MLflow permits one. What else they carry is in test_server_matrix.py (``make matrix``)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.program import environment, run
from test_store import make_segment, store_in

from mlspan import tracing
from mlspan.tracing.export.types import BackendUnavailable, TraceSegment
from mlspan.tracing.operations.call_context import TraceOrigin

mlflow = pytest.importorskip("mlflow")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The tracking URI of an empty folder that MLflow opens."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    uri = (tmp_path / "mlruns").as_uri()
    mlflow.set_tracking_uri(uri)
    yield uri
    mlflow.set_tracking_uri(None)


def id_of(segment: TraceSegment) -> str:
    context = segment.spans[0].get_span_context()
    assert context is not None
    return f"tr-{context.trace_id:032x}"


def test_parts_that_come_later_are_added(folder: str) -> None:
    """A child first, then its parent, then both again: the tree is whole, and no span is there twice."""
    whole = make_segment("agent", "chat")
    root, child = whole.spans
    parts = [
        TraceSegment(TraceOrigin(), (child,), None, whole=False),
        TraceSegment(TraceOrigin(), (root,), whole.root_id, whole=False),
    ]
    for part in (*parts, *parts):
        assert store_in(folder, [part]) == []
    found = mlflow.get_trace(id_of(whole))
    assert sorted((span.name, span.parent_id is None) for span in found.data.spans) == [
        ("agent", True),
        ("chat", False),
    ]
    assert found.info.tags["mlflow.traceName"] == "agent"
    assert json.loads(found.info.trace_metadata["mlflow.trace.tokenUsage"])["total_tokens"] == 17


@pytest.mark.parametrize("kept", [0, 40] if os.environ.get("MLSPAN_WIDE") == "1" else [0])
def test_half_a_file_is_written_anew(folder: str, kept: int) -> None:
    """As a process that is killed while it writes leaves it: what it has not acknowledged is sent again."""
    segment = make_segment("chat")
    for name in ("traces.json", "trace_info.yaml"):
        assert store_in(folder, [segment]) == []
        (file,) = Path(folder.removeprefix("file://")).rglob(name)
        file.write_text(file.read_text()[:kept])
        assert store_in(folder, [segment]) == []
        assert len(mlflow.get_trace(id_of(segment)).data.spans) == 1


@pytest.mark.parametrize("methods", [["_download_file"], ["_download_file", "list_artifacts"]], ids=["get", "all"])
def test_a_file_that_cannot_be_read_is_kept(folder: str, monkeypatch: pytest.MonkeyPatch, methods: list[str]) -> None:
    """A part that comes while the artifacts are away waits: the file would be written without the parts before it."""
    from mlflow.store.artifact.artifact_repo import ArtifactRepository
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    whole = make_segment("agent", "chat")
    root, child = whole.spans
    first = TraceSegment(TraceOrigin(), (child,), None, whole=False)
    second = TraceSegment(TraceOrigin(), (root,), whole.root_id, whole=False)
    # As the artifacts of a bucket are read. What is not there is reported in the same way.
    monkeypatch.setattr(LocalArtifactRepository, "download_trace_data", ArtifactRepository.download_trace_data)
    assert store_in(folder, [first]) == []

    def fail(*_: object, **__: object) -> None:
        raise OSError("the bucket is away")

    with monkeypatch.context() as away:
        for method in methods:
            away.setattr(LocalArtifactRepository, method, fail)
        with pytest.raises(BackendUnavailable, match="the bucket is away"):
            store_in(folder, [second])
    assert store_in(folder, [second]) == []
    assert {span.name for span in mlflow.get_trace(id_of(whole)).data.spans} == {"agent", "chat"}


def test_without_permission_traces_wait(folder: str, tmp_path: Path) -> None:
    """One line says what to set; once it is set, they go into the folder that the program meant, from wherever."""
    env = environment(tmp_path / "spool", "mlruns", MLFLOW_ALLOW_FILE_STORE="false")
    (tmp_path / "of program").mkdir()
    done = run("work(0, 3)", env, cwd=tmp_path / "of program")
    assert done.returncode == 0
    assert sum("MLFLOW_ALLOW_FILE_STORE=true" in line for line in done.stderr.splitlines()) == 1
    drained = tracing.drain(spool_dir=tmp_path / "spool")
    assert (drained.sent, drained.stay, drained.refused) == (3, 0, 0)
    assert len([*(tmp_path / "of program" / "mlruns").rglob("traces.json")]) == 3
