"""An agent of Pydantic AI, with a tool: the spans that it makes itself, in one trace with a session."""

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel

from mlspan import integrations, tracing

integrations.pydantic_ai.autolog()


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


with tracing.session("a conversation"):
    agent = Agent(OpenAIChatModel("gpt-4o-mini"), name="weather", tools=[get_weather])
    print(agent.run_sync("How is the sky over Paris?").output)
