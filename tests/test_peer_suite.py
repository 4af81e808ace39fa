"""What the session ``peer_suite`` makes of the outcomes of MLflow's own tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "peer"))

import run_peer_suite
from run_peer_suite import EXPECTED, judge, read_expected

CHECKOUT = {
    "tests/__init__.py": "",
    "tests/helper_functions.py": "",
    "tests/autologging/__init__.py": "",
    "tests/autologging/test_it.py": """
import mlflow.sklearn


def test_logs():
    mlflow.sklearn.autolog(disable=True)


def test_differs():
    mlflow.sklearn.autolog(disable=True, max_tuning_runs=-1)  # MLflow says what is wrong with it at the first search


def test_is_wrong_itself():
    assert not callable(mlflow.sklearn.autolog)
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
    assert all(read_expected(EXPECTED).values())


@pytest.mark.trains  # half a minute, as MLflow is imported twice
def test_a_checkout_is_run_with_us_and_what_fails_without_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sklearn")
    for name, text in CHECKOUT.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    expected = tmp_path / "expected.txt"
    expected.write_text("# It was wrong once\ntests/autologging/test_it.py::test_logs\n", encoding="utf-8")
    monkeypatch.setattr(run_peer_suite, "EXPECTED", expected)
    monkeypatch.setattr(sys, "argv", ["run_peer_suite.py", str(tmp_path), "autologging"])
    assert run_peer_suite.main() == 1
    said = capfd.readouterr().out
    assert said.partition("1 of 3 passed")[2].splitlines() == [
        ", 0 skipped",
        "Failed without mlspan as well: 1",
        "  tests/autologging/test_it.py::test_is_wrong_itself",
        "Expected differences: 0",
        "Expected differences that are none any more: 1",
        "  tests/autologging/test_it.py::test_logs: It was wrong once",
        "New differences: 1",
        "  tests/autologging/test_it.py::test_differs",
    ], said
