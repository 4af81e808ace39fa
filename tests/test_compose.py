"""The files of examples/compose: what one of them names is in another, and what MLflow is asked to do, it knows."""

from __future__ import annotations

import base64
import configparser
import copy
import fnmatch
import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers.process import Process, free_port

yaml = pytest.importorskip("yaml")

PASSWORD = "a password for the tests"
ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples/compose"
PAGE = (ROOT / "docs/recipes/containers.md").read_text(encoding="utf-8")


def load(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / name).read_text(encoding="utf-8")))


def find_allowed_hosts(compose: dict[str, Any]) -> list[str]:
    """Return the patterns of the Host headers that MLflow takes; it answers 403 to every other."""
    option = re.search(r"--allowed-hosts (\S+)", compose["services"]["mlflow"]["command"])
    return option[1].split(",") if option else []


def find_problems(compose: dict[str, Any], collector: dict[str, Any]) -> list[str]:
    """Return what the two files name and do not have."""
    text, services = yaml.safe_dump(compose), compose["services"]
    env_file = set(re.findall(r"^ {4}([A-Z_]+)=", PAGE.partition("docker compose up")[0], re.MULTILINE))
    asked = set(re.findall(r"\$\{([A-Z_]+):\?", text))
    hosts = set(re.findall(r"(?:@|//)(\w+)(?:[:/])", text + yaml.safe_dump(collector)))
    given = set(services["collector"]["environment"])
    used = set(re.findall(r"\$\{env:(\w+)\}", yaml.safe_dump(collector)))
    mounts = {mount.split(":")[0] for one in services.values() for mount in one.get("volumes", []) if mount[0] != "."}
    (pipeline,) = collector["service"]["pipelines"].values()
    parts = {kind: set(pipeline[kind]) - set(collector[kind]) for kind in ("receivers", "processors", "exporters")}
    published = {port.split(":")[-2] for one in services.values() for port in one.get("ports", [])}
    listening = {
        "localhost": published,
        "mlflow": set(re.findall(r"--port (\d+)", services["mlflow"]["command"])),
        "collector": set(re.findall(r":(\d+)", yaml.safe_dump(collector["receivers"]))),
    }
    written = set(re.findall(r"http://(\w+):(\d+)", PAGE + yaml.safe_dump(collector)))
    to_mlflow = {f"{host}:{port}" for host, port in written if port in listening["mlflow"]}
    allowed = find_allowed_hosts(compose)
    return [
        *(f"nothing of {host} listens on {port}" for host, port in written if port not in listening[host]),
        *(f"MLflow refuses {to}" for to in to_mlflow if not any(fnmatch.fnmatch(to, one) for one in allowed)),
        *(f"{name} is asked for and not in the page's .env" for name in asked - env_file),
        *(f"{name} is in the page's .env and not used" for name in env_file - asked),
        *(f"{host} is no service" for host in hosts - set(services) - {"mlflow"}),
        *(f"the collector is not given {name}" for name in used - given),
        *(f"no volume {name}" for name in mounts - set(compose["volumes"])),
        *(f"no {kind} {name}" for kind, names in parts.items() for name in names),
    ]


def test_the_files_fit_together() -> None:
    """Variables, hosts, volumes and the collector's parts."""
    assert find_problems(load("compose.yaml"), load("collector.yaml")) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (0, "@postgres/", "@database/", "database is no service"),
        (0, "POSTGRES_PASSWORD:?", "PGPASSWORD:?", "PGPASSWORD is asked for"),
        (0, "artifacts:/artifacts", "files:/artifacts", "no volume files"),
        (0, "mlflow:*", "tracking:*", "MLflow refuses mlflow:5000"),
        (0, "--allowed-hosts", "--cors-allowed-origins", "MLflow refuses localhost:5000"),
        (0, "--port 5000", "--port 5001", "nothing of mlflow listens on 5000"),
        (0, "127.0.0.1:5000:5000", "127.0.0.1:80:5000", "nothing of localhost listens on 5000"),
        (1, "0.0.0.0:4318", "0.0.0.0:4317", "nothing of collector listens on 4318"),
        (1, "env:MLFLOW_BASIC", "env:MLFLOW_LOGIN", "not given MLFLOW_LOGIN"),
        (1, "- otlphttp/mlflow", "- otlp/mlflow", "no exporters otlp/mlflow"),
    ],
)
def test_what_does_not_fit_is_seen(file: int, old: str, new: str, said: str) -> None:
    """A service, a variable, a volume or an exporter that is not there."""
    files = [load("compose.yaml"), load("collector.yaml")]
    text = yaml.safe_dump(files[file], width=1000)
    assert old in text
    files[file] = yaml.safe_load(text.replace(old, new))
    assert said in " ".join(find_problems(*copy.deepcopy(files)))


