"""What the session ``peer_suite`` makes of the outcomes of MLflow's own tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "peer"))

from run_peer_suite import judge, read_expected

CHECKOUT = {
    "tests/__init__.py": "",
    "tests/helper_functions.py": "",
    "tests/autologging/__init__.py": "",
    "tests/autologging/test_it.py": """
import inspect

import mlflow.sklearn
from mlspan.integrations import sklearn


def test_logs():
    mlflow.sklearn.autolog(max_tuning_runs=3, silent=True)
    assert sklearn.HOOK.settings.options["max_tuning_runs"] == 3


def test_differs():
    mlflow.sklearn.autolog(silent=True)
    assert not sklearn.HOOK._wanted


def test_is_wrong_itself():
    assert list(inspect.signature(mlflow.sklearn.autolog).parameters) == []
""",
}


@pytest.mark.parametrize(
    ("found", "plain", "expected", "result"),
    [
        ({"a": "passed", "b": "skipped"}, {}, {}, 0),
        ({"a": "failed"}, {"a": "failed"}, {}, 0),  # without us as well
        ({"a": "failed"}, {"a": "passed"}, {}, 1),
        ({"a": "failed"}, {"a": "skipped"}, {}, 1),
        ({"a": "failed"}, {}, {}, 1),  # which has not run without us
        ({"a": "failed"}, {"a": "passed"}, {"a": "as we know"}, 0),
        ({"a": "passed"}, {}, {"a": "as we know"}, 1),
        ({"a": "passed"}, {}, {"of another library": "as we know"}, 0),
        ({}, {}, {}, 1),  # which says nothing
    ],
)
def test_a_difference_is_judged_by_what_is_expected(
    found: dict[str, str], plain: dict[str, str], expected: dict[str, str], result: int
) -> None:
    assert judge(found, plain, expected) == result


def test_each_expected_difference_has_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "expected.txt"
    path.write_text("# The reason\n\na::b\na::c\n# Another\nd\n", encoding="utf-8")
    assert read_expected(path) == {"a::b": "The reason", "a::c": "The reason", "d": "Another"}
    assert all(read_expected().values())


def test_a_checkout_is_run_with_us_and_what_fails_without_us(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sklearn")
    for name, text in CHECKOUT.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    program = Path(__file__).parent / "peer" / "run_peer_suite.py"
    ended = subprocess.run(
        [sys.executable, program, tmp_path, "autologging"], capture_output=True, text=True, timeout=600, check=False
    )
    assert ended.returncode == 1, ended.stdout + ended.stderr
    said = ended.stdout.partition("1 of 3 passed")[2]
    assert said.splitlines() == [
        ", 0 skipped",
        "Failed without mlspan as well: 1",
        "  tests/autologging/test_it.py::test_is_wrong_itself",
        "Expected differences: 0",
        "Expected differences that are none any more: 0",
        "New differences: 1",
        "  tests/autologging/test_it.py::test_differs",
    ]
