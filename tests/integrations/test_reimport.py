"""A program that takes a library out of ``sys.modules`` and imports it again: the new one is traced, once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import sys
import mlspan
from mlspan import integrations, testing

def ask():
    import openai
    with openai.OpenAI(base_url={url!r}, api_key="test") as client:
        client.chat.completions.create(model="m", messages=[{{"role": "user", "content": "hello"}}])

def forget():
    for name in [name for name in sys.modules if name.partition(".")[0] == "openai"]:
        del sys.modules[name]

counts = []
with testing.spans() as spans:
    for turn in {turns!r}:
        if turn == "on":
            integrations.openai.autolog()
        elif turn == "off":
            integrations.openai.autolog(disable=True)
        elif turn == "forget":
            forget()
        else:
            spans.clear()
            ask()
            counts.append(len(spans.all))
print(counts)
"""


@pytest.mark.parametrize(
    ("turns", "counts"),
    [
        ("on ask forget ask forget ask", [1, 1, 1]),
        ("ask on ask forget ask", [0, 1, 1]),
        ("on forget on ask", [1]),
        ("on ask forget off ask", [1, 0]),
        ("on ask off forget ask on ask", [1, 0, 1]),
    ],
)
def test_every_order(turns: str, counts: list[int], scripted: Any, tmp_path: Path) -> None:
    answer = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi."}}
    scripted.reply({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [answer]})
    code = PROGRAM.format(url=scripted.base_url, turns=turns.split())
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.returncode) == (f"{counts}\n", 0), done.stderr
    assert done.stderr == ""
