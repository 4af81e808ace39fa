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
    steps = count("steps", client, tmp_path)
    assert steps["floor"] > 2000
    assert 1000 < steps["added"] <= 1.3 * steps["floor"]
    assert 50 < steps["chunk"] <= 370


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="another Python has functions in the place of others")
def test_a_chat_calls_few_functions(tmp_path: Path) -> None:
    """A chat of OpenAI's client calls fewer functions for us, those in C included, than for the span by hand.

    After each real call the processor's caches hold the client's data: a function that is called costs what it touches.
    ``benchmarks/client_worker.py calls`` tells who calls which.
    """
    calls = count("calls", "openai", tmp_path)
    assert calls["floor"] > 200
    assert 50 < calls["added"] <= 0.85 * calls["floor"]
    assert 2 < calls["chunk"] <= 11


def count(what: str, client: str, folder: Path) -> dict[str, float]:
    """Return what a chat of *client* and a chunk take, by the mode of ``client_worker.py`` that counts it."""
    pytest.importorskip(CLIENTS[client])
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    worker, told = [sys.executable, str(BENCHMARKS / "client_worker.py")], str(folder / "spans.json")
    subprocess.run([*worker, "record", client, told], env=env, capture_output=True, timeout=300, check=True)
    command = [*worker, what, client, told, "mlspan"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: each[0] if isinstance(each, list) else sum(each.values()) for name, each in found.items()}
