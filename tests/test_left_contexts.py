"""Blocks that are left in another context than they were entered in: another task, a thread, or the collector's."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import SpanKind

import mlspan
from mlspan.integrations.mcp import HOOK, requests
from mlspan.integrations.openai import agent_requests
from mlspan.testing import Spans


class Waiting:
    """An awaitable that waits for ever, with no event loop."""

    def __await__(self) -> Generator[None, None, None]:
        while True:
            yield


async def wait(*_: Any) -> object:
    return await Waiting()


async def wait_for_events(*_: Any) -> AsyncIterator[object]:
    yield await Waiting()


async def call_mcp() -> None:
    with requests.trace_request(HOOK, requests.Request("tools/call", {"name": "t"}, SpanKind.CLIENT)):
        await wait()


async def ask_agents_model() -> None:
    await agent_requests._note_request(wait)(object())


async def stream_agents_model() -> None:
    async for _ in agent_requests._note_streamed_request(wait_for_events)(object()):
        pass


CALLS: list[Callable[[], Coroutine[Any, Any, None]]] = [call_mcp, ask_agents_model, stream_agents_model]
VARIABLES: list[contextvars.ContextVar[Any]] = [requests.current_request, agent_requests._request]


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_is_closed_elsewhere(spans: Spans, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Closing it raises nothing, each span ends, and the context where it is closed stays as it was."""
    before = [variable.get(None) for variable in VARIABLES]
    running = call()
    contextvars.copy_context().run(running.send, None)
    running.close()
    assert [variable.get(None) for variable in VARIABLES] == before
    assert [span.status.status_code.name for span in spans.all] in (["UNSET"], [])


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_is_closed_inside_of_another(spans: Spans, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """The other call's request stays known in its own context."""
    elsewhere, here = contextvars.copy_context(), contextvars.copy_context()
    gone, other = call(), call()
    elsewhere.run(gone.send, None)
    here.run(other.send, None)
    before = [here[variable] for variable in VARIABLES if variable in here]
    here.run(gone.close)
    assert [here[variable] for variable in VARIABLES if variable in here] == before
    here.run(other.close)
    assert [here.get(variable) for variable in VARIABLES] == [None, None]


# Whose blocks hold nothing that waits; call_context.py is where the others go.
RESETS = {
    "_patching.py",
    "integrations/_training/mlflow_logging.py",
    "hooks/named_arguments.py",
    "tracing/operations/call_context.py",
}


def test_nobody_resets_a_variable_by_itself() -> None:
    """``ContextVar.reset`` raises in another context, in place of what the caller's own code has raised."""
    package = Path(mlspan.__file__).parent
    found = {
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        if ".reset(" in file.read_text(encoding="utf-8")
    }
    assert found <= RESETS
