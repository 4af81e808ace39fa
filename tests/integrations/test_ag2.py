"""AG2, of whose two libraries one is installed: the classic chats of 0.x, and the agents of 1.x."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

CLASSIC, NEXT = (importlib.util.find_spec(name) is not None for name in ("autogen", "ag2"))
if not CLASSIC and not NEXT:
    pytest.skip("AG2 is not installed", allow_module_level=True)

from mlspan import integrations, tracing
from mlspan.integrations import ag2
from mlspan.testing import Spans, content

classic = pytest.mark.skipif(not CLASSIC, reason="an API of AG2 0.x")
following = pytest.mark.skipif(not NEXT, reason="an API of AG2 1.x")
if CLASSIC:
    import autogen  # before autolog: the agents' base class registers its methods by reference
    from autogen.agentchat.conversable_agent import ConversableAgent


@pytest.fixture(autouse=True)
def _ag2_on(spans: Spans) -> Iterator[None]:
    ag2.autolog(log_traces=True)
    yield
    ag2.autolog(disable=True)


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def journal(aimock: str) -> list[Any]:
    with urllib.request.urlopen(aimock.replace("/v1", "/__aimock/journal")) as answer:
        return [one for one in json.load(answer) if one["path"] == "/v1/chat/completions"]


def counted(aimock: str, requests: list[Any]) -> Counter[str]:
    """The tokens that the server counts for these requests, asked once more, without us."""
    total = Counter[str]()
    for one in requests:
        body = {name: one["body"][name] for name in ("model", "messages", "tools") if name in one["body"]}
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{aimock}/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as answer:
            usage = json.load(answer)["usage"]
        total += Counter(input=usage["prompt_tokens"], output=usage["completion_tokens"])
    return total


def told(spans: Spans) -> Counter[str]:
    """The tokens of the spans."""
    return Counter(
        {
            side: sum((span.attributes or {}).get(f"gen_ai.usage.{side}_tokens", 0) for span in spans.all)  # type: ignore[misc]
            for side in ("input", "output")
        }
    )


# The classic API.


def config(base_url: str, **more: Any) -> Any:
    one = {"model": "gpt-4o-mini", "api_key": "test", "base_url": base_url, "api_type": "openai", "max_retries": 0}
    return {"config_list": [one], "cache_seed": None, **more}


def pair(base_url: str, tool: Any = get_weather) -> SimpleNamespace:
    """A user that runs tools, and an assistant that asks for them."""
    user = autogen.UserProxyAgent("user", human_input_mode="NEVER", code_execution_config=False)
    assistant = autogen.AssistantAgent("assistant", system_message="Be brief.", llm_config=config(base_url))
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


@classic
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_chat_with_a_tool_is_one_tree(colour: str, aimock: str, spans: Spans) -> None:
    """The chat is the root, a reply a turn below it, the model and the tool below the turn; async is the same."""
    both = pair(aimock)
    if colour == "sync":
        both.user.initiate_chat(both.assistant, message="weather in Paris?", max_turns=2, silent=True)
    else:
        asyncio.run(both.user.a_initiate_chat(both.assistant, message="weather in Paris?", max_turns=2, silent=True))
    assert spans.tree() == CHAT
    run, turn, asked, _, tool, _, answered = spans.all
    assert (content(run, "mlspan.input"), content(run, "mlspan.output")) == (
        "weather in Paris?",
        "It is sunny in Paris.",
    )
    assert content(turn, "mlspan.output")["tool_calls"][0]["id"] == "call_1"
    assert content(asked, "gen_ai.input.messages")[0] == {
        "role": "system",
        "parts": [{"type": "text", "content": "Be brief."}],
    }
    assert content(asked, "gen_ai.tool.definitions")[0]["description"] == "The weather."
    assert content(answered, "gen_ai.input.messages")[-1] == {
        "role": "tool",
        "parts": [{"type": "tool_call_response", "response": "sunny in Paris", "id": "call_1"}],
    }
    assert (tool.attributes or {})["gen_ai.tool.call.arguments"] == '{"city":"Paris"}'
    assert [link.context.span_id for link in tool.links] == [asked.context.span_id]


@classic
@pytest.mark.parametrize("openai_too", [False, True])
def test_each_token_is_counted_once(aimock: str, spans: Spans, *, openai_too: bool) -> None:
    """The client's layer is one span, with the hook of the OpenAI client on and off; tokens are the server's."""
    if openai_too:
        integrations.openai.autolog()
    before = len(journal(aimock))
    try:
        both = pair(aimock)
        both.user.initiate_chat(both.assistant, message="weather in Paris?", max_turns=2, silent=True)
        asyncio.run(both.user.a_initiate_chat(both.assistant, message="weather in Paris?", max_turns=2, silent=True))
    finally:
        integrations.openai.autolog(disable=True)
    requests = journal(aimock)[before:]
    assert len(spans.named("chat gpt-4o-mini")) == len(requests) == 4
    assert told(spans) == counted(aimock, requests)


@classic
def test_three_threads_give_three_traces(aimock: str, spans: Spans) -> None:
    """Chats of threads that know nothing of each other: each is a trace of its own, and whole."""

    def chat() -> None:
        both = pair(aimock)
        both.user.initiate_chat(both.assistant, message="weather in Paris?", max_turns=2, silent=True)

    threads = [threading.Thread(target=chat) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert spans.tree() == "\n".join([CHAT] * 3)
    assert sorted(Counter(span.context.trace_id for span in spans.all).values()) == [7, 7, 7]


@classic
async def test_many_chats_in_one_loop_keep_apart(aimock: str, spans: Spans) -> None:
    """Ten chats at once, whose models are called in threads: each under its own caller, in its caller's session."""

    async def chat(number: int) -> None:
        both = pair(aimock)
        with tracing.session(f"s{number}"), tracing.span(f"caller {number}"):
            await both.user.a_initiate_chat(both.assistant, message="hello", max_turns=1, silent=True)

    await asyncio.gather(*map(chat, range(10)))
    assert sorted(spans.tree("session.id").split("\n")) == sorted(
        f"{name} [{more}session.id=s{number}]"
        for number in range(10)
        for name, more in (
            (f"caller {number}", ""),
            ("  invoke_workflow user to assistant", ""),
            ("    invoke_agent assistant", ""),
            ("      chat gpt-4o-mini", "12 in, 5 out, "),
        )
    )
    assert sorted(Counter(span.context.trace_id for span in spans.all).values()) == [4] * 10


