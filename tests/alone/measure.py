"""Run cases under mlspan and under MLflow's autolog, alone: ``python tests/alone/measure.py [CASE ...]``.

The results are in ``alone.json``. docs/difference_table.py makes tables of it; tests/test_alone.py runs them again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
FILE: Final = HERE / "alone.json"
TRACERS: Final = ("mlspan", "mlflow")
LIBRARIES: Final = ("langchain-core", "langgraph", "mlflow", "openai")
sys.path[:0] = [str(HERE), str(HERE.parent)]

from program import CASES


def measure(case: str, tracer: str, *, folder: Path, store: str, model_server: str) -> dict[str, Any]:
    """Run *case* in a process of its own, and read back what the *store* (an empty database) then holds."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    env = {**kept, "MLFLOW_TRACKING_URI": store, "OPENAI_BASE_URL": model_server, "OPENAI_API_KEY": "x"}
    env |= {"PYTHONPATH": str(HERE.parent.parent), "XDG_STATE_HOME": str(folder), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, str(HERE / "program.py"), tracer, case],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return {**_read_store(store), **(json.loads(done.stdout) if done.stdout.strip() else {})}


def _read_store(store: str) -> dict[str, Any]:
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(store)
    try:
        traces = mlflow.search_traces(locations=["0"], return_type="list")
    finally:
        mlflow.set_tracking_uri(before)
    spans = [span for trace in traces for span in trace.data.spans]
    usage = [json.loads(trace.info.trace_metadata.get("mlflow.trace.tokenUsage", "{}")) for trace in traces]
    return {
        "traces": len(traces),
        "spans": len(spans),
        "failed spans": sum(span.status.status_code.value == "ERROR" for span in spans),
        "tokens": sum(one.get("total_tokens", 0) for one in usage),
    }


def main() -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from servers.scripted import Scripted
    from web.kit import answer_by_request

    server = Scripted()
    answer_by_request(server)
    found: dict[str, dict[str, Any]] = json.loads(FILE.read_text())["cases"] if FILE.exists() else {}
    try:
        with tempfile.TemporaryDirectory() as name:
            template = Path(name) / "mlflow.db"
            store = SqlAlchemyStore(f"sqlite:///{template}", name)
            store._dispose_engine()
            for case in sys.argv[1:] or CASES:
                for tracer in TRACERS:
                    folder = Path(name) / f"{case}-{tracer}"
                    folder.mkdir()
                    shutil.copy(template, folder)
                    uri = f"sqlite:///{folder}/mlflow.db"
                    run = measure(case, tracer, folder=folder, store=uri, model_server=server.base_url)
                    found.setdefault(case, {})[tracer] = run
    finally:
        server.stop()
    versions = {library: version(library) for library in LIBRARIES}
    FILE.write_text(json.dumps({"versions": versions, "cases": found}, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
