"""What ``make newest`` says of a session, read from what nox and pytest print."""

from __future__ import annotations

import pytest
from newest import read_result

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


@pytest.mark.parametrize(
    ("log", "result"),
    [
        (BROKEN, "5 failed: test_a_cancelled_task, test_a_request[a b], test_cut_off, ..."),
        (CLASHING, "not run: error: no versions of ollama==99 and you require it"),
        (FINE, "71 passed"),
    ],
    ids=["broken", "clashing", "fine"],
)
def test_the_result_of_a_session(log: str, result: str) -> None:
    """Tests of the same name in several classes count each; all runs of pytest in a session add up."""
    assert read_result(log) == result
