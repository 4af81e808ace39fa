"""A crew of two agents, one of them with a tool, as one trace of an MLflow run.

Needs ``pip install '.[mlflow,crewai]'`` in a checkout of mlspan, and OPENAI_API_KEY (OPENAI_BASE_URL for another
server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import mlflow
from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool

from mlspan import integrations, tracing

integrations.crewai.autolog(log_traces=True)
integrations.openai.autolog(log_traces=True)  # adds what the client alone knows


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"It is sunny in {city}, 21 degrees."


def main() -> None:
    model = LLM(model="openai/gpt-4o-mini")
    scout = Agent(
        role="scout", goal="Know the weather", backstory="You look outside.", llm=model, tools=[get_weather], max_iter=3
    )
    packer = Agent(role="packer", goal="Pack lightly", backstory="You pack bags.", llm=model)
    look = Task(name="look", description="What is the weather in Paris?", expected_output="A line.", agent=scout)
    pack = Task(name="pack", description="Say hello, and what to pack.", expected_output="A line.", agent=packer)
    crew = Crew(name="trip", agents=[scout, packer], tasks=[look, pack])
    with mlflow.start_run(run_name="trip"), tracing.session("trip-7"):
        print(crew.kickoff().raw)
    tracing.flush()


if __name__ == "__main__":
    main()
