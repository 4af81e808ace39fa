"""Runs distributed trainings in processes of their own, and reads what has come of them from a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any, Final

import pytest
from distributed_driver import LIMIT

HERE = Path(__file__).parent
MARKS: Final = [
    pytest.mark.trains,
    pytest.mark.timeout(LIMIT + 120, func_only=True),
    pytest.mark.filterwarnings("default"),
]


class Outcome:
    """The runs and the traces of one program, which had an experiment of its own."""

    def __init__(self, client: Any, experiment: str, results: dict[str, Any], said: str) -> None:
        self.results, self.said = results, said
        self.traces = list(client.search_traces(locations=[experiment]))
        runs = client.search_runs([experiment])
        self.runs = sorted(runs, key=lambda run: (run.info.start_time, "mlflow.parentRunId" in run.data.tags))

    def trace(self, name: str) -> Any:
        """The trace whose root is called so."""
        (trace,) = [one for one in self.traces if [span for span in one.data.spans if span.name == name]]
        return trace

    def run(self, name: str) -> Any:
        """The run that the trace of this name belongs to."""
        run_id = self.trace(name).info.trace_metadata["mlflow.sourceRun"]
        (run,) = [run for run in self.runs if run.info.run_id == run_id]
        return run

    def span(self, name: str, of: str) -> Any:
        (span,) = [span for span in self.trace(of).data.spans if span.name == name]
        return span

    def tree(self, name: str) -> str:
        return draw(self.trace(name))

    def show(self) -> str:
        """All there is, as text."""
        lines = [f"{self.results}", self.said[-3000:]]
        for trace in self.traces:
            lines.append(draw(trace))
            for span in trace.data.spans:
                milliseconds = (span.end_time_ns - span.start_time_ns) // 1_000_000
                events = [(event.name, dict(event.attributes)) for event in span.events]
                said = {key: value for key, value in span.attributes.items() if key.startswith("mlspan")}
                lines.append(f"{span.name} {milliseconds} ms {said} {len(events)} events {events[:3]}")
        for run in self.runs:
            models = [model.model_id for model in run.outputs.model_outputs]
            tags = {key: value for key, value in run.data.tags.items() if "parent" in key or "autolog" in key}
            facts = (run.info.run_id, run.info.status, len(run.data.params), run.data.metrics, tags, models)
            lines.append(f"RUN {facts}")
        return "\n".join(lines)


def draw(trace: Any) -> str:
    """Return the names of a trace's spans, indented; children in the order in which they began."""
    spans = sorted(trace.data.spans, key=lambda span: span.start_time_ns)
    ids = {span.span_id for span in spans}

    def grow(parent: str | None, depth: int) -> list[str]:
        lines = []
        for span in spans:
            if span.parent_id == parent or (parent is None and span.parent_id not in ids):
                lines += ["  " * depth + span.name, *grow(span.span_id, depth + 1)]
        return lines

    return "\n".join(grow(None, 0))


def run_program(server: str, folder: Path, driver: str, *names: str, **env: str) -> Outcome:
    """Have a driver run the trainings of these *names* against *server*, and return what came of them."""
    import mlflow

    client, made = mlflow.MlflowClient(server), f"distributed-{uuid.uuid4().hex[:8]}"
    experiment = client.create_experiment(made, artifact_location=f"mlflow-artifacts:/{made}")
    around = {
        **os.environ,
        "MLSPAN_TRACKING_URI": server,
        "MLFLOW_TRACKING_URI": server,
        "MLFLOW_EXPERIMENT_ID": experiment,
        "MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT": "1",
        "MLSPAN_STRICT": "1",
        "PYTHONPATH": str(HERE),
        "XDG_STATE_HOME": str(folder / "state"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, str(HERE / f"{driver}.py"), *names],
        env=around | env,
        capture_output=True,
        text=True,
        timeout=LIMIT + 60,
        check=False,
        cwd=folder,
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    assert line, done.stdout[-2000:] + done.stderr[-8000:]
    return Outcome(client, experiment, json.loads(line.removeprefix("RESULT ")), done.stderr)
