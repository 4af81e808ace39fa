"""Session, user and tags as blocks and decorators, wherever the block is left: nothing of it reaches the program."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from mlspan import tracing
from mlspan.testing import Spans

BLOCKS: dict[str, Callable[[], Any]] = {
    "session": lambda: tracing.session("s"),
    "user": lambda: tracing.user("u"),
    "tags": lambda: tracing.tags(a="b"),
    "run": lambda: tracing.run("r"),
    "model": lambda: tracing.model("m"),
    "request_id": lambda: tracing.request_id("q"),
    "span": lambda: tracing.span("x"),
}


def scope_of(spans: Spans) -> list[tuple[Any, Any]]:
    return [((span.attributes or {}).get("session.id"), (span.attributes or {}).get("user.id")) for span in spans.all]


@pytest.mark.parametrize("block", BLOCKS)
def test_another_task_closes_the_generator(block: str, spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    """An async generator that is closed from a task that did not enter it, the context copied or not."""

    async def generate() -> AsyncIterator[int]:
        with BLOCKS[block]():
            yield 1
            yield 2

    async def main() -> None:
        for context in (None, contextvars.Context()):
            steps = generate()
            await asyncio.create_task(anext(steps))  # type: ignore[arg-type]
            await asyncio.create_task(steps.aclose(), context=context)  # type: ignore[attr-defined, call-arg]
        steps = generate()
        await anext(steps)
        await asyncio.create_task(steps.aclose())  # type: ignore[attr-defined]  # its context is a copy of this one
        await asyncio.create_task(ask_outside())

    async def ask_outside() -> None:
        with tracing.span("later"):
            pass

    asyncio.run(main())
    assert caplog.records == []


@pytest.mark.parametrize("block", BLOCKS)
def test_two_threads_run_the_two_halves(block: str, spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    """A FastAPI dependency that yields: each half runs in a thread, in a copy of the request's context."""

    def depend() -> Iterator[int]:
        with BLOCKS[block]():
            yield 1

    dependency, errors = depend(), []

    def half() -> None:
        try:
            contextvars.copy_context().run(next, dependency, None)
        except BaseException as error:
            errors.append(error)

    for _ in range(2):
        thread = threading.Thread(target=half)
        thread.start()
        thread.join(10)
    with tracing.span("later"):
        pass
    assert errors == []
    assert caplog.records == []
    assert scope_of(spans)[-1] == (None, None)


def test_the_context_that_stays_is_put_back(spans: Spans) -> None:
    """Where the block's own value is current in a copied context, the one from before comes back there."""

    async def generate() -> AsyncIterator[int]:
        with tracing.session("inner"):
            yield 1

    async def close(steps: Any) -> None:
        await steps.aclose()
        with tracing.span("after"):
            pass

    async def main() -> None:
        with tracing.session("outer"):
            steps = generate()
            await anext(steps)
            await asyncio.create_task(close(steps))

    asyncio.run(main())
    assert scope_of(spans) == [("outer", None)]


class TestDecorator:
    """``@tracing.session("s")`` is read at each call, and is the function's own kind."""

    def test_what_is_around_the_call_stays(self, spans: Spans) -> None:
        @tracing.session("s")
        def ask() -> None:
            with tracing.span("x"):
                pass

        with tracing.user("ada"):
            ask()
        ask()
        assert scope_of(spans) == [("s", "ada"), ("s", None)]

    def test_every_kind_of_function(self, spans: Spans) -> None:
        def work() -> None:
            with tracing.span("inside"):
                pass

        @tracing.session("s")
        async def coroutine() -> str:
            await asyncio.sleep(0)
            work()
            return "done"

        @tracing.session("s")
        def generator() -> Any:
            got = []
            for number in range(2):
                work()
                got.append((yield number))
            return got

        @tracing.session("s")
        async def async_generator() -> AsyncIterator[int]:
            for number in range(2):
                work()
                yield number

        async def main() -> None:
            assert await coroutine() == "done"
            async for _ in async_generator():
                with tracing.span("outside"):
                    pass

        assert inspect.iscoroutinefunction(coroutine)
        assert inspect.isgeneratorfunction(generator)
        assert inspect.isasyncgenfunction(async_generator)
        asyncio.run(main())
        steps = generator()
        assert next(steps) == 0
        with tracing.span("outside"):
            pass
        assert steps.send("a") == 1
        with pytest.raises(StopIteration) as ended:
            steps.send("b")
        assert ended.value.value == ["a", "b"]
        found = [(span.name, session) for span, (session, _) in zip(spans.all, scope_of(spans), strict=True)]
        assert {session for name, session in found if name == "inside"} == {"s"}
        assert {session for name, session in found if name == "outside"} == {None}
        assert len(found) == 8

    def test_errors_and_closing_go_through(self) -> None:
        seen: list[str] = []

        @tracing.user("u")
        def generator() -> Iterator[int]:
            try:
                yield 1
            except ValueError:
                seen.append("thrown in")
            try:
                yield 2
            finally:
                seen.append("closed")

        steps: Any = generator()
        next(steps)
        assert steps.throw(ValueError()) == 2
        steps.close()
        assert seen == ["thrown in", "closed"]

    def test_at_the_same_time(self, spans: Spans) -> None:
        """One decorated coroutine function in many tasks: each has the scope of its own caller."""

        @tracing.session("s")
        async def ask() -> None:
            await asyncio.sleep(0.001)
            with tracing.span("x"):
                pass

        async def call(name: str) -> None:
            with tracing.user(name):
                await ask()

        async def main() -> None:
            await asyncio.gather(*(call(f"u{number}") for number in range(20)))

        asyncio.run(main())
        assert sorted(user for _, user in scope_of(spans)) == sorted(f"u{number}" for number in range(20))


def test_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """OpenTelemetry's own ``detach`` logs each token of another context: it is not asked."""
    caplog.set_level(logging.DEBUG)
    with tracing.span("x"), tracing.session("s"):
        pass
    assert "detach" not in caplog.text


@pytest.mark.parametrize("decorate", [tracing.trace, tracing.session("s")], ids=["trace", "session"])
class TestContextManager:
    """``contextlib`` throws into a decorated generator what its block raises, in the form of its Python."""

    def test_of_a_generator(self, decorate: Any, spans: Spans) -> None:
        seen: list[str] = []

        @contextlib.contextmanager
        @decorate
        def block() -> Iterator[str]:
            try:
                yield "inside"
            except KeyError as error:
                seen.append(repr(error))

        with block() as got:
            assert got == "inside"
            raise KeyError("gone")
        with pytest.raises(ValueError, match="mine"), block():
            raise ValueError("mine")
        assert seen == ["KeyError('gone')"]

    async def test_of_an_async_generator(self, decorate: Any, spans: Spans) -> None:
        seen: list[str] = []

        @contextlib.asynccontextmanager
        @decorate
        async def block() -> AsyncIterator[str]:
            try:
                yield "inside"
            except KeyError as error:
                seen.append(repr(error))

        async with block() as got:
            assert got == "inside"
            raise KeyError("gone")
        with pytest.raises(ValueError, match="mine"):
            async with block():
                raise ValueError("mine")
        assert seen == ["KeyError('gone')"]
