"""autolog in IPython and Jupyter: loaded by hand or for every session, and what a cell has recorded below it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("IPython")
pytest.importorskip("openai")
ASK = """
with openai.OpenAI(base_url=URL, api_key="test", max_retries=0) as client:
    with tracing.span("<b>job</b>"):
        client.chat.completions.create(model="gpt-x", messages=[{"role": "user", "content": "hello"}])
"""
IMPORTS = "import os, openai; from mlspan import tracing; URL = os.environ['MODEL_URL']"
TRACE = re.compile(
    r"mlspan trace: <b>job</b>  [\d.]+ m?s · 2 spans · 3 in, 1 out\n    chat gpt-x  [\d.]+ m?s  3 in, 1 out\n"
)
ANSWER = {
    "id": "c-1",
    "object": "chat.completion",
    "created": 0,
    "model": "gpt-x",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}


@pytest.fixture
def env(scripted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of a session whose IPython is new, and whose traces go to a database in its folder."""
    scripted.reply(ANSWER)
    for name, value in {
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "MODEL_URL": scripted.base_url,
        "MLSPAN_TRACKING_URI": "http://127.0.0.1:9",  # nobody's; the experiment has an id, so nobody is asked
        "MLFLOW_EXPERIMENT_ID": "7",
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }.items():
        monkeypatch.setenv(name, value)
    return dict(os.environ)


def mlspan(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mlspan.cli", *arguments], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout


def test_in_a_terminal(env: dict[str, str], tmp_path: Path) -> None:
    """In IPython, a cell that called a model is followed by its trace as a tree with a link; others by nothing."""
    cells = [f"%load_ext mlspan\n{IMPORTS}", "print('quiet')", ASK, "print('after')"]
    script = tmp_path / "session.py"
    script.write_text(
        "from IPython.terminal.interactiveshell import TerminalInteractiveShell as Shell\n"
        f"shell = Shell.instance()\nfor cell in {cells!r}:\n    shell.run_cell(cell).raise_error()\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], env=env, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    before, _, after = done.stdout.partition("quiet\n")
    assert before == ""
    shown, _, rest = after.partition("after\n")
    assert TRACE.match(shown), shown
    assert re.search(
        r"\n  http://127\.0\.0\.1:9/#/experiments/7/traces\?selectedEvaluationId=tr-[0-9a-f]{32}\n$", shown
    )
    assert rest == ""


def notebook(cells: list[str], folder: Path) -> list[Any]:
    """The outputs of each cell, run by a real kernel."""
    import nbformat
    from nbclient import NotebookClient
    from notebook_kernels import use_sockets_in_files

    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    settings = {"config": use_sockets_in_files(folder), "resources": {"metadata": {"path": str(folder)}}}
    NotebookClient(made, timeout=120, kernel_name="python3", **settings).execute()
    return [cell.outputs for cell in made.cells]


@pytest.mark.filterwarnings("default")  # of pyzmq's and its event loops
def test_every_session(env: dict[str, str], tmp_path: Path) -> None:
    """After ``mlspan notebook enable`` a kernel has it; loading it again changes nothing; a trace is shown once."""
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    assert mlspan("notebook", "status").startswith("off: ")
    assert mlspan("notebook", "enable").startswith("on: ")
    assert mlspan("notebook", "status").startswith("on: ")
    outputs = notebook([IMPORTS, ASK, "%load_ext mlspan", ASK, "1", "%unload_ext mlspan\n" + ASK], tmp_path)
    assert [len(said) for said in outputs] == [0, 1, 1, 1, 1, 0]
    assert outputs[2][0].text.startswith("The mlspan extension is already loaded")
    shown = outputs[1][0]
    assert shown.output_type == "display_data"
    assert TRACE.match(shown.data["text/plain"]), shown.data["text/plain"]
    html = shown.data["text/html"]
    assert "&lt;b&gt;job&lt;/b&gt;" in html
    assert "<b>job</b>" not in html
    assert '<a href="http://127.0.0.1:9/#/experiments/7/traces?selectedEvaluationId=tr-' in html
    assert mlspan("notebook", "disable").startswith("off: ")
    assert mlspan("notebook", "status").startswith("off: ")


def test_without_anything_to_show() -> None:
    """An application's own spans alone are no news."""
    from opentelemetry.sdk.trace import TracerProvider

    from mlspan.notebook import CellCollector

    provider, collector = TracerProvider(shutdown_on_exit=False), CellCollector()
    provider.add_span_processor(collector)
    with provider.get_tracer("app").start_as_current_span("GET /"):
        pass
    assert collector.take_finished() == ([], [])
    assert collector._spans == {}
    assert collector._open_roots == {}
