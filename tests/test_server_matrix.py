"""What MLflow gives back of one trace with everything, by its version and by where it stores traces.

The nox session ``servers`` (``make matrix``) runs this in an environment of each version, with ``MLSPAN_MATRIX`` naming
the file that takes the results; ``docs/server_table.py`` writes the table of docs/mlflow.md from it.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from servers.everything import LONG, NASTY, PICTURE, RESULTS, record_chat, record_everything, report
from servers.mariadb import find_missing, mariadb
from servers.postgres import postgres, require_postgres
from servers.process import Process, free_port

from mlspan import tracing

if RESULTS is None:
    pytest.skip("make matrix runs it, in an environment of each version", allow_module_level=True)
mlflow = pytest.importorskip("mlflow")

pytestmark = pytest.mark.timeout(600)  # a server and its database are made in the setup of a test

_DATABASES = ("SQLite", "PostgreSQL", "MariaDB")
_STORES = (*_DATABASES, *(f"server on {database}" for database in _DATABASES), "folder")
_LOADS_PROMPTS = not mlflow.__version__.startswith("3.6.")  # its load_prompt raises inside a span that is not MLflow's
_MANY = 40  # traces in one run, more than are told of their run one by one


@pytest.fixture(scope="module", params=_STORES)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A new store, the trace with everything in it, and many small ones in a run."""
    folder = tmp_path_factory.mktemp("store")
    with ExitStack() as stack:
        uri = stack.enter_context(_OPENERS[request.param.rpartition(" ")[2]](folder))
        if "server" in request.param:
            port = free_port()
            command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--port", str(port)]
            command += ["--workers", "1", "--host", "127.0.0.1", "--artifacts-destination", str(folder / "artifacts")]
            server = Process(command, port, folder / "log", cwd=folder)
            stack.callback(server.stop)
            server.wait(300)
            uri = f"http://127.0.0.1:{port}"
        mlflow.set_tracking_uri(uri)
        stack.callback(mlflow.set_tracking_uri, None)
        yield _record(uri, request.param, folder)
        tracing.shutdown(10)


@contextmanager
def _open_sqlite(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder}/mlflow.db"


@contextmanager
def _open_postgres(_: Path) -> Iterator[str]:
    require_postgres()
    with postgres() as (address, _process):
        yield f"{address}/postgres"


@contextmanager
def _open_mariadb(_: Path) -> Iterator[str]:
    pytest.importorskip("pymysql")
    if (missing := find_missing()) is not None:
        pytest.skip(missing)
    with mariadb() as address:
        yield address


@contextmanager
def _open_folder(folder: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        yield (folder / "mlruns").as_uri()


_OPENERS = {"SQLite": _open_sqlite, "PostgreSQL": _open_postgres, "MariaDB": _open_mariadb, "folder": _open_folder}


def _record(uri: str, name: str, folder: Path) -> Any:
    experiment = mlflow.create_experiment(
        f"matrix-{uuid.uuid4().hex[:8]}", str(folder / "files") if "server" not in name else None
    )
    mlflow.set_experiment(experiment_id=experiment)
    prompt = f"prompt-{uuid.uuid4().hex[:8]}"
    mlflow.genai.register_prompt(prompt, "Say {{word}}")
    tracing.shutdown(10)
    tracing.configure(tracking_uri=uri, experiment=experiment, spool_dir=folder / "spool")

    def load_prompt() -> None:
        if _LOADS_PROMPTS:
            mlflow.genai.load_prompt(f"prompts:/{prompt}/1")
        else:
            trace.get_current_span().set_attribute("mlspan.prompts", [f"{prompt}/1"])

    with mlflow.start_run() as run:
        trace_id = record_everything(load_prompt)
    result = tracing.flush(120)
    with mlflow.start_run() as busy:
        for _ in range(_MANY):
            record_chat()
    sent_many = tracing.flush(120)
    with tracing.session("session-2"), tracing.user("user-2"), tracing.tags(team="red"):
        plain_id = record_chat()
    assert tracing.flush(120)
    return SimpleNamespace(
        name=name,
        uri=uri,
        sent=result,
        sent_many=sent_many,
        plain=mlflow.get_trace(f"tr-{plain_id}"),
        trace=mlflow.get_trace(f"tr-{trace_id}"),
        run=run.info.run_id,
        busy_run=busy.info.run_id,
        prompt=prompt,
        experiment=experiment,
    )


def _check_text(store: Any) -> None:
    (root,) = (span for span in store.trace.data.spans if span.name == "invoke_agent all")
    kept = NASTY.replace("\0", "\u2400")
    assert root.inputs in {kept.replace("\ud83d", mark) for mark in ("\ufffd", "?")}
    assert root.outputs == LONG


def _check_tree(store: Any) -> None:
    assert store.sent, str(store.sent)
    assert sorted(span.name for span in store.trace.data.spans) == ["execute_tool look", "invoke_agent all"]
    assert str(store.trace.info.state).endswith("OK")


def _check_run(store: Any) -> None:
    found = mlflow.search_traces(locations=[store.experiment], run_id=store.run, return_type="list")
    assert [one.info.trace_id for one in found] == [store.trace.info.trace_id]


def _check_many_of_run(store: Any) -> None:
    assert store.sent_many, str(store.sent_many)
    search = {"locations": [store.experiment], "run_id": store.busy_run, "return_type": "list"}
    assert len(mlflow.search_traces(**search, include_spans=False)) == _MANY


def _check_plain(store: Any) -> None:
    info = store.plain.info
    assert (info.tags["mlflow.traceName"], info.tags["team"]) == ("chat m", "red")
    metadata = info.trace_metadata
    assert (metadata["mlflow.trace.session"], metadata["mlflow.trace.user"]) == ("session-2", "user-2")
    assert (info.request_preview, info.response_preview) == ("Hi?", "Yes.")


def _check_session(store: Any) -> None:
    metadata = store.trace.info.trace_metadata
    assert (metadata["mlflow.trace.session"], metadata["mlflow.trace.user"]) == ("session-1", "user-1")


def _check_tags(store: Any) -> None:
    assert store.trace.info.tags["team"] == "blue"


def _check_prompts(store: Any) -> None:
    assert json.loads(store.trace.info.tags["mlflow.linkedPrompts"]) == [{"name": store.prompt, "version": "1"}]


def _check_feedback(store: Any) -> None:
    (one,) = store.trace.info.assessments
    assert (one.name, one.value, one.source.source_id) == ("good", 0.5, "me")


def _check_attachments(store: Any) -> None:
    (look,) = (span for span in store.trace.data.spans if span.name == "execute_tool look")
    assert "mlflow-attachment://" in json.dumps(look.inputs) or PICTURE in json.dumps(look.inputs)


_CHECKS = {
    "spans": _check_tree,
    "nasty and long text": _check_text,
    "run": _check_run,
    "many in a run": _check_many_of_run,
    "outside a run": _check_plain,
    "session and user": _check_session,
    "tags": _check_tags,
    "prompts": _check_prompts,
    "feedback": _check_feedback,
    "pictures": _check_attachments,
}


@pytest.mark.parametrize("what", _CHECKS)
def test_what_comes_back(store: Any, what: str) -> None:
    with report(mlflow.__version__, store.name, what):
        _CHECKS[what](store)
