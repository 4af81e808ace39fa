"""A model is asked and then one is trained: MLflow is being imported meanwhile, by the thread that sends the trace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is in the nox session classic")
pytest.importorskip("mlflow")

PROGRAM = """
import sys, threading, wrapt
from mlspan import integrations, testing

asked, go = threading.Event(), threading.Event()
wrapt.register_post_import_hook(lambda _: (asked.set(), go.wait(60)), "mlflow")  # an import that takes its time
{first}
importing = threading.Thread(target=__import__, args=("mlflow",))
importing.start()
assert asked.wait(60)
{then}
import numpy
from sklearn.linear_model import LinearRegression

original = LinearRegression.fit.__wrapped__  # the one below what waits
with testing.spans() as ended:
    threading.Timer(0.5, go.set).start()
    threads = [threading.Thread(target=LinearRegression().fit, args=(numpy.eye(3), numpy.ones(3))) for _ in range(2)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    LinearRegression().fit(numpy.eye(3), numpy.ones(3))
    print(ended.tree())
import mlflow
print(len(mlflow.search_runs()), "runs", integrations.sklearn.HOOK.is_installed)
integrations.autolog(disable=True)
print(LinearRegression.fit is original)
"""
ON = "integrations.sklearn.autolog(log_models=False)"


@pytest.mark.parametrize(("first", "then"), [(ON, ""), ("import sklearn.linear_model\n", ON)])
def test_a_training_waits_for_mlflow(first: str, then: str, mlflow_store: str, tmp_path: Path) -> None:
    """Whoever trains meanwhile, from two threads at once, has a run and a span; afterwards nothing is left."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(first=first, then=then))
    command, env = [sys.executable, str(program)], {**os.environ, "MLFLOW_TRACKING_URI": mlflow_store}
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    fit = "fit LinearRegression\n  log metrics\n"
    assert done.stdout == f"{fit * 3}3 runs True\nTrue\n", done.stderr


@pytest.mark.trains
@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_a_library_that_imports_another(library: str, mlflow_store: str, tmp_path: Path) -> None:
    """The first import of a program is XGBoost's, which imports scikit-learn, which has our hook import MLflow."""
    pytest.importorskip(library)
    program = f"""
from mlspan import integrations
integrations.autolog(silent=True)
import {library}
print(integrations.{library}.HOOK.is_installed, integrations.sklearn.HOOK.is_installed)
"""
    env = {**os.environ, "MLFLOW_TRACKING_URI": mlflow_store, "MLSPAN_STRICT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=150, check=False, cwd=tmp_path, env=env
    )
    assert done.stdout == "True True\n", done.stderr
