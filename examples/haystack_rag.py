"""A pipeline that looks documents up and answers from them, and an agent with a tool: a trace each.

Needs ``pip install '.[mlflow,haystack]'`` in a checkout of mlspan, and OPENAI_API_KEY (OPENAI_BASE_URL for another
server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import os

from haystack import Document, Pipeline
from haystack.components.agents import Agent
from haystack.components.builders import ChatPromptBuilder
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.dataclasses import ChatMessage
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.tools import tool

from mlspan import integrations, tracing

integrations.haystack.autolog(log_traces=True)
integrations.openai.autolog(log_traces=True)  # adds what the client alone knows: cached tokens, the answer's id

NOTES = ["Paris is hot and sunny in July.", "Oslo is mild in July."]
PROMPT = "Answer from these notes:\n{% for note in documents %}{{ note.content }}\n{% endfor %}\n{{ question }}"


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"It is sunny in {city}, 21 degrees."


def make_model() -> OpenAIChatGenerator:
    return OpenAIChatGenerator(model="gpt-4o-mini", api_base_url=os.environ.get("OPENAI_BASE_URL"))


def make_pipeline() -> Pipeline:
    store = InMemoryDocumentStore()
    store.write_documents([Document(content=note) for note in NOTES])
    pipeline = Pipeline(metadata={"name": "weather notes"})
    pipeline.add_component("notes", InMemoryBM25Retriever(store, top_k=1))
    prompt = ChatPromptBuilder(template=[ChatMessage.from_user(PROMPT)], required_variables="*")
    pipeline.add_component("prompt", prompt)
    pipeline.add_component("model", make_model())
    pipeline.connect("notes.documents", "prompt.documents")
    pipeline.connect("prompt.prompt", "model.messages")
    return pipeline


if __name__ == "__main__":
    question = "Is Paris hot in July?"
    answered = make_pipeline().run({"notes": {"query": question}, "prompt": {"question": question}})
    print(answered["model"]["replies"][0].text)
    agent = Agent(chat_generator=make_model(), tools=[get_weather], system_prompt="Be brief.")
    with tracing.session("trip-7"):
        print(agent.run(messages=[ChatMessage.from_user("What is the weather in Paris?")])["last_message"].text)
    tracing.flush()
