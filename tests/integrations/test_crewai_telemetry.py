"""CrewAI's usage telemetry gets no span of ours, and none of its own is in our traces.

Before 1.15.15 it is the global provider of a program without one, and uses the provider that a program has set first.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.receiver import Receiver

pytest.importorskip("crewai")
FIXED_IN = (1, 15, 15)
VERSION = tuple(map(int, importlib.metadata.version("crewai").split(".")[:3]))
# What CrewAI would send to its maker goes to a server of the test's.
PROGRAM = """
import os
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http import trace_exporter
own_init = trace_exporter.OTLPSpanExporter.__init__
def init(self, endpoint=None, **more):
    if endpoint and "crewai.com" in endpoint:
        endpoint = os.environ["MAKER"] + "/v1/traces"
    own_init(self, endpoint=endpoint, **more)
trace_exporter.OTLPSpanExporter.__init__ = init
from mlspan import integrations, tracing
{lines}
with trace.get_tracer("app").start_as_current_span("of another library"):
    with tracing.span("ours"):
        pass
assert tracing.flush(60)
provider = trace.get_tracer_provider()
print(getattr(provider, "force_flush", lambda: "no provider")())
"""

# An application that has set a provider first. The telemetry tells of a flow.
OWN_PROVIDER = """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter, mine = InMemorySpanExporter(), TracerProvider()
mine.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(mine)
{lines}
from crewai.telemetry import Telemetry
telemetry = Telemetry()
telemetry.set_tracer()
telemetry.flow_creation_span("trip")
assert ("Flow Creation" in [span.name for span in exporter.get_finished_spans()]) == {is_theirs}
"""


def run_program(code: str, maker: Receiver, ours: Receiver, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run *code* after the program's first lines; CrewAI's maker and we have a receiver each."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CREWAI_", "MLSPAN_", "OTEL_"))}
    env |= {"CREWAI_DISABLE_VERSION_CHECK": "true", "CREWAI_STORAGE_DIR": str(folder), "OPENAI_API_KEY": "x"}
    env |= {"MAKER": maker.url, "MLSPAN_OTLP_ENDPOINT": ours.url, "MLSPAN_TRACKING_URI": "none", "MLSPAN_STRICT": "1"}
    command = [sys.executable, "-c", PROGRAM.replace("{lines}", code)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def ours() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


ORDERS = pytest.mark.parametrize("lines", ["import crewai\n{on}", "{on}\nimport crewai"], ids=["before", "after"])
ON = "integrations.openai.autolog()"


@ORDERS
def test_an_applications_provider_that_crewai_uses(
    lines: str, receiver: Receiver, ours: Receiver, tmp_path: Path
) -> None:
    """The telemetry's spans in the provider that we have joined are in none of our traces; the application's are."""
    code = OWN_PROVIDER.replace("{lines}", lines.replace("{on}", ON)).replace("{is_theirs}", str(VERSION < FIXED_IN))
    done = run_program(code, receiver, ours, tmp_path)
    assert dict(ours.otlp) == {"ours": 1, "of another library": 1}
    assert "Set CREWAI_DISABLE_TELEMETRY=true" not in done.stderr


@ORDERS
def test_no_span_of_ours_goes_to_crewais_maker(lines: str, receiver: Receiver, ours: Receiver, tmp_path: Path) -> None:
    """Be it imported before autolog or after it. What other libraries record goes there, and a line says so."""
    done = run_program(lines.replace("{on}", ON), receiver, ours, tmp_path)
    assert dict(ours.otlp) == {"ours": 1}
    assert receiver.otlp["ours"] == 0
    assert receiver.otlp["of another library"] == (VERSION < FIXED_IN), done.stdout
    assert ("Set CREWAI_DISABLE_TELEMETRY=true" in done.stderr) == (VERSION < FIXED_IN)
