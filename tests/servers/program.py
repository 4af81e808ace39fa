"""Programs that trace, as processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from servers.process import BoundedPopen

PREAMBLE = """
import os, signal, sys, time
from mlspan import tracing
def work(start, end):
    for number in range(start, end):
        with tracing.span(str(number), kind="tool") as span:
            span.output = "done"
"""


def environment(spool: Path, mlflow: str | None = None, otlp: str | None = None, **more: str) -> dict[str, str]:
    """Nothing of our own settings but where to keep and where to send."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    named = {"MLSPAN_SPOOL_DIR": str(spool), "MLSPAN_STRICT": "1", "MLSPAN_TRACKING_URI": mlflow or "none"}
    return {**kept, **named, **({"OTEL_EXPORTER_OTLP_ENDPOINT": otlp} if otlp else {}), **more}


def start(code: str, env: dict[str, str], **options: Any) -> BoundedPopen:
    program = PREAMBLE + textwrap.dedent(code)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return BoundedPopen([sys.executable, "-W", "ignore", "-c", program], env=env, **pipes, **options)


def run(code: str, env: dict[str, str], timeout: float = 60, **options: Any) -> subprocess.CompletedProcess[str]:
    with start(code, env, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
