"""The pipeline under stress: backends that are away, programs that end, forks, finalizers, and OTLP."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import requests
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from mlspan import tracing
from mlspan.tracing.export.mlflow.http import HttpResponse
from mlspan.tracing.export.mlflow.store import StoreDenied
from mlspan.tracing.export.processor import ExportProcessor
from mlspan.tracing.export.recent_spans import RecentSpans, get_span_key
from mlspan.tracing.export.sending.executor import BoundedExecutor
from mlspan.tracing.export.spool.limits import SpoolSettings
from mlspan.tracing.export.trace_assembler import TraceAssembler
from mlspan.tracing.export.types import BackendUnavailable, Refusal, TraceSegment
from mlspan.tracing.operations.call_context import TraceOrigin


class Memory:
    """A sink that keeps what it is sent."""

    exit_grace, local, at_once, executor = 5.0, False, 1, BoundedExecutor(1)

    def __init__(self) -> None:
        self.segments: list[TraceSegment] = []
        self.fault: Exception | None = None
        self.refuse = ""

    def send(self, segments: Sequence[TraceSegment]) -> list[Refusal]:
        if self.fault is not None:
            raise self.fault
        taken = [segment for segment in segments if self.refuse not in names(segment) or not self.refuse]
        self.segments += taken
        return [Refusal(segment, "no such thing") for segment in segments if segment not in taken]

    def prepare(self) -> None: ...
    def close(self) -> None: ...


def names(segment: TraceSegment) -> list[str]:
    return sorted(span.name for span in segment.spans)


@pytest.fixture
def sink() -> Memory:
    return Memory()


@pytest.fixture
def pipeline(sink: Memory) -> Iterator[ExportProcessor]:
    made = ExportProcessor(
        {"mlflow": (lambda: sink, {})}, TraceOrigin, assembly=partial(TraceAssembler, orphan_after=0.3)
    )
    yield made
    made.stop(5)


@pytest.fixture
def tracer(pipeline: ExportProcessor) -> Any:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(pipeline)
    return provider.get_tracer("test")


AI = {"gen_ai.operation.name": "chat"}


def test_a_trace_leaves_whole(tracer: Any, pipeline: ExportProcessor, sink: Memory) -> None:
    """Spans leave together when the last of them has ended, also one that outlives its parent."""
    with tracer.start_as_current_span("root"):
        late = tracer.start_span("late", attributes=AI)
        with tracer.start_as_current_span("child"):
            pass
    assert pipeline.flush(5)
    assert sink.segments == []
    late.end()
    assert pipeline.flush(5)
    (segment,) = sink.segments
    assert (names(segment), segment.whole) == (["child", "late", "root"], True)


def test_a_trace_without_genai_spans_is_dropped(tracer: Any, pipeline: ExportProcessor, sink: Memory) -> None:
    """What holds no GenAI span is the application's alone."""
    with tracer.start_as_current_span("root"), tracer.start_as_current_span("child"):
        pass
    assert pipeline.flush(5)
    assert sink.segments == []


def below(parent: Any, *, remote: bool = False) -> Any:
    """A context whose current span is *parent*, which may have ended, as in a task that a request has left behind."""
    known = parent.get_span_context()
    if remote:
        known = SpanContext(known.trace_id, known.span_id, is_remote=True, trace_flags=known.trace_flags)
    return set_span_in_context(NonRecordingSpan(known))


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("flushed", [False, True])
def test_a_root_that_was_released_is_fetched(
    tracer: Any, pipeline: ExportProcessor, sink: Memory, *, flushed: bool, remote: bool
) -> None:
    """A task that outlives its request brings the request's spans along, once; a second task finds them there."""
    with tracer.start_as_current_span("GET /chat") as root, tracer.start_as_current_span("auth"):
        pass
    if flushed:
        assert pipeline.flush(5)
    for task in ("first", "second"):
        with tracer.start_as_current_span(task, context=below(root, remote=remote)):
            tracer.start_span("chat", attributes=AI).end()
        assert pipeline.flush(5)
    first, second = sink.segments
    assert [names(first), names(second)] == [["GET /chat", "auth", "chat", "first"], ["chat", "second"]]
    assert first.root_id == root.get_span_context().span_id
    assert (first.whole, first.parent_missing, second.parent_missing) == (False, False, False)


