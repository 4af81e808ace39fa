"""A tracking server as it is met in companies: with users, TLS, proxies, workspaces, and without what we need."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import ssl
import sys
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from servers.process import Process, free_port
from servers.relay import Relay
from test_store import PNG, make_segment, said, span

from mlspan.tracing.export.mlflow.addresses import trace_url
from mlspan.tracing.export.mlflow.http import HttpClient
from mlspan.tracing.export.mlflow.sink import MlflowSink
from mlspan.tracing.export.mlflow.store import StoreRejected
from mlspan.tracing.export.types import BackendUnavailable, TraceSegment
from mlspan.tracing.operations.call_context import TraceOrigin

pytest.importorskip("mlflow")

ADMIN = ("admin", "admin-password-1")
SECRET = "s3cret-canary-password"


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever this machine's user has set for MLflow is none of the test's business."""
    for name in list(os.environ):
        if name.startswith("MLFLOW_TRACKING_") or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def sent(uri: str, *segments: TraceSegment, **more: Any) -> list[str]:
    """What was refused, and why; all of it is kept."""
    sink = MlflowSink(tracking_uri=uri, **more)
    try:
        refused = sink.send(segments or (make_segment("chat"),))
        assert all(one.keep for one in refused)
        return [one.reason for one in refused]
    finally:
        sink.close()


def stored(uri: str, trace_id: str, **more: Any) -> Any:
    """The trace as the server has it, or None."""
    url = f"{uri}/api/3.0/mlflow/traces/get?trace_id={trace_id}"
    answer = requests.get(url, timeout=60, **more)
    return answer.json()["trace"] if answer.status_code == 200 else None


def id_of(one: TraceSegment) -> str:
    return f"tr-{one.spans[0].get_span_context().trace_id:032x}"


# Who may.


@pytest.fixture(scope="module")
def guarded(_template_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server with users: ``.uri``, ``.experiment`` (an id), and ``.grant(permission)`` for the user ``writer``."""
    pytest.importorskip("flask_wtf", reason="mlflow[auth] is not installed")
    folder, port = tmp_path_factory.mktemp("guarded"), free_port()
    shutil.copy(_template_store, folder / "mlflow.db")
    (folder / "auth.ini").write_text(
        "[mlflow]\ndefault_permission = READ\n"
        f"database_uri = sqlite:///{folder}/auth.db\nadmin_username = {ADMIN[0]}\nadmin_password = {ADMIN[1]}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    env = {"MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": "test"}
    env["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--host", "127.0.0.1", "--port", str(port)]
    server = Process(command, port, folder / "log", env=env, cwd=folder)
    server.wait(300)
    uri = f"http://127.0.0.1:{port}"

    def ask(path: str, **body: str) -> Any:
        answer = requests.post(f"{uri}/api/{path}", json=body, auth=ADMIN, timeout=120)
        assert answer.status_code == 200 or "already exists" in answer.text, answer.text
        return answer.json()

    ask("2.0/mlflow/users/create", username="writer", password=SECRET)
    experiment = ask("2.0/mlflow/experiments/create", name="guarded")["experiment_id"]

    def grant(permission: str) -> None:
        ask(
            "3.0/mlflow/users/permissions/grant",
            username="writer",
            resource_type="experiment",
            resource_id=experiment,
            permission=permission,
        )

    yield SimpleNamespace(uri=uri, experiment=experiment, grant=grant)
    server.stop()


def test_a_user_who_may_not_write_and_then_may(
    guarded: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Who may only read gets a line that says what to do, and nothing is lost: with the right, the same batch goes."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "writer")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    one = make_segment("chat")
    with caplog.at_level(logging.DEBUG):
        (denied,) = sent(guarded.uri, one, experiment=guarded.experiment)
        assert re.search(r"answers 403: check .* may edit .* \(Permission denied\)", denied)
        assert stored(guarded.uri, id_of(one), auth=ADMIN) is None
        guarded.grant("EDIT")
        assert sent(guarded.uri, one, experiment=guarded.experiment) == []
    assert len(stored(guarded.uri, id_of(one), auth=ADMIN)["spans"]) == 1
    assert SECRET not in caplog.text + denied


def test_what_is_denied_holds_up_no_other_experiment(guarded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a batch for two experiments, the one that is open is stored; what is for the other is kept."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "writer")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    guarded.grant("EDIT")
    closed = make_segment("chat", origin=TraceOrigin(experiment_id="0"))
    opened = make_segment("chat", origin=TraceOrigin(experiment_id=guarded.experiment))
    (denied,) = sent(guarded.uri, closed, opened)
    assert "403" in denied
    assert stored(guarded.uri, id_of(closed), auth=ADMIN) is None
    assert stored(guarded.uri, id_of(opened), auth=ADMIN) is not None


def test_who_is_not_known(guarded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No password, or a wrong one, is one clear line too, without the password."""
    (denied,) = sent(guarded.uri, experiment=guarded.experiment)
    assert "answers 401: check MLFLOW_TRACKING_USERNAME" in denied
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "writer")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong-" + SECRET)
    (denied,) = sent(guarded.uri, experiment=guarded.experiment)
    assert "answers 401" in denied
    assert SECRET not in denied


