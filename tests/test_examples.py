"""Every example runs as a person would run it, and leaves its traces in MLflow."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from servers.endpoints import list_endpoints
from servers.scripted import Scripted

EXAMPLES = Path(__file__).parent.parent / "examples"
NEEDS = {  # what an example imports that the environment of the tests may lack
    "agent": "agent_framework.openai",
    "anthropic": "anthropic",
    "bedrock": "boto3",
    "google": "google.genai",
    "mcp": "mcp",
    "pydantic": "pydantic_ai",
    "langchain": "langchain_openai",
    "langgraph": "langgraph",
    "llama": "llama_index",
    "autogen": "autogen_agentchat",
    "browser": "browser_use",
    "ag2": "autogen",
    "crewai": "crewai",
    "deepagents": "deepagents",
    "dspy": "dspy",
    "claude": "claude_agent_sdk",
    "agno": "agno",
    "haystack": "haystack",
    "instructor": "instructor",
    "litellm": "litellm",
    "livekit": "livekit.agents",
    "mem0": "mem0",
    "pipecat": "pipecat",
    "semantic": "semantic_kernel",
    "smolagents": "smolagents",
    "together": "together",
    "chromadb": "chromadb",
    "transformers": "transformers",
}
TRAINS = {  # likewise; each runs in its library's own nox session
    "fastai": "fastai",
    "gluon": "mxnet",
    "hyperopt": "hyperopt",
    "keras": "keras",
    "lightgbm": "lightgbm",
    "lightning": "lightning",
    "optuna": "optuna",
    "paddle": "paddle",
    "ray": "ray.tune",
    "sklearn": "sklearn",
    "spark": "pyspark",
    "statsmodels": "statsmodels",
    "tensorflow": "tensorflow",
    "xgboost": "xgboost",
}


def library(path: Path) -> str:
    return path.stem.partition("_")[0]


def run(path: Path, tmp_path: Path, seconds: float = 170, **env: str) -> str:
    """Run an example for at most so many *seconds*; it ends well, prints something, and warns of nothing of ours.

    Return the tracking URI that it has used.
    """
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    keep |= {"MEM0_TELEMETRY": "False", "MEM0_DIR": str(tmp_path), "ANONYMIZED_TELEMETRY": "false"}
    keep |= {"BROWSER_USE_CLOUD_SYNC": "false", "IN_DOCKER": "true"}  # Chromium without a sandbox, as root needs it
    env = {**keep, "MLSPAN_STRICT": "1", "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", **env}
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "mlspan:" not in done.stderr, done.stderr
    return env["MLFLOW_TRACKING_URI"]


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it is in
        return False


def skip_without(needed: str | None) -> Any:
    if needed and not is_installed(needed):
        pytest.skip(f"{needed} is not installed here")
    return pytest.importorskip("mlflow")


@pytest.mark.parametrize(
    "path", [p for p in sorted(EXAMPLES.glob("*.py")) if library(p) not in TRAINS], ids=lambda path: path.stem
)
def test_it_runs(path: Path, aimock: str, scripted: Scripted, tmp_path: Path) -> None:
    """It ends well, prints something, warns of nothing of ours, and there is a trace."""
    mlflow = skip_without(NEEDS.get(library(path)))
    env = list_endpoints(aimock, scripted)
    if library(path) == "transformers":  # nothing is downloaded
        from integrations.tiny_models import save_model

        env |= {"MODEL": save_model(tmp_path / "model"), "HF_HUB_OFFLINE": "1"}
    store = run(path, tmp_path, **env)
    assert mlflow.MlflowClient(store).search_traces(["0", "1", "2"], max_results=10), "no trace"


@pytest.mark.trains
@pytest.mark.timeout(600)  # Spark starts a JVM and then a process for each of its workers
@pytest.mark.parametrize(
    "path", [p for p in sorted(EXAMPLES.glob("*.py")) if library(p) in TRAINS], ids=lambda path: path.stem
)
def test_it_trains(path: Path, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Likewise, and there is a run that finished, to which a trace belongs; on the server that the session has."""
    mlflow = skip_without(TRAINS[library(path)])
    if library(path) == "spark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    server = request.getfixturevalue("mlflow_server")
    client = mlflow.MlflowClient(server)
    experiment = client.create_experiment(f"{path.stem}-{uuid.uuid4().hex[:8]}")
    named = {"MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT": "1", "MLFLOW_EXPERIMENT_ID": experiment}
    run(path, tmp_path, 540, MLFLOW_TRACKING_URI=server, **named)
    runs = client.search_runs([experiment])
    traces = client.search_traces([experiment], max_results=20)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {trace.info.trace_metadata.get("mlflow.sourceRun") for trace in traces} & {run.info.run_id for run in runs}


def test_the_notebook_runs(aimock: str, mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell, in a kernel of its own: three traces, the agent's tied to its run; the last call keeps its words."""
    mlflow = pytest.importorskip("mlflow")
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    from notebook_kernels import use_sockets_in_files

    for name in [name for name in os.environ if name.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))]:
        monkeypatch.delenv(name)
    env = {"MLFLOW_TRACKING_URI": mlflow_store, "OPENAI_BASE_URL": aimock, "OPENAI_API_KEY": "test"}
    for name, value in {**env, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=150, config=use_sockets_in_files(tmp_path), resources=resources).execute()
    said = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "It is sunny in Paris." in said
    assert "invoke_agent weather agent  OK" in re.sub(r"\x1b\[[\d;]*m", "", said)  # in colour, as in a terminal
    client = mlflow.MlflowClient(mlflow_store)
    traces = client.search_traces([client.get_experiment_by_name("tour").experiment_id], order_by=["timestamp_ms ASC"])
    assert [len(trace.data.spans) for trace in traces] == [1, 4, 1]
    assert traces[1].info.trace_metadata["mlflow.trace.session"] == "tour-1"
    assert traces[2].data.spans[0].inputs is None
