"""Django, Celery, Streamlit and a function that is frozen between its calls: what arrives, and what others notice.

``nox -s web`` has the frameworks, and runs the function, which needs none.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from servers.process import BoundedPopen
from servers.scripted import Scripted
from web.kit import (
    HERE,
    count_questions,
    count_requests,
    make_environment,
    read_traces,
    serve,
    wait_until_stored,
)

pytestmark = pytest.mark.timeout(400)


def read_roots(traces: list[Any]) -> list[str]:
    return sorted(each.data.spans[0].name for each in traces)


def test_django_on_uvicorn(model_server: Scripted, mlflow_store: str, tmp_path: Path) -> None:
    """Views of both kinds, a stream that is read and one that is not; the application names its traces."""
    pytest.importorskip("django")
    pytest.importorskip("uvicorn")
    command = ["uvicorn", "django_app:application", "--port", "PORT", "--lifespan", "off", "--log-level", "warning"]
    with serve(command, make_environment(mlflow_store, model_server), tmp_path / "stderr") as server:
        for number in range(4):
            view = "/achat" if number % 2 else "/chat"
            answered = server.request("GET", view, text=f"question {number}", session=f"session {number}")
            assert answered["answer"] == "Hi there!"
        assert server.request("GET", "/sse", text="streamed").count("data: Hi") == 5
        assert b"data: Hi" in server.cut_off("/sse", text="cut off")
        wait_until_stored(mlflow_store, 6)
    assert server.stderr == ""
    traces = read_traces(mlflow_store)
    assert count_questions(traces) == count_requests(model_server)
    assert read_roots(traces) == ["GET /chat"] * 2 + ["chat gpt-x"] * 4
    sessions = sorted(filter(None, (each.info.request_metadata.get("mlflow.trace.session") for each in traces)))
    assert sessions == [f"session {number}" for number in range(4)]
    # Django cancels the task of a client that has gone, as a time limit would: the two cannot be told apart.
    failed = [span for each in traces for span in each.data.spans if span.status.status_code.value == "ERROR"]
    assert [span.attributes["error.type"] for span in failed] == ["asyncio.exceptions.CancelledError"]
    assert "cut off" in str(failed[0].inputs)


SENDER = """
import celery_app
from celery import signals
from mlspan import tracing
with tracing.session("s-1"), tracing.span("sender"):
    print(celery_app.ask.delay("in a task").get(timeout=60))
    print(celery_app.flaky.delay().get(timeout=60))
    try:
        celery_app.fails.delay().get(timeout=60)
    except ValueError as error:
        print(error)
tracing.shutdown(150)
"""


def test_tasks_of_celery(model_server: Scripted, mlflow_store: str, tmp_path: Path) -> None:
    """Each attempt is a span in the trace of its sender; a retry is no failure, and what fails says why."""
    pytest.importorskip("celery")
    env = make_environment(mlflow_store, model_server) | {"TEST_BROKER": str(tmp_path)}
    command = [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "-c", "1", "--without-gossip"]
    with (
        (tmp_path / "worker.log").open("w") as log,
        BoundedPopen(command, env=env, stdout=log, stderr=log, cwd=HERE) as worker,
    ):
        sent = subprocess.run(
            [sys.executable, "-c", SENDER], env=env, cwd=HERE, capture_output=True, text=True, timeout=300, check=False
        )
        worker.terminate()
    logged = (tmp_path / "worker.log").read_text()
    assert (sent.stdout, sent.stderr) == ("Hi there!\nat last\nnever\n", ""), logged
    assert "mlspan" not in logged
    wait_until_stored(mlflow_store, 1)
    (trace,) = read_traces(mlflow_store)
    spans = {span.span_id: span for span in trace.data.spans}
    tasks = [span for span in spans.values() if span.attributes.get("celery.task_name")]
    found = [
        (one.name, one.attributes["celery.state"], one.attributes["celery.retries"], one.status.status_code.value)
        for one in tasks
    ]
    assert sorted((name, state, tries, status == "ERROR") for name, state, tries, status in found) == [
        ("ask", "SUCCESS", 0, False),
        ("fails", "FAILURE", 0, True),
        ("flaky", "RETRY", 0, False),
        ("flaky", "SUCCESS", 1, False),
    ]
    (call,) = (span for span in spans.values() if span.name == "chat gpt-x")
    assert spans[call.parent_id].name == "ask"
    assert {spans[span.parent_id].name for span in spans.values() if "celery.state" in span.attributes} <= {
        "sender",
        "flaky",
    }
    failed = next(span for span in spans.values() if span.name == "fails")
    assert "never" in str(failed.events[0].attributes)


ENDINGS = """
from celery import Celery
from celery.exceptions import Ignore
from mlspan import integrations, testing, tracing
integrations.workers.celery.autolog(task_spans=%s)
app = Celery("app", broker="memory://", backend="cache+memory://")
app.conf.task_always_eager = True

