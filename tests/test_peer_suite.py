"""What the session ``peer_suite`` makes of the outcomes of MLflow's own tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "peer"))

from run_peer_suite import judge, read_expected


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
