"""An agent with a tool, streamed, as one trace in a session.

Needs ``pip install '.[mlflow,agno]' openai`` in a checkout of mlspan, and OPENAI_API_KEY (OPENAI_BASE_URL for another
server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import os

from agno.agent import Agent
from agno.models.openai import OpenAIChat

from mlspan import integrations, tracing

integrations.agno.autolog(log_traces=True)
integrations.openai.autolog(log_traces=True)  # adds what the client alone knows: the model that has answered


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"It is sunny in {city}, 21 degrees."


if __name__ == "__main__":
    model = OpenAIChat(id="gpt-4o-mini", base_url=os.environ.get("OPENAI_BASE_URL"))
    agent = Agent(model=model, tools=[get_weather], name="scout", telemetry=False)
    for event in agent.run("How is the sky over Paris?", stream=True, session_id="trip-7"):
        if event.event == "RunContent":
            print(event.content, end="")
    print()
    tracing.flush()
