"""FastAPI beside OpenTelemetry's instrumentation of it: one trace for a request, named by its route.

``nox -s web`` has it.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from servers.scripted import Scripted
from web.kit import count_questions, count_requests, make_environment, read_traces, serve, wait_until_stored

pytest.importorskip("opentelemetry.instrumentation.fastapi")
pytestmark = pytest.mark.timeout(400)

ORDERS = {
    "theirs first": "provider class | ours",
    "ours first": "ours provider | app",
    "the provider last": "ours | app provider",
    "without a provider": "ours | app",
    "a provider of ours": "global ours | app",
}
NAMED = {"POST /chat/{room}": 2, "POST /achat/{room}": 2, "GET /sse/{room}": 2, "GET /fails/{room}": 1}


def ask_everything(server: Any) -> None:
    for room in (1, 2):
        query = {"text": f"question {room}", "session": f"session {room}"}
        assert server.request("POST", f"/chat/{room}", **query) == {"answer": "Hi there!", "room": room}
        query["text"] = f"another question {room}"
        assert server.request("POST", f"/achat/{room}", **query) == {"answer": "Hi there!", "room": room}
    assert server.request("GET", "/sse/3", text="streamed").count("data: 3 Hi") == 5
    assert b"data: 4 Hi" in server.cut_off("/sse/4", text="cut off")
    with pytest.raises(AssertionError, match="500"):
        server.request("GET", "/fails/5", text="in vain")


@pytest.mark.parametrize("order", ORDERS)
def test_fastapi_beside_its_instrumentation(
    order: str, model_server: Scripted, mlflow_store: str, tmp_path: Path
) -> None:
    """Whatever comes first: as many traces as requests, each with its route, its session and its call below it."""
    env = make_environment(mlflow_store, model_server) | {
        "ORDER": ORDERS[order],
        "OTEL_PYTHON_EXCLUDED_URLS": "ping,spans",
    }
    command = ["uvicorn", "instrumented_app:app", "--port", "PORT", "--log-level", "critical"]
    with serve(command, env, tmp_path / "stderr") as server:
        ask_everything(server)
        wait_until_stored(mlflow_store, 7)
        theirs = Counter(map(tuple, server.request("GET", "/spans")))
    assert server.stderr == ""
    traces = read_traces(mlflow_store)
    assert count_questions(traces) == count_requests(model_server)
    assert len(traces) == 7
    names = Counter(each.data.spans[0].name for each in traces)
    has_provider = order != "without a provider"
    assert names == (NAMED if has_provider else {"chat gpt-x": 7})
    calls = [span for each in traces for span in each.data.spans if span.name == "chat gpt-x"]
    assert len(calls) == len({call.trace_id for call in calls}) == 7, "a trace for each request"
    assert has_provider == all(call.parent_id is not None for call in calls)
    sessions = sorted(filter(None, (each.info.request_metadata.get("mlflow.trace.session") for each in traces)))
    assert sessions == ["session 1", "session 1", "session 2", "session 2"]
    if "provider" in ORDERS[order]:
        assert sum(number for (name, parent), number in theirs.items() if name == "chat gpt-x" and parent) == 7
        assert all((route, "") in theirs for route in NAMED)
