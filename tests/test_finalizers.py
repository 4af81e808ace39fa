"""What the garbage collector runs in the middle of anything: also of what the interpreter itself does for us."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from servers.receiver import Receiver, once

from mlspan import tracing
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