def test_who_we_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Variables first, then the address's own user, then the file that MLflow keeps; a token is a bearer's."""

    def said_by(uri: str) -> str | None:
        return HttpClient(uri).headers.get("Authorization")

    assert said_by("http://127.0.0.1:1") is None
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow/credentials").write_text("[mlflow]\nmlflow_tracking_username=f\nmlflow_tracking_password=p%")
    assert said_by("http://127.0.0.1:1") == "Basic ZjpwJQ=="
    assert said_by("http://u:p%40@127.0.0.1:1") == "Basic dTpwQA=="
    assert HttpClient("http://u:p%40@127.0.0.1:1").uri == "http://127.0.0.1:1"
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t")
    assert said_by("http://u:p@127.0.0.1:1") == "Bearer t"
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "u")
    assert said_by("http://127.0.0.1:1") == "Basic dTo="


# TLS, proxies, workspaces.


@pytest.fixture(scope="module")
def authority() -> Any:
    return pytest.importorskip("trustme").CA()


@pytest.fixture(params=["any client", "known clients"])
def tls(request: pytest.FixtureRequest, authority: Any, mlflow_server: str, tmp_path: Path) -> Iterator[Any]:
    """The tracking server behind TLS: ``.uri``, ``.authority`` and ``.client`` (paths), ``.asks`` for a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    authority.issue_cert("someone").private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    if request.param == "known clients":
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
    relay = Relay(int(mlflow_server.rpartition(":")[2]), context)
    yield SimpleNamespace(
        uri=f"https://127.0.0.1:{relay.port}",
        authority=str(tmp_path / "authority.pem"),
        client=str(tmp_path / "client.pem"),
        asks=request.param == "known clients",
    )
    relay.stop()


