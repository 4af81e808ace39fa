"""Agents in event loops: two in two threads, one that is closed in the middle of a run, and runs that nobody awaits.

The frameworks are those of test_hostile_orders.py; each runs in the nox session of its own name.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Iterator
from typing import Any

import pytest
from opentelemetry.trace import get_current_span
from test_hostile_orders import Subject, handler_threads, pytestmark, subject  # noqa: F401  # fixtures and filters

from mlspan.testing import Spans


class Runs:
    """Asynchronous runs of one framework's agent, whose model ends at once."""

    def __init__(self, one: Subject) -> None:
        self.subject = one
        one.integration.autolog()

    def make(self) -> Any:
        return self.subject.kit.make(self.subject.server)

    def start(self, agent: Any) -> Awaitable[Any]:
        assert self.subject.kit.run_async is not None
        return self.subject.kit.run_async(agent)

    def read_names(self, spans: Spans) -> list[Counter[str]]:
        """Return the names of the spans of each trace."""
        traces: dict[int, Counter[str]] = {}
        for span in spans.all:
            traces.setdefault(span.context.trace_id, Counter())[span.name] += 1
        return list(traces.values())

    def read_one(self, spans: Spans) -> Counter[str]:
        """Return the names of the spans of a run that nobody disturbs, in a loop of its own: one trace."""
        spans.clear()
        self.subject.script(self.subject.kit.ends)

        async def run() -> None:
            await self.start(self.make())

        asyncio.run(run())
        (names,) = self.read_names(spans)
        assert sum(span.parent is None for span in spans.all) == 1
        spans.clear()
        return names


@pytest.fixture
def runs(subject: Subject) -> Iterator[Runs]:  # noqa: F811
    if subject.kit.run_async is None:
        pytest.skip("the framework has no asynchronous way")
    return Runs(subject)


class Held:
    """A request that the server has got, and that it answers when it is released."""

    def __init__(self, runs: Runs) -> None:
        self.arrived, self.released = threading.Event(), threading.Event()
        runs.subject.server.clear()
        runs.subject.server.reply(runs.subject.kit.ends, before=self._wait)

    def _wait(self) -> None:
        self.arrived.set()
        self.released.wait(60)

    async def wait_for_request(self) -> None:
        """Wait for the request, while the loop runs on; its own threads may be making the request."""
        loop = asyncio.get_running_loop()
        seen = loop.create_future()
        waiting = threading.Thread(
            target=lambda: loop.call_soon_threadsafe(seen.set_result, self.arrived.wait(60)), daemon=True
        )
        waiting.start()
        assert await seen
        waiting.join(60)

    def release(self, _run: object = None) -> None:
        self.released.set()


def test_two_loops_in_two_threads(runs: Runs, spans: Spans) -> None:
    """Of four runs, two at once in each of two loops, each is a trace of its own with all that one has by itself."""
    expected = runs.read_one(spans)
    together = threading.Barrier(2)

    async def run_two() -> None:
        await asyncio.gather(*(runs.start(runs.make()) for _ in range(2)))

    def run_loop() -> None:
        together.wait(60)
        asyncio.run(run_two())

    threads = [threading.Thread(target=run_loop) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert runs.read_names(spans) == [expected] * 4


def test_a_loop_that_is_closed_in_the_middle(runs: Runs, spans: Spans) -> None:
    """The run's spans end, none is current to whoever comes after, and the next run is as ever."""
    expected, before = runs.read_one(spans), {*threading.enumerate()}
    held, loop = Held(runs), asyncio.new_event_loop()
    run = loop.create_task(_await(runs.start(runs.make())))
    loop.run_until_complete(held.wait_for_request())
    loop.close()
    del run, loop  # whoever holds the loop holds the run
    if (anyio := sys.modules.get("anyio._backends._asyncio")) is not None:
        anyio._task_states.clear()  # it keeps a task that has not ended for ever
    gc.collect()
    held.release()
    for thread in {*threading.enumerate()} - before:
        if not thread.daemon:  # one of the loop's, where the framework makes the request in it, and holds the run
            thread.join(60)
    gc.collect()
    assert not get_current_span().get_span_context().is_valid
    assert sum(span.parent is None for span in spans.all) == 1
    assert runs.read_one(spans) == expected


@pytest.mark.parametrize("way", ["cancelled", "left to the end of the loop"])
def test_a_run_that_nobody_awaits(way: str, runs: Runs, spans: Spans) -> None:
    """It is cancelled, by its caller or as ``asyncio.run`` ends: its spans end, and the next run is as ever."""
    expected = runs.read_one(spans)
    held = Held(runs)

    async def leave() -> None:
        run = asyncio.ensure_future(runs.start(runs.make()))
        run.add_done_callback(held.release)  # the end of a loop waits for its threads, and these for their requests
        await held.wait_for_request()
        if way == "cancelled":
            run.cancel()
            await asyncio.wait([run], timeout=60)

    asyncio.run(leave())
    gc.collect()
    assert not get_current_span().get_span_context().is_valid
    assert sum(span.parent is None for span in spans.all) == 1
    assert runs.read_one(spans) == expected


async def _await(run: Awaitable[Any]) -> Any:
    return await run
