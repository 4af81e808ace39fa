"""``make check`` runs the tests of what has changed: the mapping, and that it names files that exist."""

from __future__ import annotations

import subprocess
import sys
from fnmatch import fnmatch

import pytest
from changed_tests import ROOT, SMOKE, TESTS_OF, choose_tests, find_named_tests

TESTS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py"))
OPENAI = [path for path in TESTS if path.startswith("tests/integrations/test_openai")]
NAMED = [path for path in TESTS if "openai" in path]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("mlspan/integrations/openai/chat.py", "tests/integrations/test_openai_streams.py"),
        ("mlspan/integrations/langchain/langgraph_edges.py", "tests/integrations/test_langgraph.py"),
        ("mlspan/integrations/xgboost.py", "tests/integrations/test_xgboost.py"),
        ("mlspan/tracing/export/otlp/encoder.py", "tests/test_otlp_encoder.py"),
        ("mlspan/tracing/export/spool/write_ahead.py", "tests/test_spool.py"),
        ("mlspan/tracing/feedback_spans.py", "tests/test_feedback.py"),
        ("mlspan/tracing/operations/plain_values.py", "tests/test_plain_values.py"),
        ("mlspan/cli/show.py", "tests/test_cli_read.py"),
        ("docs/index.md", "tests/test_docs.py"),
        ("tests/test_spool.py", "tests/test_spool.py"),
    ],
)
def test_a_changed_file_runs_its_tests(changed: str, expected: str) -> None:
    """A module leads to the tests of its package and to the one that has its name; a test leads to itself."""
    found = choose_tests([changed], TESTS)
    assert expected in found
    assert ("tests/test_architecture.py" in found) == changed.startswith("mlspan/")


def test_one_integration_runs_no_other() -> None:
    """OpenAI's change runs OpenAI's tests and the test of the import graph alone."""
    assert choose_tests(["mlspan/integrations/openai/chat.py"], TESTS) == [*OPENAI, "tests/test_architecture.py"]


@pytest.mark.parametrize("changed", [[], ["CHANGELOG.md"], ["pyproject.toml"], ["tests/conftest.py"]])
def test_otherwise_the_smoke_tests_run(changed: list[str]) -> None:
    """Nothing changed, only prose changed, or what everything depends on: the smoke tests."""
    assert choose_tests(changed, TESTS) == sorted(f"tests/{path}" for path in SMOKE)


def test_the_mapping_names_what_exists() -> None:
    """Each start of a path fits a file, and each pattern a test: a rename has to take the mapping along."""
    for start, patterns in TESTS_OF.items():
        assert list(ROOT.glob(f"{start.rstrip('/')}*")), start
        for pattern in patterns:
            assert any(fnmatch(path, f"tests/{pattern}") for path in TESTS), pattern
    assert {f"tests/{path}" for path in SMOKE} <= set(TESTS)


def test_a_name_chooses_files() -> None:
    """``K=openai`` is every file that is named for OpenAI; a name that fits none is an error that says so."""
    assert find_named_tests("openai", TESTS) == NAMED
    command = [sys.executable, str(ROOT / "tests" / "changed_tests.py")]
    listed = subprocess.run([*command, "openai"], capture_output=True, text=True, check=True, timeout=30)
    assert listed.stdout.split() == NAMED
    failed = subprocess.run([*command, "no_such"], capture_output=True, text=True, check=False, timeout=30)
    assert (failed.returncode, failed.stderr) == (1, "no test file is named for 'no_such'\n")


def test_no_test_begins_once_the_time_is_over() -> None:
    """What ``make check`` has no time for is skipped, and the summary says who runs it."""
    command = [sys.executable, "-m", "pytest", "-q", "--seconds", "0", "tests/test_architecture.py"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    assert "0 seconds have passed; `make test` runs it" in run.stdout
    assert "passed" not in run.stdout.splitlines()[-1]
