"""Forked children that live shorter than an import of MLflow: their parent sends what they leave, at once."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from servers.program import environment, run

pytest.importorskip("mlflow")

HOW = {
    "a pool": """
    import multiprocessing
    from functools import partial
    def task(number):
        work(number, number + 1)
        return "mlflow" in sys.modules
    began = time.monotonic()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        imported = pool.map(task, range(6))
    """,
}


def count(store: str) -> list[str]:
    with sqlite3.connect(store.removeprefix("sqlite:///")) as db:
        found = sorted(name for (name,) in db.execute("select name from spans"))
    db.close()
    return found


@pytest.mark.parametrize("how", HOW)
def test_children_into_sqlite(mlflow_store: str, tmp_path: Path, how: str) -> None:
    """All is stored when the parent has ended, which has recorded nothing itself; no child imports MLflow."""
    code = f"""
    tracing.configure()
    {HOW[how].strip()}
    print(time.monotonic() - began, any(imported))
    """
    done = run(code, environment(tmp_path / "spool", mlflow_store))
    assert done.returncode == 0, done.stderr
    seconds, imported = done.stdout.split()
    assert imported == "False"
    assert float(seconds) < 20
    expected = [f"execute_tool {number}" for number in range(6)]
    assert count(mlflow_store) == sorted(expected)
    assert done.stderr == ""
    assert list((tmp_path / "spool").glob("*")) == []


def test_a_parent_that_lives_takes_it_up_at_once(mlflow_store: str, tmp_path: Path) -> None:
    """It need not end, nor record anything more."""
    code = """
    tracing.configure()
    work(0, 1)
    if (pid := os.fork()) == 0:
        work(1, 2)
        tracing.shutdown()
        os._exit(0)
    os.waitpid(pid, 0)
    print("ended", flush=True)
    sys.stdin.readline()
    os._exit(0)
    """
    import subprocess

    from servers.program import start

    with start(code, environment(tmp_path / "spool", mlflow_store), stdin=subprocess.PIPE) as process:
        assert process.stdout.readline() == "ended\n"
        until = time.monotonic() + 60
        while len(count(mlflow_store)) < 2 and time.monotonic() < until:
            time.sleep(0.2)
        assert count(mlflow_store) == ["execute_tool 0", "execute_tool 1"]
        process.communicate("go\n", timeout=30)


def test_a_fork_starts_no_thread_in_the_child(tmp_path: Path) -> None:
    """The provider that we make learns what the child is without the pool of threads that the SDK's has for it."""
    code = """
    import concurrent.futures, threading
    tracing.configure()
    def describe():
        with tracing.span("x", kind="tool") as span:
            pass
        resource = span._operation.span.resource.attributes
        return resource["service.instance.id"], resource["process.pid"] == os.getpid()
    work(0, 1)
    before = describe()
    class Pool(concurrent.futures.ThreadPoolExecutor):
        def __init__(self, *args, **options):
            os.write(1, b"a pool\\n")
            super().__init__(*args, **options)
    concurrent.futures.ThreadPoolExecutor = Pool
    if (pid := os.fork()) == 0:
        threads = threading.active_count()
        after = describe()
        os.write(1, f"{threads} {after[0] != before[0]} {after[1]}\\n".encode())
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    os.write(1, f"{describe() == before}\\n".encode())
    """
    env = environment(tmp_path / "spool", OTEL_EXPERIMENTAL_RESOURCE_DETECTORS="otel,process")
    done = run(code, env)
    assert (done.stdout, done.stderr) == ("1 True True\nTrue\n", "")
