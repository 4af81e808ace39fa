"""browser-use's agents in a real browser: one tree for a run, with the hook of the client below it or without."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

pytest.importorskip("browser_use", reason="in the nox session browser_use")

import browser_use_kit as kit
from browser_use import Agent, ChatOpenAI, Tools
from browser_use.agent.views import ActionResult
from browser_use.llm.base import BaseChatModel
from browser_use.llm.exceptions import ModelProviderError
from browser_use.llm.messages import ContentPartImageParam, ContentPartTextParam, ImageURL, SystemMessage, UserMessage
from browser_use.llm.views import ChatInvokeCompletion, ChatInvokeUsage
from browser_use.tokens.service import TokenCost
from browser_use.tools.registry.service import Registry
from browser_use_kit import act, finish, make_agent, make_model, run
from openai import DefaultAsyncHttpxClient
from openai_answers import answer, count_tokens, list_links
from openai_chunks import ANSWER, REFUSAL
from opentelemetry.trace import StatusCode
from scripted_client import ScriptedAsyncCalls

from mlspan import integrations, tracing
from mlspan.testing import Spans, content, contracts

CHAT = "chat m [12 in, 5 out]"
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # browser-use leaves the clients of its models open


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    """The address of a page, while a browser runs to which agents connect."""
    if kit.CHROMIUM is None:
        pytest.skip("no browser: apt-get install chromium")
    with kit.start_chromium() as address, kit.serve_pages() as url:
        kit.started.append(address)
        yield url
        kit.started.clear()


@pytest.fixture(params=["alone", "with openai"])
def _on(request: pytest.FixtureRequest, spans: Spans) -> Iterator[None]:
    integrations.browser_use.autolog()
    if request.param == "with openai":
        integrations.openai.autolog()
    yield
    integrations.browser_use.autolog(disable=True)
    integrations.openai.autolog(disable=True)


@pytest.fixture
def _alone(spans: Spans) -> Iterator[None]:
    integrations.browser_use.autolog()
    yield
    integrations.browser_use.autolog(disable=True)


on, alone = pytest.mark.usefixtures("_on"), pytest.mark.usefixtures("_alone")


def say(spans: Spans) -> str:
    """Return all that the spans tell, as one text."""
    return "\n".join(one.to_json() for one in spans.all)


class AnyOfBrowserUse(ScriptedAsyncCalls):
    """What is patched, and how it is turned on."""

    answer, refusal = ANSWER, REFUSAL
    tokens: ClassVar[Any] = (12, 5)
    events: ClassVar[list[Any]] = []

    def make_client(self) -> None: ...

    def release_client(self) -> None: ...

    def autolog(self, **options: Any) -> None:
        integrations.browser_use.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        methods = ("run", "step", "rerun_history", "_handle_step_error")
        models = [(BaseChatModel, "ainvoke"), (ChatOpenAI, "ainvoke"), (TokenCost, "register_llm")]
        return [*((Agent, name) for name in methods), *models, (Registry, "execute_action")]


class TestModels(AnyOfBrowserUse, contracts.AsyncCallContract):
    fails = ModelProviderError

    def make_async_client(self) -> Any:
        self.async_clients.append(DefaultAsyncHttpxClient())
        return make_model(self.server, http_client=self.async_clients[-1])

    async def close_client(self) -> None:
        while self.async_clients:
            await self.async_clients.pop().aclose()

    def ask(self, client: Any, **more: Any) -> Any:
        return client.ainvoke([UserMessage(content="a greeting")])


class TestActions(AnyOfBrowserUse, contracts.AsyncCallContract):
    span, tokens, fails = "execute_tool greet", None, RuntimeError

    async def make_call(self) -> Any:
        return await self.greet("a greeting")

    async def make_failing_call(self) -> Any:
        return await self.greet("nobody")

    async def make_hanging_call(self) -> Any:
        return await self.greet("slowly")

    def greet(self, text: str) -> Any:
        registry: Any = Registry()

        @registry.action("Say a text.")
        async def greet(text: str) -> str:
            if text == "nobody":
                raise RuntimeError("nobody is there")
            await asyncio.sleep(9 if text == "slowly" else 0)
            return "One two."

        return registry.execute_action("greet", {"text": text})


@on
def test_a_run(page: str, scripted: Any, spans: Spans) -> None:
    """A run has its steps, each with its call and its action, which is linked to the call that told it."""
    scripted.reply(act({"navigate": {"url": page}}))
    scripted.reply(finish())
    agent = make_agent(scripted)
    assert run(agent).final_result() == "It is clear."
    assert spans.tree() == (
        f"invoke_agent\n  step 1\n    {CHAT}\n    execute_tool navigate\n  step 2\n    {CHAT}\n    execute_tool done"
    )
    assert count_tokens(spans) == (24, 10)
    assert list_links(spans, "execute_tool navigate") == [("asked_by", "chat m")]
    root = spans.named("invoke_agent")[0]
    known = dict(root.attributes or {})
    assert (content(root, "mlspan.input"), content(root, "mlspan.output")) == ("How is the weather?", "It is clear.")
    assert (known["mlspan.browser_use.success"], known["gen_ai.conversation.id"]) == (True, agent.session_id)
    assert "mlspan.stop_reason" not in known
    step = spans.named("step 2")[0]
    assert content(step, "mlspan.input") == {"url": page}
    assert content(step, "mlspan.output") == kit.TOLD
    chat = spans.named("chat m")[0]
    told = dict(chat.attributes or {})
    assert (told["gen_ai.provider.name"], told["server.address"]) == ("openai", "127.0.0.1")
    assert told["gen_ai.output.type"] == "json"
    assert "gen_ai.request.reasoning.level" not in told  # no model that reasons: it is not sent
    assert content(chat, "gen_ai.input.messages")[0]["role"] == "system"
    assert page in str(content(chat, "gen_ai.output.messages"))
    assert "NavigateActionModel" in str(content(chat, "mlspan.output.schema"))
    assert content(spans.named("execute_tool navigate")[0], "gen_ai.tool.call.arguments")["url"] == page


@alone
def test_the_program_sees_nothing(page: str, scripted: Any, spans: Spans, tracing_off: None) -> None:
    """A history is that of a run without tracing; without content, the spans have no word of it."""

    def look() -> tuple[Any, ...]:
        scripted.clear()
        scripted.reply(act({"navigate": {"url": page}}))
        scripted.reply(act({"click": {"index": 99999}}))
        scripted.reply(finish())
        history = run(make_agent(scripted))
        asked = [sorted(body) for _, body in scripted.requests]
        results = [one.model_dump() for one in history.action_results()]
        return type(history), results, history.model_actions(), history.urls(), history.usage.total_tokens, asked

    integrations.browser_use.autolog(disable=True)
    bare = look()
    assert spans.tree() == ""
    integrations.browser_use.autolog()
    tracing.configure(capture_content=False)
    assert look() == bare
    assert [text for text in ("weather", "It is clear", "Look at the page", "99999") if text in say(spans)] == []
    assert count_tokens(spans) == (36, 15)


@on
def test_secrets_and_an_action_that_fails(page: str, scripted: Any, spans: Spans) -> None:
    """What takes the place of a secret's name is in no span: not of the action, nor its error, nor the answer."""
    tools: Any = Tools()

    @tools.action("Sign in.")
    async def sign_in(word: str) -> ActionResult:
        if word.startswith("hunter2"):
            raise LookupError(f"nobody has {word}")
        return ActionResult(error="no word")

    scripted.reply(act({"navigate": {"url": page}}))
    scripted.reply(act({"sign_in": {"word": "<secret>word</secret>"}}))
    scripted.reply(act({"sign_in": {"word": "none"}}))
    scripted.reply(finish("The word is <secret>word</secret>."))
    agent = make_agent(scripted, tools=tools, sensitive_data={"word": "hunter2-clear"})
    assert run(agent).final_result() == "The word is hunter2-clear."
    assert "hunter2" not in say(spans)
    first, second = spans.named("execute_tool sign_in")
    assert content(first, "gen_ai.tool.call.arguments") == {"word": "<secret>word</secret>"}
    assert first.status.description == "nobody has <secret>word</secret>"
    assert (first.attributes or {})["error.type"] == "LookupError"
    assert (second.status.description, (second.attributes or {})["error.type"]) == ("no word", "action_error")
    assert spans.named("step 2")[0].status.status_code is StatusCode.UNSET  # the agent goes on
    assert content(spans.named("invoke_agent")[0], "mlspan.output") == "The word is <secret>word</secret>."


