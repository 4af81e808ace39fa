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


def test_waiting_spans_are_told(tmp_path: Path, mlflow_store: str) -> None:
    """The doctor, list and show say how many wait for this store, since when, and what to do, until they are sent."""
    folder = tmp_path / "spool"
    env = {"MLSPAN_SPOOL_DIR": str(folder)}
    _leave_spans(folder, mlflow_store)
    place = ["--tracking-uri", mlflow_store]
    _check_note(invoke(["list", *place], env=env).stderr.removeprefix("there are no traces yet\n"))
    doctor = invoke(["doctor", "--no-write", *place], env=env)
    last = doctor.stdout.splitlines()[-1]
    assert (doctor.exit_code, last) == (0, "✓ nothing is wrong with the settings, but 3 spans wait: mlspan drain")
    assert invoke(["drain", "--spool-dir", str(folder)]).stdout == "3 spans sent\n"
    assert invoke(["list", *place], env=env).stderr == invoke(["show", *place], env=env).stderr == ""
    _leave_spans(folder, mlflow_store)
    _check_note(invoke(["show", *place], env=env).stderr)
    assert invoke(["list", *place], env={"MLSPAN_SPOOL_DIR": str(tmp_path / "none")}).stderr == ""


@pytest.mark.parametrize("command", ["list", "show"])
def test_what_waits_for_a_server_that_is_away(command: str, tmp_path: Path) -> None:
    """It is said beside the error, as this is when one fears that it is lost."""
    server = f"http://127.0.0.1:{free_port()}"
    _leave_spans(tmp_path / "spool", server)
    done = invoke([command, "--tracking-uri", server], env={"MLSPAN_SPOOL_DIR": str(tmp_path / "spool")})
    *note, error = done.stderr.splitlines()
    _check_note("\n".join(note))
    assert (done.exit_code, error.endswith("is it running?")) == (1, True)


def _leave_spans(folder: Path, store: str) -> None:
    """Run a program that is killed when its spans are on the disk."""
    end = "from mlspan.tracing import runtime\nruntime.get_runtime().save_to_disk(60)\nimport os\nos._exit(0)"
    program = PROGRAM.replace("tracing.shutdown(0.5)", end)
    env = {**os.environ, "MLSPAN_TRACKING_URI": store, "MLSPAN_SPOOL_DIR": str(folder), "MLSPAN_DURABILITY": "span"}
    subprocess.run([sys.executable, "-c", program], env=env, check=True, capture_output=True, timeout=100)


def _check_note(told: str) -> None:
    first, second = told.splitlines()
    assert (first[:43], second.split()[-1]) == ("3 spans wait on disk for this store, since ", "drain")


def test_list_counts_waiting_spans_without_the_sdk() -> None:
    """Counting them imports nothing of OpenTelemetry's SDK, so that list stays quick."""
    modules = "mlspan.cli.pending, mlspan.tracing.export.spool.waiting_counts"
    code = f"import {modules}, sys; print('opentelemetry.sdk.trace' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n"


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
