"""Other tracers of the same calls: the caller sees no difference, and neither tracer loses a span.

``nox -s beside`` runs this in an environment for each of them, named by MLSPAN_BESIDE, and records what it finds for
docs/beside.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from beside import measured

HERE = Path(__file__).parent
PEER = os.environ.get("MLSPAN_BESIDE", "")
pytestmark = pytest.mark.skipif(not PEER, reason="nox -s beside: an environment for each tracer")

# Logfire suppresses what is traced inside of its own calls, which is all of ours if it is turned on later.
SUPPRESSED = {("logfire", "ours first")}


def run_program(peer: str, order: str, store: str) -> Any:
    """Return what the program prints that makes every call beside *peer*."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    env = {**kept, "MLFLOW_TRACKING_URI": store, "OPENAI_API_KEY": "x", "MLSPAN_STRICT": "1"}
    command = [sys.executable, "-W", "ignore", str(HERE / "beside/program.py"), peer, order]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def ours_alone(_template_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    what = {"google": "google_genai"}.get(name := PEER.rpartition("-")[2], name)
    peer = f"nothing, calls_{what}" if what in {"anthropic", "browser_use", "deepagents", "google_genai"} else "nothing"
    return run_program(peer, "ours first", _copy(_template_store, tmp_path_factory))


@pytest.fixture(scope="module")
def runs(_template_store: Path, tmp_path_factory: pytest.TempPathFactory, ours_alone: Any) -> Mapping[str, Any]:
    found = {
        order: run_program(PEER, order, _copy(_template_store, tmp_path_factory))
        for order in ("bare", "alone", *measured.ORDERS)
    }
    measured.write(measured.summarize(PEER, found, ours_alone))
    return found


def _copy(template: Path, factory: pytest.TempPathFactory) -> str:
    store = factory.mktemp("store") / "mlflow.db"
    store.write_bytes(template.read_bytes())
    return f"sqlite:///{store}"


@pytest.mark.timeout(1500)
def test_a_call_alone_has_its_spans(ours_alone: Any) -> None:
    """What the others are compared with: one span of ours for each request, or those of a run; it is counted once."""
    calls = ours_alone["calls"]
    assert {name: call["ours"] for name, call in calls.items()} == {n: call["expected"] for n, call in calls.items()}
    assert {call["tokens"] for name, call in calls.items() if "left early" not in name} == {0, 1}


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("order", measured.ORDERS)
def test_the_caller_sees_no_difference(runs: Mapping[str, Any], order: str) -> None:
    """What a call returns or raises is the same with both as with the other alone, and so as with nobody."""
    assert measured.find_differences(runs[order], runs["alone"]) == []


@pytest.mark.parametrize("order", measured.ORDERS)
def test_nobody_loses_a_span(runs: Mapping[str, Any], ours_alone: Any, order: str) -> None:
    """Each has as many spans of each call as it has alone, and so has the application; who suppresses us is said."""
    run = runs[order]
    assert measured.find_losses(run, runs["alone"], "theirs") == []
    assert measured.find_losses(run, runs["alone"], "app") == []
    said = [line for line in run["log"] if line.startswith("mlspan")]
    if (PEER, order) in SUPPRESSED:
        (line,) = said
        assert "suppresses other instrumentations" in line
    else:
        assert measured.find_losses(run, ours_alone, "ours") == []
        assert said == []
