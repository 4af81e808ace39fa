"""Haystack's components, as the tests want them; nothing is sent to its makers."""

from __future__ import annotations

import importlib.metadata
import os
from typing import Any

import pytest

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
pytest.importorskip("haystack", reason="in the nox session haystack")

from haystack import Document, Pipeline
from haystack.components.builders import ChatPromptBuilder
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.dataclasses import ChatMessage
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.tools import tool
from haystack.utils import Secret

VERSION = tuple(map(int, importlib.metadata.version("haystack-ai").split(".")[:2]))
KEY = Secret.from_token("test")
QUESTION = {"retriever": {"query": "Paris"}, "prompt": {"question": "Is it sunny?"}}


def make_generator(server: Any, **options: Any) -> OpenAIChatGenerator:
    return OpenAIChatGenerator(api_key=KEY, model="m", api_base_url=server.base_url, max_retries=0, **options)


def make_store() -> InMemoryDocumentStore:
    store = InMemoryDocumentStore()
    store.write_documents([Document(id="1", content="Paris is sunny."), Document(id="2", content="Rome is wet.")])
    return store


def make_rag(server: Any, **options: Any) -> Pipeline:
    """A pipeline that answers a question about documents."""
    template = [ChatMessage.from_user("{% for one in documents %}{{one.content}}{% endfor %} {{question}}")]
    pipeline = Pipeline(metadata={"name": "rag"})
    pipeline.add_component("retriever", InMemoryBM25Retriever(make_store(), top_k=1))
    pipeline.add_component("prompt", ChatPromptBuilder(template=template, required_variables="*"))
    pipeline.add_component("llm", make_generator(server, **options))
    pipeline.connect("retriever.documents", "prompt.documents")
    pipeline.connect("prompt.prompt", "llm.messages")
    return pipeline


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    if city == "Nowhere":
        raise LookupError("no such city")
    return f"sunny in {city}"


def ask(text: str = "weather in Paris?") -> list[ChatMessage]:
    return [ChatMessage.from_user(text)]
