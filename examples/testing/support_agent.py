"""An agent that refunds orders: it asks a model which tools to call, until the model has an answer."""

from __future__ import annotations

import json
from typing import Any

from openai import OpenAI

from mlspan import integrations, tracing

integrations.openai.autolog(log_traces=True)

ORDERS = {7: {"item": "lamp", "paid": 25, "days": 3}}


@tracing.trace(kind="tool")
def find_order(order: int) -> dict[str, Any]:
    """Return what was bought."""
    return ORDERS[order]


@tracing.trace(kind="tool")
def check_policy(order: int) -> str:
    """Return whether the shop's policy allows a refund."""
    return "allowed" if ORDERS[order]["days"] <= 30 else "too late"


@tracing.trace(kind="tool")
def refund(order: int) -> str:
    """Pay the money back."""
    return f"refunded {ORDERS[order]['paid']} euros"


FUNCTIONS = {function.__name__: function for function in (find_order, check_policy, refund)}
PARAMETERS = {"type": "object", "properties": {"order": {"type": "integer"}}, "required": ["order"]}
TOOLS: Any = [
    {"type": "function", "function": {"name": name, "description": function.__doc__, "parameters": PARAMETERS}}
    for name, function in FUNCTIONS.items()
]


@tracing.trace(name="support", kind="agent")
def answer(question: str) -> str | None:
    """Return the agent's answer to a customer."""
    client = OpenAI()
    messages: Any = [
        {"role": "system", "content": "You help the customers of a shop. Check the policy before you refund."},
        {"role": "user", "content": question},
    ]
    while True:
        said = client.chat.completions.create(model="gpt-4o-mini", messages=messages, tools=TOOLS).choices[0].message
        messages.append(said.model_dump(include={"role", "content", "tool_calls"}, exclude_none=True))
        if not said.tool_calls:
            return said.content
        for call in said.tool_calls:
            found = FUNCTIONS[call.function.name](**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": json.dumps(found)})
