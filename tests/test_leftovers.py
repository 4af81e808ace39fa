"""Nothing of ours stays in another library once everything has been turned off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "leftovers.py"


@pytest.mark.timeout(500)  # it imports every library there is
@pytest.mark.parametrize("imports", ["never", "before", "after"])
def test_nothing_is_left(imports: str, tmp_path: Path) -> None:
    """Modules, classes, loggers, warnings, signals, import hooks, atexit: whatever is turned off first.

    The libraries are not imported at all, or imported before autolog or after it, and used.
    """
    if imports != "never":
        for needed in ("mlflow", "openai", "agents", "langgraph", "sklearn"):
            pytest.importorskip(needed)
    command = [sys.executable, str(PROGRAM), imports, "none" if imports == "never" else f"sqlite:///{tmp_path}/a.db"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=480, check=False, cwd=tmp_path)
    assert done.stdout.splitlines()[-1:] == ["LEFT"], done.stdout + done.stderr
