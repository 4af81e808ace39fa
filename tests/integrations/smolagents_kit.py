"""smolagents' agents, models and tools, as the tests want them."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("smolagents", reason="in the nox session smolagents")
pytest.importorskip("openai")

from openai_answers import answer
from smolagents import CodeAgent, OpenAIServerModel, ToolCallingAgent, tool
from smolagents.monitoring import LogLevel

DONE = ("call_9", "final_answer", {"answer": "It is sunny."})
ASKS = answer(None, ("call_1", "get_weather", {"city": "Paris"}))
FINISHES = answer(None, DONE)
CODE = answer('Thought: look.\n<code>\nfinal_answer(get_weather(city="Paris"))\n</code>')


@tool
def get_weather(city: str) -> str:
    """Tell the weather in a city.

    Args:
        city: the city.
    """
    if city == "Nowhere":
        raise LookupError("no such city")
    return f"sunny in {city}"


_models: list[OpenAIServerModel] = []


def make_model(server: Any, **options: Any) -> OpenAIServerModel:
    how = {"client_kwargs": {"max_retries": 0}, **options}
    _models.append(OpenAIServerModel("m", api_base=server.base_url, api_key="test", **how))
    return _models[-1]


def close_models() -> None:
    """Close the clients of the models that were made."""
    while _models:
        _models.pop().client.close()


def make_agent(server: Any, tools: Any = (get_weather,), cls: Any = ToolCallingAgent, **options: Any) -> Any:
    return cls(tools=[*tools], model=make_model(server), verbosity_level=LogLevel.OFF, **options)


def make_code_agent(server: Any, **options: Any) -> CodeAgent:
    return make_agent(server, cls=CodeAgent, code_block_tags=("<code>", "</code>"), **options)
