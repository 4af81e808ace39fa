"""CrewAI's usage telemetry gets no span of ours; before 1.15.15 it is the global provider of a program without one."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from servers.receiver import Receiver

pytest.importorskip("crewai")
FIXED_IN = (1, 15, 15)
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


@pytest.mark.parametrize("lines", ["import crewai\n{on}", "{on}\nimport crewai"], ids=["before", "after"])
def test_no_span_of_ours_goes_to_crewais_maker(lines: str, receiver: Receiver, tmp_path: Path) -> None:
    """Be it imported before autolog or after it. What other libraries record goes there, and a line says so."""
    version = tuple(map(int, importlib.metadata.version("crewai").split(".")[:3]))
    ours = Receiver()
    quiet = {"CREWAI_DISABLE_VERSION_CHECK": "true", "CREWAI_STORAGE_DIR": str(tmp_path)}
    sent = {"MAKER": receiver.url, "MLSPAN_OTLP_ENDPOINT": ours.url, "MLSPAN_TRACKING_URI": "none"}
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CREWAI_", "MLSPAN_", "OTEL_"))}
    code = PROGRAM.replace("{lines}", lines.replace("{on}", "integrations.openai.autolog()"))
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**env, **quiet, **sent, "MLSPAN_STRICT": "1"},
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert dict(ours.otlp) == {"ours": 1}
        assert receiver.otlp["ours"] == 0
        assert receiver.otlp["of another library"] == (version < FIXED_IN), done.stdout
        assert ("Set CREWAI_DISABLE_TELEMETRY=true" in done.stderr) == (version < FIXED_IN)
    finally:
        ours.stop()
