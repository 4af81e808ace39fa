"""The classic API of AG2: two agents and their calls, tools, programs and people."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

autogen = pytest.importorskip("autogen", reason="AG2 0.x is not installed")  # before autolog: classes are there already

from ag2_pairs import CHAT, config, counted, journal, pair, told
from autogen.agentchat.conversable_agent import ConversableAgent

from mlspan import integrations, tracing
from mlspan.integrations import ag2
from mlspan.testing import Spans, content


@pytest.fixture(autouse=True)
def _ag2_on(spans: Spans) -> Iterator[None]:
    ag2.autolog(log_traces=True)
    yield
    ag2.autolog(disable=True)


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


def test_a_reply_alone_is_a_turn(aimock: str, spans: Spans) -> None:
    """generate_reply and a_generate_reply, called by the user."""
    assistant = pair(aimock).assistant
    messages = [{"role": "user", "content": "hello"}]
    assert assistant.generate_reply(messages) == "Hi there!"
    asyncio.run(assistant.a_generate_reply(messages))
    assert spans.tree() == "\n".join(["invoke_agent assistant\n  chat gpt-4o-mini [12 in, 5 out]"] * 2)
    for span in spans.named("invoke_agent assistant"):
        assert (content(span, "mlspan.input"), content(span, "mlspan.output")) == ("hello", "Hi there!")


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


def test_a_cache_costs_nothing(aimock: str, spans: Spans) -> None:
    """What AG2's cache answers is a call, and no tokens of it are billed."""
    from autogen.cache.in_memory_cache import InMemoryCache

    wrapper = autogen.OpenAIWrapper(**config(aimock))
    cache = InMemoryCache("test")
    for _ in range(2):
        wrapper.create(messages=[{"role": "user", "content": "hello"}], cache=cache)
    assert spans.tree() == "chat gpt-4o-mini [12 in, 5 out]\nchat gpt-4o-mini"


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


@pytest.mark.parametrize("openai_too", [False, True])
def test_a_stream_is_one_call(aimock: str, spans: Spans, monkeypatch: pytest.MonkeyPatch, *, openai_too: bool) -> None:
    """AG2 reads a stream itself; its tokens are the server's, or none where this version only estimates them."""
    monkeypatch.setattr("autogen.oai.client.count_token", lambda *_: 3, raising=False)  # it asks the network how
    if openai_too:
        integrations.openai.autolog(include_usage=True)
    before = len(journal(aimock))
    try:
        pair(aimock, stream=True).assistant.generate_reply([{"role": "user", "content": "hello"}])
    finally:
        integrations.openai.autolog(disable=True)
    asks = hasattr(autogen.OpenAIWrapper.__init__.__globals__["OpenAIClient"], "_add_streaming_usage_to_params")
    (turn, chat) = spans.all
    assert (turn.name, chat.name, (chat.attributes or {})["gen_ai.request.stream"]) == (
        "invoke_agent assistant",
        "chat gpt-4o-mini",
        True,
    )
    assert content(chat, "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "Hi there!"}]
    assert told(spans) == (counted(aimock, journal(aimock)[before:]) if asks or openai_too else Counter())
    assert ("gen_ai.response.time_to_first_chunk" in (chat.attributes or {})) is openai_too


@pytest.mark.parametrize("openai_too", [False, True])
def test_the_second_client_answers(aimock: str, scripted: Any, spans: Spans, *, openai_too: bool) -> None:
    """Where the first of two fails, the call is named for the one that answered."""
    scripted.reply({"error": {"message": "no"}}, status=500)
    first, second = (config(url)["config_list"][0] for url in (scripted.base_url, aimock))
    wrapper = autogen.OpenAIWrapper(config_list=[{**first, "model": "gpt-5"}, second], cache_seed=None)
    if openai_too:
        integrations.openai.autolog()
    try:
        wrapper.create(messages=[{"role": "user", "content": "hello"}])
    finally:
        integrations.openai.autolog(disable=True)
    assert spans.tree() == "chat gpt-4o-mini [12 in, 5 out]"


@pytest.mark.parametrize("openai_too", [False, True])
def test_an_answer_that_a_filter_refuses_is_paid_for(aimock: str, spans: Spans, *, openai_too: bool) -> None:
    """The tokens of both answers are counted: in one span, or with OpenAI's hook in one below the other."""
    one = config(aimock)["config_list"][0]
    wrapper = autogen.OpenAIWrapper(config_list=[one, one], cache_seed=None)
    if openai_too:
        integrations.openai.autolog()
    try:
        wrapper.create(messages=[{"role": "user", "content": "hello"}], filter_func=lambda **_: False)
    finally:
        integrations.openai.autolog(disable=True)
    assert told(spans) == Counter(input=24, output=10)


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


def test_a_person_is_asked(monkeypatch: pytest.MonkeyPatch, spans: Spans) -> None:
    """Waiting for a person is a step of its own, by whichever method the user gets the answer."""

    class Polite(autogen.UserProxyAgent):  # type: ignore[misc]
        def get_human_input(self, prompt: str, **_: Any) -> str:
            return "yes"

    Polite("user", code_execution_config=False).generate_reply([{"role": "user", "content": "May I?", "name": "ada"}])
    assert spans.tree() == "invoke_agent user\n  human input"
    assert content(spans.all[1], "mlspan.output") == "yes"


@pytest.mark.filterwarnings(
    "ignore:unclosed <socket:ResourceWarning"
)  # AG2 0.10 looks for Docker, and leaves its socket
def test_programs_of_other_executors(spans: Spans, tmp_path: Path) -> None:
    """An executor of the user's, defined after autolog, and the agent's own without any."""
    from autogen.coding import CodeExecutor, CodeResult, MarkdownCodeExtractor

    class Pretend(CodeExecutor):  # type: ignore[misc]
        code_extractor = MarkdownCodeExtractor()

        def execute_code_blocks(self, code_blocks: Any) -> Any:
            return CodeResult(exit_code=0, output="42")

        def restart(self) -> None: ...

    said = [{"role": "user", "content": "```sh\necho 42\n```"}]
    for how in ({"executor": Pretend()}, {"use_docker": False, "work_dir": str(tmp_path)}):
        ConversableAgent("coder", code_execution_config=how, human_input_mode="NEVER").generate_reply(said)
    assert spans.tree() == (
        "invoke_agent coder\n  execute_tool Pretend\ninvoke_agent coder\n  execute_tool ConversableAgent"
    )
    assert content(spans.all[1], "gen_ai.tool.call.arguments") == [{"language": "sh", "code": "echo 42"}]


def test_nothing_of_what_is_said_leaves(aimock: str, spans: Spans, tracing_off: None) -> None:
    """With content off the tree, its tokens and links stay."""
    tracing.configure(capture_content=False)
    both = pair(aimock)
    both.user.initiate_chat(both.assistant, message="weather in Paris?", max_turns=2, silent=True)
    assert spans.tree() == CHAT
    said = [text for span in spans.all for text in map(str, (span.attributes or {}).values())]
    assert [text for text in said if "Paris" in text or "sunny" in text] == []
    assert len(spans.named("execute_tool get_weather")[0].links) == 1
