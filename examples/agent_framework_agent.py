"""An agent of Agent Framework, with a tool: its own spans, with the client's below, in one trace.

Needs ``pip install '.[mlflow,agent-framework,openai]' agent-framework-openai`` in a checkout of mlspan, and
OPENAI_API_KEY (OPENAI_BASE_URL for another server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it
in MLflow.
"""

import asyncio

from agent_framework import Agent
from agent_framework.openai import OpenAIChatCompletionClient

from mlspan import integrations, tracing

integrations.agent_framework.autolog()
integrations.openai.autolog()


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


async def main() -> None:
    agent = Agent(OpenAIChatCompletionClient(model="gpt-4o-mini"), name="weather", tools=[get_weather])
    with tracing.session("a conversation"):
        print((await agent.run("How is the sky over Paris?")).text)


if __name__ == "__main__":
    asyncio.run(main())
    tracing.flush()
