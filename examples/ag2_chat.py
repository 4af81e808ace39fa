"""Two agents of AG2's classic API: one asks for a tool, the other runs it. Their chat is one trace.

Needs ``pip install '.[mlflow,ag2]' 'ag2[openai]<1'`` in a checkout of mlspan, and OPENAI_API_KEY (OPENAI_BASE_URL for
another server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import os
from typing import Annotated

from autogen import AssistantAgent, LLMConfig, UserProxyAgent, register_function

from mlspan import integrations, tracing

integrations.ag2.autolog()
integrations.openai.autolog()  # adds what the client knows to the same spans


def get_weather(city: Annotated[str, "a city's name"]) -> str:
    return f"It is sunny in {city}."


model = {"api_type": "openai", "model": "gpt-4o-mini", "base_url": os.environ.get("OPENAI_BASE_URL")}
assistant = AssistantAgent("assistant", system_message="Answer in one sentence.", llm_config=LLMConfig(model))
user = UserProxyAgent("user", human_input_mode="NEVER", code_execution_config=False)
register_function(get_weather, caller=assistant, executor=user, description="The weather in a city.")

if __name__ == "__main__":
    with tracing.session("chat-42"):
        result = user.initiate_chat(assistant, message="What is the weather in Paris?", max_turns=2, silent=True)
    print(result.summary)
    tracing.flush()
