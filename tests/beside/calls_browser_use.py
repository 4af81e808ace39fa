"""Every way to run an agent of browser-use in Chromium, each as a function that returns what its caller has seen."""

from __future__ import annotations

import asyncio
import atexit
import json
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "integrations"))

import browser_use_kit as kit
from browser_use import Tools
from browser_use.llm.messages import UserMessage
from servers.scripted import Scripted

USAGE = {"total_tokens": 17}  # of one call to the model
# The spans of ours and the calls to the model, of a run that nobody traces besides.
EXPECTED = {
    "run": (7, 2),
    "run_sync": (7, 2),
    "an answer that does not fit": (3, 1),
    "an action that fails": (7, 2),
    "refused": (3, 0),
    "cancelled": (4, 1),
    "model": (1, 1),
    "no messages": (1, 0),
}
opened = ExitStack()
atexit.register(opened.close)
kit.started.append(opened.enter_context(kit.start_chromium()))
PAGE = opened.enter_context(kit.serve_pages())


def _answer(server: Scripted) -> None:
    server.reply(kit.act({"navigate": {"url": PAGE}}))
    server.reply(kit.finish())


def _answer_wrong(server: Scripted) -> None:
    server.reply(kit.act({"fail": {"word": "x"}}))
    server.reply(kit.finish())


def _answer_slow(server: Scripted) -> None:
    server.reply(kit.act({"wait_for_it": {}}))


def _answer_text(server: Scripted) -> None:
    server.reply(kit.answer("Hi there!"))


def _refusal(server: Scripted) -> None:
    server.reply({"error": {"message": "no such model", "type": "invalid_request_error"}}, status=400)


def _describe(history: Any) -> Any:
    results = [[one.extracted_content, one.error, one.is_done] for one in history.action_results()]
    found = [history.final_result(), history.urls(), history.usage.total_tokens, results, history.errors()]
    return json.loads(re.sub(r"0\.0\.1:\d+", "", json.dumps(found)))  # ports differ between processes


def call_run_sync(server: Scripted) -> Any:
    return _describe(kit.make_agent(server).run_sync())


async def acall_run(server: Scripted) -> Any:
    return _describe(await kit.make_agent(server).run())


async def acall_last_step(server: Scripted) -> Any:
    return _describe(await kit.make_agent(server).run(max_steps=1))


async def acall_failing(server: Scripted) -> Any:
    tools: Any = Tools()

    @tools.action("Fail.")
    async def fail(word: str) -> str:
        raise LookupError(f"no {word}")

    return _describe(await kit.make_agent(server, tools=tools).run())


async def acall_refused(server: Scripted) -> Any:
    return _describe(await kit.make_agent(server, max_failures=1, final_response_after_failure=False).run())


async def acall_cancelled(server: Scripted) -> Any:
    tools: Any = Tools()
    begun = asyncio.Event()

    @tools.action("Wait.")
    async def wait_for_it() -> str:
        begun.set()
        await asyncio.sleep(kit.WAIT)
        return "waited"

    run = asyncio.create_task(kit.make_agent(server, tools=tools).run())
    await asyncio.wait_for(begun.wait(), kit.WAIT)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    return [run.cancelled()]


async def acall_model(server: Scripted) -> Any:
    return (await kit.make_model(server).ainvoke([UserMessage(content="hello")])).completion


async def acall_without_messages(server: Scripted) -> Any:
    return await kit.make_model(server).ainvoke(None)  # type: ignore[arg-type]


CALLS: dict[str, tuple[Callable[[Scripted], None], Callable[[Any], Any]]] = {
    "run": (_answer, acall_run),
    "run_sync": (_answer, call_run_sync),
    "an answer that does not fit": (_answer, acall_last_step),
    "an action that fails": (_answer_wrong, acall_failing),
    "refused": (_refusal, acall_refused),
    "cancelled": (_answer_slow, acall_cancelled),
    "model": (_answer_text, acall_model),
    "no messages": (_answer_text, acall_without_messages),
}


@contextmanager
def _open(server: Scripted) -> Iterator[Scripted]:
    yield server


@asynccontextmanager
async def _aopen(server: Scripted) -> AsyncIterator[Scripted]:
    yield server


def make_client(server: Scripted, *, is_async: bool) -> Any:
    """Return a block whose value is *server*: an agent has a model of its own, and a browser."""
    return _aopen(server) if is_async else _open(server)


def turn_ours_on() -> None:
    from mlspan import integrations

    integrations.browser_use.autolog()
