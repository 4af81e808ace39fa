"""The wheel, installed beside nothing of ours, on each Python that is here: what a new user does first."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pytest_sessions import Session
from servers.process import BoundedPopen
from servers.receiver import Receiver
from wheel.environments import PYTHONS, ROOT, build_wheel, find_python, install
from wheel.programs import COMMON_ENDINGS, ENDINGS, NOTEBOOKS, Program, read_first_program

pytestmark = pytest.mark.timeout(900)  # the first run installs MLflow for each Python

README = Program(read_first_program(ROOT / "README.md"), spans=("chat gpt-4o-mini",))
# With MLflow, whose import takes seconds: 3.12, which is the strictest about exits; 3.11 runs all the other tests.
# `make matrix` runs every ending, and the notebooks, on every Python.
WITH_MLFLOW = {"3.12": COMMON_ENDINGS}
WITH_NOTEBOOKS = {"3.12"}
if os.environ.get("MLSPAN_WIDE") == "1":
    WITH_MLFLOW = dict.fromkeys(PYTHONS, tuple(ENDINGS))
    WITH_NOTEBOOKS = {*WITH_MLFLOW}
# Without MLflow: the lowest and the highest; the session "bare" of nox has 3.11.
BARE = PYTHONS if os.environ.get("MLSPAN_WIDE") == "1" else (PYTHONS[0], PYTHONS[-1])
ANSWER = {
    "id": "c-1",
    "object": "chat.completion",
    "created": 0,
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}
# A new user's environment has none of these.
OURS = ("MLSPAN_", "MLFLOW_", "OTEL_", "PYTHON", "PYTEST_", "COVERAGE", "VIRTUAL_ENV", "CI", "JUPYTER_", "IPYTHON")


@pytest.fixture(params=PYTHONS)
def python(request: pytest.FixtureRequest) -> tuple[str, Path]:
    """A version, and an interpreter of it."""
    if (found := find_python(request.param)) is None:
        pytest.skip(f"Python {request.param} is not on this machine")
    return request.param, found


@pytest.fixture
def wheel(python: tuple[str, Path]) -> Path:
    return build_wheel(python[1])


def surround(folder: Path, receiver: Receiver, **more: str) -> dict[str, str]:
    """A new user's environment, whose network ends at this machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    mine = {"XDG_STATE_HOME": str(folder / "state"), "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
    mine |= {"IPYTHONDIR": str(folder / "ipython"), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}  # a debugger's warning
    return {**kept, **nowhere, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **mine, **more}


def run(python: Path, program: Program, folder: Path, env: dict[str, str]) -> tuple[int, str]:
    """Run *program* in *folder*; return its status and what it has written to stderr."""
    script = folder / "app.py"
    script.write_text(program.code)
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with BoundedPopen([python, str(script)], cwd=folder, env=env, **pipes) as process:
        try:
            if program.is_terminated:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=240)
        except BaseException:
            process.kill()
            raise
    return process.returncode, said


def judge(program: Program, status: int, said: str, *arrived: Counter[str]) -> list[str]:
    """Return what is wrong, a line each."""
    wrong = [] if status == program.status else [f"exit code {status}"]
    own = said.startswith("Traceback") and said.count("Traceback") == 1 and "mlspan: " not in said
    if said and not (program.error and own and said.endswith(program.error)):
        wrong.append(said)
    if program.error and not said.endswith(program.error):
        wrong.append("no traceback of its own")
    wanted = dict.fromkeys(program.spans, 1)
    return wrong + [f"arrived: {dict(found)}" for found in arrived if found != wanted]


def stored(folder: Path) -> Counter[str]:
    """Count the spans in MLflow's database, by name."""
    with sqlite3.connect(folder / "mlflow.db") as database:
        rows = database.execute("select name from spans").fetchall()
    database.close()
    return Counter(name for (name,) in rows)


def count_runs(folder: Path) -> int:
    with sqlite3.connect(folder / "mlflow.db") as database:
        (number,) = database.execute("select count(*) from runs").fetchone()
    database.close()
    return int(number)


