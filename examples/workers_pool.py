"""Questions answered in a pool of processes, as one trace: the calls of the workers are below the caller's span.

Needs ``pip install '.[mlflow,openai]'`` in a checkout of mlspan, and OPENAI_API_KEY (OPENAI_BASE_URL for another
server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

from openai import OpenAI

from mlspan import integrations, tracing


def answer(question: str) -> str:
    messages = [{"role": "user", "content": question}]
    said = OpenAI().chat.completions.create(model="gpt-4o-mini", messages=messages)  # type: ignore[arg-type]
    return said.choices[0].message.content or ""


if __name__ == "__main__":
    integrations.autolog()
    with tracing.session("quiz"), tracing.span("quiz"), ProcessPoolExecutor(2) as pool:
        for said in pool.map(answer, ["What is the weather in Paris?", "Say hello."]):
            print(said)
    tracing.flush()
