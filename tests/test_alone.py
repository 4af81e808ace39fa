"""What the docs say of the same program under mlspan and under MLflow's autolog: each run again, and compared."""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from servers.scripted import Scripted

sys.path.insert(0, str(Path(__file__).parent / "alone"))

import measure
from program import CASES

pytestmark = pytest.mark.timeout(400)
MEASURED = json.loads(measure.FILE.read_text(encoding="utf-8"))


# MLflow's side does not change with us: `make matrix` runs it.
@pytest.mark.parametrize("tracer", measure.TRACERS if os.environ.get("MLSPAN_WIDE") == "1" else ["mlspan"])
@pytest.mark.parametrize("case", CASES)
def test_it_is_as_the_docs_say(
    case: str, tracer: str, model_server: Scripted, mlflow_store: str, tmp_path: Path
) -> None:
    """Each case has the result that the tables are made from; MLflow's, with the version that was measured."""
    for library in ("langchain_openai", "langgraph", "mlflow", "openai"):
        pytest.importorskip(library)
    if tracer == "mlflow" and version("mlflow") != MEASURED["versions"]["mlflow"]:
        pytest.skip("another version of MLflow was measured")
    found = measure.measure(case, tracer, folder=tmp_path, store=mlflow_store, model_server=model_server.base_url)
    assert found == MEASURED["cases"][case][tracer]


def test_the_tables_are_current() -> None:
    """``python docs/difference_table.py`` has been run since something was measured."""
    docs = str(Path(__file__).parent.parent / "docs")
    sys.path.insert(0, docs)
    try:
        import difference_table
    finally:
        sys.path.remove(docs)
    for name in difference_table.PAGES:
        text = (difference_table.ROOT / name).read_text(encoding="utf-8")
        assert text == difference_table.build_page(name), f"python docs/difference_table.py: {name}"