def test_what_lies_between_is_fetched_too(tracer: Any, pipeline: ExportProcessor, sink: Memory) -> None:
    """Of several parts that were released one below the other, each that is above the call comes; others do not."""
    for name in ("other", "GET /chat"):
        with tracer.start_as_current_span(name) as root:
            pass
    with tracer.start_as_current_span("task", context=below(root)) as task:
        pass
    tracer.start_span("beside", context=below(root)).end()
    tracer.start_span("chat", context=below(task), attributes=AI).end()
    assert pipeline.flush(5)
    (segment,) = sink.segments
    assert names(segment) == ["GET /chat", "chat", "task"]
    assert segment.root_id == root.get_span_context().span_id


def test_a_request_to_this_very_process_is_kept(tracer: Any, pipeline: ExportProcessor, sink: Memory) -> None:
    """What calls a server in the same process is above a GenAI span, though its own part holds none."""
    with tracer.start_as_current_span("POST") as client:
        with tracer.start_as_current_span("GET /chat", context=below(client, remote=True)):
            tracer.start_span("chat", attributes=AI).end()
        assert pipeline.flush(5)
    assert pipeline.flush(5)
    assert [names(segment) for segment in sink.segments] == [["GET /chat", "chat"], ["POST"]]


def test_a_parent_that_never_comes_is_missing(tracer: Any, pipeline: ExportProcessor, sink: Memory) -> None:
    """A span below one of this process that nobody records says so; below one of another process it cannot know."""
    nobody = NonRecordingSpan(SpanContext(uuid.uuid4().int, 0x42, is_remote=False, trace_flags=TraceFlags(1)))
    tracer.start_span("chat", context=set_span_in_context(nobody), attributes=AI).end()
    tracer.start_span("far", context=below(nobody, remote=True), attributes=AI).end()
    assert pipeline.flush(5)
    assert {names(segment)[0]: segment.parent_missing for segment in sink.segments} == {"chat": True, "far": False}


def test_remembered_spans_are_bounded() -> None:
    """However many spans are dropped and sent, a bounded number of them is remembered, the latest."""
    kept = RecentSpans(most_dropped=10, most_sent=10)
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    spans: list[Any] = [tracer.start_span(str(number)) for number in range(100)]
    for span in spans:
        kept.add_dropped(get_span_key(span), [span])
    assert [span.name for span in spans if get_span_key(span) in kept] == [str(number) for number in range(90, 100)]
    assert kept.take_above(get_span_key(spans[-1])) == [spans[-1]]
    assert kept.take_above(get_span_key(spans[-1])) == []
    kept.add_dropped(get_span_key(spans[0]), spans)
    assert len(kept.take_above(get_span_key(spans[95]))) == 10
    for span in spans:
        kept.add_sent([get_span_key(span)])
    known = [span.name for span in spans if get_span_key(span) in kept]
    assert 5 <= len(known) <= 10
    assert known[-1] == "99"


def test_two_requests_of_one_remote_trace(tracer: Any, pipeline: ExportProcessor, sink: Memory) -> None:
    """Each local root is a segment of its own, whatever trace it belongs to."""
    far = SpanContext(uuid.uuid4().int, 0x42, is_remote=True, trace_flags=TraceFlags(1))
    context = set_span_in_context(NonRecordingSpan(far))
    first = tracer.start_span("first", context=context, attributes=AI)
    tracer.start_span("second", context=context, attributes=AI).end()
    first.end()
    assert pipeline.flush(5)
    assert sorted(names(segment)[0] for segment in sink.segments) == ["first", "second"]