@classic
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_run_in_a_thread_stands_below_its_caller(colour: str, aimock: str, spans: Spans) -> None:
    """run() starts a thread and returns; what happens there belongs to whoever called it."""
    both = pair(aimock)

    async def run() -> None:
        response = await both.user.a_run(both.assistant, message="hello", max_turns=1)
        await response.process()

    with tracing.session("s1"), tracing.span("caller"):
        if colour == "sync":
            both.user.run(both.assistant, message="hello", max_turns=1).process()
        else:
            asyncio.run(run())
    for thread in threading.enumerate():
        if thread.daemon and "initiate_chat" in thread.name:
            thread.join(5)
    assert spans.tree("session.id") == (
        "caller [session.id=s1]\n"
        "  invoke_workflow user to assistant [session.id=s1]\n"
        "    invoke_agent assistant [session.id=s1]\n"
        "      chat gpt-4o-mini [12 in, 5 out, session.id=s1]"
    )


@classic
def test_a_reply_alone_is_a_turn(aimock: str, spans: Spans) -> None:
    """generate_reply and a_generate_reply, called by the user."""
    assistant = pair(aimock).assistant
    messages = [{"role": "user", "content": "hello"}]
    assert assistant.generate_reply(messages) == "Hi there!"
    asyncio.run(assistant.a_generate_reply(messages))
    assert spans.tree() == "\n".join(["invoke_agent assistant\n  chat gpt-4o-mini [12 in, 5 out]"] * 2)
    for span in spans.named("invoke_agent assistant"):
        assert (content(span, "mlspan.input"), content(span, "mlspan.output")) == ("hello", "Hi there!")


@classic
def test_a_group_chat_is_one_tree(aimock: str, spans: Spans) -> None:
    """Each speaker's turn stands below that of the manager who gave it the word."""
    ada, bob = (autogen.ConversableAgent(name, llm_config=config(aimock)) for name in ("ada", "bob"))
    user = autogen.UserProxyAgent("user", human_input_mode="NEVER", code_execution_config=False)
    group = autogen.GroupChat([user, ada, bob], max_round=3, speaker_selection_method="round_robin")
    manager = autogen.GroupChatManager(group, llm_config=False)
    ada.register_reply([autogen.Agent, None], lambda *_, **__: (True, "hello, bob"))
    user.initiate_chat(manager, message="hello", silent=True, max_turns=1)
    assert spans.tree() == (
        "invoke_workflow user to chat_manager\n"
        "  invoke_agent chat_manager\n"
        "    invoke_agent ada\n"
        "    invoke_agent bob\n"
        "      chat gpt-4o-mini [12 in, 5 out]"
    )