@on
def test_a_model_that_fails(page: str, scripted: Any, spans: Spans) -> None:
    """The call and the step are errors; the run is one if it gives up."""
    scripted.reply(REFUSAL, status=400)
    history = run(make_agent(scripted, max_failures=1, final_response_after_failure=False))
    error = "[ERROR browser_use.llm.exceptions.ModelProviderError]"
    assert spans.tree() == f"invoke_agent [ERROR max_failures]\n  step 1 {error}\n    chat m {error}"
    root = spans.named("invoke_agent")[0]
    assert (root.attributes or {})["mlspan.stop_reason"] == "max_failures"
    assert root.status.description == history.errors()[-1]


@on
def test_a_second_model_and_a_second_try(page: str, scripted: Any, spans: Spans) -> None:
    """A step whose model fails, or tells no action, asks again: each call is one, and the last has told the action."""
    scripted.reply(REFUSAL, status=500)
    scripted.reply(act())
    scripted.reply(finish())
    second = ChatOpenAI("n", base_url=scripted.base_url, api_key="test", max_retries=0)
    run(make_agent(scripted, fallback_llm=second))
    assert spans.tree() == (
        "invoke_agent\n  step 1\n    chat m [ERROR browser_use.llm.exceptions.ModelProviderError]\n"
        "    chat n [12 in, 5 out]\n    chat n [12 in, 5 out]\n    execute_tool done"
    )
    assert list_links(spans, "execute_tool done") == [("asked_by", "chat n")]


