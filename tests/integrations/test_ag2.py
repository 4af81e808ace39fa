"""The classic API of AG2: two agents and their calls, tools, programs and people."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

autogen = pytest.importorskip("autogen", reason="AG2 0.x is not installed")  # before autolog: classes are there already

from ag2_pairs import CHAT, pair, until
from autogen.agentchat.conversable_agent import ConversableAgent

from mlspan import tracing
from mlspan.integrations import ag2
from mlspan.testing import Spans, content

pytestmark = pytest.mark.usefixtures("ag2_on")


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
    assert content(turn, "mlspan.output") == [
        {"type": "tool_call", "id": "call_1", "name": "get_weather", "arguments": {"city": "Paris"}}
    ]
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


def test_three_threads_give_three_traces(aimock: str, spans: Spans) -> None:
    """Chats of threads that know nothing of each other: each is a trace of its own, and whole."""

    def chat() -> None:
        both = pair(aimock)
        both.user.initiate_chat(both.assistant, message="weather in Paris?", max_turns=2, silent=True)

    threads = [threading.Thread(target=chat) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
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
    scripted.reply({}, delay=1)
    both = pair(scripted.base_url)
    chat = asyncio.create_task(both.user.a_initiate_chat(both.assistant, message="hello", max_turns=1, silent=True))
    await until(lambda: scripted.requests)
    chat.cancel()
    with pytest.raises(asyncio.CancelledError):
        await chat
    await until(lambda: len(spans.all) == 3)
    cancelled = "ERROR asyncio.exceptions.CancelledError"
    assert spans.tree().startswith(
        f"invoke_workflow user to assistant [{cancelled}]\n  invoke_agent assistant [{cancelled}]\n    chat gpt-4o-mini"
    )


def test_autolog_may_come_before_the_import() -> None:
    """It imports nothing, and waits."""
    code = """
import sys
from mlspan import integrations
integrations.ag2.autolog()
assert "autogen" not in sys.modules
import autogen
print(hasattr(autogen.ConversableAgent.generate_reply, "__wrapped__"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "True", done.stderr


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
