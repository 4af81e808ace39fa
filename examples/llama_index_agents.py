"""Two agents: one plans and hands over, the other calls a tool and answers; and a workflow that asks a person.

Needs ``pip install '.[mlflow,llama-index]' llama-index-llms-openai`` in a checkout of mlspan, and OPENAI_API_KEY
(OPENAI_BASE_URL for another server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.workflow import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent, Workflow, step
from llama_index.llms.openai import OpenAI

from mlspan import integrations, tracing

integrations.llama_index.autolog()
integrations.openai.autolog(include_usage=True)

SERVER: Any = {"api_base": os.environ["OPENAI_BASE_URL"]} if "OPENAI_BASE_URL" in os.environ else {}
llm = OpenAI(model="gpt-4o-mini", **SERVER)


def get_forecast(city: str) -> str:
    """The weather of the next days in a city."""
    return f"{city}: rain on Friday, sunny on Saturday."


planner = FunctionAgent(
    name="planner",
    description="Plans trips.",
    system_prompt="You plan trips, and hand over to who knows what you need.",
    llm=llm,
    can_handoff_to=["forecaster"],
)
forecaster = FunctionAgent(
    name="forecaster",
    description="Knows the weather.",
    system_prompt="You forecast the weather, and say what it means for the trip.",
    llm=llm,
    tools=[get_forecast],
    can_handoff_to=[],
)
team = AgentWorkflow(agents=[planner, forecaster], root_agent="planner")


class Booking(Workflow):
    """Books what a person agrees to."""

    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(prefix=f"Book this? {ev.plan}")

    @step
    async def book(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result="booked" if ev.response == "yes" else "not booked")


async def main() -> None:
    plan = str(await team.run("Plan a trip to Rome"))
    print(plan)
    handler = Booking().run(plan=plan)
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            handler.ctx.send_event(HumanResponseEvent(response="yes"))  # what a person would say
    print(await handler)


if __name__ == "__main__":
    asyncio.run(main())
    tracing.flush()