@app.task(name="adds")
def adds(a, b=1):
    return a + b

@app.task(name="fails")
def fails():
    raise ValueError("never")

@app.task(name="ignored")
def ignored():
    raise Ignore()

@app.task(name="flaky", bind=True, max_retries=1, default_retry_delay=0)
def flaky(self):
    if self.request.retries < 1:
        raise self.retry(exc=ValueError("not yet"))
    return "at last"

with testing.spans() as spans:
    for task in (adds, flaky, fails, ignored):
        arguments = ((1,), {"b": 2}) if task is adds else ((), {})
        with tracing.span("sender"):
            try:
                print(task.apply_async(*arguments).get())
            except ValueError as error:
                print(error)
for one in spans.all:
    if one.attributes.get("celery.state"):
        values = [one.attributes.get(name) for name in ("celery.state", "celery.retries", "mlspan.output")]
        print(one.name, *values, one.status.status_code.name, one.parent is not None)
"""


@pytest.mark.parametrize("asked", [True, False])
def test_endings_of_celery_tasks(asked: bool) -> None:
    """What a task returns or raises is its own; each attempt has a span with its state only if that is asked for."""
    pytest.importorskip("celery")
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    command = [sys.executable, "-W", "ignore", "-c", ENDINGS % asked]
    done = subprocess.run(
        command, env=env | {"MLSPAN_STRICT": "1"}, capture_output=True, text=True, timeout=200, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    printed = done.stdout.splitlines()
    assert printed[:4] == ["3", "at last", "never", "None"]
    assert sorted(printed[4:]) == asked * [
        "adds SUCCESS 0 3 UNSET True",
        "fails FAILURE 0 None ERROR True",
        "flaky RETRY 0 None UNSET True",
        "flaky SUCCESS 1 at last UNSET True",
        "ignored IGNORED 0 None UNSET True",
    ]


def test_a_page_of_streamlit(model_server: Scripted, mlflow_store: str, tmp_path: Path) -> None:
    """Every run of the page is a trace; one that ``st.stop`` or ``st.rerun`` leaves is no failure."""
    pytest.importorskip("streamlit")
    code = """
import sys
from streamlit.testing.v1 import AppTest
page = AppTest.from_file("streamlit_app.py", default_timeout=60).run()
for text in ("hello", "stop", "again"):
    page.text_input[0].set_value(text).run()
    assert not page.exception, page.exception
    print([one.value for one in page.markdown])
from mlspan import tracing
assert tracing.flush(60)
"""
    env = make_environment(mlflow_store, model_server)
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=HERE, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['Hi there!', 'the end']", "['Hi there!']", "['Hi there!', 'the end']"]
    assert "mlspan" not in done.stderr
    traces = read_traces(mlflow_store)
    assert count_questions(traces) == count_requests(model_server) == {"hello": 1, "stop": 1, "again": 2}
    assert read_roots(traces) == ["page"] * 4
    assert {each.info.state.value for each in traces} == {"OK"}


def wait_until_frozen(process: BoundedPopen) -> None:
    for _ in range(600):
        if "\nState:\tT" in Path(f"/proc/{process.pid}/status").read_text():
            return
        time.sleep(0.05)
    raise RuntimeError("the process does not stop")


@pytest.mark.skipif(not os.environ.get("MLSPAN_WIDE"), reason="nox -s web: it waits for MLflow's import")
def test_a_function_that_is_frozen(model_server: Scripted, mlflow_store: str, tmp_path: Path) -> None:
    """Each call is stored when its answer is given, as nothing runs until the next; a kill then loses nothing."""
    env = make_environment(mlflow_store, model_server) | {"XDG_STATE_HOME": str(tmp_path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with BoundedPopen([sys.executable, "-W", "ignore", "lambda_runtime.py"], env=env, cwd=HERE, **pipes) as process:
        for number in range(3):
            os.kill(process.pid, signal.SIGCONT)
            process.stdin.write(f"event {number}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "Hi there!\n", process.stderr.read()
            wait_until_frozen(process)
            assert len(read_traces(mlflow_store)) == number + 1
        process.kill()
        assert process.stderr.read() == ""
    traces = read_traces(mlflow_store)
    assert count_questions(traces) == count_requests(model_server)
    assert read_roots(traces) == ["handler"] * 3
