"""Which traces leave the process: what failed, was slow or dear, and of the rest a share by trace id."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
from servers.receiver import Receiver
from test_export import AI, Memory, names
from test_store import SPANS, make_segment, span

from mlspan import tracing
from mlspan.tracing import runtime
from mlspan.tracing.export.otlp.codec import encode_each_span
from mlspan.tracing.export.processor import ExportProcessor
from mlspan.tracing.export.spool.directory import create_spool
from mlspan.tracing.export.spool.rows import HELD_BIT, SpoolRow
from mlspan.tracing.export.tail_sampling import TailSampler
from mlspan.tracing.export.trace_assembler import TraceAssembler
from mlspan.tracing.operations.call_context import TraceOrigin
from mlspan.tracing.settings.keep_rule import Keep
from mlspan.tracing.settings.resolution import resolve_config

DEAR = {"gen_ai.provider.name": "openai", "gen_ai.usage.input_tokens": 100_000, "gen_ai.usage.output_tokens": 10}


@pytest.fixture
def receiver(tracing_off: None) -> Iterator[Receiver]:
    """Of both kinds of backend; what the test has configured ends before it."""
    made = Receiver()
    yield made
    tracing.shutdown(10)
    made.stop()


def fail() -> None:
    with tracing.span("failing", kind="workflow"), tracing.span("broken", kind="tool"):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "kinds", [{"mlflow"}, {"otlp"}, {"mlflow", "otlp"}], ids=lambda kinds: " and ".join(sorted(kinds))
)
def test_what_is_worth_keeping_is_kept_whole(kinds: set[str], receiver: Receiver, tmp_path: Path) -> None:
    """A failure deep inside, a slow trace and a dear one come with all their spans; of another comes no span."""
    tracing.configure(
        tracking_uri=receiver.url if "mlflow" in kinds else "none",
        otlp_endpoint=receiver.url if "otlp" in kinds else None,
        keep=Keep(slower_than=0.5, costlier_than=0.1),
        spool_dir=tmp_path,
    )
    with tracing.span("plain", kind="workflow"), tracing.span("fine", kind="tool"):
        pass
    with pytest.raises(RuntimeError):
        fail()
    with tracing.span("slow", kind="workflow"):
        with tracing.span("first", kind="tool"):
            pass
        time.sleep(1.2)  # by now the spool has the first
    with tracing.span("dear", kind="workflow"):
        tracing.span("gpt-4o", kind="chat", attributes=DEAR).__enter__().__exit__(None, None, None)
    assert tracing.flush(20)
    whole = {
        *("invoke_workflow failing", "execute_tool broken", "invoke_workflow slow", "execute_tool first"),
        *("invoke_workflow dear", "chat gpt-4o"),
    }
    assert {"mlflow": receiver.mlflow, "otlp": receiver.otlp} == {
        kind: dict.fromkeys(whole, 1) if kind in kinds else {} for kind in ("mlflow", "otlp")
    }


def test_the_application_s_own_traces_are_judged_too(receiver: Receiver, tmp_path: Path) -> None:
    """What holds no GenAI span goes by OTLP alone, by the same rule, and not before the trace has ended."""
    tracing.configure(tracking_uri=receiver.url, otlp_endpoint=receiver.url, keep=Keep(), spool_dir=tmp_path)
    tracing.span("opens our provider").__enter__().__exit__(None, None, None)
    own = runtime.get_runtime()._own_provider  # type: ignore[union-attr]
    tracer = (own or trace.get_tracer_provider()).get_tracer("app")  # of ours, unless another test has set one
    for name, failed in (("GET /fine", False), ("GET /broken", True)):
        with tracer.start_as_current_span(name) as root, tracer.start_as_current_span(f"{name} query"):
            root.set_status(trace.StatusCode.ERROR if failed else trace.StatusCode.UNSET)
            tracing.flush(20)
            assert receiver.otlp == {}
    assert tracing.flush(20)
    assert (receiver.otlp, receiver.mlflow) == ({"GET /broken": 1, "GET /broken query": 1}, {})


def test_a_share_is_the_same_in_every_process() -> None:
    """It is chosen as OpenTelemetry's own sampler chooses, so that all parts of a trace are kept or dropped alike."""
    sampling, stock = TailSampler(1.0, Keep(ratio=0.3)), TraceIdRatioBased(0.3)
    ids = [random.getrandbits(128) for _ in range(500)]
    kept = {id for id in ids if sampling(id, make_segment("chat").spans)}
    assert kept == {id for id in ids if stock.should_sample(None, id, "x").decision is Decision.RECORD_AND_SAMPLE}
    assert 100 < len(kept) < 200


def test_the_head_comes_first() -> None:
    """What ``sample_ratio`` leaves out is out, failed or not."""
    assert not TailSampler(0.0, Keep(ratio=1.0))(7, make_segment("chat").spans)


def test_a_call_that_two_tell_of_costs_once() -> None:
    """A framework's span and the client's own below it are one call."""
    attributes = {**SPANS["chat"], **DEAR}
    spans = [span(1, 1, None, "a", attributes), span(1, 2, 1, "b", attributes)]  # 0.015 dollars, once
    assert TailSampler(1.0, Keep(costlier_than=0.01))(1, spans)
    assert not TailSampler(1.0, Keep(costlier_than=0.02))(1, spans)


