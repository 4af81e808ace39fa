"""AutoGen's agents and models, as the tests want them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from autogen_agentchat.agents import AssistantAgent, BaseChatAgent
from autogen_agentchat.base import Response
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.messages import BaseChatMessage, TextMessage
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import CancellationToken, FunctionCall
from autogen_core.models import CreateResult, ModelInfo, RequestUsage
from autogen_ext.models.openai import OpenAIChatCompletionClient
from autogen_ext.models.replay import ReplayChatCompletionClient

MODEL = "gpt-4o-mini-2024-07-18"  # AutoGen warns where a server answers with another name than this
INFO: ModelInfo = {
    "vision": False,
    "function_calling": True,
    "json_output": True,
    "family": "unknown",
    "structured_output": True,
}


def openai_model(aimock: str, **options: Any) -> OpenAIChatCompletionClient:
    return OpenAIChatCompletionClient(model=MODEL, base_url=aimock, api_key="test", max_retries=0, **options)


def replay(*answers: str | CreateResult) -> ReplayChatCompletionClient:
    return ReplayChatCompletionClient(list(answers), model_info=INFO)


def asks_for(name: str, id: str = "call_7", **arguments: Any) -> CreateResult:
    """A model's answer that asks for a tool."""
    call = FunctionCall(id=id, name=name, arguments=json.dumps(arguments))
    usage = RequestUsage(prompt_tokens=3, completion_tokens=4)
    return CreateResult(finish_reason="function_calls", content=[call], usage=usage, cached=False)


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def weather_team(model: Any, **options: Any) -> RoundRobinGroupChat:
    """Two agents: one asks a tool, the other has the last word."""
    summary = "hello, {result}"
    scout = AssistantAgent("scout", model, tools=[get_weather], tool_call_summary_format=summary, **options)
    host = AssistantAgent("host", model, system_message="Be brief.", **options)
    return RoundRobinGroupChat([scout, host], termination_condition=MaxMessageTermination(3))


def classes(  # noqa: C901  # the methods of four classes
    before: Callable[[], None] = lambda: None,
) -> dict[str, type[BaseChatAgent]]:
    """Classes of agents, made anew: with nothing overridden, with everything, by a mixin, and by plain functions."""

    class Bare(BaseChatAgent):
        produced_message_types = (TextMessage,)

        def __init__(self, name: str = "echo") -> None:
            super().__init__(name, "Says echo.")

        async def on_messages(self, messages: Sequence[BaseChatMessage], cancellation_token: Any) -> Response:
            before()
            return Response(chat_message=TextMessage(content="echo", source=self.name))

        async def on_reset(self, cancellation_token: Any) -> None: ...

    class Overriding(Bare):
        async def run(self, **given: Any) -> Any:
            return await super().run(**given)

        async def run_stream(self, **given: Any) -> AsyncGenerator[Any, None]:
            async for item in super().run_stream(**given):
                yield item

        async def on_messages(self, messages: Any, cancellation_token: Any) -> Response:
            return await super().on_messages(messages, cancellation_token)

        async def on_messages_stream(self, messages: Any, cancellation_token: Any) -> AsyncGenerator[Any, None]:
            async for item in super().on_messages_stream(messages, cancellation_token):
                yield item

    class Mixin:
        async def on_messages(self, messages: Any, cancellation_token: Any) -> Response:
            return await super().on_messages(messages, cancellation_token)  # type: ignore[misc]

    class Mixed(Mixin, Bare): ...

    class Plain(Bare):
        def run(self, **given: Any) -> Any:
            return super().run(**given)

        def on_messages_stream(self, messages: Any, cancellation_token: Any) -> Any:
            return super().on_messages_stream(messages, cancellation_token)

    return {"bare": Bare, "overriding": Overriding, "mixed": Mixed, "plain": Plain}


METHODS = ["run", "run_stream", "on_messages", "on_messages_stream"]


async def take_turn(agent: Any, method: str) -> None:
    if method.startswith("run"):
        asked = getattr(agent, method)(task="hello")
    else:
        asked = getattr(agent, method)([TextMessage(content="hello", source="user")], CancellationToken())
    if method.endswith("_stream"):
        async for _ in asked:
            pass
    else:
        await asked