WHAT_MLFLOW_KNOWS = """
import json
from mlflow.cli import server
from mlflow.server.auth.config import AuthConfig
print(json.dumps([[name for one in server.params for name in one.opts], AuthConfig._fields]))
"""


@pytest.mark.timeout(400)
def test_mlflow_knows_its_arguments() -> None:
    """Each option of the command is one of ``mlflow server``; the logins' settings are those that MLflow reads."""
    pytest.importorskip("mlflow")
    pytest.importorskip("flask_wtf")
    asked = [sys.executable, "-W", "ignore", "-c", WHAT_MLFLOW_KNOWS]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=380, check=True)
    options, settings = json.loads(done.stdout)
    compose = load("compose.yaml")
    assert set(re.findall(r"--[\w-]+", compose["services"]["mlflow"]["command"])) <= set(options)
    given = configparser.ConfigParser(interpolation=None)
    given.read_string(compose["configs"]["basic_auth"]["content"])
    assert set(given["mlflow"]) <= set(settings)


TEAMS = """
import sys
from mlspan import tracing
tracing.configure(tracking_uri=sys.argv[1], experiment=sys.argv[2], spool_dir=sys.argv[3])
with tracing.span("step"):
    pass
print(bool(tracing.flush(100)))
"""


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[str]:
    """MLflow as the compose file starts it, with SQLite in the place of PostgreSQL."""
    pytest.importorskip("mlflow")
    pytest.importorskip("flask_wtf")
    settings = load("compose.yaml")["configs"]["basic_auth"]["content"]
    settings = re.sub(r"database_uri = .*", f"database_uri = sqlite:///{tmp_path}/auth.db", settings)
    (tmp_path / "basic_auth.ini").write_text(re.sub(r"admin_password = .*", f"admin_password = {PASSWORD}", settings))
    port = free_port()
    env = {"MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "basic_auth.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": "test"}
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--allowed-hosts", ",".join(find_allowed_hosts(load("compose.yaml")))]
    server = Process(command, port, tmp_path / "log", env=env, cwd=tmp_path)
    server.wait(500)
    yield f"http://127.0.0.1:{port}"
    server.stop()


def ask_as_host(address: str, host: str) -> tuple[int, str]:
    """Return the answer to the administrator's request whose Host header is *host*: its status and its text."""
    login = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
    headers = {"Host": host, "Authorization": f"Basic {login}", "X-MLflow-Experiment-Id": "0"}
    connection.request("POST", "/v1/traces", headers=headers)
    answer = connection.getresponse()
    text = answer.read(10_000).decode()
    connection.close()
    return answer.status, text


def run_as(user: str, password: str, *command: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    env = {**kept, "MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *command], env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.timeout(900)
def test_a_team_writes_to_its_own_experiment_only(guarded: str, tmp_path: Path) -> None:
    """The page's program for the administrator, and then a program of a team in its experiment and in another's."""
    asked = [ask_as_host(guarded, f"{host}:5000") for host in ("mlflow", "localhost", "elsewhere")]
    assert [status for status, _ in asked] == [400, 400, 403]  # 400: the request had no spans
    assert "Invalid Host header" in asked[-1][1]  # mlspan tells this 403 from that of a missing permission
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    run_as("admin", PASSWORD, "-c", program.replace("http://localhost:5000", guarded))
    password = re.findall(r'create_user\(team, "(.*?)"\)', program)[0]
    arguments = (TEAMS, guarded)
    own = run_as("support", password, "-c", *arguments, "support", str(tmp_path / "own"))
    assert own.splitlines() == ["True"]
    other = run_as("support", password, "-c", *arguments, "search", str(tmp_path / "other"))
    assert other.splitlines()[0] == "False"
    assert "may not" in other or "permission" in other.lower(), other


def test_the_manifest_is_yaml() -> None:
    """The Deployment of the page mounts the volume that it has, at the folder that mlspan is told."""
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    pod = yaml.safe_load(text)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert container["volumeMounts"] == [
        {"name": pod["volumes"][0]["name"], "mountPath": variables["MLSPAN_SPOOL_DIR"]}
    ]