@classic
def test_a_handoff_in_a_group(aimock: str, spans: Spans) -> None:
    """A tool that hands over to another agent, as AG2's group chats have them instead of swarms."""
    group = pytest.importorskip("autogen.agentchat.group")
    from autogen.agentchat import initiate_group_chat
    from autogen.agentchat.group.patterns import DefaultPattern

    def hand_over(city: str) -> Any:
        return group.ReplyResult(message="hello", target=group.AgentNameTarget("bob"))

    hand_over.__name__ = "get_weather"
    ada = autogen.ConversableAgent("ada", llm_config=config(aimock), functions=[hand_over])
    bob = autogen.ConversableAgent("bob", llm_config=config(aimock))
    bob.register_reply([autogen.Agent, None], lambda *_, **__: (True, "done"))
    pattern = DefaultPattern(initial_agent=ada, agents=[ada, bob])
    initiate_group_chat(pattern, messages="weather in Paris?", max_rounds=4)
    lines = [line.split(" [")[0].strip() for line in spans.tree().split("\n")]
    assert lines[0].startswith("invoke_workflow")
    assert lines.count("execute_tool get_weather") == 1
    assert lines.index("invoke_agent ada") < lines.index("execute_tool get_weather") < lines.index("invoke_agent bob")
    assert len({span.context.trace_id for span in spans.all}) == 1


@classic
def test_nested_chats_nest(aimock: str, spans: Spans) -> None:
    """A reply that is made by chats of the agent's own has them below it."""
    inner = autogen.ConversableAgent("inner", llm_config=config(aimock))
    outer = autogen.ConversableAgent("outer", llm_config=False)
    user = autogen.UserProxyAgent("user", human_input_mode="NEVER", code_execution_config=False)
    outer.register_nested_chats([{"recipient": inner, "message": "hello", "max_turns": 1}], trigger=user)
    user.initiate_chat(outer, message="go", max_turns=1, silent=True)
    lines = [line for line in spans.tree().split("\n") if "chats of" not in line]
    assert [line.strip() for line in lines] == [
        "invoke_workflow user to outer",
        "invoke_agent outer",
        "invoke_workflow outer to inner",
        "invoke_agent inner",
        "chat gpt-4o-mini [12 in, 5 out]",
    ]
    assert lines[-1].startswith("        ")


@classic
def test_tools_that_fail_or_wait(aimock: str, spans: Spans) -> None:
    """An error that AG2 tells the model is the span's; an async tool of a sync agent runs in a thread, below it."""

    async def look(city: str) -> str:
        with tracing.span("looking"):
            await asyncio.sleep(0)
        return "sunny"

    user = pair(aimock, look).user
    call = {"name": "get_weather", "arguments": '{"city": "Rome"}'}
    user.generate_reply([{"role": "assistant", "tool_calls": [{"id": "call_8", "type": "function", "function": call}]}])
    failing = pair(aimock).user
    assert not failing.execute_function({"name": "get_weather", "arguments": "{}"})[0]
    assert not asyncio.run(user.a_execute_function({"name": "nothing", "arguments": "{}"}))[0]
    assert spans.tree("gen_ai.tool.call.id") == (
        "invoke_agent user\n"
        "  execute_tool get_weather [gen_ai.tool.call.id=call_8]\n"
        "    looking\n"
        "execute_tool get_weather [ERROR tool_error]\n"
        "execute_tool nothing [ERROR tool_error]"
    )


@classic
def test_code_is_a_tool(spans: Spans, tmp_path: Path) -> None:
    """A program that an agent runs: its text, its output, its exit code."""
    from autogen.coding import LocalCommandLineCodeExecutor

    executor = LocalCommandLineCodeExecutor(work_dir=tmp_path)
    coder = ConversableAgent("coder", code_execution_config={"executor": executor}, human_input_mode="NEVER")
    coder.generate_reply([{"role": "user", "content": "```python\nprint(6 * 7)\n```"}])
    coder.generate_reply([{"role": "user", "content": "```python\nraise SystemExit(3)\n```"}])
    assert spans.tree() == (
        "invoke_agent coder\n"
        "  execute_tool LocalCommandLineCodeExecutor\n"
        "invoke_agent coder\n"
        "  execute_tool LocalCommandLineCodeExecutor [ERROR exit_code]"
    )
    assert content(spans.all[1], "gen_ai.tool.call.result") == {"exit_code": 0, "output": "42\n"}


