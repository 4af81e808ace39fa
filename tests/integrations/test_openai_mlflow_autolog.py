"""MLflow's autolog of calls to models and ours are two tracers: turning MLflow's off leaves ours on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mlflow")

PROGRAM = """
import json, mlflow, openai
from mlflow.utils.autologging_utils import AUTOLOGGING_INTEGRATIONS
from mlspan import integrations, testing, tracing
client = openai.OpenAI()
def ask():
    client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}])
def count():
    with testing.spans() as spans:
        ask()
    return len(spans.all)
mlflow.openai.autolog()
AUTOLOGGING_INTEGRATIONS["sklearn"] = {"disable": False, "log_models": True}  # as mlflow.sklearn.autolog() leaves it
reports = [tracing.doctor()]
integrations.openai.autolog()
reports.append(tracing.doctor())
mlflow.openai.autolog(disable=True)
reports.append(tracing.doctor())
counts = [count()]
mlflow.autolog(disable=True)
counts.append(count())
integrations.openai.autolog(disable=True)
counts.append(count())
told = [[(*one.other_tracers,), [line for line in one.problems if "autolog()" in line]] for one in reports]
print(json.dumps([counts, told]))
"""
IS_ON = "mlflow.openai.autolog() is on"
PROBLEM = (
    "mlflow.openai.autolog() and mlspan's openai both record each call, so that its tokens may count twice: remove "
    "that line, or call mlflow.openai.autolog(disable=True)"
)


def test_turning_mlflows_off_leaves_ours_on(aimock: str, tmp_path: Path) -> None:
    """The doctor names MLflow's as long as it is on, as a problem beside ours; that of a training is no tracer."""
    env = {**os.environ, "OPENAI_BASE_URL": aimock, "OPENAI_API_KEY": "k", "MLSPAN_STRICT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    counts, (alone, beside, off) = json.loads(done.stdout.splitlines()[-1])
    assert counts == [1, 1, 0], done.stderr
    assert alone == [[IS_ON], []]
    assert beside == [[f"{IS_ON}, beside mlspan's openai: each call has two spans"], [PROBLEM]]
    assert off == [[], []]
