"""An interpreter with odd flags, and a program that does what few do: the same output with mlspan and without it.

``nox -s differential`` runs it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from model_server import ModelServer
from servers.receiver import Receiver

HERE = Path(__file__).parent
# What the thread that calls for ever has open when the interpreter ends is warned of, or is not, without mlspan too.
SOCKET = re.compile(r"Exception ignored in: <socket\.socket [^>]*>\nResourceWarning: unclosed <socket\.socket [^>]*>\n")
FLAGS = {
    "without docstrings": ["-OO"],
    "of a developer": ["-X", "dev", "-W", "error"],
}
pytestmark = [
    pytest.mark.timeout(200),
    pytest.mark.skipif("MLSPAN_DIFFERENTIAL" not in os.environ, reason="nox -s differential: it takes half a minute"),
]


@pytest.mark.parametrize("flags", FLAGS)
def test_an_odd_interpreter(flags: str, tmp_path: Path) -> None:
    """Exit code, stdout and stderr are equal, and each call is a span."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    env = kept | {"XDG_STATE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    models, receiver, seen = ModelServer(), Receiver(), []
    try:
        for mode in ("bare", "traced"):
            url = f"{models.url}/{mode}/odd/stream/v1"
            program = str(HERE / "odd_program.py")
            command = [sys.executable, *FLAGS[flags], program, mode, url, receiver.url]
            options: Any = {"env": env, "cwd": tmp_path, "capture_output": True, "text": True, "timeout": 90}
            done = subprocess.run(command, check=False, **options)
            seen.append((done.returncode, done.stdout, SOCKET.sub("", done.stderr)))
        assert seen[1] == seen[0]
        assert seen[0][0] == 0, seen[0][2]
        assert "late Hi." in seen[0][1]
        assert sum(receiver.otlp.values()) >= 10, "the traced program has recorded nothing"
    finally:
        models.stop()
        receiver.stop()
