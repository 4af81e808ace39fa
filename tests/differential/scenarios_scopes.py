"""Scenarios: the blocks of ``tracing`` (span, session, user, ...) wherever a program may enter and leave them."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from harness import BLOCKS, Tools, scenario

TABLE: Final = {name: name for name in BLOCKS}
DECORATORS: Final = {name: name for name in BLOCKS if name != "span"}  # @trace is the decorator of spans
mine: contextvars.ContextVar[str] = contextvars.ContextVar("mine", default="unset")


@scenario(TABLE)
def left_by_an_exception(tools: Tools, name: str) -> Any:
    with tools.block(name):
        mine.set("kept")
        raise KeyError("inside")


@scenario(TABLE)
async def closed_by_another_task(tools: Tools, name: str) -> Any:
    seen: list[str] = []

    async def generate() -> AsyncIterator[int]:
        with tools.block(name):
            try:
                yield 1
                yield 2
            finally:
                seen.append("left")

    for context in (None, contextvars.Context()):
        steps = generate()
        seen.append(repr(await asyncio.create_task(anext(steps))))  # type: ignore[arg-type]
        await asyncio.create_task(steps.aclose(), context=context)  # type: ignore[attr-defined, call-arg]
    return seen


@scenario(TABLE)
def halves_in_two_threads(tools: Tools, name: str) -> Any:
    def depend() -> Iterator[str]:
        with tools.block(name):
            yield mine.get()

    dependency, seen = depend(), []
    for _ in range(2):
        thread = threading.Thread(
            target=lambda: seen.append(contextvars.copy_context().run(next, dependency, "the end"))
        )
        thread.start()
        thread.join(10)
    return seen


@scenario(DECORATORS)
def decorated_functions(tools: Tools, name: str) -> Any:
    @tools.block(name)
    def work(a: int, *, b: int = 1) -> int:
        """Work."""
        return a + b

    return [work, work(1, b=2)]


@scenario(DECORATORS)
async def decorated_coroutines(tools: Tools, name: str) -> Any:
    @tools.block(name)
    async def work(a: int) -> int:
        await asyncio.sleep(0)
        return a

    @tools.block(name)
    async def steps(a: int) -> AsyncIterator[int]:
        yield a

    return [work, steps, await asyncio.gather(*(work(n) for n in range(3))), [one async for one in steps(4)]]


@scenario(DECORATORS)
def decorated_generators(tools: Tools, name: str) -> Any:
    seen: list[Any] = []

    @tools.block(name)
    def steps() -> Iterator[Any]:
        try:
            seen.append((yield 1))
        finally:
            seen.append("closed")

    one: Any = steps()
    seen += [next(one)]
    one.close()
    return [steps, seen]


@scenario(TABLE)
def left_out_of_order(tools: Tools, name: str) -> Any:
    first, second = tools.block(name), tools.block("session")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    return mine.get()


@scenario(TABLE)
def suppressed_below(tools: Tools, name: str) -> Any:
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(ValueError))
        stack.enter_context(tools.block(name))
        raise ValueError
    return "after"


@scenario()
def in_threads(tools: Tools) -> Any:
    def work(n: int) -> tuple[int, str]:
        with tools.block("span"), tools.block("session"):
            mine.set(str(n))
            return n, mine.get()

    with ThreadPoolExecutor(3) as pool:
        return [*pool.map(tools.wrap(work), range(6)), mine.get()]


@scenario()
async def cancelled(tools: Tools) -> Any:
    @tools.trace
    async def wait() -> None:
        with tools.block("span"):
            await asyncio.sleep(30)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel("enough")
    await task


@scenario()
async def timed_out(tools: Tools) -> Any:
    @tools.trace
    async def wait() -> None:
        await asyncio.sleep(30)

    async with asyncio.timeout(0.01) if hasattr(asyncio, "timeout") else contextlib.AsyncExitStack():
        await wait()


@scenario()
async def task_group(tools: Tools) -> Any:
    @tools.trace
    async def fail(n: int) -> None:
        raise ValueError(n)

    async with asyncio.TaskGroup() as group:
        group.create_task(fail(1))
        group.create_task(fail(2))


@scenario()
async def never_awaited(tools: Tools) -> Any:
    @tools.trace
    async def work() -> None: ...

    work()


@scenario()
async def left_async_generator(tools: Tools) -> Any:
    seen: list[str] = []

    @tools.trace
    async def steps() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            seen.append("finally")

    async for _ in steps():
        break
    for _ in range(3):
        await asyncio.sleep(0)
    return seen


@scenario()
async def async_generator_protocol(tools: Tools) -> Any:
    @tools.trace
    async def steps() -> Any:
        try:
            got = yield 1
            yield got
        except KeyError as error:
            yield repr(error)

    one = steps()
    seen = [await anext(one), await one.asend("sent"), await one.athrow(KeyError("thrown"))]
    await one.aclose()
    return [seen, one.ag_running]


@scenario()
def context_of_the_caller(tools: Tools) -> Any:
    @tools.trace
    def work() -> str:
        mine.set("set below")
        return mine.get()

    return [work(), mine.get()]
