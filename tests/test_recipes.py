"""The recipes of the docs, as a reader saves them: on real servers, each request a trace in MLflow."""

from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from servers.scripted import Scripted
from web.kit import make_environment, read_traces, serve, wait_until_stored

pytestmark = pytest.mark.timeout(400)

RECIPES = Path(__file__).parent.parent / "docs/recipes"


def save_application(page: str, folder: Path, more: str = "") -> list[str]:
    """Save the program of a recipe as ``app.py``, with *more* at its end. Return the page's command to serve it."""
    text = (RECIPES / page).read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (command,) = re.findall(r"^ {4}((?:uvicorn|gunicorn) .*)$", text, re.MULTILINE)
    (folder / "app.py").write_text(program + more, encoding="utf-8")
    return str(command).split()


def post(port: int, path: str, text: str, **headers: str) -> str:
    query = urllib.parse.urlencode({"text": text})
    sent = {f"X-{name.title()}-Id": value for name, value in headers.items()}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}?{query}", headers=sent, method="POST")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.read().decode())


def run_recipe(command: list[str], store: str, model_server: Scripted, folder: Path, traces: int) -> dict[str, Any]:
    """Serve ``app.py``, ask it twice, and return what MLflow has: root's name -> trace."""
    env = {**make_environment(store, model_server)}
    env["PYTHONPATH"] += f":{folder}"
    with serve(command, env, folder / "stderr") as server:
        answered = json.loads(post(server.port, "/chat", "first", session="s-1", user="ada"))
        assert answered == {"answer": "Hi there!"}
        assert post(server.port, "/stream", "second", session="s-2", user="bob") == "Hi" * 5
        wait_until_stored(store, traces)
    assert server.stderr == ""
    found = read_traces(store)
    assert len(found) == traces
    return {next(span.name for span in each.data.spans if span.parent_id is None): each for each in found}


def who(trace: Any) -> tuple[str | None, str | None]:
    said = trace.info.request_metadata
    return said.get("mlflow.trace.session"), said.get("mlflow.trace.user")


def tree(trace: Any) -> list[str]:
    return [span.name for span in trace.data.spans]


DECORATED_PING = '\n\n@app.get("/ping")\ndef ping() -> dict[str, str]:\n    return {}\n'


def test_fastapi(model_server: Scripted, mlflow_store: str, tmp_path: Path) -> None:
    """Answers, a stream and a background task, each with the session and the user of its request."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    command = [*save_application("fastapi.md", tmp_path, DECORATED_PING), "--port", "PORT", "--log-level", "warning"]
    found = run_recipe(command, mlflow_store, model_server, tmp_path, 3)
    assert {name: who(each) for name, each in found.items()} == {
        "POST /chat": ("s-1", "ada"),
        "summarize": ("s-1", "ada"),
        "POST /stream": ("s-2", "bob"),
    }
    assert all(tree(each) == [name, "chat gpt-4o-mini"] for name, each in found.items())
    assert {each.info.state.value for each in found.values()} == {"OK"}


def test_flask(model_server: Scripted, mlflow_store: str, tmp_path: Path) -> None:
    """Under gunicorn, with the stream's session until its end."""
    pytest.importorskip("flask")
    pytest.importorskip("gunicorn")
    command = save_application("flask.md", tmp_path, DECORATED_PING)
    command += ["--bind", "127.0.0.1:PORT", "--log-level", "warning", "--no-control-socket"]
    found = run_recipe(command, mlflow_store, model_server, tmp_path, 2)
    assert {name: who(each) for name, each in found.items()} == {
        "POST /chat": ("s-1", "ada"),
        "POST /stream": ("s-2", "bob"),
    }
    assert all(tree(each) == [name, "chat gpt-4o-mini"] for name, each in found.items())


DJANGO_PING = '\nurlpatterns.append(path("ping", lambda request: JsonResponse({})))\n'


def test_django(model_server: Scripted, mlflow_store: str, tmp_path: Path) -> None:
    """Under uvicorn; the generator of the stream sets its session itself."""
    pytest.importorskip("django")
    pytest.importorskip("uvicorn")
    command = [*save_application("django.md", tmp_path, DJANGO_PING), "--port", "PORT", "--log-level", "warning"]
    found = run_recipe(command, mlflow_store, model_server, tmp_path, 2)
    assert {name: who(each) for name, each in found.items()} == {"chat": ("s-1", "ada"), "stream": ("s-2", None)}
    assert all(tree(each)[-1] == "chat gpt-4o-mini" for each in found.values())


def test_a_recipe_that_loses_the_session_is_seen(model_server: Scripted, mlflow_store: str, tmp_path: Path) -> None:
    """Without the middleware, the check of the sessions fails."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    command = [*save_application("fastapi.md", tmp_path, DECORATED_PING), "--port", "PORT", "--log-level", "warning"]
    program = (tmp_path / "app.py").read_text(encoding="utf-8")
    (tmp_path / "app.py").write_text(program.replace("app.add_middleware(WhoAsks)", ""), encoding="utf-8")
    found = run_recipe(command, mlflow_store, model_server, tmp_path, 3)
    assert {who(each) for each in found.values()} == {(None, None)}
