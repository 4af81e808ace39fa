"""What works with next to nothing installed: no MLflow, no framework, no server."""

from __future__ import annotations

import subprocess
import sys


def run(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    import os

    # What is measured is how long importing takes, not compiling: that may be kept.
    drop = ("MLSPAN_", "MLFLOW_", "OTEL_", "PYTHONDONTWRITEBYTECODE")
    keep = {k: v for k, v in os.environ.items() if not k.startswith(drop)}
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, env={**keep, **env}, capture_output=True, text=True, timeout=60, check=False)


def test_importing_loads_nothing_heavy() -> None:
    """``import mlspan`` and ``autolog`` import no framework and no MLflow."""
    code = """
import sys, mlspan
before = set(sys.modules)
mlspan.autolog()
print([name for name in ("openai", "mlflow", "pydantic", "sklearn", "grpc") if name in sys.modules])
"""
    done = run(code)
    assert (done.stdout, done.stderr, done.returncode) == ("[]\n", "", 0)


def test_tracing_alone() -> None:
    """Spans of one's own need nothing but the core."""
    code = """
from mlspan import testing, tracing
with testing.spans() as ended:
    with tracing.span("outer"), tracing.span("look up", kind="tool"):
        pass
print(ended.tree())
"""
    done = run(code, MLSPAN_TRACKING_URI="none", MLSPAN_STRICT="1")
    assert (done.stdout, done.stderr) == ("outer\n  execute_tool look up\n", "")


def test_metrics_begin_with_the_meter_provider() -> None:
    """Calls are measured from the moment that the application sets a MeterProvider, and cost nothing before it."""
    code = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from mlspan.tracing.operations.operation import start_operation
from mlspan.tracing.operations.records import Chat
from mlspan.tracing.runtime import get_runtime

def ask(model):
    with start_operation(get_runtime(), Chat(provider="openai", model=model, input_tokens=3)):
        pass

ask("early")
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
ask("late")
[scope] = reader.get_metrics_data().resource_metrics[0].scope_metrics
for metric in scope.metrics:
    if metric.name.startswith("gen_ai."):  # beside them stand the SDK's own, of what waits
        print(metric.name, [point.attributes["gen_ai.request.model"] for point in metric.data.data_points])
"""
    done = run(code, MLSPAN_TRACKING_URI="none", MLSPAN_STRICT="1")
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "gen_ai.client.operation.duration ['late']",
        "gen_ai.client.token.usage ['late']",
    ]


def test_a_missing_mlflow_is_one_clear_line(tmp_path: object) -> None:
    """Without MLflow the embedded store says in one line what to install, keeps the traces, and the program goes on."""
    code = """
import sys
sys.modules["mlflow"] = None  # as if it were not installed
from mlspan import tracing
for _ in range(3):
    with tracing.span("step"):
        pass
print(bool(tracing.flush(10)))
"""
    done = run(code, MLSPAN_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db")
    assert done.stdout == "False\n"
    line, stays = done.stderr.splitlines()
    assert "3 spans could not be sent and stay in" in stays
    assert "pip install 'mlflow>=3.6,<4', or set" in line
    assert "MLFLOW_TRACKING_URI" in line


def test_an_integration_without_its_library_is_one_clear_line() -> None:
    """Asking for a library that is not there says so; asking for all says nothing."""
    code = """
import importlib.util
from mlspan import integrations
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "openai" else found(name, *more)
integrations.autolog()
integrations.openai.autolog()
integrations.openai.autolog(silent=True)
"""
    done = run(code)
    assert done.stderr == "mlspan: openai is not installed, so there is nothing of it to trace\n"


def test_importing_is_quick() -> None:
    """``import mlspan`` takes next to nothing, and turning it on about what importing the OTel SDK takes: 0.1 s."""
    code = """
from time import process_time  # of this process: what else the machine does is no matter
begun = process_time()
import opentelemetry.sdk.trace, opentelemetry.sdk.trace.export
started = process_time()
import mlspan
imported = process_time()
mlspan.integrations.openai.autolog(silent=True)
print((imported - started) / (started - begun), (process_time() - imported) / (started - begun))
"""
    times = [[float(part) for part in run(code).stdout.split()] for _ in range(5)]
    assert min(time[0] for time in times) < 0.05, times
    assert min(time[1] for time in times) < 2, times  # 1 to 1.7 measured: on a busy machine caches are cold
