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
from mlspan import integrations, testing
client = openai.OpenAI()
def ask():
    client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}])
def count():
    with testing.spans() as spans:
        ask()
    return len(spans.all)
mlflow.openai.autolog()
integrations.openai.autolog()
mlflow.openai.autolog(disable=True)
counts = [count()]
mlflow.autolog(disable=True)
counts.append(count())
integrations.openai.autolog(disable=True)
counts.append(count())
print(json.dumps(counts))
"""


def test_turning_mlflows_off_leaves_ours_on(aimock: str, tmp_path: Path) -> None:
    env = {**os.environ, "OPENAI_BASE_URL": aimock, "OPENAI_API_KEY": "k", "MLSPAN_STRICT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [1, 1, 0], done.stderr
