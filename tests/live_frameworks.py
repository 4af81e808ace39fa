"""Frameworks that trace themselves, with our hook of the client below them: ``python live_frameworks.py NAME WAY``.

The way is ``joined``, by our integration of the framework, or ``global``, by a global TracerProvider and the
framework's own switch.
"""

import asyncio
import sys

from mlspan import integrations, tracing

NAME, WAY = sys.argv[1:]
QUESTION = "How is the sky over Paris?"


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def run_pydantic_ai() -> None:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel

    if WAY == "global":
        Agent.instrument_all()
    Agent(OpenAIChatModel("gpt-4o-mini"), name="weather", tools=[get_weather]).run_sync(QUESTION)


def run_strands() -> None:
    from strands import Agent, tool
    from strands.models.openai import OpenAIModel

    Agent(model=OpenAIModel(model_id="gpt-4o-mini"), tools=[tool(get_weather)], callback_handler=None)(QUESTION)


def run_agent_framework() -> None:
    from agent_framework import Agent
    from agent_framework.observability import enable_instrumentation
    from agent_framework.openai import OpenAIChatCompletionClient

    if WAY == "global":
        enable_instrumentation(enable_sensitive_data=True)
    agent = Agent(client=OpenAIChatCompletionClient(model="gpt-4o-mini"), name="weather", tools=[get_weather])
    asyncio.run(agent.run(QUESTION))


def run_semantic_kernel() -> None:
    from semantic_kernel.agents import ChatCompletionAgent
    from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion

    agent = ChatCompletionAgent(service=OpenAIChatCompletion(ai_model_id="gpt-4o-mini"), name="weather")
    asyncio.run(agent.get_response(messages="hello"))


def run_google_adk() -> None:
    from google.adk.agents import Agent
    from google.adk.runners import InMemoryRunner
    from google.genai import types

    runner = InMemoryRunner(agent=Agent(name="weather", model="gemini-2.5-flash", tools=[get_weather]), app_name="app")

    async def run() -> None:
        session = await runner.session_service.create_session(app_name="app", user_id="u")
        message = types.Content(role="user", parts=[types.Part(text=QUESTION)])
        async for _ in runner.run_async(user_id="u", session_id=session.id, new_message=message):
            pass

    asyncio.run(run())


if __name__ == "__main__":
    if WAY == "global":
        tracing.configure(global_provider=True)
    else:
        getattr(integrations, NAME).autolog(log_traces=True)
    integrations.openai.autolog(log_traces=True)
    if NAME == "google_adk":
        integrations.google_genai.autolog(log_traces=True)
    {
        "pydantic_ai": run_pydantic_ai,
        "strands": run_strands,
        "agent_framework": run_agent_framework,
        "semantic_kernel": run_semantic_kernel,
        "google_adk": run_google_adk,
    }[NAME]()
    assert tracing.flush(60)
