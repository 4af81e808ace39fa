"""LangChain's traces in MLflow: each call to a model counted once, whatever hooks are on."""

from __future__ import annotations

import json
from typing import Any

import pytest

mlflow = pytest.importorskip("mlflow")
openai = pytest.importorskip("openai")
pytest.importorskip("langchain.agents")
langchain_openai = pytest.importorskip("langchain_openai")

from langchain.agents import create_agent
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool

from mlspan import integrations, testing, tracing


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


@pytest.mark.parametrize("hooks", [("langchain",), ("langgraph",), ("langchain", "langgraph", "openai")], ids="+".join)
def test_tokens_and_cost_are_the_servers(
    hooks: tuple[str, ...], aimock: str, mlflow_store: str, tracing_off: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent's trace: at trace level and summed over its spans, tokens and cost are those of the server's answers."""
    monkeypatch.setenv("MLSPAN_TRACKING_URI", mlflow_store)
    for name in hooks:
        getattr(integrations, name).autolog(log_traces=True)
    with openai.DefaultHttpxClient() as http:
        ask: Any = {"base_url": aimock, "api_key": "test", "http_client": http}
        agent = create_agent(langchain_openai.ChatOpenAI(model="gpt-4o-mini", **ask), [get_weather], name="weather")
        given: Any = {"messages": [("user", "weather in Paris?")]}
        answered = agent.invoke(given, {"configurable": {"thread_id": "chat-42"}})
    assert tracing.flush(30)
    (found,) = mlflow.MlflowClient(mlflow_store).search_traces(["0"])
    usages = [message.usage_metadata for message in answered["messages"] if message.type == "ai"]
    counts = {name: sum(usage[name] for usage in usages) for name in ("input_tokens", "output_tokens")}
    cost = counts["input_tokens"] * 0.15e-6 + counts["output_tokens"] * 0.6e-6
    assert len(usages) == 2
    assert json.loads(found.info.trace_metadata["mlflow.trace.tokenUsage"]).items() >= counts.items()
    assert json.loads(found.info.trace_metadata["mlflow.trace.cost"])["total_cost"] == pytest.approx(cost)
    of_spans = [span.get_attribute("mlflow.chat.tokenUsage") for span in found.data.spans]
    assert {name: sum(usage[name] for usage in of_spans if usage) for name in counts} == counts
    of_spans = [span.get_attribute("mlflow.llm.cost") for span in found.data.spans]
    assert sum(one["total_cost"] for one in of_spans if one) == pytest.approx(cost)
    assert found.info.trace_metadata["mlflow.trace.session"] == "chat-42"
    assert (found.info.request_preview, found.info.response_preview) == ("weather in Paris?", "It is sunny in Paris.")


def test_a_chain_that_ends_in_a_message_is_previewed_as_its_text(
    aimock: str, mlflow_store: str, tracing_off: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as the JSON of the message that the chain returns."""
    monkeypatch.setenv("MLSPAN_TRACKING_URI", mlflow_store)
    integrations.langchain.autolog(log_traces=True)
    with openai.DefaultHttpxClient() as http:
        model: Any = langchain_openai.ChatOpenAI(model="gpt-4o-mini", base_url=aimock, api_key="test", http_client=http)
        answered = (ChatPromptTemplate.from_messages([("user", "{question}")]) | model).invoke({"question": "hello"})
    assert tracing.flush(30)
    (found,) = mlflow.MlflowClient(mlflow_store).search_traces(["0"])
    assert found.data.spans[0].name == "RunnableSequence"
    assert (found.info.request_preview, found.info.response_preview) == ("hello", answered.content)


@pytest.mark.any_span  # Anthropic's own does not follow the conventions
def test_a_client_that_tells_of_itself_counts_once(
    aimock: str, mlflow_store: str, spans: testing.Spans, tracing_off: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anthropic's client has a span of its own for each request: it stands below ours, and its tokens count once."""
    anthropic = pytest.importorskip("langchain_anthropic")
    monkeypatch.setenv("MLSPAN_TRACKING_URI", mlflow_store)
    integrations.langchain.autolog(log_traces=True)
    # The fixture ``spans`` brings a global provider, as the client asks for.
    model = anthropic.ChatAnthropic(model="claude-3-5-haiku-latest", base_url=aimock.removesuffix("/v1"), api_key="x")
    usage = model.invoke("hello").usage_metadata
    assert tracing.flush(30)
    (found,) = mlflow.MlflowClient(mlflow_store).search_traces(["0"])
    assert [span.name for span in found.data.spans] == ["chat claude-3-5-haiku-latest", "anthropic.messages.create"]
    assert json.loads(found.info.trace_metadata["mlflow.trace.tokenUsage"])["total_tokens"] == usage["total_tokens"]
    counted = [span.get_attribute("mlflow.chat.tokenUsage") for span in found.data.spans]
    assert [one and one["total_tokens"] for one in counted] == [usage["total_tokens"], None]


def test_exclusive_keeps_out_of_the_callers_run(
    mlflow_store: str, tracing_off: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``exclusive`` nothing is recorded while the caller has a run active, and all is afterwards."""
    monkeypatch.setenv("MLSPAN_TRACKING_URI", mlflow_store)
    mlflow.set_tracking_uri(mlflow_store)
    integrations.langchain.autolog(exclusive=True)
    with mlflow.start_run():
        get_weather.invoke({"city": "Rome"})
    get_weather.invoke({"city": "Oslo"})
    assert tracing.flush(30)
    (found,) = mlflow.MlflowClient(mlflow_store).search_traces(["0"])
    assert found.data.spans[0].inputs == {"city": "Oslo"}
    mlflow.set_tracking_uri(None)
