"""What other processes do for a caller is in the caller's trace and run, with real workers and a real server."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
from servers.process import BoundedPopen

HERE = Path(__file__).parent
ANSWER = {
    "id": "c-1",
    "object": "chat.completion",
    "created": 0,
    "model": "gpt-x",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}
CALL = "job\n  chat gpt-x"
# The first test starts the server, which has minutes of its own.
pytestmark = [pytest.mark.timeout(240, func_only=True), pytest.mark.filterwarnings("default")]


class Driver:
    """Runs a driver, and reads from the server what came of it."""

    def __init__(self, server: str, model: str, folder: Path) -> None:
        import mlflow

        self.client, self.folder = mlflow.MlflowClient(server), folder
        self.run = self.client.create_run("0").info.run_id
        self.env = {
            **os.environ,
            "OPENAI_BASE_URL": model,
            "MLSPAN_TRACKING_URI": server,
            "MLFLOW_TRACKING_URI": server,
            "MLSPAN_STRICT": "1",
            "PYTHONPATH": str(HERE),
            "TEST_RUN": self.run,
            "TEST_BROKER": str(folder),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYSPARK_PYTHON": sys.executable,
            "SPARK_LOCAL_IP": "127.0.0.1",
            "XDG_STATE_HOME": str(folder / "state"),
        }

    def __call__(self, name: str, **env: str) -> Any:
        """What the driver said; its trace is left in ``tree``."""
        command = [sys.executable, str(HERE / "drivers.py"), name]
        done = subprocess.run(
            command, env=self.env | env, capture_output=True, text=True, timeout=150, check=False, cwd=self.folder
        )
        line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
        assert line, done.stdout[-2000:] + done.stderr[-6000:]
        assert "mlspan:" not in done.stderr, done.stderr[-6000:]
        said = json.loads(line.removeprefix("RESULT "))
        self.trace = self.client.get_trace("tr-" + said["trace"])
        return said

    @property
    def tree(self) -> str:
        spans = sorted(self.trace.data.spans, key=lambda span: span.start_time_ns)

        def grow(parent: str | None, depth: int) -> list[str]:
            lines = []
            for span in spans:
                if span.parent_id == parent:
                    lines += ["  " * depth + span.name, *grow(span.span_id, depth + 1)]
            return lines

        return "\n".join(grow(None, 0))

    def children(self) -> list[Any]:
        """The runs below ours."""
        return list(self.client.search_runs(["0"], f"tags.`mlflow.parentRunId` = '{self.run}'"))

    def check_surroundings(self) -> None:
        """Session, user, tags and run of the trace, which each worker has a part of."""
        said = self.trace.info.trace_metadata
        assert (said["mlflow.trace.session"], said["mlflow.trace.user"]) == ("s-1", "ada")
        assert said["mlflow.sourceRun"] == self.run
        assert self.trace.info.tags["team"] == "blue"
        calls = sum(span.name == "chat gpt-x" for span in self.trace.data.spans)
        assert json.loads(said["mlflow.trace.tokenUsage"])["total_tokens"] == 4 * calls


@pytest.fixture
def driver(mlflow_server: str, scripted: Any, tmp_path: Path) -> Driver:
    scripted.reply(ANSWER)
    return Driver(mlflow_server, scripted.base_url, tmp_path)


def needs(module: str) -> Any:
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"{module} is not installed")


@pytest.mark.parametrize("name", ["multiprocessing_fork", "multiprocessing_spawn"])
def test_pool(driver: Driver, name: str) -> None:
    """Calls in a pool's processes are below the span that the pool was used in, forked or spawned."""
    said = driver(name)
    assert said["pid"] not in said["result"]
    assert driver.tree == CALL + "\n  chat gpt-x"
    driver.check_surroundings()


@pytest.mark.parametrize("name", ["process_fork", "process_spawn"])
def test_process(driver: Driver, name: str) -> None:
    """So are those of a process of one's own, beside one that the caller makes itself."""
    assert driver(name)["result"] == [0]
    assert driver.tree == CALL + "\n  chat gpt-x"
    driver.check_surroundings()


def test_futures(driver: Driver) -> None:
    """And of concurrent.futures, where what a task raises comes back as it is."""
    assert driver("futures")["result"] == ["None", "KeyError('two')"]
    assert driver.tree == CALL + "\n  chat gpt-x"


@needs("joblib")
def test_joblib(driver: Driver) -> None:
    """And of joblib's, on loky."""
    said = driver("joblib")
    assert said["pid"] not in said["result"]
    assert driver.tree == CALL + "\n  chat gpt-x"
    driver.check_surroundings()


@needs("joblib")
def test_fit_in_a_worker(driver: Driver) -> None:
    """A training in a worker is in the caller's trace, and its run is a child of the caller's."""
    driver("joblib_fit")
    assert driver.tree == "job" + "\n  fit DecisionTreeClassifier\n    log metrics" * 2
    depths = {run.data.params["max_depth"] for run in driver.children()}
    assert depths == {"1", "2"}


@needs("joblib")
def test_search_with_workers(driver: Driver) -> None:
    """What a search fits in its workers is part of the search: no spans, and no runs but the search's own."""
    driver("search")
    assert driver.tree == "job\n  fit GridSearchCV\n    log metrics"
    assert len(driver.children()) == 2  # of MLflow's own, one for each candidate


@needs("distributed")
def test_dask(driver: Driver) -> None:
    """Calls in Dask's worker processes, whose threads run two tasks at once."""
    said = driver("dask")
    assert said["pid"] not in said["result"]
    assert driver.tree == CALL + "\n  chat gpt-x"
    driver.check_surroundings()


@needs("ray")
def test_ray(driver: Driver) -> None:
    """Calls in an actor's method and in a task of Ray's."""
    said = driver("ray")
    assert said["pid"] not in said["result"]
    assert driver.tree == CALL + "\n  chat gpt-x"
    driver.check_surroundings()


@needs("pyspark")
def test_spark(driver: Driver) -> None:
    """Calls in a UDF and in the function of an RDD."""
    said = driver("spark")
    assert said["pid"] not in said["result"]
    assert driver.tree == CALL + "\n  chat gpt-x" * 2
    driver.check_surroundings()


@needs("pyspark")
def test_spark_under_another_python(driver: Driver) -> None:
    """Workers under a Python without mlspan run the jobs of RDDs as they are."""
    other = driver.folder / "other"
    venv.create(other, symlinks=True, with_pip=False)
    folder = subprocess.run(
        [other / "bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.strip()
    for module in ("pyspark", "py4j"):
        found = importlib.util.find_spec(module)
        assert found is not None
        assert found.origin is not None
        Path(folder, module).symlink_to(Path(found.origin).parent)
    said = driver("spark_plain", PYSPARK_PYTHON=str(other / "bin/python"))
    assert said["pid"] not in said["result"]
    assert driver.tree == "job"


@needs("celery")
def test_celery(driver: Driver) -> None:
    """Calls in a worker that ``mlspan run`` has started, with nothing of ours in the application."""
    command = [sys.executable, "-m", "mlspan.cli", "run", "-m", "celery", "-A", "celery_app", "worker", "-c", "1"]
    env = driver.env | {"MLSPAN_TRACKING_URI": "none"}
    with (driver.folder / "worker.log").open("w") as log:
        worker = BoundedPopen([*command, "--without-gossip"], env=env, stdout=log, stderr=log, cwd=HERE)
    try:
        said = driver("celery")
    finally:
        worker.terminate()
        worker.wait(30)
    assert said["pid"] not in said["result"]
    assert driver.tree == CALL + "\n  chat gpt-x"
    driver.check_surroundings()
