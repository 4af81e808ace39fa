"""Scenarios: browser-use's agents in a Chromium, with what its callbacks hear and what the model is asked."""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "integrations")]

import browser_use_kit as kit
from browser_use import Tools as Actions
from browser_use.llm.messages import UserMessage
from harness import Tools, scenario

_browser: Final = ExitStack()
_owner: Final = os.getpid()
kit.started.append(_browser.enter_context(kit.start_chromium()))
# A forked child that exits leaves the browser to its parent.
atexit.register(lambda: _browser.close() if os.getpid() == _owner else None)


class Heard:
    """The application's own callbacks; the model's next answer is chosen in one of them."""

    def __init__(self, tools: Tools, answers: tuple[str, ...]) -> None:
        self.tools, self.answers, self.events = tools, [*answers], list[Any]()
        self.has_stepped = asyncio.Event()

    def make_agent(self, **options: Any) -> Any:
        actions: Any = Actions()

        @actions.action("Fail.")
        async def fail(word: str) -> str:
            raise LookupError(f"no {word}")

        @actions.action("Wait.")
        async def wait_for_it() -> str:
            self.agent.stop()
            return "waited"

        model = kit.ChatOpenAI("m", base_url=self.tools.url(self.answers.pop(0)), api_key="x", max_retries=0)
        heard = {"register_new_step_callback": self.hear_step, "register_done_callback": self.hear_end}
        self.agent = kit.make_agent(None, llm=model, tools=actions, max_failures=2, **heard, **options)
        return self.agent

    def hear_step(self, state: Any, output: Any, number: int) -> None:
        self.has_stepped.set()
        self.events.append(["step", number, state.title, type(output).__name__])
        if self.answers:
            self.agent.llm.base_url = self.tools.url(self.answers.pop(0))

    async def hear_end(self, history: Any) -> None:
        self.events.append(["end", history.is_done()])

    async def run(self, **options: Any) -> Any:
        return await self.make_agent().run(**options)


async def _cancel(heard: Heard) -> Any:
    run = asyncio.create_task(heard.run())
    await asyncio.wait_for(heard.has_stepped.wait(), kit.WAIT)
    run.cancel()
    await run


async def _ask_model(heard: Heard) -> Any:
    return await heard.make_agent().llm.ainvoke([UserMessage(content="hello")])


async def _call_with_wrong_arguments(heard: Heard) -> Any:
    return await heard.make_agent().run(1, 2, 3, 4)


def _describe(history: Any) -> Any:
    if not hasattr(history, "action_results"):
        return history
    usage = history.usage.model_dump() if history.usage else None
    results = [one.model_dump() for one in history.action_results()]
    return [type(history), history.final_result(), history.urls(), results, history.errors(), usage]


RUNS: Final[dict[str, tuple[tuple[str, ...], Callable[[Heard], Any]]]] = {
    "run": (("browser-open", "browser-done"), Heard.run),
    "stopped": (("browser-wait", "browser-done"), Heard.run),
    "an action that fails": (("browser-fail", "browser-done"), Heard.run),
    "an answer that does not fit": (("browser-wrong",), Heard.run),
    "too few steps": (("browser-open",), lambda heard: heard.run(max_steps=1)),
    "refused": (("400",), Heard.run),
    "cancelled": (("browser-open", "browser-done"), _cancel),
    "model": (("hi",), _ask_model),
    "model that is refused": (("429",), _ask_model),
    "wrong arguments": (("hi",), _call_with_wrong_arguments),
}


@scenario(RUNS)
async def browser(tools: Tools, row: Any) -> Any:
    answers, run = row
    heard = Heard(tools, answers)
    return [_describe(await run(heard)), heard.events]
