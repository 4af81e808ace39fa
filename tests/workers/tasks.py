"""What the workers of the tests do: call a model, or train one."""

from __future__ import annotations

import os


def ask(text: str) -> int:
    """One call of a model; the id of the process that made it."""
    import openai

    with openai.OpenAI(api_key="test", max_retries=0) as client:
        client.chat.completions.create(model="gpt-x", messages=[{"role": "user", "content": text}])
    return os.getpid()


def train(depth: int) -> int:
    from sklearn.tree import DecisionTreeClassifier

    DecisionTreeClassifier(max_depth=depth).fit([[0], [1], [2], [3]], [0, 0, 1, 1])
    return os.getpid()


def fail(text: str) -> int:
    ask(text)
    raise KeyError(text)
