"""The trace as a person sees it: MLflow's own viewer, in a real browser."""

from __future__ import annotations

import runpy
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from packaging import version

from mlspan import integrations, tracing

# Up to 3.17 a trace's page has its state and its sums at the top; 3.18 has each span's beside it, its sums in the list.
IS_OLDER = version.parse(mlflow.__version__) < version.parse("3.18")
SUMS = ["46 tokens", "$0.000006", "Success"] if IS_OLDER else ["46", "OK", "20", "26", "$0.00"]
EXAMPLES = Path(__file__).parent.parent / "examples"

pytestmark = pytest.mark.browser


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(30_000)
    yield page
    page.close()


@pytest.fixture
def trace(mlflow_server: str, aimock: str, tracing_off: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The trace of examples/openai_chat.py."""
    monkeypatch.delenv("MLSPAN_TRACKING_URI")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "")
    monkeypatch.setenv("OPENAI_BASE_URL", aimock)
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    mlflow.set_tracking_uri(mlflow_server)
    mlflow.set_experiment(f"viewer-{uuid.uuid4().hex[:6]}")
    runpy.run_path(str(EXAMPLES / "openai_chat.py"), run_name="__main__")
    (found,) = mlflow.search_traces(return_type="list")
    yield found
    integrations.openai.autolog(disable=True)
    mlflow.set_tracking_uri(None)


def test_the_page_of_a_run(page: Any, trace: Any, mlflow_server: str) -> None:
    """The run's own page lists its trace: question, answer, session, tokens."""
    run = trace.info.trace_metadata["mlflow.sourceRun"]
    page.goto(f"{mlflow_server}/#/experiments/{trace.info.experiment_id}/runs/{run}/traces")
    page.get_by_text("What is the weather in Paris?").first.wait_for()
    text = page.inner_text("body")
    assert [found for found in ("weather demo", "It is sunny in Paris.", "demo", "46") if found not in text] == []


def test_the_page_of_a_trace(page: Any, trace: Any) -> None:
    """The link leads to the tree of spans, with times, tokens and cost; a chat shows as bubbles, its tools beside."""
    page.goto(str(tracing.trace_url(trace.info.trace_id)))
    page.get_by_text("execute_tool get_weather").first.wait_for()
    tree = page.inner_text("body")
    expected = ["invoke_agent weather assistant", "execute_tool get_weather", *SUMS]
    assert [found for found in expected if found not in tree] == []
    page.get_by_text("chat gpt-4o-mini").first.click()
    page.get_by_text("Answer in one sentence.").first.wait_for()
    chat = page.inner_text("body").split("Inputs / Outputs")[1]
    bubbles = ["System", "Answer in one sentence.", "User", "What is the weather in Paris?", "Assistant", "get_weather"]
    places = [chat.find(found) for found in bubbles]
    assert -1 not in places
    assert places == sorted(places)
