"""Under gevent, monkey-patched first: requests that run programs, forks, SIGTERM. `make matrix` has gevent.

Each program bounds its forks: a child that comes back to the program's own code says so and ends.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

import pytest
from servers.process import BoundedPopen, Process, free_port
from servers.program import environment
from servers.receiver import Receiver, once

pytest.importorskip("gevent", reason="make matrix installs it")

_PREAMBLE = """
from gevent import monkey
monkey.patch_all()
import os, signal, subprocess, sys, time, urllib.request
import gevent
PARENT = os.getpid()
def check_process():
    if os.getpid() != PARENT:
        os.write(1, b"user code in a child\\n")
        os._exit(1)
from mlspan import tracing
tracing.configure()
def work(number):
    with tracing.span(str(number), kind="tool") as span:
        gevent.sleep(0.02)
        check_process()
        subprocess.run(["true"], check=True)
        check_process()
        span.output = "done"
"""

_REQUESTS = """
from gevent.pywsgi import WSGIServer
def answer(environ, start_response):
    work(environ["PATH_INFO"][1:])
    start_response("200 OK", [])
    return [b"ok"]
server = WSGIServer(("127.0.0.1", 0), answer, log=None)
server.start()
def ask(number):
    return urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/{number}", timeout=20).read()
asked = [gevent.spawn(ask, number) for number in range(12)]
gevent.joinall(asked, timeout=30)
print(sum(one.value == b"ok" for one in asked), flush=True)
"""


def start(code: str, env: dict[str, str]) -> BoundedPopen:
    program = _PREAMBLE + textwrap.dedent(code)
    command = [sys.executable, "-W", "ignore", "-c", program]
    return BoundedPopen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(code: str, env: dict[str, str]) -> tuple[int, str, str]:
    with start(code, env) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize("first", ["", "work('first'); tracing.flush(10)"], ids=["before any span", "while sending"])
def test_requests_that_run_programs(receiver: Receiver, spool: Path, first: str) -> None:
    """All are answered, nothing of the program runs in a child, and every span arrives."""
    env = environment(spool, receiver.url, receiver.url)
    assert run(first + "\n" + _REQUESTS, env) == (0, "12\n", "")
    assert receiver.otlp == receiver.mlflow == {**once(12), **({"execute_tool first": 1} if first else {})}


def test_a_forked_child_sends_its_own(receiver: Receiver, spool: Path) -> None:
    """The parent's greenlets go on in it; what of them is ours sends nothing there, and does not touch its files."""
    code = """
    work(0)
    if (pid := gevent.fork()) == 0:
        PARENT = os.getpid()
        work(1)
        gevent.sleep(2.5)
        os._exit(0 if tracing.flush(10) else 3)
    work(2)
    print(os.waitpid(pid, 0)[1], bool(tracing.flush(10)))
    """
    assert run(code, environment(spool, receiver.url, receiver.url)) == (0, "0 True\n", "")
    assert receiver.otlp == receiver.mlflow == once(3)
    assert list(spool.iterdir()) == []


@pytest.mark.parametrize(("before", "code"), [("", -signal.SIGTERM), ("lambda *_: sys.exit(3)", 3)])
def test_sigterm(receiver: Receiver, spool: Path, before: str, code: int) -> None:
    """It comes while gevent's hub waits, where nothing may wait for us."""
    program = f"""
    work(0)
    {f"tracing.shutdown(); signal.signal(signal.SIGTERM, {before}); tracing.configure()" if before else ""}
    work(1)
    print("ready", flush=True)
    gevent.sleep(30)
    """
    with start(program, environment(spool, receiver.url, receiver.url, MLSPAN_DURABILITY="none")) as process:
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (code, "", "")
    assert receiver.otlp == receiver.mlflow == once(2)


def test_the_applications_provider_is_told_of_once(receiver: Receiver, spool: Path) -> None:
    """Its hook is not ours to take out."""
    code = """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    for _ in range(2):
        trace.set_tracer_provider(TracerProvider())
        with tracing.span("0", kind="tool"):
            pass
    """
    status, out, err = run(code, environment(spool, None, receiver.url))
    assert (status, out) == (0, "")
    assert err.count("starts threads in every process that this one forks") == 1


def test_gunicorn(receiver: Receiver, spool: Path, tmp_path: Path) -> None:
    """A worker of the class gevent: all are answered, and the end of the server sends all."""
    pytest.importorskip("gunicorn")
    app = """
    import subprocess
    from mlspan import tracing
    tracing.configure()
    def answer(environ, start_response):
        with tracing.span(environ["PATH_INFO"][1:], kind="tool") as span:
            subprocess.run(["sleep", "0.05"], check=True)
            span.output = "done"
        start_response("200 OK", [])
        return [b"ok"]
    """
    (tmp_path / "served.py").write_text(textwrap.dedent(app))
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "-b", f"127.0.0.1:{port}", "served:answer"]
    env = environment(spool, receiver.url, receiver.url, MLSPAN_DURABILITY="none")
    server = Process(command, port, tmp_path / "log", cwd=tmp_path, env=env)
    try:
        server.wait(60)
        with ThreadPoolExecutor(12) as pool:
            asked = pool.map(lambda number: urlopen(f"http://127.0.0.1:{port}/{number}", timeout=60).read(), range(12))
            assert list(asked) == [b"ok"] * 12
    finally:
        server.stop()
    assert receiver.otlp == receiver.mlflow == once(12)
