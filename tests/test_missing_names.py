"""A library without one of the private names that mlspan uses: the program runs, and one line says what is lost.

Each name runs in a process of its own, in which every module of the library has another name in its place. Without
``MLSPAN_ALL_NAMES`` only a sample does; tests/test_private_names.py is the same for all of OpenTelemetry's names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from command_line import invoke
from renamed_library import RENAMING

from mlspan import _guard, _import_waiting, _private_names
from mlspan.integrations._training import autolog_state
from mlspan.integrations.openai import agents
from mlspan.tracing.export.mlflow import private_names
from mlspan.tracing.mlflow_state import ended_traces, parent_run, runs

# A trace in a run goes to a database, and is read back by MLflow's public client.
STORES: Final = """
import mlflow
from mlspan import integrations, tracing
from mlspan.tracing.mlflow_state.parent_run import provide_parent_runs
integrations.autolog(silent=True)
tracing.configure()
provide_parent_runs()
mlflow.set_experiment("names")
with mlflow.start_run() as run, tracing.span("outer"), tracing.span("inner"):
    pass
assert tracing.flush(100)
(found,) = mlflow.search_traces(return_type="list")
assert sorted(span.name for span in found.data.spans) == ["inner", "outer"]
assert found.info.trace_metadata["mlflow.sourceRun"] == run.info.run_id
"""
TRAINS: Final = """
import mlflow
from sklearn.linear_model import LinearRegression
from mlspan import integrations, testing
integrations.sklearn.autolog(log_models=False)
with testing.spans() as spans, mlflow.start_run() as run:
    LinearRegression().fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0])
assert [span.name for span in spans.all] == ["fit LinearRegression", "log metrics"], spans.all
assert mlflow.get_run(run.info.run_id).data.params["fit_intercept"] == "True"
"""
AGENTS: Final = """
import agents
from mlspan import integrations, testing
with testing.spans() as spans:
    for turn in range(2):
        integrations.openai.autolog()
        with agents.trace("run"), agents.custom_span("step"):
            pass
        integrations.openai.autolog(disable=True)
        with agents.trace("unseen"):
            pass
assert sorted(span.name for span in spans.all) == ["invoke_workflow run", "step"] * 2 or len(spans.all) == 4, spans.all
"""
WAITS: Final = """
from mlspan import integrations
integrations.openai.autolog(silent=True)
integrations.openai.autolog(disable=True)
import openai
"""
ENDING: Final = """
from mlspan import tracing
integrations.autolog(disable=True)
tracing.shutdown(60)
print(*lines, sep="\\n")
"""


class Case(NamedTuple):
    """What to run without the names of a list."""

    library: str
    label: str  # what the warning calls it
    names: dict[str, str]
    program: str


# Left out: a package's name, which its folder has; what is tested below; what Spark's trainings use.
ELSEWHERE: Final = {"_tracking_service", "_upload_trace_data", "_SparkTrainingSession"}
CASES: Final = [
    Case("mlflow", "MLflow", private_names.PRIVATE_NAMES | runs.PRIVATE_NAMES | parent_run.PRIVATE_NAMES, STORES),
    Case("mlflow", "MLflow", ended_traces.PRIVATE_NAMES, STORES),
    Case("mlflow", "MLflow", autolog_state.PRIVATE_NAMES, TRAINS),
    Case("agents", "the Agents SDK", agents.PRIVATE_NAMES, AGENTS),
    Case("wrapt", "wrapt", _import_waiting.PRIVATE_NAMES, WAITS),
]
SAMPLE: Final = ("_post_import_hooks",)  # what imports little
EVERY: Final = [(case, name) for case in CASES for name in case.names if name not in ELSEWHERE]
CHOSEN: Final = EVERY if os.environ.get("MLSPAN_ALL_NAMES") else [one for one in EVERY if one[1] in SAMPLE]


def run_without(case: Case, name: str, folder: Path, store: str) -> list[str]:
    """Return the warnings of a program that uses the library without *name*."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MLSPAN_", "MLFLOW_"))}
    env |= {"XDG_STATE_HOME": str(folder), "MLFLOW_TRACKING_URI": store}
    command = [sys.executable, "-W", "ignore", "-c", RENAMING + case.program + ENDING, case.library, name]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.split("\n") if line]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("case", "name"), CHOSEN, ids=[name for _, name in CHOSEN])
def test_a_name_is_gone(case: Case, name: str, tmp_path: Path, mlflow_store: str) -> None:
    """What the program does works, and one line names the loss: of the list, or of the patch point."""
    pytest.importorskip(case.library)
    lines = run_without(case, name, tmp_path, mlflow_store)
    said = [line for line in lines if name in line]
    assert len(said) == 1, lines
    lost = f"mlspan: this version of {case.label} has no {name}, so {case.names[name]}"
    assert said == [lost] or said[0].startswith("mlspan: the installed version has no ")
    assert [line for line in lines if "failed" in line] == []


def test_every_name_is_taken_away_somewhere() -> None:
    """The sample is part of all, and no name stands in it twice."""
    assert set(SAMPLE) <= {name for _, name in EVERY}
    assert len(EVERY) == len({name for _, name in EVERY})


def test_databricks_without_its_upload() -> None:
    """Traces are set aside with a reason, and none counts as stored."""
    from mlspan.tracing.export.mlflow.store import StoreRejected

    with pytest.raises(StoreRejected, match="no _upload_trace_data"):
        private_names.upload_spans(object(), object(), object())


def test_a_store_without_its_methods(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line in the log, and one of the doctor's, say what is lost."""
    monkeypatch.setattr(_private_names, "_missing", {})
    monkeypatch.setattr(_guard, "_logged_lines", {})
    for _ in range(2):
        assert not private_names.has_bulk_names(object())
    lost = f"this version of MLflow has no _check_experiment_is_active, so {private_names.SLOW}"
    assert caplog.messages == [f"mlspan: {lost}"]
    assert _private_names.list_missing_names() == [lost]


def test_the_doctor_lists_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A name that was found missing while the doctor looked is a problem of its report."""
    monkeypatch.setenv("MLSPAN_SPOOL_DIR", str(tmp_path))
    monkeypatch.setattr(_private_names, "_missing", {("library", "a thing"): "this version of it has no _name"})
    done = invoke(["doctor", "--no-write", "--json"])
    assert done.exit_code == 1
    assert "this version of it has no _name" in json.loads(done.stdout)["problems"]
