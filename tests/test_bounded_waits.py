"""No test waits for ever: pytest's timeout cannot end what waits in an ``__exit__``, a ``finally`` or a thread."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers.process import BoundedPopen

ROOT = Path(__file__).parent.parent
FOLDERS = ["tests", "tests/integrations", "tests/servers", "tests/workers", "benchmarks"]
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*.py"))
WAITS = {"join", "wait", "get", "result", "exception", "acquire", "recv", "communicate"}  # methods of many classes
RUNS = {"run", "call", "check_call", "check_output", "urlopen"}  # functions that take timeout=
MODULES = {"subprocess", "urllib.request"}  # of these
POPEN_OWNER = ROOT / "tests/servers/process.py"  # gives a Popen's ``with`` block an end


def find_unbounded(source: str, *, owns_popen: bool = False) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each call in *source* that may wait for ever."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    bounded = {id(one) for call in calls if _name(call) == "wait_for" for one in call.args}
    polled = {_owner(call) for call in calls if _name(call) == "poll" and call.args}
    for call in calls:
        if id(call) in bounded or (_name(call) == "recv" and _owner(call) in polled):
            continue
        if _waits(call) or (_name(call) == "Popen" and not owns_popen):
            yield call.lineno, ast.unparse(call)


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _owner(call: ast.Call) -> str:
    """Return what the method is called on, as text; nothing for a function."""
    return ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""


def _waits(call: ast.Call) -> bool:
    name, owner = _name(call), _owner(call)
    if any(keyword.arg == "timeout" for keyword in call.keywords):
        return False
    if name == "waitpid":
        return "WNOHANG" not in ast.unparse(call)
    if name in RUNS:
        return owner in MODULES
    if name == "communicate":
        return len(call.args) < 2
    return name in WAITS and owner != "" and not call.args


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_wait_is_bounded(path: Path) -> None:
    """Each has a timeout, and a process is started by what ends it."""
    assert list(find_unbounded(path.read_text(encoding="utf-8"), owns_popen=path == POPEN_OWNER)) == []


@pytest.mark.parametrize(
    "line",
    [
        "thread.join()",
        "process.wait()",
        "process.communicate('go')",
        "queue.get()",
        "queue.get(block=True)",
        "future.result()",
        "lock.acquire()",
        "await event.wait()",
        "pipe.recv()",
        "os.waitpid(pid, 0)",
        "subprocess.run(command, check=True)",
        "subprocess.run(command, **options)",
        "subprocess.check_output(command)",
        "urllib.request.urlopen(address)",
        "subprocess.Popen(command)",
    ],
)
def test_the_gate_sees(line: str) -> None:
    """Each kind of wait without an end is found."""
    assert [at for at, _ in find_unbounded(f"async def wait():\n    {line}\n")] == [2]


@pytest.mark.parametrize(
    "line",
    [
        "thread.join(5)",
        "', '.join(names)",
        "process.communicate('go', 5)",
        "queue.get(timeout=5)",
        "await asyncio.wait_for(event.wait(), 5)",
        "while pipe.poll(5) and pipe.recv(): pass",
        "os.waitpid(pid, os.WNOHANG)",
        "subprocess.run(command, timeout=5, check=True)",
        "client.run(command)",
        "BoundedPopen(command)",
    ],
)
def test_the_gate_lets_pass(line: str) -> None:
    """What has an end is no finding."""
    assert list(find_unbounded(f"async def wait():\n    {line}\n")) == []


def test_a_process_does_not_outlive_its_block() -> None:
    """After an exception it is ended at once; else it is given its time, and not ending is an error."""
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with pytest.raises(ZeroDivisionError), BoundedPopen(command) as failed:
        raise ZeroDivisionError
    assert failed.returncode == -signal.SIGTERM
    with pytest.raises(subprocess.TimeoutExpired), BoundedPopen(command) as stuck:
        stuck.patience = 0.1
    assert stuck.returncode == -signal.SIGKILL


def run_pytest(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run pytest in a process of its own, with the settings and the conftest of this one."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    arguments = (*command, *map(str, arguments))
    return subprocess.run(
        arguments, cwd=ROOT, env=env, capture_output=True, text=True, timeout=280, check=False, **options
    )


@pytest.mark.timeout(300)
def test_where_interrupts_are_ignored() -> None:
    """``nohup make test &``: tests that interrupt a program see it interrupted."""
    pytest.importorskip("mlflow")
    tests = ["tests/test_cli_read.py::test_tail", "tests/test_cli_run.py::test_ui"]
    done = run_pytest(*tests, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert done.returncode == 0, done.stdout


HANGS = {
    "in a finally": """
        import threading
        def test_hangs():
            try:
                threading.Event().wait()
            finally:
                threading.Event().wait()
    """,
    "at exit": """
        import threading
        def test_hangs():
            threading.Thread(target=threading.Event().wait).start()
    """,
}


@pytest.mark.parametrize("code", HANGS.values(), ids=HANGS)
def test_the_last_resort(code: str, tmp_path: Path) -> None:
    """A wait that outlives pytest's timeout ends with the process, and says where it stood."""
    hangs = tmp_path / "test_hangs.py"
    hangs.write_text(textwrap.dedent(code))
    limits = ["--timeout=3", "-o", "faulthandler_timeout=5", "-p", "conftest"]
    done = run_pytest(hangs, *limits)
    assert done.returncode != 0
    assert "Timeout" in done.stderr, done.stdout + done.stderr
    assert "test_hangs.py" in done.stderr or "threading.py" in done.stderr


def test_the_last_resort_leaves_a_longer_time(tmp_path: Path) -> None:
    """A test that says how long it may take is not ended before."""
    slow = tmp_path / "test_slow.py"
    slow.write_text("import time, pytest\n@pytest.mark.timeout(20)\ndef test_slow():\n    time.sleep(3)\n")
    done = run_pytest(slow, "--timeout=1", "-o", "faulthandler_timeout=2", "-p", "conftest")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
