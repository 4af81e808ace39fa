"""Scenarios: deepagents, each way to run an agent that hands over to another, with what its callbacks hear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from deepagents import create_deep_agent
from harness import Tools, scenario
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

QUESTION: Final[Any] = {"messages": [{"role": "user", "content": "weather in Paris?"}]}


class Heard(BaseCallbackHandler):
    """The application's own handler: the starts that it hears, in their order."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def on_chain_start(self, *_: Any, **kwargs: Any) -> None:
        self.events.append(["chain", kwargs.get("name"), sorted(kwargs.get("metadata") or {})])

    def on_tool_start(self, serialized: Any, text: str, **kwargs: Any) -> None:
        self.events.append(["tool", serialized.get("name"), text])

    def on_tool_error(self, error: BaseException, **_: Any) -> None:
        self.events.append(["error", repr(error)])


class Told(GenericFakeChatModel):
    """A model that says what it has been told to."""

    def bind_tools(self, *_: Any, **__: Any) -> Any:
        return self


def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    if city == "Nowhere":
        raise LookupError("no such city")
    return f"sunny in {city}"


def _ask(id: str, name: str, **arguments: str) -> AIMessage:
    return AIMessage("", tool_calls=[{"id": id, "name": name, "args": arguments}])


def _make_agent(city: str = "Paris") -> Any:
    said = [
        _ask("call_1", "task", description="How is Paris?", subagent_type="expert"),
        _ask("call_2", "get_weather", city=city),
        AIMessage("Sunny."),
        _ask("call_3", "write_file", file_path="/report.md", content="sunny"),
        AIMessage("It is sunny."),
    ]
    expert: Any = {"name": "expert", "description": "Knows the sun.", "system_prompt": "Look.", "tools": [get_weather]}
    return create_deep_agent(Told(messages=iter(said)), subagents=[expert], name="reporter")


def _tell(state: Any) -> Any:
    return [[[one.type, one.content, one.name] for one in state["messages"]], sorted(state["files"])]


async def _stream(config: Any) -> Any:
    return [sorted(update) async for update in _make_agent().astream(QUESTION, config)]


async def _run(config: Any) -> Any:
    return _tell(await _make_agent().ainvoke(QUESTION, config))


RUNS: Final[dict[str, Callable[[Any], Any]]] = {
    "invoke": lambda config: _tell(_make_agent().invoke(QUESTION, config)),
    "ainvoke": _run,
    "stream": lambda config: [sorted(update) for update in _make_agent().stream(QUESTION, config)],
    "astream": _stream,
    "stream left": lambda config: sorted(next(_make_agent().stream(QUESTION, config))),
    "a tool that fails": lambda config: _make_agent("Nowhere").invoke(QUESTION, config),
    "too many steps": lambda config: _make_agent().invoke(QUESTION, {**config, "recursion_limit": 2}),
}


@scenario(RUNS)
async def deep_agent(tools: Tools, run: Callable[[Any], Any]) -> Any:
    handler = Heard()
    found = run({"callbacks": [handler]})
    return [await found if hasattr(found, "__await__") else found, handler.events]
