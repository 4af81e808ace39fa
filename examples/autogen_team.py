"""Two agents, one of them with a tool, as one trace of an MLflow run.

Needs ``pip install '.[mlflow,autogen]' 'autogen-ext[openai]'`` in a checkout of mlspan, and OPENAI_API_KEY
(OPENAI_BASE_URL for another server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import asyncio

import mlflow
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import TaskResult
from autogen_agentchat.conditions import MaxMessageTermination, TextMentionTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_ext.models.openai import OpenAIChatCompletionClient

from mlspan import integrations, tracing

integrations.autogen.autolog(log_traces=True)
integrations.openai.autolog(log_traces=True)  # adds what the client alone knows: cached tokens, the answer's id


async def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"It is sunny in {city}, 21 degrees."


async def main() -> None:
    model = OpenAIChatCompletionClient(model="gpt-4o-mini-2024-07-18")
    scout = AssistantAgent("scout", model, tools=[get_weather], description="Looks at the weather.")
    packer = AssistantAgent("packer", model, system_message="Say what to pack, then DONE.", description="Packs.")
    stop = TextMentionTermination("DONE", sources=["packer"]) | MaxMessageTermination(6)
    team = RoundRobinGroupChat([scout, packer], name="trip", termination_condition=stop)
    with mlflow.start_run(run_name="trip"), tracing.session("trip-7"):
        async for said in team.run_stream(task="What is the weather in Paris?"):
            print(said.stop_reason if isinstance(said, TaskResult) else f"{said.source}: {said.to_text()}")
    await model.close()
    tracing.flush()


if __name__ == "__main__":
    asyncio.run(main())
