"""The client's layer of AG2's classic API: one call is one span, and its tokens are those that were billed."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

autogen = pytest.importorskip("autogen", reason="AG2 0.x is not installed")  # before autolog: classes are there already

from ag2_pairs import config, counted, journal, openai_hook, pair, recorded_tokens
from autogen.agentchat.conversable_agent import ConversableAgent

from mlspan.testing import Spans, content

pytestmark = pytest.mark.usefixtures("ag2_on")


@pytest.mark.parametrize("openai_too", [False, True])
def test_each_token_is_counted_once(aimock: str, spans: Spans, *, openai_too: bool) -> None:
    """The client's layer is one span, with the hook of the OpenAI client on and off; tokens are the server's."""
    before = len(journal(aimock))
    with openai_hook(openai_too):
        both = pair(aimock)
        both.user.initiate_chat(both.assistant, message="weather in Paris?", max_turns=2, silent=True)
        asyncio.run(both.user.a_initiate_chat(both.assistant, message="weather in Paris?", max_turns=2, silent=True))
    requests = journal(aimock)[before:]
    assert len(spans.named("chat gpt-4o-mini")) == len(requests) == 4
    assert recorded_tokens(spans) == counted(aimock, requests)


def test_a_cache_costs_nothing(aimock: str, spans: Spans) -> None:
    """What AG2's cache answers is a call, and no tokens of it are billed."""
    from autogen.cache.in_memory_cache import InMemoryCache

    wrapper = autogen.OpenAIWrapper(**config(aimock))
    cache = InMemoryCache("test")
    for _ in range(2):
        wrapper.create(messages=[{"role": "user", "content": "hello"}], cache=cache)
    assert spans.tree() == "chat gpt-4o-mini [12 in, 5 out]\nchat gpt-4o-mini"


@pytest.mark.parametrize("openai_too", [False, True])
def test_a_stream_is_one_call(aimock: str, spans: Spans, monkeypatch: pytest.MonkeyPatch, *, openai_too: bool) -> None:
    """AG2 reads a stream itself; its tokens are the server's, or none where this version only estimates them."""
    monkeypatch.setattr("autogen.oai.client.count_token", lambda *_: 3, raising=False)  # it asks the network how
    before = len(journal(aimock))
    with openai_hook(openai_too, include_usage=True):
        pair(aimock, stream=True).assistant.generate_reply([{"role": "user", "content": "hello"}])
    asks = hasattr(autogen.OpenAIWrapper.__init__.__globals__["OpenAIClient"], "_add_streaming_usage_to_params")
    (turn, chat) = spans.all
    assert (turn.name, chat.name, (chat.attributes or {})["gen_ai.request.stream"]) == (
        "invoke_agent assistant",
        "chat gpt-4o-mini",
        True,
    )
    assert content(chat, "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "Hi there!"}]
    assert recorded_tokens(spans) == (counted(aimock, journal(aimock)[before:]) if asks or openai_too else Counter())
    assert ("gen_ai.response.time_to_first_chunk" in (chat.attributes or {})) is openai_too


@pytest.mark.parametrize("openai_too", [False, True])
def test_the_second_client_answers(aimock: str, scripted: Any, spans: Spans, *, openai_too: bool) -> None:
    """Where the first of two fails, the call is named for the one that answered."""
    scripted.reply({"error": {"message": "no"}}, status=500)
    first, second = (config(url)["config_list"][0] for url in (scripted.base_url, aimock))
    wrapper = autogen.OpenAIWrapper(config_list=[{**first, "model": "gpt-5"}, second], cache_seed=None)
    with openai_hook(openai_too):
        wrapper.create(messages=[{"role": "user", "content": "hello"}])
    assert spans.tree() == "chat gpt-4o-mini [12 in, 5 out]"


@pytest.mark.parametrize("openai_too", [False, True])
def test_an_answer_that_a_filter_refuses_is_paid_for(aimock: str, spans: Spans, *, openai_too: bool) -> None:
    """The tokens of both answers are counted: in one span, or with OpenAI's hook in one below the other."""
    one = config(aimock)["config_list"][0]
    wrapper = autogen.OpenAIWrapper(config_list=[one, one], cache_seed=None)
    with openai_hook(openai_too):
        wrapper.create(messages=[{"role": "user", "content": "hello"}], filter_func=lambda **_: False)
    assert recorded_tokens(spans) == Counter(input=24, output=10)


@pytest.mark.parametrize("openai_too", [False, True])
def test_a_refused_answer_before_a_failure_is_paid_for(scripted: Any, spans: Spans, *, openai_too: bool) -> None:
    """The last client raises, and AG2 with it; the answer before it was billed."""
    message = {"role": "assistant", "content": "Hi."}
    answer = {"id": "c-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini"}
    answer["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
    answer["usage"] = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
    scripted.reply(answer)
    scripted.reply({"error": {"message": "not today", "code": "no", "type": "no"}}, status=400)
    (one,) = config(scripted.base_url)["config_list"]
    with openai_hook(openai_too):
        wrapper = autogen.OpenAIWrapper(config_list=[one, one], cache_seed=None)
        with pytest.raises(Exception, match="not today"):
            wrapper.create(messages=[{"role": "user", "content": "hello"}], filter_func=lambda **_: False)
    assert recorded_tokens(spans) == Counter(input=12, output=5)


def test_a_client_of_the_users_own(spans: Spans) -> None:
    """What speaks to no provider that anybody knows of is named by its class."""

    class Echo:
        def __init__(self, config: Any, **_: Any) -> None: ...

        def create(self, params: Any) -> Any:
            message = SimpleNamespace(content=params["messages"][-1]["content"], function_call=None, tool_calls=None)
            return SimpleNamespace(choices=[SimpleNamespace(message=message)], model="echo-1")

        def message_retrieval(self, response: Any) -> list[str]:
            return [choice.message.content for choice in response.choices]

        def cost(self, response: Any) -> float:
            return 0

        @staticmethod
        def get_usage(response: Any) -> dict[str, Any]:
            return {}

    agent = ConversableAgent("ada", llm_config={"config_list": [{"model": "echo", "model_client_cls": "Echo"}]})
    agent.register_model_client(Echo)
    agent.client_cache = None
    assert agent.generate_reply([{"role": "user", "content": "well"}]) == "well"
    assert spans.tree("gen_ai.provider.name") == "invoke_agent ada\n  chat echo [gen_ai.provider.name=echo]"


def test_a_unified_response(aimock: str, spans: Spans) -> None:
    """The newer clients answer in a shape of their own."""
    pytest.importorskip("autogen.llm_clients", reason="this version has no newer clients")
    one = {**config(aimock)["config_list"][0], "api_type": "openai_v2"}
    one.pop("max_retries")
    wrapper = autogen.OpenAIWrapper(config_list=[one], cache_seed=None)
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
    wrapper.create(messages=[{"role": "user", "content": "weather in Paris?"}], tools=tools)
    assert spans.tree("gen_ai.provider.name") == "chat gpt-4o-mini [5 in, 7 out, gen_ai.provider.name=openai]"
    (asked,) = content(spans.one(), "gen_ai.output.messages")[0]["parts"]
    assert asked == {"type": "tool_call", "id": "call_1", "name": "get_weather", "arguments": {"city": "Paris"}}
