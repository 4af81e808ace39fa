"""Sessions of pytest in a folder of their own, as a user of the plugin has them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
_UNSET: Final = ("MLSPAN_", "MLFLOW_", "OTEL_", "PYTEST_", "CI", "BUILD_NUMBER")  # pytest shortens nothing in a CI
_OF_OTHERS: Final = (
    *("-W", "ignore::pytest.PytestDeprecationWarning"),  # pytest-asyncio asks every project for a setting
    *("-p", "no:langsmith_plugin", "-p", "no:hypothesispytest", "-p", "no:anyio"),  # their imports take seconds
)


@dataclass
class Session:
    """A folder with tests; ``run`` gives what pytest says of them."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    python: Path = Path(sys.executable)

    def write(self, **files: str) -> None:
        """Write a file of Python for each name."""
        for name, code in files.items():
            (self.folder / f"{name}.py").write_text(textwrap.dedent(code), encoding="utf-8")

    def run(self, *arguments: str, status: int = 0) -> str:
        """Return what pytest prints; it has to end with *status*."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_UNSET)}
        env = {**kept, "MLSPAN_STRICT": "1", "XDG_STATE_HOME": str(self.folder / "state"), **self.environment}
        command = [str(self.python), "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", *_OF_OTHERS, *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def find_outcomes(self, *arguments: str, status: int = 0) -> tuple[dict[str, str], str]:
        """Return the outcome by the name of each test, and all that pytest prints."""
        said = self.run("-rA", "--tb=short", *arguments, status=status)
        lines = re.findall(r"^(PASSED|FAILED|ERROR|XFAIL|SKIPPED) \S+?::(\S+)", said, re.MULTILINE)
        return {name: outcome for outcome, name in lines}, said
