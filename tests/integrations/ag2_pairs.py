"""Pairs of agents, and what the server says of their calls: for the tests of AG2."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from mlspan import integrations
from mlspan.testing import Spans


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


async def until(come: Callable[[], Any]) -> None:
    """Wait for what another thread or task is about to do, for ten seconds."""
    for _ in range(1000):
        if come():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


@contextmanager
def openai_hook(on: bool, **options: Any) -> Iterator[None]:
    """OpenAI's hook inside the block, if it is to be *on*."""
    if on:
        integrations.openai.autolog(**options)
    yield
    integrations.openai.autolog(disable=True)


def journal(aimock: str) -> list[Any]:
    with urllib.request.urlopen(aimock.replace("/v1", "/__aimock/journal"), timeout=30) as answer:
        return [one for one in json.load(answer) if one["path"] == "/v1/chat/completions"]


def counted(aimock: str, requests: list[Any]) -> Counter[str]:
    """The tokens that the server counts for these requests, asked once more, without us."""
    total = Counter[str]()
    for one in requests:
        body = {name: one["body"][name] for name in ("model", "messages", "tools") if name in one["body"]}
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{aimock}/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            usage = json.load(answer)["usage"]
        total += Counter(input=usage["prompt_tokens"], output=usage["completion_tokens"])
    return total


def recorded_tokens(spans: Spans) -> Counter[str]:
    """The tokens of the spans."""
    return Counter(
        {
            side: sum((span.attributes or {}).get(f"gen_ai.usage.{side}_tokens", 0) for span in spans.all)  # type: ignore[misc]
            for side in ("input", "output")
        }
    )


def config(base_url: str, **entry: Any) -> Any:
    one = {
        "model": "gpt-4o-mini",
        "api_key": "test",
        "base_url": base_url,
        "api_type": "openai",
        "max_retries": 0,
        **entry,
    }
    return {"config_list": [one], "cache_seed": None}


def pair(base_url: str, tool: Any = get_weather, **more: Any) -> SimpleNamespace:
    """A user that runs tools, and an assistant that asks for them."""
    import autogen

    user = autogen.UserProxyAgent("user", human_input_mode="NEVER", code_execution_config=False)
    assistant = autogen.AssistantAgent("assistant", system_message="Be brief.", llm_config=config(base_url, **more))
    autogen.register_function(tool, name="get_weather", caller=assistant, executor=user, description="The weather.")
    return SimpleNamespace(user=user, assistant=assistant)


CHAT = """\
invoke_workflow user to assistant
  invoke_agent assistant
    chat gpt-4o-mini [7 in, 7 out]
  invoke_agent user
    execute_tool get_weather
  invoke_agent assistant
    chat gpt-4o-mini [10 in, 6 out]"""