def test_a_child_that_never_ends_holds_nobody_up(tracer: Any, pipeline: ExportProcessor, sink: Memory) -> None:
    """After a while the ended spans go without it; if it ends after all, it follows."""
    with tracer.start_as_current_span("root", attributes=AI):
        orphan = tracer.start_span("orphan")
    time.sleep(0.5)
    tracer.start_span("tick").end()
    until = time.monotonic() + 10
    while not sink.segments and time.monotonic() < until:
        tracer.start_span("tick").end()
        pipeline.flush(5)
        time.sleep(0.1)
    orphan.end()
    assert pipeline.flush(5)
    assert [(names(segment), segment.whole) for segment in sink.segments] == [(["root"], False), (["orphan"], False)]


def test_a_span_that_ends_in_a_finalizer(tracer: Any, pipeline: ExportProcessor, sink: Memory) -> None:
    """Ending spans while the collector runs, in the middle of anything, neither hangs nor loses them."""

    class Held:
        def __init__(self) -> None:
            self.span, self.me = tracer.start_span("held", attributes=AI), self

        def __del__(self) -> None:
            self.span.end()

    gc.disable()
    for _ in range(200):
        Held()
    gc.enable()
    gc.collect()
    assert pipeline.flush(5)
    assert len(sink.segments) == 200


@pytest.mark.parametrize(("count", "waiting"), [(5, "5 traces wait for it"), (1, "1 trace waits for it")])
def test_nothing_is_lost_while_the_backend_is_away(
    tracer: Any, pipeline: ExportProcessor, sink: Memory, caplog: pytest.LogCaptureFixture, count: int, waiting: str
) -> None:
    """Traces wait, flush says so without hanging, and when the backend is back each arrives once; two log lines."""
    sink.fault = BackendUnavailable("cannot reach the tracking server")
    for _ in range(count):
        tracer.start_span("chat", attributes=AI).end()
    assert not pipeline.flush(5)
    sink.fault = None
    assert pipeline.flush(5)
    assert len(sink.segments) == count
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == f"mlspan: cannot reach the tracking server; {waiting}"
    assert lines[1].startswith("mlspan: the trace store is back")


def test_a_refused_trace_takes_none_along(tracer: Any, pipeline: ExportProcessor, sink: Memory) -> None:
    """What the backend will never take is counted and told; its neighbours are stored. It is refused, and not lost."""
    sink.refuse = "poison"
    for name in ("good", "poison", "good"):
        tracer.start_span(name, attributes=AI).end()
    assert not pipeline.flush(5)
    assert pipeline.flush(5)
    assert [names(segment) for segment in sink.segments] == [["good"], ["good"]]
    assert (pipeline.refused, pipeline.lost) == ({"mlflow": 1}, {})


def test_memory_is_bounded(sink: Memory, caplog: pytest.LogCaptureFixture) -> None:
    """With the backend away, what is over the bound is dropped, counted and reported; the rest is sent later."""
    sink.fault = BackendUnavailable("away")
    pipeline = ExportProcessor(
        {"mlflow": (lambda: sink, {})}, TraceOrigin, keeping=SpoolSettings(max_memory_bytes=1024 * 1024)
    )
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(pipeline)
    for _ in range(40):
        provider.get_tracer("t").start_span("x", attributes={**AI, "gen_ai.input.messages": "x" * 100_000}).end()
    assert not pipeline.flush(5)
    lost = pipeline.lost["overflow"]
    assert 30 <= lost < 40
    sink.fault = None
    assert pipeline.stop(5)
    assert len(sink.segments) == 40 - lost
    assert f"mlspan: spans lost so far, as more came than could be kept: {lost}" in caplog.messages


