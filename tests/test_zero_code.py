"""A script that trains and says nothing of mlspan: its training is a run and a trace, by either launcher."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

mlflow = pytest.importorskip("mlflow")
pytest.importorskip("sklearn")

SCRIPT = """
import numpy as np
from sklearn.tree import DecisionTreeClassifier

DecisionTreeClassifier(max_depth=1).fit(np.array([[0], [1], [2], [3]]), np.array([0, 0, 1, 1]))
print("trained")
"""
INSTRUMENT = "opentelemetry.instrumentation.auto_instrumentation"  # what `opentelemetry-instrument` runs
LAUNCHERS = {
    "mlspan run": ["-m", "mlspan.cli", "run"],
    "opentelemetry-instrument": ["-c", f"from {INSTRUMENT} import run; run()", sys.executable],
}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("launcher", list(LAUNCHERS))
def test_training(launcher: str, mlflow_store: str, tmp_path: Path) -> None:
    """The run has the parameters, and the trace, a span of the training, belongs to it."""
    (tmp_path / "train.py").write_text(SCRIPT)
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    env = {"MLFLOW_TRACKING_URI": mlflow_store, "MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT": "1", "MLSPAN_STRICT": "1"}
    env |= {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    done = subprocess.run(
        [sys.executable, *LAUNCHERS[launcher], "train.py"],
        env=keep | env | {"XDG_STATE_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("trained")
    assert "mlspan:" not in done.stderr, done.stderr
    client = mlflow.MlflowClient(mlflow_store)
    (run,) = client.search_runs(["0"])
    assert (run.info.status, run.data.params["max_depth"]) == ("FINISHED", "1")
    (trace,) = client.search_traces(["0"])
    assert trace.info.trace_metadata["mlflow.sourceRun"] == run.info.run_id
    assert [span.name for span in trace.data.spans] == ["fit DecisionTreeClassifier", "log model"]
