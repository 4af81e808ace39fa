"""Gemini calls a Python function, as one trace.

Needs ``pip install '.[mlflow,google-genai]'`` in a checkout of mlspan, and GEMINI_API_KEY. Then ``mlspan show``
prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

from google import genai
from google.genai import types

from mlspan import integrations, tracing

integrations.google_genai.autolog(log_traces=True)


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}, 21 degrees"


@tracing.trace(name="weather assistant", kind="agent")
def assistant(question: str) -> str:
    client = genai.Client(http_options=types.HttpOptions(api_version="v1beta"))
    chat = client.chats.create(model="gemini-2.5-flash", config=types.GenerateContentConfig(tools=[get_weather]))
    return chat.send_message(question).text or ""


if __name__ == "__main__":
    with tracing.session("demo"), tracing.user("ada"):
        print(assistant("What is the weather in Paris?"))
    tracing.flush()
