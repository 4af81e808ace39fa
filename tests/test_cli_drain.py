"""``mlspan drain`` and ``mlspan show --dead``, on what a real program has left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import invoke
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Status, StatusCode
from servers.process import free_port

from mlspan import tracing

pytest.importorskip("mlflow")
if not hasattr(tracing, "drain"):
    pytest.skip("this mlspan keeps nothing on disk", allow_module_level=True)

PROGRAM = """
from mlspan import tracing
for number in range(3):
    with tracing.span(f"step {number}", kind="agent"):
        pass
tracing.shutdown(0.5)
"""


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """The spool of a program that ended while its tracking server was away."""
    folder = tmp_path / "spool"
    nobody = f"http://127.0.0.1:{free_port()}"
    env = {**os.environ, "MLSPAN_TRACKING_URI": nobody, "MLSPAN_SPOOL_DIR": str(folder), "MLSPAN_STRICT": "0"}
    subprocess.run([sys.executable, "-c", PROGRAM], env=env, check=True, capture_output=True, timeout=60)
    return folder


def test_drain(left: Path, mlflow_store: str) -> None:
    """While the server is away all stays, with the reason, and exit code 1; sent elsewhere it is all there, once."""
    away = invoke(["drain", "--spool-dir", str(left)])
    assert away.exit_code == 1
    first, second, third = away.stdout.splitlines()
    assert (first, second) == ("0 spans sent", "3 spans still waiting")
    assert third.startswith("  3 spans: cannot reach")
    sent = invoke(["drain", "--spool-dir", str(left), "--tracking-uri", mlflow_store])
    assert (sent.stdout, sent.exit_code) == ("3 spans sent\n", 0)
    listed = invoke(["list", "--tracking-uri", mlflow_store, "--json"])
    assert sorted(trace["name"] for trace in json.loads(listed.stdout)) == [
        f"invoke_agent step {number}" for number in range(3)
    ]
    again = invoke(["drain", "--spool-dir", str(left), "--json"])
    assert json.loads(again.stdout)["sent"] == 0


def test_show_dead(tmp_path: Path) -> None:
    """What was refused, each with why; of one, the tree that nobody has taken."""
    from mlspan.tracing.export.spool.dead_letters import DeadLetters

    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    with tracer.start_as_current_span("chat m", attributes={"gen_ai.operation.name": "chat"}) as span:
        span.set_status(Status(StatusCode.ERROR, "cut off"))
    DeadLetters(tmp_path).write_letter("mlflow", "the session id is too long", span)  # type: ignore[arg-type]
    trace_id = f"{span.get_span_context().trace_id:032x}"
    listed = invoke(["show", "--dead", "--spool-dir", str(tmp_path)])
    first, second, third = listed.stdout.splitlines()
    assert (first[:12], first.split("  ")[2:]) == (trace_id[:12], ["chat m", "for mlflow"])
    assert (second, third) == ("  the session id is too long", str(tmp_path / "dead"))
    one = invoke(["show", "--dead", trace_id[:6], "--spool-dir", str(tmp_path)]).stdout.splitlines()
    assert (one[0], one[1]) == ("chat m  ERROR", "refused the session id is too long")
    assert [line.split(" █")[0].strip() for line in one[-2:]] == ["chat m", "✗ cut off"]
    none = invoke(["show", "--dead", "ffffffffffff", "--spool-dir", str(tmp_path)])
    assert (none.exit_code, none.stderr.count("\n")) == (1, 1)


def test_nothing_left_behind(tmp_path: Path) -> None:
    """An empty folder, or none, is no failure."""
    done = invoke(["drain", "--spool-dir", str(tmp_path / "none")])
    assert (done.stdout, done.exit_code) == ("0 spans sent\n", 0)
    assert invoke(["show", "--dead", "--spool-dir", str(tmp_path)]).stderr == "nothing was set aside\n"
