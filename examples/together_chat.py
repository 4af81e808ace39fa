"""A model at Together streams its answer, as one trace.

Needs ``pip install '.[mlflow,together]'`` in a checkout of mlspan, and TOGETHER_API_KEY. Then ``mlspan show`` prints
the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import together

from mlspan import integrations, tracing

integrations.together.autolog(log_traces=True)


@tracing.trace(name="assistant", kind="agent")
def answer(question: str) -> str:
    """Return the answer, joined from its chunks."""
    with together.Together() as client:
        chunks = client.chat.completions.create(
            model="meta-llama/Llama-3.3-70B-Instruct-Turbo",
            messages=[{"role": "user", "content": question}],
            stream=True,
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


if __name__ == "__main__":
    with tracing.session("demo"), tracing.user("ada"):
        print(answer("hello"))
    tracing.flush()
