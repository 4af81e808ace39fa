"""Traces of runs on a tracking server: each one's summary tells the run of a few, one request that of many."""

from __future__ import annotations

import os
import re
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from test_store import SPANS, make_segment

from mlspan.tracing.export.mlflow.sink import MlflowSink
from mlspan.tracing.export.mlflow.traces import TranslatedTrace
from mlspan.tracing.export.types import TraceSegment
from mlspan.tracing.operations.call_context import TraceOrigin

mlflow = pytest.importorskip("mlflow")
requests = pytest.importorskip("requests")


class Front:
    """A server in front of *uri* that counts requests by path, and answers *refused* paths with *status*.

    With *hides_tags*, it shows no tags of traces.
    """

    def __init__(self, uri: str) -> None:
        self.came: list[str] = []
        self.refused, self.status, self.hides_tags = "nothing", 404, False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def do_GET(self) -> None:
                self.pass_on("GET")

            def do_POST(self) -> None:
                self.pass_on("POST")

            def pass_on(self, method: str) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.came.append(self.path)
                if self.path.endswith(outer.refused):
                    self.answer(outer.status, "application/json", b'{"error_code": "NO", "message": "no"}')
                    return
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                found = requests.request(method, uri + self.path, data=body, headers=headers, timeout=60)
                body = found.content.replace(b'"tags"', b'"no_tags"') if outer.hides_tags else found.content
                self.answer(found.status_code, found.headers.get("Content-Type", ""), body)

            def answer(self, status: int, content_type: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def count(self, path: str) -> int:
        return sum(one.endswith(path) for one in self.came)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@pytest.fixture
def front(mlflow_server: str) -> Iterator[Front]:
    server = Front(mlflow_server)
    mlflow.set_tracking_uri(mlflow_server)
    yield server
    mlflow.set_tracking_uri(None)
    server.stop()


def new_runs(count: int) -> tuple[str, list[str]]:
    """The id of a new experiment and those of runs in it."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    experiment = client.create_experiment(f"runs-{uuid.uuid4().hex[:8]}")
    return experiment, [client.create_run(experiment).info.run_id for _ in range(count)]


def send(front: Front, segments: list[TraceSegment]) -> list[str]:
    sink = MlflowSink(tracking_uri=front.url)
    try:
        sink.send([make_segment("chat")])  # a server that is known to take spans gets summaries first
        front.came.clear()
        return [refused.reason for refused in sink.send(segments)]
    finally:
        sink.close()


def ids(segments: list[TraceSegment]) -> list[str]:
    return sorted(f"tr-{one.spans[0].get_span_context().trace_id:032x}" for one in segments)


def of_run(experiment: str, run: str) -> list[Any]:
    found = mlflow.search_traces(locations=[experiment], run_id=run, return_type="list", include_spans=False)
    return sorted((trace.info for trace in found), key=lambda info: info.trace_id)


def test_many_traces_take_few_requests(front: Front) -> None:
    """60 traces of two runs: a request with spans and one for each run in it; each is in its run, and only there."""
    experiment, runs = new_runs(2)
    segments = [make_segment("chat", origin=TraceOrigin(run_id=runs[number % 3 == 0])) for number in range(60)]
    assert send(front, segments) == []
    assert front.count("/api/3.0/mlflow/traces") == 0
    assert (front.count("/v1/traces"), front.count("/link-to-run")) == (4, 8)
    assert send(front, segments) == []  # as after a failure
    for run in runs:
        infos = of_run(experiment, run)
        assert [info.trace_id for info in infos] == ids([one for one in segments if one.origin.run_id == run])
        assert {(info.tags["mlflow.sourceRun"], info.tags["mlflow.traceName"]) for info in infos} == {(run, "chat")}


def test_few_traces_have_a_summary_each(front: Front) -> None:
    """Of 25 traces in a batch, MLflow has the run in the metadata, which its column Run shows."""
    experiment, (run,) = new_runs(1)
    segments = [make_segment("chat", origin=TraceOrigin(run_id=run)) for _ in range(25)]
    assert send(front, segments) == []
    assert (front.count("/api/3.0/mlflow/traces"), front.count("/link-to-run")) == (25, 0)
    infos = of_run(experiment, run)
    assert [info.trace_id for info in infos] == ids(segments)
    assert {info.trace_metadata["mlflow.sourceRun"] for info in infos} == {run}


@pytest.mark.parametrize("status", [400, 403, 404] if os.environ.get("MLSPAN_WIDE") == "1" else [404])
def test_a_server_that_refuses_links_gets_summaries(front: Front, status: int) -> None:
    """A server that does not know the request, or does not permit it, still learns the run of each trace."""
    experiment, (run,) = new_runs(1)
    segments = [make_segment("chat", origin=TraceOrigin(run_id=run)) for _ in range(26)]
    front.refused, front.status = "/link-to-run", status
    assert send(front, segments) == []
    infos = of_run(experiment, run)
    assert [info.trace_id for info in infos] == ids(segments)
    assert {info.trace_metadata["mlflow.sourceRun"] for info in infos} == {run}


def test_a_server_without_links_is_asked_once(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later traces come with their summaries at once; no trace's summary is added to its spans twice."""
    made: list[str] = []
    add_summary = TranslatedTrace.spans_with_summary

    def note(self: TranslatedTrace) -> Any:
        made.append(self.summary.trace_id)
        return add_summary(self)

    monkeypatch.setattr(TranslatedTrace, "spans_with_summary", note)
    experiment, (run,) = new_runs(1)
    first, later = ([make_segment("chat", origin=TraceOrigin(run_id=run)) for _ in range(26)] for _ in range(2))
    front.refused = "/link-to-run"
    sink = MlflowSink(tracking_uri=front.url)
    try:
        assert sink.send(first) == []
        assert front.count("/link-to-run") > 0
        front.came.clear()
        assert sink.send(later) == []
    finally:
        sink.close()
    assert (front.count("/api/3.0/mlflow/traces"), front.count("/link-to-run")) == (26, 0)
    assert [info.trace_id for info in of_run(experiment, run)] == ids([*first, *later])
    assert made
    assert len(made) == len({*made})
    assert {*made} <= {*ids(first)}


def test_a_server_that_fails_meanwhile_gets_all_of_it_again(front: Front) -> None:
    """Linking fails for a while: nothing counts as stored before it has worked."""
    experiment, (run,) = new_runs(1)
    segments = [make_segment("chat", origin=TraceOrigin(run_id=run)) for _ in range(26)]
    front.refused, front.status = "/link-to-run", 503
    with pytest.raises(Exception, match=re.escape("answers 503")) as away:
        send(front, segments)
    assert away.value.taken == []  # type: ignore[attr-defined]
    front.refused = "nothing"
    assert send(front, segments) == []
    assert [info.trace_id for info in of_run(experiment, run)] == ids(segments)


def test_a_server_that_takes_no_tags_from_spans_gets_summaries(front: Front) -> None:
    """MLflow up to 3.10: names and tags of traces outside of a run are told for each of them, those sent first too."""
    front.hides_tags = True
    sink = MlflowSink(tracking_uri=front.url)
    try:
        for expected in (3, 6):
            assert sink.send([make_segment("chat") for _ in range(3)]) == []
            assert front.count("/api/3.0/mlflow/traces") == expected
    finally:
        sink.close()


def test_whether_a_server_takes_tags_is_asked_once(front: Front) -> None:
    sink = MlflowSink(tracking_uri=front.url)
    try:
        for _ in range(3):
            assert sink.send([make_segment("chat") for _ in range(3)]) == []
    finally:
        sink.close()
    assert front.count("/api/3.0/mlflow/traces") == 0
    assert sum("/api/3.0/mlflow/traces/tr-" in path for path in front.came) == 1


def _look_up(trace_id: str) -> tuple[Any, list[Any]]:
    """What a person sees of a trace, and its spans, but for what a trace of its own has."""
    found = mlflow.get_trace(trace_id)
    info = found.info
    own = {"mlflow.artifactLocation", "mlflow.source.name", "mlflow.source.type", "mlflow.trace_schema.version"}
    metadata = {key: value for key, value in info.trace_metadata.items() if key not in own | {"mlflow.trace.sizeStats"}}
    metadata.pop("mlflow.trace.infoFinalized", None)
    metadata.pop("mlflow.trace.sizeBytes", None)
    tags = {key: value for key, value in info.tags.items() if key not in own}
    seen = info.request_preview or None, info.response_preview or None, info.state, info.execution_duration
    spans = sorted(
        (span.name, span.span_type, span.inputs, span.outputs, span.status.status_code, span.parent_id)
        for span in found.data.spans
    )
    return (*seen, info.request_time, tags, metadata), spans


def test_many_traces_of_any_kind_are_shown_as_few_are(front: Front) -> None:
    """Previews that a server would not derive are sent for many traces at once: 30 traces take three requests."""
    kinds = [(name,) for name in SPANS if name != "who"] + [("agent", "chat", "tool"), ("workflow", "agent", "chat")]
    few, many = ([make_segment(*kind) for kind in kinds] for _ in range(2))
    assert len(few) <= 25
    more = [make_segment("agent", "tool") for _ in range(30 - len(many))]
    assert send(front, few) == []
    assert front.count("/api/3.0/mlflow/traces") > 0
    assert send(front, [*many, *more]) == []
    assert (front.count("/api/3.0/mlflow/traces"), front.count("/v1/traces")) == (0, 8)
    for kind, one, other in zip(kinds, ids_in_order(few), ids_in_order(many), strict=True):
        assert _look_up(one) == _look_up(other), kind
    assert send(front, [*many, *more]) == []  # as after a failure
    assert _look_up(ids_in_order(many)[-1]) == _look_up(ids_in_order(few)[-1])


def ids_in_order(segments: list[TraceSegment]) -> list[str]:
    return [f"tr-{one.spans[0].get_span_context().trace_id:032x}" for one in segments]
