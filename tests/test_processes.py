"""Processes that are killed, told to end, forked, spawned, twenty at once: what had ended arrives, once."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from servers.process import BoundedPopen, Process, free_port
from servers.program import PREAMBLE, environment, run, start
from servers.receiver import Receiver, once

from mlspan import tracing


def until(said: str, process: BoundedPopen) -> None:
    assert process.stdout.readline() == said + "\n", process.stderr.read()


def left(spool: Path) -> list[str]:
    return sorted(path.name for path in spool.iterdir())


@pytest.mark.parametrize(("durability", "pause"), [("batch", 3.0), ("span", 0.0)])
def test_kill_9(receiver: Receiver, spool: Path, durability: str, pause: float) -> None:
    """Loses what ended in the last second or so, or with durability="span" nothing; spans of open traces included."""
    receiver.mode = 500
    code = f"""
    with tracing.session("s-1"):
        work(0, 20)
        with tracing.span("open"):
            work(20, 40)
            time.sleep({pause})
            os.kill(os.getpid(), signal.SIGKILL)
    """
    env = environment(spool, receiver.url, receiver.url, MLSPAN_DURABILITY=durability)
    assert run(code, env).returncode == -signal.SIGKILL
    receiver.mode = "ok"
    after = tracing.drain(spool_dir=spool)
    assert (after.sent, after.stay) == (80, 0)
    assert (receiver.otlp, receiver.mlflow) == (once(40), once(40))
    assert (
        sum(b'"s-1"' in body for body in receiver.bodies if b"trace_info" in body) >= 21
    )  # each trace has its session
    assert left(spool) == []


def test_kill_9_again_and_again(receiver: Receiver, spool: Path) -> None:
    """Killed at any moment while it stores and sends, the process loses nothing and leaves nothing unreadable."""
    code = """
    start = int(os.environ["START"])
    for number in range(start, start + 100_000):
        work(number, number + 1)
        os.write(1, f"{number}\\n".encode())
    """
    ended: set[str] = set()
    for round_ in range(4):
        env = environment(spool, None, receiver.url, MLSPAN_DURABILITY="span", START=str(round_ * 1_000_000))
        with start(code, env) as process:
            until(str(round_ * 1_000_000), process)
            time.sleep(0.4 + round_ * 0.37)
            process.kill()
            ended |= {f"execute_tool {number}" for number in process.stdout.read().split()}
    tracing.drain(spool_dir=spool)
    assert len(ended) > 100
    assert ended - receiver.otlp.keys() == set()
    assert left(spool) == []


OWN = "signal.signal(signal.SIGTERM, lambda *_: (print('mine', flush=True), sys.exit(3)))"


@pytest.mark.parametrize(("before", "after", "code"), [("", "", -signal.SIGTERM), (OWN, "", 3), ("", OWN, 3)])
def test_sigterm(receiver: Receiver, spool: Path, before: str, after: str, code: int) -> None:
    """Told to end, the process sends what has ended; the application's own handler runs, set before ours or after."""
    program = f"""
    {before}
    work(0, 1)
    {after}
    work(1, 20)
    print("ready", flush=True)
    while True:
        time.sleep(0.1)
    """
    with start(program, environment(spool, receiver.url, receiver.url)) as process:
        until("ready", process)
        process.terminate()
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (code, "")
    assert ("mine" in out) == bool(before or after)
    assert (receiver.otlp, receiver.mlflow) == (once(20), once(20))
    assert left(spool) == []


