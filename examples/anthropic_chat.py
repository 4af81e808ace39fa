"""Claude calls a tool and streams its answer, as one trace.

Needs ``pip install '.[mlflow,anthropic]'`` in a checkout of mlspan, and ANTHROPIC_API_KEY. Then ``mlspan show``
prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

from typing import Any

import anthropic

from mlspan import integrations, tracing

integrations.anthropic.autolog(log_traces=True)

TOOLS: Any = [
    {
        "name": "get_weather",
        "description": "The weather in a city.",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]


@tracing.trace(name="get_weather", kind="tool")
def get_weather(city: str) -> str:
    return f"sunny in {city}, 21 degrees"


@tracing.trace(name="weather assistant", kind="agent")
def assistant(question: str) -> str:
    with anthropic.Anthropic() as client:
        messages: Any = [{"role": "user", "content": question}]
        asked = client.messages.create(model="claude-sonnet-4-6", max_tokens=200, messages=messages, tools=TOOLS)
        calls = [block for block in asked.content if block.type == "tool_use"]
        if calls:
            found = [
                {"type": "tool_result", "tool_use_id": call.id, "content": get_weather(**call.input)} for call in calls
            ]
            messages += [{"role": "assistant", "content": asked.content}, {"role": "user", "content": found}]
        with client.messages.stream(model="claude-sonnet-4-6", max_tokens=200, messages=messages) as stream:
            return "".join(stream.text_stream)


if __name__ == "__main__":
    with tracing.session("demo"), tracing.user("ada"):
        print(assistant("What is the weather in Paris?"))
    tracing.flush()