@classic
def test_a_cache_costs_nothing(aimock: str, spans: Spans) -> None:
    """What AG2's cache answers is a call, and no tokens of it are billed."""
    from autogen.cache.in_memory_cache import InMemoryCache

    wrapper = autogen.OpenAIWrapper(**config(aimock))
    cache = InMemoryCache("test")
    for _ in range(2):
        wrapper.create(messages=[{"role": "user", "content": "hello"}], cache=cache)
    assert spans.tree() == "chat gpt-4o-mini [12 in, 5 out]\nchat gpt-4o-mini"


@classic
def test_a_model_that_fails_fails_the_chat(scripted: Any, spans: Spans) -> None:
    """The error of the client is that of the chat, the turn and the run."""
    scripted.reply({"error": {"message": "no"}}, status=400)
    both = pair(scripted.base_url)
    with pytest.raises(Exception, match="no"):
        both.user.initiate_chat(both.assistant, message="hello", max_turns=1, silent=True)
    assert spans.tree() == (
        "invoke_workflow user to assistant [ERROR openai.BadRequestError]\n"
        "  invoke_agent assistant [ERROR openai.BadRequestError]\n"
        "    chat gpt-4o-mini [ERROR openai.BadRequestError]"
    )


@classic
async def test_a_cancelled_chat_says_so(scripted: Any, spans: Spans) -> None:
    """Cancelled while its model is asked in a thread: the thread's call ends by itself, the rest is cancelled."""
    scripted.reply({}, delay=0.4)
    both = pair(scripted.base_url)
    chat = asyncio.create_task(both.user.a_initiate_chat(both.assistant, message="hello", max_turns=1, silent=True))
    await asyncio.sleep(0.2)
    chat.cancel()
    with pytest.raises(asyncio.CancelledError):
        await chat
    await asyncio.sleep(0.5)
    cancelled = "ERROR asyncio.exceptions.CancelledError"
    assert spans.tree().startswith(
        f"invoke_workflow user to assistant [{cancelled}]\n  invoke_agent assistant [{cancelled}]\n    chat gpt-4o-mini"
    )


@classic
def test_disabled_is_as_it_was(aimock: str, spans: Spans) -> None:
    """disable=True brings back the very originals, of methods and of the modules that AG2 uses."""
    from autogen.agentchat import conversable_agent
    from autogen.oai.client import OpenAIWrapper

    ag2.autolog(disable=True)
    for owner, name in ((ConversableAgent, "generate_reply"), (OpenAIWrapper, "create")):
        assert not hasattr(vars(owner)[name], "__wrapped__")
    assert conversable_agent.threading is threading
    pair(aimock).assistant.generate_reply([{"role": "user", "content": "hello"}])
    assert spans.all == []


# The agents of 1.x.


@pytest.fixture
async def http() -> Any:
    """AG2 closes no client of its own, so the tests give it one that they close."""
    import openai

    async with openai.DefaultAsyncHttpxClient() as client:
        yield client


def assistant(base_url: str, http: Any, *, streaming: bool = False, **more: Any) -> Any:
    from ag2 import Agent
    from ag2.config import OpenAIConfig

    options = {"api_key": "test", "max_retries": 0, "streaming": streaming, "http_client": http}
    return Agent("assistant", "Be brief.", config=OpenAIConfig("gpt-4o-mini", base_url=base_url, **options), **more)


TURN = """\
invoke_agent assistant
  chat gpt-4o-mini [7 in, 7 out]
  execute_tool get_weather
  chat gpt-4o-mini [10 in, 6 out]"""