def stopped_pipeline(sink: Memory, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> tuple[ExportProcessor, Any]:
    """Return a pipeline with room for two starts and four items in its queue, and a tracer; flush takes from it."""
    numbers = iter(range(100))
    pipeline = ExportProcessor(
        {"mlflow": (lambda: sink, {})}, lambda: TraceOrigin(run_id=f"run {next(numbers)}"), queue_spans=2, **settings
    )
    monkeypatch.setattr(pipeline, "_start_thread", lambda: None)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(pipeline)
    return pipeline, provider.get_tracer("t")


@pytest.mark.parametrize("durability", ["batch", "span"])
def test_a_full_queue_counts_a_span_once(
    sink: Memory, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, durability: Any
) -> None:
    """A span is sent or lost: one whose start finds no room, but its end does, is sent, to where its start said."""
    keeping = SpoolSettings(durability=durability, folder=tmp_path / "spool")
    pipeline, tracer = stopped_pipeline(sink, monkeypatch, keeping=keeping)
    pipeline._open_worker()
    spans = [tracer.start_span(str(number), attributes=AI) for number in range(4)]
    for number in (2, 0, 1, 3):
        spans[number].end()
    result = pipeline.flush(5)
    assert {(*names(segment), segment.origin.run_id) for segment in sink.segments} == {("0", "run 0"), ("2", "run 2")}
    assert (+pipeline.lost, result.dropped, result.stored) == ({"overflow": 2}, 2, 2)
    assert (pipeline._origins, pipeline._late_origins) == ({}, {})
    pipeline.stop(5)


@pytest.mark.parametrize("child_first", [False, True])
def test_a_span_whose_start_finds_no_room_is_in_its_trace(
    sink: Memory, monkeypatch: pytest.MonkeyPatch, child_first: bool
) -> None:
    """It joins the open trace of its parent, and a child of its that has ended first finds it."""
    pipeline, tracer = stopped_pipeline(sink, monkeypatch)
    top, other = (tracer.start_span(name, attributes=AI) for name in ("top", "other"))
    middle = tracer.start_span("middle", context=set_span_in_context(top), attributes=AI)
    other.end()
    pipeline.flush(5)
    if child_first:
        tracer.start_span("child", context=set_span_in_context(middle), attributes=AI).end()
    middle.end()
    top.end()
    assert pipeline.flush(5)
    found = {name: segment for segment in sink.segments for name in names(segment)}
    assert set(found) == {"top", "middle", "other"} | ({"child"} if child_first else set())
    assert found["middle"] is found["child" if child_first else "top"]
    assert not any(segment.parent_missing for segment in sink.segments)
    assert +pipeline.lost == {}
    pipeline.stop(5)


def test_a_forked_child_sends_its_own(tmp_path: Any) -> None:
    """After a fork the child sends what it records and nothing of its parent's, and neither hangs."""
    code = f"""
    import os
    from opentelemetry.sdk.trace import TracerProvider
    from mlspan.tracing.operations.call_context import TraceOrigin
    from mlspan.tracing.export.processor import ExportProcessor
    from mlspan.tracing.export.sending.executor import BoundedExecutor
    class File:
        exit_grace, local, at_once, executor = 5.0, False, 1, BoundedExecutor(1)
        def prepare(self): ...
        def send(self, segments):
            with open({str(tmp_path / "sent")!r}, "a") as out:
                out.writelines(f"{{span.name}}\\n" for segment in segments for span in segment.spans)
            return []
        def close(self): ...
    pipeline = ExportProcessor({{"mlflow": (File, {{}})}}, TraceOrigin, interval=60)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(pipeline)
    tracer = provider.get_tracer("t")
    tracer.start_span("parent", attributes={{"gen_ai.operation.name": "chat"}}).end()
    pid = os.fork()
    tracer.start_span("child" if pid == 0 else "parent", attributes={{"gen_ai.operation.name": "chat"}}).end()
    assert pipeline.flush(10)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted((tmp_path / "sent").read_text().split()) == ["child", "parent", "parent"]


@pytest.fixture(params=["refused", "hangs", "fails"])
def bad_server(request: pytest.FixtureRequest, scripted: Any) -> Iterator[str]:
    """A server that is not there, one that never answers, and one that answers 500."""
    if request.param == "fails":
        scripted.reply({"error_code": "INTERNAL_ERROR"}, status=500)
        yield scripted.base_url.removesuffix("/v1")
        return
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "hangs":
            listener.listen(100)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("backend", ["mlflow", "otlp"])
def test_a_backend_that_is_down_costs_nobody(bad_server: str, backend: str) -> None:
    """With its backend down a call costs under 5 ms more, and the interpreter exits within 5 s."""
    code = """
    import time
    from mlspan import tracing
    tracing.configure()
    with tracing.span("warm"):
        pass
    times = []
    for _ in range(50):
        started = time.perf_counter()
        with tracing.span("x", kind="tool"):
            pass
        times.append(time.perf_counter() - started)
        time.sleep(0.02)
    print(sorted(times)[len(times) // 2] * 1000)
    print(time.time())
    """
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    env = {"MLFLOW_TRACKING_URI": bad_server}
    if backend == "otlp":
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": bad_server, "MLSPAN_TRACKING_URI": "none"}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env={**keep, **env}, capture_output=True, text=True, timeout=60, check=False)
    ended = time.time()
    milliseconds, finished = done.stdout.split()
    assert done.returncode == 0, done.stderr
    assert float(milliseconds) < 5
    assert ended - float(finished) < 5
    if backend == "mlflow":
        lines = [line for line in done.stderr.splitlines() if line.startswith("mlspan:")]
        assert [line for line in lines if "stay in" not in line][1:] == []


def test_a_server_without_permission_is_one_line(scripted: Any, tracing_off: None, caplog: Any) -> None:
    """A server that answers 403 is one line that says what to check."""
    scripted.reply({}, status=403)
    tracing.configure(tracking_uri=scripted.base_url.removesuffix("/v1"), experiment="7")
    for _ in range(3):
        with tracing.span("x"):
            pass
    tracing.flush(10)
    (line,) = [message for message in caplog.messages if message.startswith("mlspan")]
    assert "answers 403: check MLFLOW_TRACKING_USERNAME" in line


def test_a_host_that_mlflow_does_not_know_is_no_missing_permission() -> None:
    """The line names the option of the server. tests/test_compose.py has the same answer from MLflow itself."""
    body = b"Invalid Host header - possible DNS rebinding attack detected"
    denied = HttpResponse(403, body, {}).make_exception("http://mlflow:5000/v1/traces", 10)
    assert isinstance(denied, StoreDenied)
    assert "--allowed-hosts" in str(denied)
    assert "MLFLOW_TRACKING_USERNAME" not in str(denied)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_the_same_spans_by_otlp(phoenix: Any, tracing_off: None, protocol: str, monkeypatch: Any) -> None:
    """An OTLP receiver that we did not write has the spans, their names, parents and attributes, by either protocol."""
    session = uuid.uuid4().hex
    endpoint = phoenix.http if protocol == "http/protobuf" else phoenix.grpc
    tracing.configure(otlp_endpoint=endpoint, otlp_protocol=protocol, service_name="mlspan-test")
    with tracing.session(session), tracing.span("agent", kind="agent"), tracing.span("look up", kind="tool") as tool:
        tool.output = "found"
    assert tracing.flush(20)
    found: list[Any] = []
    until = time.monotonic() + 20
    while len(found) < 2 and time.monotonic() < until:
        answer = requests.get(f"{phoenix.http}/v1/projects/default/spans", timeout=10)
        spans = answer.json().get("data", []) if answer.ok else []
        found = [span for span in spans if span["attributes"].get("session.id") == session]
        time.sleep(0.2)
    tool_span, agent = sorted(found, key=lambda span: span["name"])
    assert (tool_span["name"], agent["name"]) == ("execute_tool look up", "invoke_agent agent")
    assert tool_span["parent_id"] == agent["context"]["span_id"]
    assert tool_span["attributes"]["gen_ai.tool.call.result"] == "found"
    assert not [name for span in found for name in span["attributes"] if name.startswith("mlflow.")]


def test_threads_share_one_pipeline(tracer: Any, pipeline: ExportProcessor, sink: Memory) -> None:
    """Fifty threads that record at once lose nothing."""

    def work() -> None:
        for _ in range(40):
            with tracer.start_as_current_span("root"), tracer.start_as_current_span("chat", attributes=AI):
                pass

    threads = [threading.Thread(target=work) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert pipeline.flush(20)
    assert [names(segment) for segment in sink.segments] == [["chat", "root"]] * 2000