def test_tls(tls: Any, mlflow_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate of a company's own is trusted when it is named, and so are we where the server asks who we are."""
    one = make_segment("chat")
    with pytest.raises(BackendUnavailable, match="MLFLOW_TRACKING_SERVER_CERT_PATH names a certificate to trust"):
        sent(tls.uri, one)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", tls.authority)
    if tls.asks:
        with pytest.raises(BackendUnavailable):
            sent(tls.uri, one)
        monkeypatch.setenv("MLFLOW_TRACKING_CLIENT_CERT_PATH", tls.client)
    assert sent(tls.uri, one) == []
    assert stored(mlflow_server, id_of(one)) is not None


def test_tls_that_nobody_checks(tls: Any, mlflow_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``MLFLOW_TRACKING_INSECURE_TLS`` trusts anybody, without a word from the HTTP library."""
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_CLIENT_CERT_PATH", tls.client)
    one = make_segment("chat")
    assert sent(tls.uri, one) == []
    assert stored(mlflow_server, id_of(one)) is not None
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", tls.authority)
    with pytest.raises(StoreRejected, match="exclude each other"):
        HttpClient(tls.uri)


def test_a_certificate_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong path is said as what it is."""
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", "/nowhere.pem")
    with pytest.raises(StoreRejected, match=r"/nowhere\.pem"):
        HttpClient("https://127.0.0.1:1")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy(
    scheme: str, mlflow_server: str, authority: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """``HTTP_PROXY`` and ``HTTPS_PROXY`` are gone through, unless ``NO_PROXY`` names the server."""
    upstream, context = int(mlflow_server.rpartition(":")[2]), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "authority.pem"))
    inner = Relay(upstream, context)
    proxy = Relay(inner.port if scheme == "https" else upstream)
    monkeypatch.setenv(f"{scheme.upper()}_PROXY", f"http://127.0.0.1:{proxy.port}")
    one, uri = make_segment("chat"), f"{scheme}://localhost"
    if scheme == "http":
        uri = mlflow_server  # whose answers depend on the name that it is called by
        monkeypatch.setenv("NO_PROXY", "")
    assert sent(uri, one) == []
    assert stored(mlflow_server, id_of(one)) is not None
    assert bytes(proxy.came).startswith(b"CONNECT localhost:443" if scheme == "https" else b"GET http://127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    seen = len(proxy.came)
    if scheme == "http":
        assert sent(uri) == []
    else:
        with pytest.raises(BackendUnavailable):  # nobody is there
            sent(uri)
    assert len(proxy.came) == seen
    proxy.stop()
    inner.stop()


def test_requests_are_few_and_on_the_same_connection(mlflow_server: str) -> None:
    """25 traces are one gzip'd request; an info goes where spans cannot say it all; and the connection stays."""
    relay = Relay(int(mlflow_server.rpartition(":")[2]))
    sent(mlflow_server)
    origin = TraceOrigin(session="s", user="ada", tags={"env": "test"})
    segments = [make_segment("chat", "tool", origin=origin) for _ in range(24)]
    segments.append(make_segment("agent", "chat"))  # whose question and answer are not the root's own words
    assert sent(f"http://127.0.0.1:{relay.port}", *segments) == []
    came = bytes(relay.came)
    assert came.count(b"POST /v1/traces") == 1
    assert came.count(b"Content-Encoding: gzip") == 1
    assert came.count(b"POST /api/3.0/mlflow/traces ") == 1
    assert relay.connections == 1
    for one in segments:
        assert len(stored(mlflow_server, id_of(one))["spans"]) == 2
    info = stored(mlflow_server, id_of(segments[0]))["trace_info"]
    assert {key: info["tags"][key] for key in ("mlflow.traceName", "env", "service.name")} == {
        "mlflow.traceName": "chat",
        "env": "test",
        "service.name": "app",
    }
    metadata = info["trace_metadata"]
    assert (metadata["mlflow.trace.session"], metadata["mlflow.trace.user"]) == ("s", "ada")
    assert json.loads(metadata["mlflow.trace.tokenUsage"])["total_tokens"] == 17
    assert (info["request_preview"], info["response_preview"]) == ("wie geht's — ça va?", "Gut.")
    assert (info["state"], info["execution_duration"]) == ("OK", "1s")
    relay.stop()


def test_more_than_one_request(mlflow_server: str) -> None:
    """More than one request's worth goes by several connections at once, and all of it arrives."""
    segments = [make_segment("chat") for _ in range(60)]
    assert sent(mlflow_server, *segments) == []
    assert all(stored(mlflow_server, id_of(one)) is not None for one in segments)


# Servers of other kinds.


@pytest.fixture
def serve(_template_store: Path, tmp_path: Path) -> Iterator[Any]:
    """Starts a server with the options that it is called with; its address."""
    started: list[Process] = []

    def start(*options: str) -> str:
        port = free_port()
        shutil.copy(_template_store, tmp_path / "mlflow.db")
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1", *options]
        env = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        started.append(Process(command, port, tmp_path / "log", env=env, cwd=tmp_path))
        started[0].wait(300)
        return f"http://127.0.0.1:{port}"

    yield start
    started[0].stop()


def test_a_server_without_otlp(serve: Any) -> None:
    """Under gunicorn MLflow takes no spans: that is said with what to do, and the traces are kept."""
    uri = serve("--gunicorn-opts", "--timeout 300")
    (denied,) = sent(uri)
    assert re.search(r"takes no spans\. That needs MLflow 3\.4 or later.*without --gunicorn-opts", denied)


def test_a_workspace(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """``MLFLOW_WORKSPACE`` says whose experiments are meant: the same name is another experiment in each."""
    uri = serve("--enable-workspaces")
    made = requests.post(f"{uri}/api/3.0/mlflow/workspaces", json={"name": "team-a"}, timeout=60)
    assert made.status_code < 300, made.text
    monkeypatch.setenv("MLFLOW_WORKSPACE", "team-a")
    one = make_segment("chat")
    assert sent(uri, one, experiment="mine") == []
    assert stored(uri, id_of(one), headers={"X-MLFLOW-WORKSPACE": "team-a"}) is not None
    assert stored(uri, id_of(one)) is None


def test_another_address(scripted: Any) -> None:
    """A server that sends us elsewhere is not followed with our password, but the address is told."""
    scripted.reply({}, status=302, headers={"Location": "https://u:p@elsewhere.test/login?token=x"})
    uri = scripted.base_url.removesuffix("/v1")
    (reason,) = sent(uri)
    assert reason.endswith("answers 302 and points to https://elsewhere.test/login: name that address")


# What a trace can carry.


def picture(origin: TraceOrigin | None = None) -> TraceSegment:
    """A chat about a picture, whose second call repeats it."""
    part = {"type": "blob", "modality": "image", "mime_type": "image/png", "content": PNG}
    sound = {"type": "blob", "modality": "audio", "mime_type": "audio/wav", "content": PNG[:40]}
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.input.messages": said("user", "What is this?", part, sound),
        "gen_ai.output.messages": said("assistant", "A picture."),
        "mlspan.prompts": ("greeting/3", "farewell/1"),
        "mlspan.model.id": "m-1",
        "mlspan.client_request.id": "r" * 60,
    }
    trace_id = uuid.uuid4().int
    spans = tuple(span(trace_id, number, 1 if number > 1 else None, "chat", attributes) for number in (1, 2))
    return TraceSegment(origin or TraceOrigin(), spans, 1, whole=True)


@pytest.mark.parametrize("kind", ["embedded", "server"])
def test_all_that_a_trace_carries(kind: str, request: pytest.FixtureRequest) -> None:
    """Pictures and sounds are files, each once; prompts, model and request id are where MLflow looks for them."""
    import mlflow
    from mlflow.tracking import MlflowClient

    uri = request.getfixturevalue("mlflow_store" if kind == "embedded" else "mlflow_server")
    experiment = MlflowClient(uri).create_experiment(f"carries-{uuid.uuid4().hex[:8]}")
    one = picture(TraceOrigin(experiment_id=experiment))
    assert sent(uri, one) == []
    assert sent(uri, one) == []
    found = MlflowClient(uri).get_trace(id_of(one))
    assert found.info.client_request_id == "r" * 50
    assert found.info.trace_metadata["mlflow.modelId"] == "m-1"
    prompts = '[{"name":"greeting","version":"3"},{"name":"farewell","version":"1"}]'
    assert found.info.tags["mlflow.linkedPrompts"] == prompts
    first, second = found.data.spans
    question = first.inputs["messages"][0]["content"]
    assert second.inputs["messages"][0]["content"] == question
    assert question[0] == {"type": "text", "text": "What is this?"}
    reference = question[1]["image_url"]["url"]
    assert reference.startswith("mlflow-attachment://")
    assert question[2]["input_audio"]["data"].startswith("mlflow-attachment://")
    assert PNG not in str(found.to_dict())
    assert attachment(uri, found, reference) == PNG
    mlflow.set_tracking_uri(uri)
    try:
        for prompt in ("greeting/3", "farewell/1"):
            search = mlflow.search_traces(
                locations=[experiment], filter_string=f"prompt = '{prompt}'", return_type="list"
            )
            assert [trace.info.trace_id for trace in search] == [id_of(one)], prompt
    finally:
        mlflow.set_tracking_uri(None)


@pytest.mark.browser
def test_the_viewer_shows_a_picture(browser: Any, mlflow_server: str) -> None:
    """MLflow's own page of the trace fetches the attachment and draws it."""
    one = picture()
    assert sent(mlflow_server, one) == []
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(60_000)
    page.goto(trace_url(mlflow_server, "0", id_of(one)))
    page.get_by_text("What is this?").first.wait_for()
    drawn = "() => [...document.images].some(image => image.naturalWidth === 1 && image.naturalHeight === 1)"
    page.wait_for_function(drawn)
    page.close()


def attachment(uri: str, trace: Any, reference: str) -> str:
    """Base64 of what MLflow itself finds behind *reference*: by its server's route, or in its artifacts."""
    import base64

    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.tracing.attachments import Attachment

    named = Attachment.parse_ref(reference)
    assert named is not None
    if uri.startswith("http"):
        query = {"request_id": trace.info.trace_id, "path": named["attachment_id"]}
        answer = requests.get(f"{uri}/ajax-api/3.0/mlflow/get-trace-artifact", params=query, timeout=60)
        content = answer.content
        assert answer.status_code == 200, answer.text
    else:
        repository = get_artifact_repository(trace.info.tags["mlflow.artifactLocation"])
        content = repository.download_trace_attachment(named["attachment_id"])
    assert named["size"] == len(content)
    return base64.b64encode(content).decode()


# Databricks, whose part is played by a server that remembers what it is asked.


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``.asked``: pairs of "METHOD path" and body; ``.tags``: those of experiment 7."""
    asked: list[tuple[str, bytes]] = []
    tags: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.partition("?")[0]
            asked.append((f"{self.command} {path}", body))
            answer: Any = {}
            if path.endswith("experiments/get"):
                answer = {"experiment": {"experiment_id": "7", "name": "/e", "lifecycle_stage": "active", "tags": tags}}
            elif path == "/api/3.0/mlflow/traces":
                answer = json.loads(body)
                location = {"key": "mlflow.artifactLocation", "value": "dbfs:/databricks/mlflow-tracking/7/traces/t"}
                answer["trace"]["trace_info"]["tags"] = {location["key"]: location["value"]}
            elif path.endswith("/info"):
                answer = json.loads(body)
            data = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PUT = do_GET  # noqa: N815

        def log_message(self, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("DATABRICKS_HOST", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("DATABRICKS_TOKEN", "dapi-test")
    monkeypatch.setenv("MLFLOW_ASYNC_TRACE_LOGGING_RETRY_TIMEOUT", "5")
    yield SimpleNamespace(asked=asked, tags=tags)
    server.shutdown()
    server.server_close()


def test_databricks_keeps_spans_in_files(workspace: Any) -> None:
    """Of an ordinary experiment: the info, then the spans as the trace's file."""
    pytest.importorskip("databricks.sdk")
    one = make_segment("chat", "tool")
    assert sent("databricks", one, experiment="7") == []
    asked = dict(workspace.asked)
    info = json.loads(asked["POST /api/3.0/mlflow/traces"])["trace"]["trace_info"]
    assert (info["trace_id"], info["state"], info["request_preview"]) == (id_of(one), "OK", "wie geht's — ça va?")
    (file,) = [body for what, body in workspace.asked if what.endswith("/traces.json")]
    spans = json.loads(file)["spans"]
    assert sorted(span["name"] for span in spans) == ["chat", "tool"]


def test_databricks_keeps_spans_in_unity_catalog(workspace: Any) -> None:
    """Of an experiment tied to a catalog: the spans by OTLP to its table, then the info, under the catalog's id."""
    pytest.importorskip("databricks.sdk")
    workspace.tags += [
        {"key": "mlflow.experiment.databricksTraceDestinationPath", "value": "main.traces.app"},
        {"key": "mlflow.experiment.databricksTraceSpanStorageTable", "value": "main.traces.app_spans"},
    ]
    one = make_segment("chat")
    assert sent("databricks", one, experiment="7") == []
    asked = dict(workspace.asked)
    assert b"chat" in asked["POST /api/2.0/otel/v1/traces"]
    assert f"POST /api/4.0/mlflow/traces/main.traces.app/{id_of(one)[3:]}/info" in asked
