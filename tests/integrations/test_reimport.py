"""A program that takes a library out of ``sys.modules`` and imports it again: the new one is traced, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PROGRAM = """
import sys
import mlspan
from mlspan import integrations, testing

def ask():
    import openai
    with openai.OpenAI(base_url={url!r}, api_key="test") as client:
        client.chat.completions.create(model="m", messages=[{{"role": "user", "content": "hello"}}])

def forget():
    for name in [name for name in sys.modules if name.partition(".")[0] == "openai"]:
        del sys.modules[name]

counts = []
with testing.spans() as spans:
    for turn in {turns!r}:
        if turn == "on":
            integrations.openai.autolog()
        elif turn == "off":
            integrations.openai.autolog(disable=True)
        elif turn == "forget":
            forget()
        else:
            spans.clear()
            ask()
            counts.append(len(spans.all))
print(counts)
"""


@pytest.mark.parametrize(
    ("turns", "counts"),
    [
        ("on ask forget ask forget ask", [1, 1, 1]),
        ("ask on ask forget ask", [0, 1, 1]),
        ("on forget on ask", [1]),
        ("on ask forget off ask", [1, 0]),
        ("on ask off forget ask on ask", [1, 0, 1]),
    ],
)
def test_every_order(turns: str, counts: list[int], scripted: Any, tmp_path: Path) -> None:
    answer = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi."}}
    scripted.reply({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [answer]})
    code = PROGRAM.format(url=scripted.base_url, turns=turns.split())
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=170, check=False
    )
    assert (done.stdout, done.returncode) == (f"{counts}\n", 0), done.stderr
    assert done.stderr == ""


# Spans of each library are counted with three copies of mlspan, one after the other.
COPIES = """
import sys
sys.path.insert(0, {tests!r})
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
import leftovers
from leftover_places import find_ours

exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
uses = [leftovers.use_openai, leftovers.use_langchain, leftovers.use_pool]
counts = []
for _ in range(3):
    for name in [name for name in sys.modules if name.partition(".")[0] == "mlspan"]:
        del sys.modules[name]
    from mlspan import integrations, tracing

    tracing.configure(otlp_endpoint={receiver!r})
    integrations.autolog(silent=True)
    counts.append([])
    for use in uses:
        exporter.clear()
        use()
        counts[-1].append(len(exporter.get_finished_spans()))
    tracing.flush(60)
integrations.autolog(disable=True)
tracing.shutdown()
print(counts)
# What stays: threads that send, and a processor without targets.
kept = ("threading:_active", "opentelemetry.trace:_TRACER_PROVIDER")
print(*[line for line in find_ours() if not line.startswith(kept)], sep="\\n")
"""


def test_another_copy_of_mlspan(receiver: Any, tmp_path: Path) -> None:
    """Mlspan itself is taken out of ``sys.modules`` and imported again: each span is made and sent once."""
    code = COPIES.format(tests=str(Path(__file__).parents[1]), receiver=receiver.url)
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stderr
    first, _, left = done.stdout.partition("\n")
    counts = json.loads(first)
    assert counts == [counts[0]] * 3
    assert all(counts[0][:2])
    assert left.strip() == ""
    assert "Traceback" not in done.stderr, done.stderr
    requests = [ExportTraceServiceRequest.FromString(body) for body in receiver.bodies]
    scopes = [scope for one in requests for each in one.resource_spans for scope in each.scope_spans]
    sent = [span.span_id for scope in scopes for span in scope.spans]
    assert sorted(sent) == sorted(set(sent))
    assert len(sent) >= sum(counts[0])
