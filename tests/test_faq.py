"""The lines of ``mlspan doctor`` in the docs are those that it prints: each is run, and compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from servers.process import free_port

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/faq.md"
BLOCK = re.compile(r"^<!-- doctor:(?P<variables>.*?)-->\n```text\n(?P<lines>.*?)^```$", re.DOTALL | re.MULTILINE)
OUTPUTS = [(found["variables"].split(), found["lines"]) for found in BLOCK.finditer(PAGE.read_text(encoding="utf-8"))]


def run_doctor(variables: list[str], folder: Path) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    env = {**kept, **dict(one.split("=", 1) for one in variables), "HOME": str(folder), "XDG_STATE_HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "mlspan.cli", "doctor"],
        cwd=folder,
        env=env | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    return done.stdout + done.stderr


def find_lines_that_are_not_printed(variables: list[str], lines: str, folder: Path) -> list[str]:
    """Return the *lines* that the doctor does not print; a closed port replaces that of the page."""
    port = f"127.0.0.1:{free_port()}"
    changed = [re.sub(r"127\.0\.0\.1:\d+", port, text) for text in (*variables, lines.replace("{folder}", str(folder)))]
    printed = run_doctor(changed[:-1], folder).splitlines()
    return [line for line in changed[-1].splitlines() if line not in printed]


@pytest.mark.parametrize(("variables", "lines"), OUTPUTS, ids=[" ".join(one) or "default" for one, _ in OUTPUTS])
def test_the_doctor_says_so(variables: list[str], lines: str, tmp_path: Path) -> None:
    """Every line of the page, with the variables that stand above it."""
    pytest.importorskip("mlflow")
    assert find_lines_that_are_not_printed(variables, lines, tmp_path) == []


def test_a_wrong_line_is_seen(tmp_path: Path) -> None:
    """A line that the doctor does not print is found, and those that it prints are not."""
    pytest.importorskip("mlflow")
    lines = "  sample_ratio       0.5  (MLSPAN_SAMPLE_RATIO)\n  sample_ratio       0.7  (MLSPAN_SAMPLE_RATIO)\n"
    assert find_lines_that_are_not_printed(["MLSPAN_SAMPLE_RATIO=0.5"], lines, tmp_path) == lines.splitlines()[1:]


def test_every_output_of_the_doctor_is_compared() -> None:
    """No block of output on the page lacks its variables."""
    assert len(OUTPUTS) == PAGE.read_text(encoding="utf-8").count("```text")
