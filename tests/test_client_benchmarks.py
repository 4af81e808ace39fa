"""What a chat costs through the hook of each client, in steps of the interpreter: no load of the machine changes them.

A client that is not installed here has this test in its nox session.
"""

from __future__ import annotations

import importlib.util
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
    "mistralai": "mistralai",
    "groq": "groq",
    "ollama": "ollama",
    "bedrock": "boto3",
    "mcp": "mcp.client",
}
# The functions of a chat, those in C included, as a part of those of the span by hand, and of a chunk.
MOST_CALLS = {
    "openai": (0.85, 11),
    "anthropic": (0.85, 10),
    "google_genai": (0.9, 12),
    "litellm": (1.2, 16),
    "cohere": (1.05, 10),
    "mistralai": (1.0, 10),
    "groq": (1.05, 11),
    "ollama": (1.1, 11),
    "bedrock": (1.1, 13),
}
MOST_STEPS_OF_A_CHUNK = 220  # 150 took 0.6 µs on a quiet machine


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the bytecode of another Python has other steps")
@pytest.mark.parametrize("client", CLIENTS)
def test_a_chat_within_its_share(client: str, tmp_path: Path) -> None:
    """A chat, or a call of a tool, takes no more than 1.3 of the span by hand that says the same.

    ``benchmarks/client_worker.py functions`` tells where the steps go.
    """
    steps = count("steps", client, tmp_path)
    assert steps["floor"] > 2000
    assert 1000 < steps["added"] <= 1.3 * steps["floor"]
    assert 50 < steps.get("chunk", 51) <= MOST_STEPS_OF_A_CHUNK


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="another Python has functions in the place of others")
@pytest.mark.parametrize("client", MOST_CALLS)
def test_a_chat_calls_few_functions(client: str, tmp_path: Path) -> None:
    """A chat calls about as few functions for us, those in C included, as for the span by hand, and a chunk a dozen.

    After each real call the processor's caches hold the client's data: a function that is called costs what it touches.
    ``benchmarks/client_worker.py calls`` tells who calls which.
    """
    calls, (share, chunk) = count("calls", client, tmp_path), MOST_CALLS[client]
    assert calls["floor"] > 200
    assert 50 < calls["added"] <= share * calls["floor"]
    assert 2 < calls["chunk"] <= chunk


def count(what: str, client: str, folder: Path) -> dict[str, float]:
    """Return what a chat of *client* and a chunk take, by the mode of ``client_worker.py`` that counts it."""
    if not has_module(CLIENTS[client]):
        pytest.skip(f"{CLIENTS[client]} is not installed")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    worker, told = [sys.executable, str(BENCHMARKS / "client_worker.py")], str(folder / "spans.json")
    subprocess.run([*worker, "record", client, told], env=env, capture_output=True, timeout=300, check=True)
    command = [*worker, what, client, told, "mlspan"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: each[0] if isinstance(each, list) else sum(each.values()) for name, each in found.items()}


def has_module(name: str) -> bool:
    """Return whether there is a module. LiteLLM, if it is imported, asks the network for its prices."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # not even the package above it
        return False
