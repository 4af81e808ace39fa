"""A model on Bedrock calls a tool and streams its answer, as one trace.

Needs ``pip install '.[mlflow,bedrock]'`` in a checkout of mlspan, and credentials of AWS, AWS_DEFAULT_REGION and
access to the model. Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

from typing import Any

import boto3

from mlspan import integrations, tracing

integrations.bedrock.autolog(log_traces=True)

MODEL = "us.anthropic.claude-sonnet-4-6"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SPEC = {"name": "get_weather", "description": "The weather in a city.", "inputSchema": {"json": SCHEMA}}


@tracing.trace(name="get_weather", kind="tool")
def get_weather(city: str) -> str:
    return f"sunny in {city}, 21 degrees"


@tracing.trace(name="weather assistant", kind="agent")
def assistant(question: str) -> str:
    client = boto3.client("bedrock-runtime")
    messages: list[Any] = [{"role": "user", "content": [{"text": question}]}]
    tools = {"tools": [{"toolSpec": SPEC}]}
    said = client.converse(modelId=MODEL, messages=messages, toolConfig=tools)["output"]["message"]
    calls = [block["toolUse"] for block in said["content"] if "toolUse" in block]
    if calls:
        found = [
            {"toolUseId": call["toolUseId"], "content": [{"text": get_weather(**call["input"])}]} for call in calls
        ]
        messages += [said, {"role": "user", "content": [{"toolResult": result} for result in found]}]
    stream = client.converse_stream(modelId=MODEL, messages=messages, toolConfig=tools)["stream"]
    deltas = [event["contentBlockDelta"]["delta"] for event in stream if "contentBlockDelta" in event]
    return "".join(delta.get("text", "") for delta in deltas)


if __name__ == "__main__":
    with tracing.session("demo"), tracing.user("ada"):
        print(assistant("What is the weather in Paris?"))
    tracing.flush()
