"""A chat that calls a tool, as one trace of an MLflow run.

Needs ``pip install '.[mlflow,openai]'`` in a checkout of mlspan, and OPENAI_API_KEY (OPENAI_BASE_URL for another
server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import json
from typing import Any

import mlflow
from openai import OpenAI

from mlspan import integrations, tracing

integrations.openai.autolog(log_traces=True, include_usage=True)  # asks for the tokens of streams, too

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


@tracing.trace(name="get_weather", kind="tool")
def get_weather(city: str) -> str:
    return f"sunny in {city}, 21 degrees"


@tracing.trace(name="weather assistant", kind="agent")
def assistant(question: str) -> str:
    client = OpenAI()
    messages: Any = [{"role": "system", "content": "Answer in one sentence."}, {"role": "user", "content": question}]
    asked = client.chat.completions.create(model="gpt-4o-mini", messages=messages, tools=TOOLS)
    messages.append(asked.choices[0].message)
    for call in asked.choices[0].message.tool_calls or []:
        found = get_weather(**json.loads(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": found})
    answer = ""
    for chunk in client.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True):
        answer += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    return answer


if __name__ == "__main__":
    with mlflow.start_run(run_name="weather demo"), tracing.session("demo"), tracing.user("ada"):
        print(assistant("What is the weather in Paris?"))
    tracing.flush()