@pytest.mark.parametrize(("limit", "kept"), [(0.0005, True), (0.002, False)])
def test_a_foreign_call_costs_what_it_costs_once(limit: float, kept: bool) -> None:
    """In OpenInference's names, and told a second time by the client beside it: 0.001 dollars."""
    told = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4o", "llm.provider": "openai"}
    counts = {"llm.token_count.prompt": 0, "llm.token_count.completion": 100}
    other = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "gen_ai.provider.name": "openai"}
    made = []
    for number, (scope, attributes) in enumerate(
        (("openinference", {**told, **counts}), ("client", {**other, "gen_ai.usage.output_tokens": 100})), 1
    ):
        context = SpanContext(1, number, is_remote=False, trace_flags=TraceFlags(1))
        scoped = InstrumentationScope(scope)
        made.append(
            ReadableSpan("s", context, attributes=attributes, start_time=1, end_time=9, instrumentation_scope=scoped)
        )
    assert TailSampler(1.0, Keep(costlier_than=limit))(1, made) is kept


def through(keep: Keep, **more: Any) -> tuple[Memory, ExportProcessor, Any]:
    from opentelemetry.sdk.trace import TracerProvider

    sink = Memory()
    sampled = partial(TraceAssembler, TailSampler(1.0, keep), **more)
    pipeline = ExportProcessor({"mlflow": (lambda: sink, {})}, TraceOrigin, assembly=sampled)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(pipeline)
    return sink, pipeline, provider.get_tracer("test")


def test_requests_of_one_remote_trace() -> None:
    """Each is judged by itself, and once one was kept the later ones are kept on; the earlier ones are gone."""
    sink, pipeline, tracer = through(Keep())
    far = SpanContext(random.getrandbits(128), 0x42, is_remote=True, trace_flags=TraceFlags(1))
    context = set_span_in_context(NonRecordingSpan(far))
    for name in ("before", "broken", "after"):
        with tracer.start_as_current_span(name, context=context, attributes=AI) as request:
            if name == "broken":
                request.set_status(trace.StatusCode.ERROR)
    assert pipeline.stop(5)
    assert [names(one) for one in sink.segments] == [["broken"], ["after"]]


@pytest.mark.parametrize("fails", [True, False])
def test_spans_that_come_late(fails: bool) -> None:
    """What was decided when the trace left without them holds for them as well."""
    sink, pipeline, tracer = through(Keep(), orphan_after=0.0)
    with tracer.start_as_current_span("root", attributes=AI) as root:
        late = tracer.start_span("late", attributes=AI)
        if fails:
            root.set_status(trace.StatusCode.ERROR)
    time.sleep(1.1)
    tracer.start_span("tick").end()
    time.sleep(1.5)
    late.set_status(trace.StatusCode.UNSET if fails else trace.StatusCode.ERROR)
    late.end()
    assert pipeline.stop(5)
    assert [names(one) for one in sink.segments] == ([["root"], ["late"]] if fails else [])


def test_what_a_killed_process_had_not_judged_is_kept(tmp_path: Path) -> None:
    """Nobody can tell any more, and nothing is lost that might have been kept."""
    spool = create_spool(tmp_path)
    (packed,) = encode_each_span([span(1, 1, None, "chat", SPANS["chat"])])
    spool.add_spans(
        [SpoolRow(packed, HELD_BIT, 1, "01"), SpoolRow(packed, HELD_BIT, 2, "02"), SpoolRow(packed, HELD_BIT, 3, "03")]
    )  # type: ignore[arg-type]
    assert spool.read_batch("otlp", 0, 9, 10**6) is None
    spool.add_spans([], sampled={1: True, 2: False})
    batch = spool.read_batch("otlp", 0, 9, 10**6)
    assert batch is not None
    assert len(batch.items) == 1
    spool.release_open_segments()
    later = spool.read_batch("otlp", batch.last_id, 9, 10**6)
    assert later is not None
    assert (len(later.items), spool.count_spans()) == (1, 2)
    spool.close()


@pytest.mark.parametrize(
    ("text", "keep"),
    [
        ("errors,slower=5,cost=0.05,ratio=0.1", Keep(slower_than=5.0, costlier_than=0.05, ratio=0.1)),
        (" ratio=1 ", Keep(errors=False, ratio=1.0)),
        ("fast", None),
        ("slower=soon", None),
        ("ratio=7", None),
    ],
)
def test_the_variable(text: str, keep: Keep | None, caplog: pytest.LogCaptureFixture) -> None:
    """``MLSPAN_KEEP`` names what keeps a trace; one that cannot be read is a line in the log, and all are kept."""
    assert resolve_config({}, {"MLSPAN_KEEP": text}).keep == keep
    assert Counter(record.levelname for record in caplog.records) == ({} if keep else {"WARNING": 1})


@pytest.mark.parametrize("wrong", [{"ratio": 2}, {"ratio": True}, {"slower_than": -1}, {"costlier_than": "much"}])
def test_a_rule_that_cannot_be(wrong: Any) -> None:
    """The rule itself says what it takes, and ``configure`` takes nothing else for one."""
    with pytest.raises(ValueError, match="keep: "):
        Keep(**wrong)
    with pytest.raises(ValueError, match="keep takes a tracing"):
        tracing.configure(keep="errors")  # type: ignore[arg-type]


GENERATORS = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
kept, provider = InMemorySpanExporter(), TracerProvider(sampler=ParentBased(TraceIdRatioBased(0.5)))
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)
from mlspan import tracing
tracing.configure(tracking_uri="none")
@tracing.trace
def count():
    with tracing.span("inner"):
        yield 1
for _ in range(60):
    list(count())
spans = kept.get_finished_spans()
print(sum(span.name == "inner" and span.parent is None for span in spans), 0 < len(spans) < 120)
"""


def test_a_generators_steps_are_sampled_with_it() -> None:
    """What runs inside of a generator that is not sampled begins no trace of its own."""
    done = subprocess.run([sys.executable, "-c", GENERATORS], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["0", "True"], done.stderr