def try_all(tmp_path: Path, programs: dict[str, Program], attempt: Any) -> None:
    """Run *attempt* with each program, a folder and a receiver, two at a time; fail with all that was wrong."""

    def one(item: tuple[int, Program]) -> list[str]:
        folder, receiver = tmp_path / str(item[0]), Receiver()
        folder.mkdir()
        try:
            return attempt(item[1], folder, receiver)  # type: ignore[no-any-return]
        finally:
            receiver.stop()

    with ThreadPoolExecutor(2) as pool:
        found = pool.map(one, enumerate(programs.values()))
        lines = [f"{name}: {line}" for name, wrong in zip(programs, found, strict=True) for line in wrong]
    if lines:
        pytest.fail("\n".join(lines), pytrace=False)


@pytest.fixture
def model(scripted: Any) -> dict[str, str]:
    """What leads the OpenAI client to a server of ours."""
    scripted.reply(ANSWER)
    return {"OPENAI_BASE_URL": scripted.base_url, "OPENAI_API_KEY": "test"}


def test_with_mlflow(python: tuple[str, Path], wheel: Path, model: dict[str, str], tmp_path: Path) -> None:
    """README's program as the first thing ever, then notebooks, and programs that end in each way: all arrives."""
    if python[0] not in WITH_MLFLOW:
        pytest.skip("make matrix runs it")
    mine = install(python[1], python[0], wheel, "mlflow,openai", "ipykernel", "nbclient")
    first = tmp_path / "first"
    first.mkdir()
    receiver = Receiver()
    status, said = run(mine, README, first, surround(first, receiver, **model))
    receiver.stop()
    assert judge(README, status, said, stored(first), receiver.otlp) == []
    with sqlite3.connect(first / "mlflow.db") as database:  # making one takes seconds: it is made once
        for table in ("spans", "trace_tags", "trace_request_metadata", "trace_info"):
            database.execute(f"delete from {table}")
    database.close()

    def attempt(program: Program, folder: Path, receiver: Receiver) -> list[str]:
        shutil.copy(first / "mlflow.db", folder)
        said = run(mine, program, folder, surround(folder, receiver, **model))
        wrong = judge(program, *said, stored(folder), receiver.otlp)
        return wrong if (runs := count_runs(folder)) == program.runs else [*wrong, f"{runs} runs"]

    notebooks = NOTEBOOKS if python[0] in WITH_NOTEBOOKS else {}
    try_all(tmp_path, {**notebooks, **{name: ENDINGS[name] for name in WITH_MLFLOW[python[0]]}}, attempt)


def test_bare(python: tuple[str, Path], wheel: Path, tmp_path: Path) -> None:
    """Without MLflow and any framework, installed by pip itself: to a tracking server, and to an OTLP receiver."""
    if python[0] not in BARE:
        pytest.skip("make matrix runs it")
    mine = install(python[1], python[0], wheel, "", by_pip=True)

    def attempt(program: Program, folder: Path, receiver: Receiver) -> list[str]:
        said = run(mine, program, folder, surround(folder, receiver, MLFLOW_TRACKING_URI=receiver.url))
        return judge(program, *said, receiver.mlflow, receiver.otlp)

    try_all(tmp_path, ENDINGS, attempt)


UNASKED = """
import sys
def test_it():
    assert "opentelemetry" not in sys.modules and "mlspan.tracing" not in sys.modules
    import mlspan.tracing
    assert type(mlspan.tracing.__loader__).__name__ == "SourceFileLoader"
"""


def test_pytest_plugin(python: tuple[str, Path], wheel: Path, tmp_path: Path) -> None:
    """The example's tests pass without key and network; where nothing asks for the plugin, nothing is imported."""
    if python[0] not in BARE:
        pytest.skip("make matrix runs it")
    mine = install(python[1], python[0], wheel, "openai", "pytest", "pytest-asyncio", "pytest-xdist")
    shutil.copytree(ROOT / "examples/testing", tmp_path / "testing", ignore=shutil.ignore_patterns("__pycache__"))
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    session = Session(tmp_path / "testing", {**nowhere, "OPENAI_API_KEY": "", "NO_PROXY": "", "no_proxy": ""}, mine)
    assert "2 passed" in session.run("-n", "2")
    session.write(test_unasked=UNASKED)
    assert "1 passed" in session.run("test_unasked.py")
