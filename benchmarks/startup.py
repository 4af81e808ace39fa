"""What importing us and turning us on adds to a process that has the client and the SDK: time and memory."""

from __future__ import annotations

import statistics
import subprocess
import sys

BASE = "import openai, opentelemetry.sdk.trace, opentelemetry.sdk.metrics"
OURS = """
from mlspan import integrations, tracing
tracing.configure(tracking_uri="http://127.0.0.1:9")
integrations.openai.autolog()
"""
MEASURE = """
import sys, time
{base}
from opentelemetry import trace
import resource
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
{ours}
print((time.perf_counter() - started) * 1000, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
      "mlflow" in sys.modules)
"""


def startup(times: int = 7) -> dict[str, float]:
    """Milliseconds (the median, and the best) and megabytes that we add; AssertionError if MLflow was imported."""
    taken, grown = [], []
    for _ in range(times):
        code = MEASURE.format(base=BASE, ours=OURS)
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        milliseconds, megabytes, mlflow = out.split()
        assert mlflow == "False", "MLflow was imported"
        taken.append(float(milliseconds))
        grown.append(float(megabytes))
    return {"milliseconds": statistics.median(taken), "best": min(taken), "megabytes": statistics.median(grown)}


if __name__ == "__main__":
    print(startup())
