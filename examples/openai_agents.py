"""An agent of OpenAI's Agents SDK that calls a tool.

Needs ``pip install '.[mlflow,openai]' openai-agents`` in a checkout of mlspan, and OPENAI_API_KEY (OPENAI_BASE_URL
for another server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

from agents import Agent, Runner, function_tool, set_trace_processors

from mlspan import integrations, tracing

set_trace_processors([])  # leave out to go on sending the SDK's own traces to OpenAI as well
integrations.openai.autolog()


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


agent = Agent(name="weather agent", instructions="Answer in one sentence.", tools=[get_weather], model="gpt-4o-mini")

if __name__ == "__main__":
    with tracing.session("agents-1"):
        print(Runner.run_sync(agent, "What is the weather in Paris?").final_output)
    tracing.flush()
