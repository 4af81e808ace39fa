"""A DSPy program and its evaluation, as traces of an MLflow run.

Needs ``pip install '.[mlflow,dspy]' litellm`` in a checkout of mlspan, and OPENAI_API_KEY (OPENAI_BASE_URL for
another server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import os

import dspy
import mlflow

from mlspan import integrations, tracing

integrations.dspy.autolog(log_traces=True)


def is_friendly(example: dspy.Example, said: dspy.Prediction, _trace: object = None) -> bool:
    """Return whether an answer is as polite as the example's."""
    return str(example.answer).lower() in str(said.answer).lower()


class Greeter(dspy.Module):
    """Answers a greeting with a greeting."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("greeting -> answer")

    def forward(self, greeting: str) -> dspy.Prediction:
        return self.answer(greeting=greeting)


def main() -> None:
    model = dspy.LM("openai/gpt-4o-mini", api_base=os.environ.get("OPENAI_BASE_URL"), cache=False)
    examples = [dspy.Example(greeting=word, answer="hi").with_inputs("greeting") for word in ("hello", "hello there")]
    with mlflow.start_run(run_name="greeter"), tracing.session("greeter-7"), dspy.context(lm=model):
        print(model("hello"))
        evaluate = dspy.Evaluate(devset=examples, metric=is_friendly, num_threads=2, max_errors=5)
        print(evaluate(Greeter()).score)
    tracing.flush()


if __name__ == "__main__":
    main()
