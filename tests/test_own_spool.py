"""Tests find no spans that another test has left on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlspan.tracing.export.spool.limits import default_folder


@pytest.mark.parametrize("number", range(2))
def test_each_test_has_a_folder_of_its_own(number: int) -> None:
    """The folder is below that of all tests, and the test before has left nothing there."""
    folder = default_folder()
    assert Path(os.environ["XDG_STATE_HOME"]) in folder.parents
    assert not folder.exists()
    folder.mkdir(parents=True)
