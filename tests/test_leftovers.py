"""Nothing of ours stays in another library once everything has been turned off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "leftovers.py"


@pytest.mark.parametrize("order", ["never"])
def test_nothing_is_left(order: str) -> None:
    """Modules, classes, loggers, signals, import hooks, atexit: with the libraries not imported at all."""
    command = [sys.executable, str(PROGRAM), order, "none"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines()[-1:] == ["LEFT"], done.stdout + done.stderr