def test_sigterm_of_a_server(receiver: Receiver, spool: Path) -> None:
    """A server that ends as uvicorn does loses nothing that ends while it stops.

    Its own handler is there before ours, it puts back what was there before its own, and sends the signal again.
    """
    program = """
    class Server:
        stopping = False
        def stop(self, *_):
            self.stopping = True
    server = Server()
    before = signal.signal(signal.SIGTERM, server.stop)
    work(0, 10)
    print("ready", flush=True)
    for _ in range(600):
        if server.stopping:
            break
        time.sleep(0.1)
    work(10, 20)
    signal.signal(signal.SIGTERM, before)
    signal.raise_signal(signal.SIGTERM)
    print("not reached", flush=True)
    """
    with start(program, environment(spool, receiver.url, receiver.url)) as process:
        until("ready", process)
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (-signal.SIGTERM, "", "")
    assert (receiver.otlp, receiver.mlflow) == (once(20), once(20))
    assert left(spool) == []


def test_shutdown_gives_sigterm_back(receiver: Receiver, spool: Path) -> None:
    """Whoever had the signal before us has it again, and a handler that was put over ours stays."""
    code = """
    before = signal.getsignal(signal.SIGTERM)
    tracing.configure(); tracing.shutdown()
    print(signal.getsignal(signal.SIGTERM) == before)
    tracing.configure()
    def mine(*_): ...
    signal.signal(signal.SIGTERM, mine)
    tracing.shutdown()
    print(signal.getsignal(signal.SIGTERM) is mine)
    """
    assert run(code, environment(spool, None, receiver.url)).stdout == "True\nTrue\n"


FORKS = {
    "os.fork": """
    pids = []
    for start in range(10, 50, 10):
        if (pid := os.fork()) == 0:
            work(start, start + 10)
            sys.exit(0)
        pids.append(pid)
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    """,
    "os.fork that never runs atexit": """
    pids = []
    for start in range(10, 50, 10):
        if (pid := os.fork()) == 0:
            work(start, start + 10)
            tracing.flush(20)
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    """,
    "multiprocessing fork": """
    import multiprocessing
    context = multiprocessing.get_context("fork")
    made = [context.Process(target=work, args=(start, start + 10)) for start in range(10, 50, 10)]
    for one in made:
        one.start()
    for one in made:
        one.join()
        assert one.exitcode == 0
    """,
    "a pool of processes": """
    from concurrent.futures import ProcessPoolExecutor
    import multiprocessing
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        list(pool.map(work, range(10, 50, 10), range(20, 60, 10)))
    """,
}


@pytest.mark.parametrize("how", FORKS)
def test_fork(receiver: Receiver, spool: Path, how: str) -> None:
    """A child sends what it has recorded and nothing of its parent's, even when its end runs no atexit."""
    done = run("work(0, 10)\n" + FORKS[how].replace("\n    ", "\n"), environment(spool, receiver.url, receiver.url))
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    tracing.drain(spool_dir=spool)  # what a busy machine has kept the children from sending within their grace
    assert (receiver.otlp, receiver.mlflow) == (once(50), once(50))
    assert left(spool) == []


SERVED = f"""{PREAMBLE}
work(0, 1)

def app(environ, respond):
    number = int(environ["PATH_INFO"][1:])
    work(number, number + 1)
    respond("200 OK", [("Content-Length", "0")])
    return []
"""


@pytest.mark.parametrize("how", [[], ["--preload"], ["--preload", "--worker-class=gthread", "--threads=4"]], ids=str)
def test_gunicorn(receiver: Receiver, spool: Path, tmp_path: Path, how: list[str]) -> None:
    """A server that forks, set up before its workers are there or in each, which are replaced after a few requests."""
    pytest.importorskip("gunicorn")
    (tmp_path / "served.py").write_text(SERVED)
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "served:app", f"--bind=127.0.0.1:{port}", "--workers=2"]
    env = environment(spool, receiver.url, receiver.url)
    server = Process([*command, "--max-requests=7", *how], port, tmp_path / "log", env=env, cwd=tmp_path)
    try:
        server.wait(150)
        for number in range(1, 41):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/{number}", timeout=30).close()
    finally:
        server.stop()
    tracing.drain(spool_dir=spool)
    starts = [sent.pop("execute_tool 0") for sent in (receiver.otlp, receiver.mlflow)]
    assert receiver.otlp == receiver.mlflow == {f"execute_tool {number}": 1 for number in range(1, 41)}
    assert starts[0] == starts[1]
    assert starts[0] == 1 if how else starts[0] > 2
    assert left(spool) == []


