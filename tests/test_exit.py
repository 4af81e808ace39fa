"""The end of a process: exit handlers, Ctrl-C while it waits, exit codes, and places that it may not write to."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.process import BoundedPopen
from servers.program import environment
from servers.receiver import Receiver, once

SPAN = "from mlspan import tracing\nwith tracing.span('x', kind='tool'):\n    pass\n"
LATE = "def late():\n    with tracing.span('late', kind='tool'):\n        pass\n"
READY = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


def run_program(code: str, env: dict[str, str], *prefix: str) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=150, check=False)


@pytest.mark.parametrize(
    ("code", "sent"),
    [
        (f"import atexit\nfrom mlspan import tracing\n{LATE}atexit.register(late)\n", ["late"]),
        (f"import atexit\nfrom mlspan import tracing\n{LATE}atexit.register(late)\n{SPAN}", ["late", "x"]),
        (f"import atexit\n{SPAN}{LATE}atexit.register(late)\n", ["late", "x"]),
    ],
)
def test_spans_of_exit_handlers(code: str, sent: list[str], receiver: Receiver, tmp_path: Path) -> None:
    """What a handler records that was registered after the import is sent."""
    done = run_program(code, environment(tmp_path / "spool", None, receiver.url))
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(receiver.otlp.elements()) == [f"execute_tool {name}" for name in sent]


def test_spans_after_a_flush(receiver: Receiver, tmp_path: Path) -> None:
    """urllib3 empties its pools in a handler of atexit's: ours comes before it, also when the pool is younger."""
    more = "for number in range(20):\n    with tracing.span(str(number), kind='tool'): ...\n"
    done = run_program(
        f"{SPAN}assert tracing.flush(30)\n{more}", environment(tmp_path / "spool", receiver.url, receiver.url)
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert receiver.mlflow == receiver.otlp == {"execute_tool x": 1, **once(20)}


def test_what_comes_too_late_is_told(receiver: Receiver, tmp_path: Path) -> None:
    """A handler from before the import runs after our own: one line says so."""
    code = f"import atexit\n{LATE}atexit.register(late)\n{SPAN}"
    done = run_program(code, environment(tmp_path / "spool", None, receiver.url))
    line = "mlspan: a span after the end of the program is not recorded; import mlspan before what makes it\n"
    assert (done.returncode, done.stderr) == (0, line)
    assert dict(receiver.otlp) == {"execute_tool x": 1}


def interrupt(code: str, env: dict[str, str]) -> tuple[int, str]:
    """Run *code*, send SIGINT once it is ready, and return its exit code and what it has written to stderr."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with BoundedPopen([sys.executable, "-c", READY + code], env=env, **pipes) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    return process.returncode, err


def test_interrupted_while_it_waits(receiver: Receiver, tmp_path: Path) -> None:
    """Ctrl-C ends the waiting for a receiver: one line instead of a traceback, and nothing is lost."""
    receiver.mode = "hang"
    code = f"""{SPAN}
import threading, time
def tell():
    while threading.main_thread().is_alive():  # until the exit handlers run
        time.sleep(0.01)
    time.sleep(0.3)
    print("ready", flush=True)
threading.Thread(target=tell, daemon=True).start()
"""
    status, err = interrupt(code, environment(tmp_path / "spool", None, receiver.url))
    assert status == 0
    assert err.startswith("mlspan: 1 span could not be sent and stays in "), err
    assert len(err.splitlines()) == 1
    assert list((tmp_path / "spool").glob("*.spool"))


def test_interrupted_in_a_span(mlflow_store: str, tmp_path: Path) -> None:
    """A program that Ctrl-C ends has ended by that signal, as without us, although MLflow is imported at its exit."""
    code = f"{SPAN}import time\nwith tracing.span('y'):\n    print('ready', flush=True)\n    time.sleep(60)\n"
    status, err = interrupt(code, environment(tmp_path / "spool", mlflow_store))
    assert status == -signal.SIGINT
    assert err.splitlines()[-1] == "KeyboardInterrupt"


def test_a_folder_that_is_read_only(tmp_path: Path) -> None:
    """That it may not write is known at once: MLflow would try for a minute. The span waits on disk."""
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    prefix = ["setpriv", "--bounding-set", "-dac_override", "--inh-caps", "-dac_override"] if os.getuid() == 0 else []
    if prefix and shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and there is no setpriv")
    env = environment(tmp_path / "spool", f"sqlite:///{folder}/mlflow.db")
    done = run_program(SPAN, env, *prefix)
    first, last = done.stderr.splitlines()
    assert first.startswith(f"mlspan: cannot write to {folder}: this process has no permission to")
    assert last.startswith("mlspan: 1 span could not be sent and stays in ")
    assert list((tmp_path / "spool").glob("*.spool"))


def test_warnings_that_are_errors(tmp_path: Path) -> None:
    """MLflow's imports fail then, which says nothing about the trace: it waits for a process in which they do not."""
    env = environment(tmp_path / "spool", f"sqlite:///{tmp_path}/mlflow.db", MLSPAN_STRICT="0")
    done = run_program(SPAN, {**env, "PYTHONWARNINGS": "error"})
    assert done.returncode == 0
    assert list((tmp_path / "spool" / "dead").glob("*")) == []
    done = run_program(SPAN, env)
    assert (done.returncode, done.stderr) == (0, "")
    assert list((tmp_path / "spool").glob("*.spool")) == []
