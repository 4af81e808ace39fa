"""What a chat costs through the hook of each client, in steps of the interpreter: no load of the machine changes them.

A client that is not installed here has this test in its nox session.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
CLIENTS = {  # by the module that is imported
    "openai": "openai",
    "anthropic": "anthropic",
    "google_genai": "google.genai",
    "litellm": "litellm",
    "cohere": "cohere",
}


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the bytecode of another Python has other steps")
@pytest.mark.parametrize("client", CLIENTS)
def test_a_chat_within_its_share(client: str, tmp_path: Path) -> None:
    """A chat takes no more than 1.3 of the span by hand that says the same, a chunk no more than 370 steps.

    ``benchmarks/client_worker.py functions`` tells where they go. 150 steps of a chunk took 0.6 µs on a quiet machine.
    """
    pytest.importorskip(CLIENTS[client])
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    worker, told = [sys.executable, str(BENCHMARKS / "client_worker.py")], str(tmp_path / "spans.json")
    subprocess.run([*worker, "record", client, told], env=env, capture_output=True, timeout=300, check=True)
    command = [*worker, "steps", client, told, "mlspan"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=True)
    steps = {name: pair[0] for name, pair in json.loads(done.stdout.splitlines()[-1]).items()}
    assert 2000 < steps["floor"] < steps["added"] <= 1.3 * steps["floor"]
    assert 50 < steps["chunk"] <= 370
