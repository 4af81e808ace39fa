"""Run every scenario in this process, and write all that each has let its program see as JSON.

``python run_scenarios.py bare|traced RESULT MODELS RECEIVER MODULE...``: the file to write, the server of models, the
receiver of our spans, and the modules of scenarios. With ``traced`` everything that mlspan has is turned on. At the end
each scenario that exits runs in a forked child.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from harness import BLOCKS, EXITS, SCENARIOS, Scenario, Tools, observe, read_file, redact_hello


def turn_on(tools: Tools, receiver: str) -> None:
    """Turn everything on, and let our threads and connections begin before anything is compared."""
    from mlspan import integrations, tracing

    tracing.configure(
        tracking_uri="none",
        otlp_endpoint=receiver,
        redact=redact_hello,
        durability="span",
        keep=tracing.Keep(errors=True, ratio=1.0),
        tags={"team": "red"},
    )
    integrations.autolog(silent=True)
    integrations.openai.autolog(include_usage=True, log_images=True, silent=True)
    if "sklearn" in sys.modules:
        integrations.sklearn.autolog(log_models=False, silent=True)
    tools.trace, tools.wrap = tracing.trace, tracing.wrap
    tools.blocks = {name: getattr(tracing, name) for name in BLOCKS}
    with tracing.span("first"):
        pass
    assert tracing.flush(60), "the receiver takes no spans"


def train_once(*, own_autolog: bool) -> None:
    """Have MLflow open its database. Trainings are compared with *MLflow's* own autologging, which they ask us for."""
    import mlflow
    from sklearn.linear_model import LogisticRegression

    if own_autolog:
        mlflow.sklearn.autolog(log_models=False, silent=True)
    LogisticRegression().fit([[0.0], [1.0]], [0, 1])


def run_all(mode: str, models: str, receiver: str) -> dict[str, Any]:
    """Return what each scenario has let its program see, by its name."""
    tools = Tools(server=f"{models}/{mode}")
    if mode == "traced":
        turn_on(tools, receiver)
    if "sklearn" in sys.modules:
        train_once(own_autolog=mode == "bare")
    asyncio.run(asyncio.sleep(0))  # what an event loop opens at first use stays open
    gc.collect()
    gc.freeze()
    seen = {}
    for name, fn in SCENARIOS.items():
        tools.name = quote(name, safe="")
        seen[name] = observe(fn, tools, urlsplit(receiver).port or 0)
    return seen | {name: run_exit(fn, tools) for name, fn in EXITS.items()}


class Ended(BaseException):
    """Leads a forked child out of the program, to run a scenario where nothing is around it."""

    def __init__(self, run: Callable[[], Any], files: list[Any]) -> None:
        self.run, self.files = run, files

    def go_on(self) -> None:
        """Run the scenario, with its output in the files that the parent reads."""
        for number, file in zip((1, 2), self.files, strict=True):
            os.dup2(file.fileno(), number)
        self.run()


def run_exit(fn: Scenario, tools: Tools) -> dict[str, Any]:
    """Run a scenario as the end of a forked child; return its exit code and what it and its handlers have written."""
    files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115  # read_file closes them
    child = os.fork()
    if child == 0:
        raise Ended(lambda: fn(tools), files)
    _, status = os.waitpid(child, 0)
    out, err = (read_file(file) for file in files)
    # Of a traceback the lines count that belong to the user.
    shown = [line for line in err.splitlines() if not line.startswith(" ") or "scenarios_" in line]
    return {"exit code": os.waitstatus_to_exitcode(status), "stdout": out, "stderr": shown}


if __name__ == "__main__":
    mode, result, models, receiver, *modules = sys.argv[1:]
    for module in modules:
        importlib.import_module(module)
    ended: Ended | None = None
    try:
        Path(result).write_text(json.dumps(run_all(mode, models, receiver)))
    except Ended as found:
        ended = found
    if ended is not None:
        ended.go_on()
