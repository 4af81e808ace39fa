"""What the garbage collector runs in the middle of anything: also of what the interpreter itself does for us."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import context as otel_context
from servers.receiver import Receiver, once

from mlspan import tracing
from mlspan.tracing.operations.content import ContentPolicy
from mlspan.tracing.operations.detail_events import DetailEvents
from mlspan.tracing.operations.records import Chat
from mlspan.tracing.operations.suppression import is_suppressed

PROGRAM = '''
import contextvars, gc, sys

from opentelemetry import context as otel, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mlspan import tracing
from mlspan.tracing import runtime
from mlspan.tracing.operations import call_context as context
from mlspan.tracing.operations.operation import start_operation
from mlspan.tracing.operations.records import Step
from mlspan.tracing.operations.stream import Stream

block, finalizer = getattr(tracing, sys.argv[1]), sys.argv[2]
provider = TracerProvider()
trace.set_tracer_provider(provider)
if finalizer == "ends a stream":  # this processor has the caller's context variables changed when a span ends
    provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
tracing.configure(tracking_uri="none")


class Held:
    def __init__(self):
        self.me = self


class Reading(Held):
    def __del__(self):
        otel.get_current(), context.get_call_scope()


class Streaming(Held):
    def __init__(self):
        super().__init__()
        self.chunks = Stream(iter([1]), start_operation(runtime.get_runtime(), Step(name="stream")))


def leave(objects):
    """The collection falls where so many objects have been made."""
    Reading() if finalizer == "reads" else Streaming()
    with block("x"):
        held = [[] for _ in range(objects)]
        gc.enable()
    gc.disable()
    assert (otel.get_current(), context.get_call_scope()) == (otel.Context(), context.EMPTY_SCOPE), objects


gc.collect()
gc.freeze()
gc.disable()
gc.set_threshold(300)
for _ in range(10):  # a context is a tree, of a shape that hashes decide
    others = [contextvars.ContextVar(str(number)) for number in range(40)]
    for objects in range(300):
        gc.collect()
        here = contextvars.Context()
        for other in others:
            here.run(other.set, 1)
        here.run(leave, objects)
'''


@pytest.mark.parametrize("block", ["span", "session"])
@pytest.mark.parametrize("finalizer", ["reads", "ends a stream"])
def test_a_collection_while_a_block_is_left(block: str, finalizer: str, tmp_path: Path) -> None:
    """A finalizer in the middle of ``ContextVar.reset``: nothing of what is left remains, and no freed memory is read.

    Wherever the collection falls. The debugging allocator overwrites freed memory, so that reading it shows.
    """
    env = {**os.environ, "MLSPAN_SPOOL_DIR": str(tmp_path)}
    if finalizer == "ends a stream":
        env["PYTHONMALLOC"] = "debug"
    argv = [sys.executable, "-W", "error", "-c", PROGRAM, block, finalizer]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


MEASURED = """
import gc, threading

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from mlspan import tracing

reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
tracing.configure(tracking_uri="none")


class Held:
    def __init__(self, name):
        self.name, self.me = name, self

    def __del__(self):
        with tracing.span(self.name, kind="tool"):
            pass


def work():
    # the collection falls a little earlier in the end of a span with each number
    for number in range(400):
        span = tracing.span(f"called {number}", kind="tool")
        span.__enter__()
        filled = None
        gc.collect()
        Held(f"finalized {number}")
        filled = [[] for _ in range(400 - number)]
        gc.enable()
        span.__exit__(None, None, None)
        gc.disable()


gc.collect()
gc.freeze()
gc.disable()
gc.set_threshold(400)
thread = threading.Thread(target=work, daemon=True)
thread.start()
thread.join(60)
assert not thread.is_alive(), "the thread waits for a lock that it holds"
gc.collect()
(resource,) = reader.get_metrics_data().resource_metrics
recorded = {metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics}
print(sum(point.count for point in recorded["gen_ai.execute_tool.duration"].data.data_points))
"""


def test_a_collection_while_a_metric_is_recorded(tmp_path: Path) -> None:
    """A finalizer's span ends while the SDK holds its histogram's locks: nobody waits, and all are counted."""
    env = {**os.environ, "MLSPAN_SPOOL_DIR": str(tmp_path)}
    argv = [sys.executable, "-W", "error", "-c", MEASURED]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "800\n")


@pytest.mark.timeout(60)
def test_an_event_that_a_finalizer_writes_in_the_middle_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logs' processor holds a lock that its thread cannot take twice: nobody waits, and both events are there."""
    emitted: list[object] = []
    lock, events = threading.Lock(), DetailEvents(ContentPolicy(capture=True, redact=None, limit=10_000), "1")

    def emit(event: Any) -> None:
        with lock:
            if not emitted:  # as a collection here would, that ends a call of the application's
                emitted.append(event.attributes["gen_ai.request.model"])
                events.emit_details(Chat(model="finalized"), otel_context.Context(), None, collecting=False)
            else:
                emitted.append(event.attributes["gen_ai.request.model"])

    monkeypatch.setattr(events, "_logger", SimpleNamespace(emit=emit))
    events.emit_details(Chat(model="called"), otel_context.Context(), None, collecting=False)
    assert emitted == ["called", "finalized"]


@pytest.mark.parametrize("durability", ["batch", "span", "none"])
def test_finalizers_and_threads(receiver: Receiver, spool: Path, tracing_off: None, durability: Any) -> None:
    """Spans that end while the collector runs, in the middle of anything, on many threads at once: none is lost.

    Unless whoever it interrupts is himself exporting: a thread of ours, or one in the SDK's SimpleSpanProcessor.
    """
    finalized: list[bool] = []  # whether nothing was recorded there
    tracing.configure(tracking_uri=receiver.url, otlp_endpoint=receiver.url, spool_dir=spool, durability=durability)

    class Held:
        def __init__(self, number: int) -> None:
            self.span, self.me = tracing.span(str(number), kind="tool"), self
            self.span.__enter__()
            self.span.__exit__(None, None, None)

        def __del__(self) -> None:
            with tracing.span("in a finalizer", kind="tool"):
                pass
            finalized.append(is_suppressed())

    def work(start: int) -> None:
        for number in range(start, start + 20):
            Held(number)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 200, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    while len(finalized) < 200:  # a collection does nothing while another thread is still at one
        gc.collect()
        time.sleep(0.01)
    assert tracing.flush(60)
    recorded = finalized.count(False)
    assert 0 < recorded <= len(finalized) == 200
    assert receiver.otlp == {**once(200), "execute_tool in a finalizer": recorded}
    assert receiver.mlflow == receiver.otlp
    assert spool.exists() == (durability != "none")
