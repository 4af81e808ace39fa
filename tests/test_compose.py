"""The files of examples/compose: what one of them names is in another, and what MLflow is asked to do, it knows."""

from __future__ import annotations

import configparser
import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples/compose"
PAGE = (ROOT / "docs/recipes/containers.md").read_text(encoding="utf-8")


def load(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / name).read_text(encoding="utf-8")))


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
    return [
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


def test_the_manifest_is_yaml() -> None:
    """The Deployment of the page mounts the volume that it has, at the folder that mlspan is told."""
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    pod = yaml.safe_load(text)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert container["volumeMounts"] == [
        {"name": pod["volumes"][0]["name"], "mountPath": variables["MLSPAN_SPOOL_DIR"]}
    ]
