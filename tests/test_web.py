"""Web applications on real servers: every call to the model is one trace in MLflow, and nobody else notices."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from servers.scripted import Scripted
from web.kit import (
    count_questions,
    count_requests,
    make_environment,
    read_traces,
    serve,
    wait_until_stored,
)

pytestmark = pytest.mark.timeout(400)


def ask_at_once(server: Any, path: str, number: int) -> set[int]:
    """Put *number* questions at once, each in a session of its own. Return the processes that have answered."""

    def ask(index: int) -> int:
        answered = server.request("POST", path, text=f"question {index}", session=f"session {index}")
        assert answered["answer"] == "Hi there!"
        return int(answered.get("pid", 0))

    with ThreadPoolExecutor(8) as pool:
        return set(pool.map(ask, range(number)))


def check_sessions(traces: list[Any], number: int) -> None:
    """Check that each question is in the session of its request."""
    sessions = sorted(filter(None, (each.info.request_metadata.get("mlflow.trace.session") for each in traces)))
    assert sessions == sorted(f"session {index}" for index in range(number))


def test_fastapi_on_uvicorn(model_server: Scripted, mlflow_store: str, tmp_path: Path) -> None:
    """Two workers: lifespan, endpoints of both kinds, background tasks, a stream that is read and one that is not."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    command = ["uvicorn", "fastapi_app:app", "--port", "PORT", "--workers", "2", "--log-level", "warning"]
    with serve(command, make_environment(mlflow_store, model_server), tmp_path / "stderr") as server:
        assert len(ask_at_once(server, "/chat", 20)) <= 2
        assert server.request("POST", "/achat", text="async")["answer"] == "Hi there!"
        assert server.request("POST", "/later", text="in the background")["answer"] == "later"
        assert server.request("GET", "/sse", text="streamed").count("data: Hi") == 5
        assert b"data: Hi" in server.cut_off("/sse", text="cut off")
        wait_until_stored(mlflow_store, count_requests(model_server).total())
    assert server.stderr == ""
    traces = read_traces(mlflow_store)
    assert count_questions(traces) == count_requests(model_server)
    assert count_requests(model_server)["warm up"] == count_requests(model_server)["good night"] == 2
    check_sessions(traces, 20)
    roots = {each.data.spans[0].name for each in traces if each.data.spans[0].parent_id is None}
    assert roots == {"chat gpt-x", "answer a question"}
    assert {each.info.state.value for each in traces} == {"OK"}


def test_flask_on_gunicorn(model_server: Scripted, mlflow_store: str, tmp_path: Path) -> None:
    """Two workers with threads, forked from a process that has already called the model."""
    pytest.importorskip("flask")
    pytest.importorskip("gunicorn")
    command = ["gunicorn", "flask_app:app", "--bind", "127.0.0.1:PORT", "--workers", "2", "--threads", "4"]
    command += ["--preload", "--log-level", "warning", "--no-control-socket"]
    with serve(command, make_environment(mlflow_store, model_server), tmp_path / "stderr") as server:
        assert len(ask_at_once(server, "/chat", 20)) <= 2
        assert server.request("GET", "/sse", text="streamed").count("data: Hi") == 5
        assert b"data: Hi" in server.cut_off("/sse", text="cut off")
        wait_until_stored(mlflow_store, count_requests(model_server).total())
    assert server.stderr == ""
    traces = read_traces(mlflow_store)
    assert count_questions(traces) == count_requests(model_server)
    assert count_requests(model_server)["warm up"] == 1
    check_sessions(traces, 20)
    assert {each.info.state.value for each in traces} == {"OK"}