@following
@pytest.mark.parametrize("openai_too", [False, True])
async def test_an_agent_with_a_tool_is_one_tree(aimock: str, http: Any, spans: Spans, *, openai_too: bool) -> None:
    """A turn, its calls of the model and of tools; the tokens are the server's, with the OpenAI hook on and off."""
    if openai_too:
        integrations.openai.autolog()
    before = len(journal(aimock))
    try:
        reply = await assistant(aimock, http, tools=[get_weather]).ask("weather in Paris?")
    finally:
        integrations.openai.autolog(disable=True)
    assert reply.body == "It is sunny in Paris."
    assert spans.tree() == TURN
    requests = journal(aimock)[before:]
    assert len(requests) == 2
    assert told(spans) == counted(aimock, requests)
    turn, asked, tool, answered = spans.all
    assert (content(turn, "mlspan.input"), content(turn, "mlspan.output")) == ("weather in Paris?", reply.body)
    assert content(asked, "gen_ai.output.messages")[0]["parts"][0]["arguments"] == {"city": "Paris"}
    assert content(asked, "gen_ai.tool.definitions")[0]["name"] == "get_weather"
    assert content(answered, "gen_ai.input.messages")[-1]["parts"] == [
        {"type": "tool_call_response", "response": "sunny in Paris", "id": "call_1"}
    ]
    assert (tool.attributes or {})["gen_ai.tool.call.result"] == "sunny in Paris"
    assert [link.context.span_id for link in tool.links] == [asked.context.span_id]


@following
@pytest.mark.any_span  # a scripted model has neither a provider nor a name
async def test_agents_below_agents(spans: Spans) -> None:
    """An agent as another's tool; a tool that fails; a person who is asked."""
    from ag2 import Agent, Context
    from ag2.events import ToolCallEvent
    from ag2.testing import TestConfig

    def divide() -> float:
        return 1 / 0

    async def ask_person(context: Context) -> str:
        return await context.input("May I?")

    def answer(_: Any) -> str:
        return "yes"

    helper = Agent("helper", config=TestConfig("done"))
    calls = [
        ToolCallEvent("divide", arguments="{}"),
        ToolCallEvent("ask_person", arguments="{}"),
        ToolCallEvent(helper.as_tool(description="Helps.").name, arguments='{"objective": "help"}'),
    ]
    model = TestConfig(*calls, "finished", raise_tool_errors=False)
    tools = [divide, ask_person, helper.as_tool(description="Helps.")]
    await Agent("boss", config=model, tools=tools, hitl_hook=answer).ask("go")
    assert spans.tree() == (
        "invoke_agent boss\n"
        "  chat\n"
        "  execute_tool divide [ERROR ZeroDivisionError]\n"
        "  chat\n"
        "  execute_tool ask_person\n"
        "    human input\n"
        "  chat\n"
        "  execute_tool task_helper\n"
        "    invoke_agent helper\n"
        "      chat\n"
        "  chat"
    )


@following
async def test_many_agents_in_one_loop_keep_apart(aimock: str, http: Any, spans: Spans) -> None:
    """Twenty turns at once, of one agent, by ask and by run: each a trace of its own, in its caller's session."""
    agent = assistant(aimock, http)

    async def turn(number: int) -> None:
        with tracing.session(f"s{number}"):
            if number % 2:
                await agent.ask("hello")
            else:
                async with agent.run("hello") as run:
                    await run.result()

    await asyncio.gather(*map(turn, range(20)))
    assert sorted(spans.tree("session.id").split("\n")) == sorted(
        f"{line}session.id=s{number}]"
        for number in range(20)
        for line in ("invoke_agent assistant [", "  chat gpt-4o-mini [12 in, 5 out, ")
    )
    assert sorted(Counter(span.context.trace_id for span in spans.all).values()) == [2] * 20


@following
@pytest.mark.parametrize("streaming", [False, True])
async def test_a_cancelled_turn_says_so(scripted: Any, http: Any, spans: Spans, *, streaming: bool) -> None:
    """Cancelled while the model thinks: the call says so, and the turn above it."""
    scripted.reply({}, delay=0.5)
    turn = asyncio.create_task(assistant(scripted.base_url, http, streaming=streaming).ask("hello"))
    await asyncio.sleep(0.3)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    cancelled = "ERROR asyncio.exceptions.CancelledError"
    assert spans.tree() == f"invoke_agent assistant [{cancelled}]\n  chat gpt-4o-mini [{cancelled}]"


@following
async def test_agents_disabled_are_as_they_were(aimock: str, http: Any, spans: Spans) -> None:
    """disable=True brings the very original back; an agent that was made before is silent."""
    from ag2 import Agent

    agent = assistant(aimock, http)
    ag2.autolog(disable=True)
    assert Agent._drive_scope.__module__ == "ag2.agent"
    assert "mlspan" not in Agent._drive_scope.__code__.co_filename
    await agent.ask("hello")
    assert spans.all == []
