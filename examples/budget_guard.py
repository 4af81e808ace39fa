"""An agent that stops when its budget is spent, and says who has spent what: the sum is made in the process.

Needs ``pip install '.[mlflow,openai]'`` in a checkout of mlspan, and OPENAI_API_KEY (OPENAI_BASE_URL for another
server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import threading

from openai import OpenAI

from mlspan import integrations, tracing

integrations.openai.autolog(log_traces=True)

QUESTIONS = {"ada": ["hello", "hello again", "hello once more"], "bob": ["hello"]}


def main(budget: float) -> None:
    spent_all = threading.Event()
    tracing.on_cost(budget, lambda _: spent_all.set())
    client = OpenAI()
    for user, questions in QUESTIONS.items():
        for question in questions:
            if spent_all.is_set():
                print(f"stopped before {question!r} of {user}")
                continue
            with tracing.user(user), tracing.span("assistant", kind="agent"):
                client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": question}])
    for spender, spent in tracing.spend(by="user").items():
        print(f"{spender}: ${spent.cost:.6f} for {spent.calls} calls")


if __name__ == "__main__":
    main(budget=0.00001)  # dollars
    tracing.flush()
