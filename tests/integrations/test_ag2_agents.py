"""The agents of AG2 1.x: turns, tools, people, subagents, and networks of them."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

if importlib.util.find_spec("ag2") is None:
    pytest.skip("AG2 1.x is not installed", allow_module_level=True)

from ag2 import Agent, Context
from ag2.config import ModelProvider, OpenAIConfig
from ag2.events import BinaryInput, DataInput, FileIdInput, ModelMessage, ModelResponse, ToolCallEvent, UrlInput, Usage
from ag2.testing import TestConfig
from ag2_pairs import counted, get_weather, journal, openai_hook, recorded_tokens, until

import mlspan
from mlspan import tracing
from mlspan.integrations import ag2
from mlspan.testing import Spans, content

pytestmark = pytest.mark.usefixtures("ag2_on")


@pytest.fixture
async def http() -> Any:
    """AG2 closes no client of its own, so the tests give it one that they close."""
    import openai

    async with openai.DefaultAsyncHttpxClient() as client:
        yield client


def assistant(base_url: str, http: Any, *, streaming: bool = False, **more: Any) -> Any:

    options = {"api_key": "test", "max_retries": 0, "streaming": streaming, "http_client": http}
    return Agent("assistant", "Be brief.", config=OpenAIConfig("gpt-4o-mini", base_url=base_url, **options), **more)


def model(*turns: Any) -> Any:
    """A model that answers what the test says."""
    return TestConfig(*turns, provider=ModelProvider.OPENAI, model="test", raise_tool_errors=False)


TURN = """\
invoke_agent assistant
  chat gpt-4o-mini [7 in, 7 out]
  execute_tool get_weather
  chat gpt-4o-mini [10 in, 6 out]"""


@pytest.mark.parametrize("openai_too", [False, True])
async def test_an_agent_with_a_tool_is_one_tree(aimock: str, http: Any, spans: Spans, *, openai_too: bool) -> None:
    """A turn, its calls of the model and of tools; the tokens are the server's, with the OpenAI hook on and off."""
    before = len(journal(aimock))
    with openai_hook(openai_too):
        reply = await assistant(aimock, http, tools=[get_weather]).ask("weather in Paris?")
    assert reply.body == "It is sunny in Paris."
    assert spans.tree() == TURN
    requests = journal(aimock)[before:]
    assert len(requests) == 2
    assert recorded_tokens(spans) == counted(aimock, requests)
    turn, asked, tool, answered = spans.all
    assert (content(turn, "mlspan.input"), content(turn, "mlspan.output")) == ("weather in Paris?", reply.body)
    assert content(asked, "gen_ai.output.messages")[0]["parts"][0]["arguments"] == {"city": "Paris"}
    assert content(asked, "gen_ai.tool.definitions")[0]["name"] == "get_weather"
    assert content(answered, "gen_ai.input.messages")[-1]["parts"] == [
        {"type": "tool_call_response", "response": "sunny in Paris", "id": "call_1"}
    ]
    assert (tool.attributes or {})["gen_ai.tool.call.result"] == "sunny in Paris"
    assert [link.context.span_id for link in tool.links] == [asked.context.span_id]


async def test_agents_below_agents(spans: Spans) -> None:
    """An agent as another's tool; a tool that fails; a person who is asked."""

    def divide() -> float:
        return 1 / 0

    async def ask_person(context: Context) -> str:
        return await context.input("May I?")

    def answer(_: Any) -> str:
        return "yes"

    helper = Agent("helper", config=model("done"))
    calls = [
        ToolCallEvent("divide", arguments="{}"),
        ToolCallEvent("ask_person", arguments="{}"),
        ToolCallEvent(helper.as_tool(description="Helps.").name, arguments='{"objective": "help"}'),
    ]
    tools = [divide, ask_person, helper.as_tool(description="Helps.")]
    await Agent("boss", config=model(*calls, "finished"), tools=tools, hitl_hook=answer).ask("go")
    assert spans.tree() == (
        "invoke_agent boss\n"
        "  chat test\n"
        "  execute_tool divide [ERROR ZeroDivisionError]\n"
        "  chat test\n"
        "  execute_tool ask_person\n"
        "    human input\n"
        "  chat test\n"
        "  execute_tool task_helper\n"
        "    invoke_agent helper\n"
        "      chat test\n"
        "  chat test"
    )


