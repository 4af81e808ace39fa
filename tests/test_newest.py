"""What ``make newest`` runs, and how it tells what came of it."""

from __future__ import annotations

import sys
from pathlib import Path

import newest
import pytest

LOGS = {
    "62 passed": """
nox > pytest -q tests/integrations/test_cohere.py
............                                                             [100%]
56 passed in 12.30s
nox > pytest -q tests/test_docs.py
6 passed, 2 skipped in 1.10s
nox > Session cohere(newest) was successful in 32 seconds.
""",
    "2 failed: test_chat, test_stream[sync]": """
FAILED tests/integrations/test_cohere.py::test_stream[sync] - AssertionError: assert 1 == 2
FAILED tests/integrations/test_cohere.py::TestChat::test_chat - TypeError: no - such argument
2 failed, 54 passed in 12.30s
nox > Session cohere(newest) failed.
""",
    "1 failed: tests/integrations/test_cohere.py (error)": """
ERROR tests/integrations/test_cohere.py - ImportError: cannot import name 'V2Client'
nox > Session cohere(newest) failed.
""",
    "not run: Because only cohere<9 is available, it cannot be used.": """
nox > uv pip install --quiet cohere
  Because only cohere<9 is available, it cannot be used.
nox > Session cohere(newest) failed.
""",
}


@pytest.mark.parametrize("result", LOGS)
def test_a_result(result: str) -> None:
    """A row says what passed, what failed, or why nothing was run."""
    assert newest.read_result(LOGS[result]) == result


def test_every_extra_has_a_session() -> None:
    """Each library of an integration is run at its newest by some session."""
    nox = Path(sys.executable).with_name("nox")
    if not nox.exists():
        pytest.skip("nox is in the environment of the main tests alone")
    extras = newest.read_extras()
    tested = {name for session in newest.list_sessions(str(nox), []) for name in session.distributions}
    wanted = {newest.read_name(need) for name, needs in extras.items() for need in needs if name != "mlflow"}
    assert wanted - tested == {"langgraph"}  # it is in the session of LangChain
