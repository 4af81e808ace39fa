"""Agents in a program that sets an OpenTelemetry SDK of its own up, before mlspan, after it, or after a run.

The frameworks are those of test_hostile_orders.py; each runs in the nox session of its own name. A process has but one
global TracerProvider, so each case is a program of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_hostile_orders import Subject, handler_threads, pytestmark, read_tree, subject  # noqa: F401  # fixtures

from mlspan.testing import Spans

PROGRAM = """
import json, sys
from pathlib import Path
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
name, order, folder = sys.argv[1:]
sys.path[:0] = [folder, str(Path(folder).parent)]
from servers.scripted import Scripted
from mlspan import integrations
from mlspan.testing import Spans
exporter, mine = InMemorySpanExporter(), TracerProvider()
mine.add_span_processor(SimpleSpanProcessor(exporter))
server = Scripted()
def run():
    server.clear()
    server.reply(kit.asks)
    server.reply(kit.ends)
    assert "sunny" in str(kit.run(kit.make(server)))
if order == "before":
    trace.set_tracer_provider(mine)
import test_hostile_orders
kit = test_hostile_orders.LOADERS[name]()
getattr(integrations, name).autolog()
if order == "late":
    run()
if order != "before":
    trace.set_tracer_provider(mine)
assert trace.get_tracer_provider() is mine
run()
spans = Spans(exporter)
tree = spans.tree()
spans.clear()
with trace.get_tracer("app").start_as_current_span("GET /chat"):
    run()
server.stop()
print(json.dumps([tree, spans.tree()]))
"""


@pytest.mark.parametrize("order", ["before", "after", "late"])
def test_an_sdk_that_is_set_up_in_any_order(order: str, subject: Subject, spans: Spans, tmp_path: Path) -> None:  # noqa: F811
    """Its exporter gets the whole tree of a run, below the program's own span where there is one."""
    expected = read_tree(subject, spans)
    name = subject.integration.__name__.rpartition(".")[2]
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, name, order, str(Path(__file__).parent)]
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "MLSPAN_STRICT": "1", "MLSPAN_TRACKING_URI": "none"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    assert "mlspan:" not in done.stderr
    alone, inside = json.loads(done.stdout.splitlines()[-1])
    assert alone == expected
    assert inside == "\n".join(["GET /chat", *(f"  {line}" for line in expected.splitlines())])