@pytest.mark.parametrize("changed", ["subscribe", "unsubscribe"])
async def test_a_stream_of_another_version(
    changed: str, scripted: Any, http: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where AG2 listens in another way, the time of the first chunk is missing, and the answer is not."""
    from ag2.stream import MemoryStream

    monkeypatch.delenv("MLSPAN_STRICT", raising=False)
    own_subscribe, own_unsubscribe, ours = MemoryStream.subscribe, MemoryStream.unsubscribe, set[object]()

    def subscribe(self: Any, func: Any, **more: Any) -> Any:
        is_ours = func.__module__.startswith("mlspan")
        if is_ours and changed == "subscribe":
            raise TypeError
        id = own_subscribe(self, func, **more)
        ours.update({id} if is_ours else ())
        return id

    def unsubscribe(self: Any, id: Any) -> None:
        if id in ours:
            raise TypeError
        own_unsubscribe(self, id)

    monkeypatch.setattr(MemoryStream, "subscribe", subscribe)
    monkeypatch.setattr(MemoryStream, "unsubscribe", unsubscribe)
    delta = {"role": "assistant", "content": "Hello"}
    base = {"id": "c-1", "created": 1, "model": "gpt-4o-mini", "object": "chat.completion.chunk"}
    scripted.stream({**base, "choices": [{"index": 0, "finish_reason": "stop", "delta": delta}]}, "[DONE]")
    reply = await assistant(scripted.base_url, http, streaming=True).ask("Hi")
    assert reply.body == "Hello"
    assert content(spans.all[1], "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "Hello"}]


@pytest.mark.any_span  # neither a provider nor a model
async def test_a_configuration_that_names_nothing(spans: Spans) -> None:
    """Some raise where they are asked for what they have not."""
    await Agent("boss", config=TestConfig("finished")).ask("go")
    assert spans.tree() == "invoke_agent boss\n  chat"


async def test_input_tokens_are_all_of_them(spans: Spans) -> None:
    """Anthropic counts what it has cached beside the rest; the conventions count it in."""
    usage = Usage(prompt_tokens=10, completion_tokens=4, cache_read_input_tokens=100, cache_creation_input_tokens=20)
    answer = ModelResponse(message=ModelMessage("hi"), usage=usage, provider="anthropic", model="claude")
    await Agent("boss", config=TestConfig(answer, provider=ModelProvider.ANTHROPIC, model="claude")).ask("go")
    assert spans.tree("gen_ai.usage.cache_read.input_tokens") == (
        "invoke_agent boss\n  chat claude [130 in, 4 out, gen_ai.usage.cache_read.input_tokens=100]"
    )


async def test_what_is_not_text(spans: Spans) -> None:
    """Pictures, addresses and files of a question, in the words of the conventions."""
    parts = [
        BinaryInput(b"GIF89a", media_type="image/gif", kind="image"),
        UrlInput("http://x.test/a.pdf", kind="document"),
    ]
    await Agent("boss", config=model("seen")).ask("look", *parts, FileIdInput("file-1"), DataInput({"a": 1}))
    assert content(spans.all[1], "gen_ai.input.messages")[-1]["parts"] == [
        {"type": "text", "content": "look"},
        {"type": "blob", "modality": "image", "content": "R0lGODlh", "mime_type": "image/gif"},
        {"type": "uri", "modality": "document", "uri": "http://x.test/a.pdf"},
        {"type": "file", "modality": "document", "file_id": "file-1"},
        {"type": "data", "content": {"a": 1}},
    ]


async def test_many_agents_in_one_loop_keep_apart(aimock: str, http: Any, spans: Spans) -> None:
    """Twenty turns at once, of one agent, by ask and by run: each a trace of its own, in its caller's session."""
    agent = assistant(aimock, http)

    async def turn(number: int) -> None:
        with tracing.session(f"s{number}"):
            if number % 2:
                await agent.ask("hello")
            else:
                async with agent.run("hello") as run:
                    await asyncio.wait_for(run.result(), 30)

    await asyncio.gather(*map(turn, range(20)))
    assert sorted(spans.tree("session.id").split("\n")) == sorted(
        f"{line}session.id=s{number}]"
        for number in range(20)
        for line in ("invoke_agent assistant [", "  chat gpt-4o-mini [12 in, 5 out, ")
    )
    assert sorted(Counter(span.context.trace_id for span in spans.all).values()) == [2] * 20


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_cancelled_turn_says_so(scripted: Any, http: Any, spans: Spans, *, streaming: bool) -> None:
    """Cancelled while the model thinks: the call says so, and the turn above it."""
    scripted.reply({}, delay=1)
    turn = asyncio.create_task(assistant(scripted.base_url, http, streaming=streaming).ask("hello"))
    await until(lambda: scripted.requests)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    cancelled = "ERROR asyncio.exceptions.CancelledError"
    assert spans.tree() == f"invoke_agent assistant [{cancelled}]\n  chat gpt-4o-mini [{cancelled}]"


async def test_a_stream_is_one_call(aimock: str, http: Any, spans: Spans) -> None:
    """AG2 reads a stream itself, and has asked the server for its tokens."""
    before = len(journal(aimock))
    await assistant(aimock, http, streaming=True, tools=[get_weather]).ask("weather in Paris?")
    assert spans.tree() == TURN
    assert recorded_tokens(spans) == counted(aimock, journal(aimock)[before:])
    assert [(span.attributes or {})["gen_ai.request.stream"] for span in spans.named("chat gpt-4o-mini")] == [True] * 2


async def test_turns_of_one_conversation_share_its_id(aimock: str, http: Any, spans: Spans) -> None:
    """What goes on from a reply is the same conversation, and a new question another; the prompt is a message."""
    agent = assistant(aimock, http)
    reply = await agent.ask("hello")
    await reply.ask("hello")
    await agent.ask("hello")
    first, second, third = [
        (span.attributes or {})["gen_ai.conversation.id"] for span in spans.named("invoke_agent assistant")
    ]
    assert first == second != third
    messages = content(spans.named("chat gpt-4o-mini")[1], "gen_ai.input.messages")
    assert [(one["role"], one["parts"][0]["content"]) for one in messages] == [
        ("system", "Be brief."),
        ("user", "hello"),
        ("assistant", "Hi there!"),
        ("user", "hello"),
    ]


async def test_a_model_that_fails_fails_the_turn(scripted: Any, http: Any, spans: Spans) -> None:
    """The error of the client is that of the call and of the turn."""
    scripted.reply({"error": {"message": "no"}}, status=400)
    with pytest.raises(Exception, match="no"):
        await assistant(scripted.base_url, http).ask("hello")
    error = "ERROR openai.BadRequestError"
    assert spans.tree() == f"invoke_agent assistant [{error}]\n  chat gpt-4o-mini [{error}]"


async def test_a_run_left_early_is_cancelled(scripted: Any, http: Any, spans: Spans) -> None:
    """Whoever leaves the block of a run that goes on has cancelled it; one that has not begun leaves nothing."""
    scripted.reply({}, delay=1)
    agent = assistant(scripted.base_url, http)
    async with agent.run("hello"):
        pass
    async with agent.run("hello") as run:
        run.start()
        await until(lambda: scripted.requests)
    cancelled = "ERROR asyncio.exceptions.CancelledError"
    assert spans.tree() == f"invoke_agent assistant [{cancelled}]\n  chat gpt-4o-mini [{cancelled}]"


def test_three_threads_give_three_traces(aimock: str, spans: Spans) -> None:
    """Each with a loop of its own."""
    import openai

    async def turn() -> None:
        async with openai.DefaultAsyncHttpxClient() as http:
            await assistant(aimock, http, tools=[get_weather]).ask("weather in Paris?")

    threads = [threading.Thread(target=asyncio.run, args=(turn(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert spans.tree() == "\n".join([TURN] * 3)
    assert sorted(Counter(span.context.trace_id for span in spans.all).values()) == [4, 4, 4]


async def test_programs_are_tools(spans: Spans) -> None:
    """Code that the model writes runs as a tool of the agent's."""
    from ag2.tools import LocalEnvironment, SandboxCodeTool

    call = ToolCallEvent("run_code", arguments='{"code": "print(6 * 7)", "language": "python"}')
    coder = Agent("coder", config=model(call, "done"), tools=[SandboxCodeTool(LocalEnvironment())])
    await coder.ask("go")
    assert spans.tree() == "invoke_agent coder\n  chat test\n  execute_tool run_code\n  chat test"
    assert str(content(spans.named("execute_tool run_code")[0], "gen_ai.tool.call.result")).strip() == "42"


async def test_agents_disabled_are_as_they_were(aimock: str, http: Any, spans: Spans) -> None:
    """disable=True brings the very original back; an agent that was made before is silent."""
    agent = assistant(aimock, http)
    ag2.autolog(disable=True)
    assert Agent._drive_scope.__module__ == "ag2.agent"
    assert not Agent._drive_scope.__code__.co_filename.startswith(str(Path(mlspan.__file__).parent))
    await agent.ask("hello")
    assert spans.all == []
