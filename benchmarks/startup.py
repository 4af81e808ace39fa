"""What importing us and turning us on adds to a process that has the client and the SDK: time and memory.

Measured as an installed package runs: with compiled code at hand. It lies in a folder of its own, which a first process
fills and which is not counted, also where the environment forbids Python to keep such code.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

CODE = """
import resource, sys, time
began = time.process_time()
import openai, opentelemetry.sdk.trace, opentelemetry.sdk.metrics
theirs = time.process_time() - began
from opentelemetry import trace

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20

before, started, used = resident(), time.perf_counter(), time.process_time()
from mlspan import integrations, tracing
tracing.configure(tracking_uri="http://127.0.0.1:9")
integrations.openai.autolog()
ours, used = time.perf_counter() - started, time.process_time() - used
added = resident() - before, "mlflow" in sys.modules
started = time.process_time()
integrations.autolog()
print(ours * 1000, *added, used, theirs, (time.process_time() - started) * 1000)
"""


def startup(times: int = 11) -> dict[str, float]:
    """Milliseconds (the median, and the best) and megabytes that we add; AssertionError if MLflow was imported.

    ``share`` is our processor's time, to that of importing the client and the SDK, each the least of all, as others use
    its caches as well; ``all`` is the processor's time for ``integrations.autolog()`` after that, in milliseconds: it
    imports no integration.
    """
    taken, grown, ours, theirs, everything = [], [], [], [], []
    with tempfile.TemporaryDirectory() as compiled:
        env = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        for turn in range(times + 1):
            command = [sys.executable, "-c", CODE]
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=120)
            milliseconds, megabytes, mlflow, used, imported, others = done.stdout.split()
            assert mlflow == "False", "MLflow was imported"
            if turn > 0:
                taken.append(float(milliseconds))
                grown.append(float(megabytes))
                ours.append(float(used))
                theirs.append(float(imported))
                everything.append(float(others))
    return {
        "milliseconds": statistics.median(taken),
        "best": min(taken),
        "megabytes": statistics.median(grown),
        "share": min(ours) / min(theirs),
        "all": statistics.median(everything),
        "best_all": min(everything),
    }


if __name__ == "__main__":
    print(startup())