@on
def test_a_judge_and_an_extraction(page: str, scripted: Any, spans: Spans) -> None:
    """The call that reads a page is below its action, that of the judge below the run, whose verdict stands there."""
    scripted.reply(act({"navigate": {"url": page}}))
    scripted.reply(act({"extract": {"query": "the weather"}}))
    scripted.reply(answer("It is clear over Paris."))
    scripted.reply(finish())
    verdict = '{"reasoning": "Good.", "verdict": true, "failure_reason": "", "impossible_task": false}'
    scripted.reply(answer(verdict.replace("}", ', "reached_captcha": false}')))
    run(make_agent(scripted, use_judge=True))
    assert spans.tree() == (
        f"invoke_agent\n  step 1\n    {CHAT}\n    execute_tool navigate\n"
        f"  step 2\n    {CHAT}\n    execute_tool extract\n      {CHAT}\n"
        f"  step 3\n    {CHAT}\n    execute_tool done\n  {CHAT}"
    )
    assert (spans.named("invoke_agent")[0].attributes or {})["mlspan.browser_use.verdict"] is True
    assert count_tokens(spans) == (60, 25)


@alone
def test_steps_used_up_and_a_stop(page: str, scripted: Any, spans: Spans) -> None:
    """Why a run has ended without an answer stands in its span; a step that was stopped has not failed."""
    scripted.reply(act({"wait": {"seconds": 0}}))
    run(make_agent(scripted), max_steps=1)
    agent = make_agent(scripted, register_new_step_callback=lambda *_: agent.stop())
    run(agent)
    first, second = (dict(one.attributes or {}) for one in spans.named("invoke_agent"))
    assert (first["mlspan.stop_reason"], second["mlspan.stop_reason"]) == ("max_steps", "stopped")
    assert spans.tree().splitlines()[-3:] == ["invoke_agent", "  step 1", f"    {CHAT}"]
    assert (spans.named("step 1")[-1].attributes or {})["mlspan.stop_reason"] == "interrupted"


@alone
def test_a_pause(page: str, scripted: Any, spans: Spans) -> None:
    """A run that waits for a person goes on in the same span."""
    scripted.reply(act({"wait": {"seconds": 0}}))
    scripted.reply(finish())

    async def wait_for_a_person() -> None:
        paused = asyncio.Event()

        async def pause(*_: Any) -> None:
            if not paused.is_set():
                agent.pause()
                paused.set()

        agent = make_agent(scripted, register_new_step_callback=pause)
        running = asyncio.create_task(agent.run())
        await asyncio.wait_for(paused.wait(), kit.WAIT)
        agent.resume()
        await asyncio.wait_for(running, kit.WAIT)

    asyncio.run(wait_for_a_person())
    assert [one.name for one in spans.all if one.parent is None] == ["invoke_agent"]
    assert content(spans.named("invoke_agent")[0], "mlspan.output") == "It is clear."


