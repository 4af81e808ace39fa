"""A deep agent that hands over to an expert, as one trace: its plan, the expert's own work and the report.

Needs ``pip install '.[mlflow,langchain]' deepagents langchain-openai`` in a checkout of mlspan, and OPENAI_API_KEY
(OPENAI_BASE_URL for another server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

from deepagents import create_deep_agent

from mlspan import integrations, tracing

integrations.langchain.autolog(log_traces=True)


def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"Clear over {city}, 21 degrees."


EXPERT = {
    "name": "forecaster",
    "description": "Knows the weather.",
    "system_prompt": "Look the weather up.",
    "tools": [get_weather],
}

if __name__ == "__main__":
    agent = create_deep_agent("openai:gpt-4o-mini", subagents=[EXPERT], system_prompt="Write reports.", name="reporter")
    asked = {"messages": [{"role": "user", "content": "Write a report on the sky over Paris."}]}
    with tracing.session("trip-7"):
        print(agent.invoke(asked)["messages"][-1].text)
    tracing.flush()
