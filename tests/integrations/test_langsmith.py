"""LangSmith's own tracing of LangChain, beside ours: each gets all of a chain's runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("langsmith")

from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tracers.context import tracing_v2_enabled
from langsmith import Client

from mlspan import integrations

if TYPE_CHECKING:
    from servers.scripted import Scripted

    from mlspan.testing import Spans


def test_both_record_a_chain(spans: Spans, scripted: Scripted) -> None:
    """LangSmith's client sends every run of it, and our tree is what it is without LangSmith."""
    chain = ChatPromptTemplate.from_template("{text}") | FakeListChatModel(responses=["Hi there!"]) | StrOutputParser()
    integrations.langchain.autolog()
    try:
        assert chain.invoke({"text": "hello"}) == "Hi there!"
        alone = spans.tree()
        spans.clear()
        scripted.reply({})
        client = Client(api_url=scripted.base_url, api_key="test", auto_batch_tracing=False)
        with tracing_v2_enabled(client=client):
            assert chain.invoke({"text": "hello"}) == "Hi there!"
        client.close()
    finally:
        integrations.langchain.autolog(disable=True)
    assert spans.tree() == alone
    assert len(alone.splitlines()) == 4
    sent = {body["name"] for _, body in scripted.requests if isinstance(body, dict) and "name" in body}
    assert sent == {"RunnableSequence", "ChatPromptTemplate", "FakeListChatModel", "StrOutputParser"}