def test_spawn(receiver: Receiver, spool: Path, tmp_path: Path) -> None:
    """Children that start from nothing, by spawn and by forkserver, send what they have recorded."""
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing, sys\n"
        "from mlspan import tracing\n"
        "def work(start, end):\n"
        "    for number in range(start, end):\n"
        "        with tracing.span(str(number), kind='tool'): pass\n"
        "if __name__ == '__main__':\n"
        "    work(0, 10)\n"
        "    for start, how in ((10, 'spawn'), (20, 'forkserver')):\n"
        "        child = multiprocessing.get_context(how).Process(target=work, args=(start, start + 10))\n"
        "        child.start(); child.join(); assert child.exitcode == 0\n"
    )
    env = environment(spool, receiver.url, receiver.url)
    done = subprocess.run([sys.executable, program], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    tracing.drain(spool_dir=spool)
    assert (receiver.otlp, receiver.mlflow) == (once(30), once(30))


def test_twenty_processes_at_once(receiver: Receiver, spool: Path) -> None:
    """Each has a file of its own in the one folder; what they leave is taken over by one of the next two, once."""
    receiver.mode = 500
    code = 'n = int(os.environ["N"]) * 10; work(n, n + 10)'
    env = environment(spool, None, receiver.url)
    running = [start(code, {**env, "N": str(number)}) for number in range(20)]
    for process in running:
        process.communicate(timeout=120)
    assert [process.returncode for process in running] == [0] * 20
    receiver.mode = "ok"
    for process in [start("work(200, 201)", env), start("work(201, 202)", env)]:
        process.communicate(timeout=60)
    tracing.drain(spool_dir=spool)
    assert receiver.otlp == once(202)
    assert left(spool) == []


def test_an_owner_that_lives_is_left_alone(receiver: Receiver, spool: Path) -> None:
    """A drain takes nothing away from a process that is still at work, and says so."""
    receiver.mode = 500
    code = "work(0, 5); tracing.flush(2); print('ready', flush=True); sys.stdin.readline()"
    code += "; print(bool(tracing.flush(10)))"
    with start(code, environment(spool, None, receiver.url), stdin=subprocess.PIPE) as process:
        until("ready", process)
        receiver.mode = "ok"
        after = tracing.drain(spool_dir=spool)
        assert (after.sent, after.in_use) == (0, 1)
        assert process.communicate("go\n", timeout=30)[0] == "True\n"
    assert receiver.otlp == once(5)


def _other_version(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("pragma user_version = 99")
    db.close()


def _torn(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    path.write_bytes(data)


def _no_database(path: Path) -> None:
    path.write_bytes(b"what is this?" * 1000)


@pytest.mark.parametrize("harm", [_other_version, _torn, _no_database])
@pytest.mark.parametrize("by", ["the next process", "a drain"])
def test_a_spool_that_cannot_be_read(receiver: Receiver, spool: Path, harm: Any, by: str, caplog: Any) -> None:
    """It is set aside with a line, and holds nobody up."""
    env = environment(spool, None, receiver.url)
    receiver.mode = 500
    assert run("work(0, 5)", env).returncode == 0
    (path,) = spool.iterdir()
    harm(path)
    receiver.mode = "ok"
    if by == "a drain":
        tracing.drain(spool_dir=spool)
        said = caplog.text
    else:
        done = run("work(5, 10)", env)
        assert done.returncode == 0
        assert {f"execute_tool {number}" for number in range(5, 10)} <= receiver.otlp.keys()
        said = done.stderr
    assert said.count("set aside as") == 1
    assert {name.removesuffix("-wal") for name in left(spool)} == {path.name + ".aside"}
