"""``tracing.doctor()``: what the running process has on, where its spans go, and what waits."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from servers.process import free_port

# The library is a module of that name: to import the real one would take longer than all the rest.
PROGRAM = """
import sys, time, types
from mlspan import integrations, tracing
print(tracing.doctor())
print("--")
tracing.configure(tracking_uri="http://user:secret@127.0.0.1:PORT/?token=secret&a=b", spool_dir="spool")
ollama = sys.modules["ollama"] = types.ModuleType("ollama")
class Client:
    def _request(self, cls, *args, stream=False, **kwargs): pass
class AsyncClient:
    async def _request(self, cls, *args, stream=False, **kwargs): pass
Client.__module__ = AsyncClient.__module__ = "ollama"
ollama.Client, ollama.AsyncClient = Client, AsyncClient
integrations.ollama.HOOK.find_installed_version = lambda: "0.5"
integrations.autolog()
with tracing.span("step", kind="agent"):
    pass
while not tracing.doctor().unsent:  # until it is stored
    time.sleep(0.01)
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
class OtherInstrumentor(BaseInstrumentor):
    __module__ = "openinference.instrumentation.ollama"
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
integrations.ollama.HOOK.requires = "ollama>=0.1,<0.2"
integrations.ollama.autolog(silent=True)
report = tracing.doctor()
print(bool(report), report.integrations, report.problems)
"""
ODD_PLACES = """
import asyncio, os, threading, time
from mlspan import tracing
tracing.configure(tracking_uri="http://user:secret@127.0.0.1:PORT", spool_dir="a file")
with tracing.span("step"):
    pass
while not tracing.doctor().unsent:  # until it is stored
    time.sleep(0.01)
reports = [str(tracing.doctor())]
thread = threading.Thread(target=lambda: reports.append(str(tracing.doctor())))
thread.start()
thread.join()
async def report():
    reports.append(str(tracing.doctor()))
asyncio.run(report())
assert reports == reports[:1] * 3, reports
child = os.fork()
if not child:
    print(tracing.doctor().provider, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(reports[0])
tracing.shutdown(0.1)
tracing.shutdown(0.1)
print(tracing.doctor().provider)
"""


def run_program(program: str, folder: Path, **environ: str) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=folder, env=kept | environ, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "secret" not in done.stdout + done.stderr
    return done.stdout


def test_a_process_is_diagnosed(tmp_path: Path) -> None:
    """Before anything is on, with integrations and another tracer on and a server away, and after the shutdown."""
    pytest.importorskip("opentelemetry.instrumentation.instrumentor")
    port = free_port()
    before, during, after, old = run_program(PROGRAM.replace("PORT", str(port)), tmp_path).split("--\n")
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
        f"Sent to: mlflow http://127.0.0.1:{port}/?a=b",
        "Waiting to be sent: 1",
    ]
    assert "  - ollama (ollama): on" in lines
    assert [line for line in lines if line.startswith("  - on once their library is imported: ") and "cohere" in line]
    assert not any(line.endswith(": on once the library is imported") for line in lines)
    beside = ", beside mlspan's ollama: each call has two spans, and MLflow counts it once"
    tracer = "Other tracers: OtherInstrumentor of openinference.instrumentation.ollama is on"
    assert lines[-2:] == [tracer + beside, "Problems: none"]
    assert re.fullmatch(
        r"False \('ollama \(ollama\): off: version (\S+) is outside of the tested range >=0.1,<0.2',\) "
        r"\('ollama \1 is not traced: install ollama>=0.1,<0.2, or call its autolog with "
        r"disable_for_unsupported_versions=False',\)\n",
        old,
    ), old
    assert after == f"False ({stopped!r},)\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_is_diagnosed_from_any_place(tmp_path: Path) -> None:
    """In a thread, a running event loop and a forked child, with a spool folder that cannot be used."""
    (tmp_path / "a file").touch()
    told = run_program(ODD_PLACES.replace("PORT", str(free_port())), tmp_path, MLSPAN_STRICT="1").splitlines()
    own = "mlspan's own TracerProvider"
    assert told[:2] == [own, f"Spans are made by: {own}"]
    assert told[-2].startswith("Problems: unsent spans are in memory only")
    assert told[-1] == "nobody: nothing is recorded"
