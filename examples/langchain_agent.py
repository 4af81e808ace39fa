"""An agent that calls a tool; its second question continues the same conversation.

Needs ``pip install '.[mlflow,langchain]' langchain langchain-openai`` in a checkout of mlspan, and OPENAI_API_KEY
(OPENAI_BASE_URL for another server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver

from mlspan import integrations, tracing

integrations.langchain.autolog()
integrations.openai.autolog()


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"It is sunny in {city}."


agent = create_agent(ChatOpenAI(model="gpt-4o-mini"), [get_weather], name="weather_agent", checkpointer=InMemorySaver())

if __name__ == "__main__":
    thread = {"configurable": {"thread_id": "chat-42"}}  # becomes the session in MLflow
    for question in ("What is the weather in Paris?", "hello"):
        answer = agent.invoke({"messages": [{"role": "user", "content": question}]}, thread)
        print(answer["messages"][-1].content)
    tracing.flush()
