"""An agent of Pydantic AI, with a tool: the spans that it makes itself, in one trace with a session.

Needs ``pip install '.[mlflow,pydantic-ai]' 'pydantic-ai-slim[openai]'`` in a checkout of mlspan, and OPENAI_API_KEY
(OPENAI_BASE_URL for another server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

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
