"""A session of LiveKit in text mode, with a tool: its own spans, with the client's below, in one trace.

Needs ``pip install '.[mlflow,livekit,openai]' livekit-plugins-openai`` in a checkout of mlspan, and OPENAI_API_KEY
(OPENAI_BASE_URL for another server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

import asyncio

from livekit.agents import Agent, AgentSession, function_tool
from livekit.plugins.openai import LLM

from mlspan import integrations, tracing

integrations.livekit.autolog()
integrations.openai.autolog()


@function_tool
async def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


async def main() -> None:
    with tracing.session("a conversation"):
        async with LLM(model="gpt-4o-mini") as model, AgentSession(llm=model) as session:
            await session.start(Agent(instructions="Be brief.", tools=[get_weather]))
            await session.run(user_input="How is the sky over Paris?")
            print(session.history.items[-1].text_content)


asyncio.run(main())