@alone
def test_a_run_that_is_cancelled(page: str, scripted: Any, spans: Spans) -> None:
    """Run, step and call say that they were cancelled, and none stays open."""
    scripted.reply(finish(), delay=3)

    async def give_up() -> None:
        running = asyncio.create_task(make_agent(scripted).run())
        while not scripted.requests:  # noqa: ASYNC110  # another thread makes the list
            await asyncio.sleep(0.05)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(asyncio.wait_for(give_up(), kit.WAIT))
    error = "[ERROR asyncio.exceptions.CancelledError]"
    assert spans.tree() == f"invoke_agent {error}\n  step 1 {error}\n    chat m {error}"


@on
def test_agents_at_once(page: str, scripted: Any, spans: Spans) -> None:
    """Agents that share a model have a trace each, and each call is one, however many agents know the model."""
    scripted.reply(finish())

    async def run_both() -> None:
        model = make_model(scripted)
        both = [make_agent(scripted, f"task {number}", llm=model) for number in (1, 2)]
        await asyncio.gather(*(agent.run() for agent in both))

    asyncio.run(asyncio.wait_for(run_both(), kit.WAIT))
    tree = f"invoke_agent\n  step 1\n    {CHAT}\n    execute_tool done"
    assert spans.tree() == f"{tree}\n{tree}"
    assert {content(one, "mlspan.input") for one in spans.named("invoke_agent")} == {"task 1", "task 2"}
    assert len({(one.attributes or {})["gen_ai.conversation.id"] for one in spans.named("invoke_agent")}) == 2


class ForeignModel:
    """A model of a class of its own, which says what Anthropic's says of its cache."""

    model, name, provider, _verified_api_keys = "claude-x", "claude-x", "anthropic", True
    base_url = "https://api.anthropic.com"

    async def ainvoke(self, messages: Any, output_format: Any = None, **_: Any) -> Any:
        usage = ChatInvokeUsage(
            prompt_tokens=10,
            prompt_cached_tokens=4,
            prompt_cache_creation_tokens=20,
            prompt_cache_creation_5m_tokens=15,
            prompt_cache_creation_1h_tokens=5,
            prompt_image_tokens=None,
            completion_tokens=3,
            total_tokens=13,
        )
        return ChatInvokeCompletion(completion="Hello.", thinking="Hm.", usage=usage, stop_reason="end_turn")


@alone
def test_a_model_of_another_class(spans: Spans) -> None:
    """It is traced once agents know it, once for each call, with the tokens that were written to the cache."""
    model: Any = ForeignModel()
    for _ in range(2):
        TokenCost().register_llm(model)
    asyncio.run(model.ainvoke([UserMessage(content="Hi")]))
    assert spans.tree() == "chat claude-x [30 in, 3 out]"
    chat = spans.one()
    known = dict(chat.attributes or {})
    assert known["gen_ai.usage.cache_write.input_tokens"] == 20
    assert known["gen_ai.usage.cache_read.input_tokens"] == 4
    if "prompt_cache_creation_1h_tokens" in ChatInvokeUsage.model_fields:  # newer than our lowest
        assert known["mlspan.usage.cache_write_1h.input_tokens"] == 5
    parts = content(chat, "gen_ai.output.messages")[0]["parts"]
    assert [(one["type"], one["content"]) for one in parts] == [("reasoning", "Hm."), ("text", "Hello.")]
    integrations.browser_use.autolog(disable=True)
    asyncio.run(model.ainvoke([UserMessage(content="Hi")]))
    assert len(spans.all) == 1


@alone
def test_pictures(scripted: Any, spans: Spans) -> None:
    """A picture of a page is kept as other integrations keep it."""
    scripted.reply(ANSWER)
    picture = ContentPartImageParam(image_url=ImageURL(url="data:image/png;base64,aGVsbG8="))
    asked: Any = [SystemMessage(content="Look."), UserMessage(content=[ContentPartTextParam(text="See:"), picture])]
    asyncio.run(make_model(scripted).ainvoke(asked))
    parts = content(spans.one(), "gen_ai.input.messages")[1]["parts"]
    assert parts[0] == {"type": "text", "content": "See:"}
    assert (parts[1]["type"], parts[1]["modality"], parts[1]["mime_type"]) == ("blob", "image", "image/png")


def test_nothing_is_imported() -> None:
    """Turning it on imports none of browser-use's heavy modules, nor does importing browser-use."""
    program = (
        "import sys, browser_use\nfrom mlspan import integrations\nintegrations.browser_use.autolog()\n"
        "assert not {'browser_use.agent.service', 'browser_use.llm.base', 'openai'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)
