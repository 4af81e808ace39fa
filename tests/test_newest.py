"""What ``make newest`` runs, and what it says of a session, read from what nox and pytest print."""

from __future__ import annotations

import sys
from pathlib import Path

import newest
import pytest

# Of Ollama's session, where a release had renamed the method that we patch.
BROKEN = """\
FAILED tests/integrations/test_ollama.py::TestStreams::test_cut_off - Asserti...
FAILED tests/integrations/test_ollama.py::TestAsyncStreams::test_cut_off - As...
FAILED tests/integrations/test_ollama.py::TestAsyncStreams::test_a_cancelled_task
FAILED tests/integrations/test_ollama.py::test_a_request[a b] - AssertionEr...
ERROR tests/integrations/test_ollama.py::test_embeddings - KeyError: 'x'
4 failed, 10 passed, 14 skipped, 1 error in 40.73s
nox > Command pytest -q tests/integrations/test_ollama.py failed with exit code 1
nox > Session ollama(newest) failed.
"""
CLASHING = """\
nox > Running session ollama(newest)
nox > uv pip install --quiet -e . ollama
error: no versions of ollama==99 and you require it
nox > Session ollama(newest) failed.
"""
FINE = "14 passed in 3.1s\n57 passed, 1 skipped in 9.9s\nnox > Session ollama(newest) was successful in 2 minutes.\n"


LOGS = {  # by what is said of each
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


@pytest.mark.parametrize(
    ("log", "result"),
    [
        (BROKEN, "5 failed: test_a_cancelled_task, test_a_request[a b], test_cut_off, ..."),
        (CLASHING, "not run: error: no versions of ollama==99 and you require it"),
        (FINE, "71 passed"),
        *((log, result) for result, log in LOGS.items()),
    ],
)
def test_the_result_of_a_session(log: str, result: str) -> None:
    """What passed, what failed, or why nothing was run.

    Tests of the same name in several classes count each; all runs of pytest in a session add up.
    """
    assert newest.read_result(log) == result


def test_every_extra_has_a_session() -> None:
    """Each library of an integration is run at its newest by some session."""
    nox = Path(sys.executable).with_name("nox")
    if not nox.exists():
        pytest.skip("nox is in the environment of the main tests alone")
    extras = newest.read_extras()
    tested = {name for session in newest.list_sessions(str(nox), []) for name in session.distributions}
    wanted = {newest.read_name(need) for name, needs in extras.items() for need in needs if name != "mlflow"}
    assert wanted - tested == {"langgraph"}  # it is in the session of LangChain
