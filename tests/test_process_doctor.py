"""``tracing.doctor()``: what the running process has on, where its spans go, and what waits."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from servers.process import free_port

PROGRAM = """
from mlspan import integrations, tracing
print(tracing.doctor())
print("--")
tracing.configure(tracking_uri="http://user:secret@127.0.0.1:PORT", spool_dir="spool")
import openai
integrations.autolog()
with tracing.span("step", kind="agent"):
    pass
tracing.flush(2)
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
class OtherInstrumentor(BaseInstrumentor):
    __module__ = "openinference.instrumentation.openai"
    def __init__(self, *, marked=False):
        self.marked = marked
    def instrumentation_dependencies(self): return []
    def _instrument(self, **_): pass
    def _uninstrument(self, **_): pass
class Unused(OtherInstrumentor): pass
other = OtherInstrumentor(marked=True)
other.instrument(skip_dep_check=True)
report = tracing.doctor()
assert bool(report) and other.marked
print(report)
print("--")
tracing.shutdown(0.1)
report = tracing.doctor()
print(bool(report), report.problems)
print("--")
integrations.autolog(disable=True)
integrations.openai.HOOK.requires = "openai>=0.1,<0.2"
integrations.openai.autolog(silent=True)
report = tracing.doctor()
print(bool(report), report.integrations, report.problems)
"""


def test_a_process_is_diagnosed(tmp_path: Path) -> None:
    """Before anything is on, with integrations and another tracer on and a server away, and after the shutdown."""
    pytest.importorskip("openai")
    pytest.importorskip("opentelemetry.instrumentation.instrumentor")
    port = free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    command = [sys.executable, "-c", PROGRAM.replace("PORT", str(port))]
    done = subprocess.run(command, cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=100, check=True)
    before, during, after, old = done.stdout.split("--\n")
    stopped = "nothing is recorded: call configure or autolog first, or again after a shutdown"
    assert before.splitlines() == [
        "Spans are made by: nobody: nothing is recorded",
        "Sent to: nowhere",
        "Waiting to be sent: 0",
        "Integrations: none is on",
        f"Problems: {stopped}",
    ]
    lines = during.splitlines()
    assert lines[:3] == [
        "Spans are made by: mlspan's own TracerProvider",
        f"Sent to: mlflow http://127.0.0.1:{port}",
        "Waiting to be sent: 1",
    ]
    assert "  - openai (openai): on" in lines
    assert [line for line in lines if line.startswith("  - on once their library is imported: ") and "cohere" in line]
    beside = ", beside mlspan's openai: each call has two spans, and MLflow counts it once"
    tracer = "Other tracers: OtherInstrumentor of openinference.instrumentation.openai is on"
    assert lines[-2:] == [tracer + beside, "Problems: none"]
    assert re.fullmatch(
        r"False \('openai \(openai\): off: version (\S+) is outside of the tested range >=0.1,<0.2', "
        r"'openai \(agents\): on once the library is imported'\) "
        r"\('openai \1 is not traced: install openai>=0.1,<0.2, or call its autolog with "
        r"disable_for_unsupported_versions=False',\)\n",
        old,
    ), old
    assert after == f"False ({stopped!r},)\n"
