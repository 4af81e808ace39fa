"""Crews, their model and what their server answers, as the tests want them. Nothing of CrewAI leaves this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import threading
from typing import Any

os.environ |= {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
    "CREWAI_STORAGE_DIR": f"{os.environ['XDG_STATE_HOME']}/crewai",  # where it keeps what its tasks have answered
    "CREWAI_TESTING": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "OPENAI_API_KEY": "test",
}

if importlib.util.find_spec("litellm") is not None:
    import litellm_kit  # noqa: F401  # before CrewAI imports LiteLLM

from crewai import LLM, Agent, Crew, Task
from crewai.events.event_bus import crewai_event_bus
from crewai.tools import tool

MODEL = "gpt-4o-mini"


def start_handler_threads() -> None:
    """Start all threads in which the event bus calls its handlers; they stay, and are none that a test leaves."""
    crewai_event_bus._ensure_executor_initialized()
    executor = crewai_event_bus._sync_executor
    everybody = threading.Barrier(executor._max_workers + 1)
    for _ in range(executor._max_workers):
        executor.submit(everybody.wait, 30)
    everybody.wait(30)


def say(text: str | None, tokens: tuple[int, int] = (20, 7), **message: Any) -> dict[str, Any]:
    """An answer of OpenAI's chat completions."""
    given, taken = tokens
    return {
        "id": "c-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **message},
                "finish_reason": "tool_calls" if message else "stop",
            }
        ],
        "usage": {"prompt_tokens": given, "completion_tokens": taken, "total_tokens": given + taken},
    }


def ask_for(*calls: tuple[str, str, dict[str, Any]], tokens: tuple[int, int] = (30, 9)) -> dict[str, Any]:
    """An answer that asks for tools: the id of each call, the tool's name, and its arguments."""
    asked = [
        {"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for id, name, arguments in calls
    ]
    return say(None, tokens, tool_calls=asked)


ASK_WEATHER = ask_for(("call_1", "get_weather", {"city": "Paris"}))


def list_chunks(*texts: str, tokens: tuple[int, int] = (20, 7)) -> list[Any]:
    """A streamed answer of chat completions, with its usage."""
    head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    deltas = [
        {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None} for text in texts
    ] + [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    usage = say("", tokens)["usage"]
    return [*({**head, "choices": [delta]} for delta in deltas), {**head, "choices": [], "usage": usage}, "[DONE]"]


def make_model(server: Any, **options: Any) -> LLM:
    """A model by OpenAI's client, or with ``is_litellm`` by LiteLLM."""
    return LLM(model=MODEL, base_url=server.base_url, api_key="test", **{"max_retries": 0, **options})


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    if city == "Atlantis":
        raise LookupError(f"there is no {city}")
    return f"sunny in {city}"


def make_agent(model: Any, role: str = "scout", **options: Any) -> Agent:
    return Agent(role=role, goal=f"be a {role}", backstory="Brief.", llm=model, max_retry_limit=0, **options)


def make_task(agent: Agent | None, name: str | None = None, about: str = "the weather in Paris?", **more: Any) -> Task:
    return Task(description=about, expected_output="a line", agent=agent, name=name, **more)


def make_trip(model: Any, **options: Any) -> Crew:
    """Two agents: one has a tool, the other writes."""
    scout, writer = make_agent(model, tools=[get_weather]), make_agent(model, "writer")
    tasks = [make_task(scout, "look"), make_task(writer, about="write it down")]
    return Crew(agents=[scout, writer], tasks=tasks, name="trip", **options)
