"""An agent that calls a tool, as one trace: its steps, the model and the tool.

Needs ``pip install '.[mlflow,smolagents]' 'smolagents[openai]'`` in a checkout of mlspan, and OPENAI_API_KEY
(OPENAI_BASE_URL for another server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import os

from smolagents import OpenAIServerModel, ToolCallingAgent, tool

from mlspan import integrations, tracing

integrations.smolagents.autolog(log_traces=True)
integrations.openai.autolog(log_traces=True)  # adds what the client alone knows: cached tokens, the service tier


@tool
def get_weather(city: str) -> str:
    """Tell the weather in a city.

    Args:
        city: the name of the city.
    """
    return f"Clear over {city}."


if __name__ == "__main__":
    model = OpenAIServerModel("gpt-4o-mini", api_base=os.environ.get("OPENAI_BASE_URL"))
    agent = ToolCallingAgent(
        tools=[get_weather], model=model, name="scout", description="Looks at the weather.", max_steps=3
    )
    with tracing.session("trip-7"):
        print(agent.run("How is the sky over Paris?"))
    tracing.flush()
