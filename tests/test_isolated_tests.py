"""Tests find nothing that another test has left: no spans on disk, no names that a library was deprived of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlspan import _private_names
from mlspan.tracing.export.spool.limits import default_folder


@pytest.mark.parametrize("number", range(2))
def test_each_test_has_a_folder_of_its_own(number: int) -> None:
    """The folder is below that of all tests, and the test before has left nothing there."""
    folder = default_folder()
    assert Path(os.environ["XDG_STATE_HOME"]) in folder.parents
    assert not folder.exists()
    folder.mkdir(parents=True)


@pytest.mark.parametrize("number", range(2))
def test_each_test_begins_without_the_losses_of_others(number: int) -> None:
    """The doctor lists what is lost, and the test before has taken something away."""
    line = "this version of a library has no _name, so a thing"
    assert line not in _private_names.list_missing_names()
    _private_names.report_missing_name("a library", "_name", "a thing")
    assert line in _private_names.list_missing_names()
