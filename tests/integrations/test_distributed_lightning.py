"""Lightning on two processes on gloo: one run and one trace, whichever way Lightning starts the second process."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("lightning", reason="Lightning is in the nox sessions lightning and distributed_lightning")

from distributed_kit import MARKS, run_program

pytestmark = MARKS


def test_a_program_that_is_run_again(mlflow_server: str, tmp_path: Path) -> None:
    """The second process has no run; what it records itself is below the training that it is a part of."""
    outcome = run_program(mlflow_server, tmp_path, "distributed_lightning", "ddp")
    assert outcome.results == {"ddp": 2}
    assert len(outcome.traces) == 1
    assert outcome.tree("ddp") == "ddp\n  fit Line\n    ddp\n    log model"
    (run,) = outcome.runs
    span = outcome.span("fit Line", "ddp")
    assert span.attributes["mlspan.run.id"] == run.info.run_id
    losses = [event.attributes["mlspan.fit.metric.loss"] for event in span.events]
    assert len(losses) == span.attributes["mlspan.fit.epochs"] == 2
    assert run.data.metrics["loss"] == pytest.approx(losses[-1])
    assert (run.info.status, len(run.outputs.model_outputs)) == ("FINISHED", 1)


def test_processes_of_multiprocessing(mlflow_server: str, tmp_path: Path) -> None:
    """Both train for the process that has called ``fit``: the span and the run are there."""
    outcome = run_program(mlflow_server, tmp_path, "distributed_lightning", "ddp_spawn")
    assert outcome.results == {"ddp_spawn": 2}
    assert len(outcome.traces) == 1
    assert outcome.tree("ddp_spawn") == "ddp_spawn\n  fit Line\n    log model"
    (run,) = outcome.runs
    assert outcome.span("fit Line", "ddp_spawn").attributes["mlspan.run.id"] == run.info.run_id
    assert (run.info.status, len(run.outputs.model_outputs)) == ("FINISHED", 1)
