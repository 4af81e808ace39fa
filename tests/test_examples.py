"""Every example runs as a person would run it, and leaves its traces in MLflow."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
NEEDS = {  # what an example imports that the environment of the tests may lack
    "langchain": "langchain_openai",
    "langgraph": "langgraph",
    "llama": "llama_index",
    "autogen": "autogen_agentchat",
    "ag2": "autogen",
    "sklearn": "sklearn",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "statsmodels": "statsmodels",
}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_it_runs(path: Path, aimock: str, tmp_path: Path) -> None:
    """It ends well, prints something, warns of nothing of ours, and there is a trace."""
    mlflow = pytest.importorskip("mlflow")
    needed = NEEDS.get(path.stem.partition("_")[0])
    if needed and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed here")
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    env = {**keep, "OPENAI_BASE_URL": aimock, "OPENAI_API_KEY": "test", "MLSPAN_STRICT": "1"}
    store = f"sqlite:///{tmp_path}/mlflow.db"
    env |= {"MLFLOW_TRACKING_URI": store}
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "mlspan" not in done.stderr, done.stderr
    found = mlflow.MlflowClient(store).search_traces(["0", "1", "2"], max_results=10)
    assert found, "no trace"
