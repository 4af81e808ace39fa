"""LiteLLM's Router falls back to a second model, as one trace.

Needs ``pip install '.[mlflow,litellm]'`` in a checkout of mlspan, and OPENAI_API_KEY (OPENAI_BASE_URL for another
server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import litellm

from mlspan import integrations, tracing

integrations.litellm.autolog(log_traces=True)

MODELS = {
    "first": {"model": "openai/gpt-5-mini", "mock_response": "litellm.RateLimitError"},
    "second": {"model": "openai/gpt-5-mini"},
}


@tracing.trace(name="assistant", kind="agent")
def answer(question: str) -> str:
    """Return the answer of the first model that gives one."""
    groups = [{"model_name": name, "litellm_params": params} for name, params in MODELS.items()]
    router = litellm.Router(model_list=groups, fallbacks=[{"first": ["second"]}], num_retries=0)
    answered = router.completion(model="first", messages=[{"role": "user", "content": question}])
    return str(answered.choices[0].message.content)


if __name__ == "__main__":
    with tracing.session("demo"), tracing.user("ada"):
        print(answer("hello"))
    tracing.flush()
