"""Every way to run a deep agent that hands over to another, each a function that returns what its caller has seen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
from deepagents import create_deep_agent
from langchain_openai import ChatOpenAI
from servers.scripted import Scripted

USAGE = {"total_tokens": 17}  # of one call to the model
QUESTION: Any = {"messages": [{"role": "user", "content": "weather in Paris?"}]}
WHOLE = 21, 5
# The spans of ours and the calls to the model, of a run that nobody traces besides.
EXPECTED = {
    "invoke": WHOLE,
    "ainvoke": WHOLE,
    "stream": WHOLE,
    "astream": WHOLE,
    "stream of messages": WHOLE,
    "stream left early": (2, 0),
    "async stream left early": (2, 0),
    "a tool that fails": (12, 2),
    "refused": (4, 0),
    "no messages": (1, 0),
}


def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    if city == "Nowhere":
        raise LookupError("no such city")
    return f"sunny in {city}"


def _ask(id: str, name: str, arguments: str) -> dict[str, Any]:
    call = {"index": 0, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _list_answers(city: str) -> list[dict[str, Any]]:
    return [
        _ask("call_1", "task", '{"description": "How is Paris?", "subagent_type": "expert"}'),
        _ask("call_2", "get_weather", f'{{"city": "{city}"}}'),
        {"role": "assistant", "content": "Sunny."},
        _ask("call_3", "write_file", '{"file_path": "/report.md", "content": "sunny"}'),
        {"role": "assistant", "content": "It is sunny."},
    ]


def _wrap(kind: str, **choice: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
    return {
        "id": "c-1",
        "object": kind,
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, **choice}],
        "usage": usage,
    }


def _answer(server: Scripted, city: str = "Paris") -> None:
    for message in _list_answers(city):
        reason = "tool_calls" if message.get("tool_calls") else "stop"
        server.reply(_wrap("chat.completion", message=message, finish_reason=reason))


def _answer_nowhere(server: Scripted) -> None:
    _answer(server, "Nowhere")


def _stream(server: Scripted) -> None:
    for message in _list_answers("Paris"):
        reason = "tool_calls" if message.get("tool_calls") else "stop"
        chunks = [("delta", message, None), ("delta", {}, reason)]
        events = [_wrap("chat.completion.chunk", **{key: delta, "finish_reason": end}) for key, delta, end in chunks]
        del events[0]["usage"]
        server.stream(*events, "[DONE]")


def _refusal(server: Scripted) -> None:
    server.reply({"error": {"message": "no such model", "type": "invalid_request_error"}}, status=400)


def _make_agent(model: Any) -> Any:
    expert: Any = {"name": "expert", "description": "Knows the sun.", "system_prompt": "Look.", "tools": [get_weather]}
    return create_deep_agent(model, subagents=[expert], name="reporter")


def _describe(state: Any) -> Any:
    return [[[one.type, one.content, one.name] for one in state["messages"]], sorted(state["files"])]


def call_invoke(model: Any) -> Any:
    return _describe(_make_agent(model).invoke(QUESTION))


def call_stream(model: Any) -> Any:
    return [sorted(update) for update in _make_agent(model).stream(QUESTION)]


def call_stream_of_messages(model: Any) -> Any:
    found = _make_agent(model).stream(QUESTION, stream_mode="messages")
    return [[chunk.type, chunk.content, sorted(metadata)] for chunk, metadata in found]


def call_stream_left_early(model: Any) -> Any:
    stream = _make_agent(model).stream(QUESTION)
    first = next(stream)
    stream.close()
    return sorted(first)


def call_without_messages(model: Any) -> Any:
    return _make_agent(model).invoke({"messages": None})


async def acall_invoke(model: Any) -> Any:
    return _describe(await _make_agent(model).ainvoke(QUESTION))


async def acall_stream(model: Any) -> Any:
    return [sorted(update) async for update in _make_agent(model).astream(QUESTION)]


async def acall_stream_left_early(model: Any) -> Any:
    stream = _make_agent(model).astream(QUESTION)
    first = await anext(stream)
    await stream.aclose()
    return sorted(first)


CALLS: dict[str, tuple[Callable[[Scripted], None], Callable[[Any], Any]]] = {
    "invoke": (_answer, call_invoke),
    "ainvoke": (_answer, acall_invoke),
    "stream": (_answer, call_stream),
    "astream": (_answer, acall_stream),
    "stream of messages": (_stream, call_stream_of_messages),
    "stream left early": (_answer, call_stream_left_early),
    "async stream left early": (_answer, acall_stream_left_early),
    "a tool that fails": (_answer_nowhere, call_invoke),
    "refused": (_refusal, call_invoke),
    "no messages": (_answer, call_without_messages),
}


def _connect(server: Scripted, **client: Any) -> ChatOpenAI:
    return ChatOpenAI(model="m", base_url=server.base_url, api_key="x", max_retries=0, stream_usage=True, **client)


@contextmanager
def _open(server: Scripted) -> Iterator[Any]:
    with httpx.Client() as client:
        yield _connect(server, http_client=client)


@asynccontextmanager
async def _aopen(server: Scripted) -> AsyncIterator[Any]:
    async with httpx.AsyncClient() as client:
        yield _connect(server, http_async_client=client)


def make_client(server: Scripted, *, is_async: bool) -> Any:
    """Return a block whose value is a model of *server*."""
    return _aopen(server) if is_async else _open(server)


def turn_ours_on() -> None:
    from mlspan import integrations

    integrations.langchain.autolog()
