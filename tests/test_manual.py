"""Spans of one's own: the context manager, the decorator, and what crosses threads and tasks."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry import context as otel
from opentelemetry import trace

from mlspan import tracing
from mlspan.testing import Spans, content


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("step", "x [mlspan.kind=step]"),
        ("reranker", "x [mlspan.kind=reranker]"),
        ("tool", "execute_tool x"),
        ("AGENT", "invoke_agent x"),
        ("workflow", "invoke_workflow x"),
        ("retriever", "retrieval x"),
    ],
)
def test_a_span_of_each_kind(spans: Spans, kind: str, line: str) -> None:
    """A kind that the conventions know is named as they have it, any other is a step of that kind."""
    with tracing.span("x", kind=kind, input={"q": 1}, attributes={"app.part": "a"}) as span:
        span.output = [{"id": "d1", "score": 0.5}]
    assert spans.tree("mlspan.kind") == line
    assert (spans.one().attributes or {})["app.part"] == "a"


def test_a_chat_of_ones_own(spans: Spans) -> None:
    """A model that no integration knows: the record's fields say what the conventions ask for."""
    with tracing.span("my-model", kind="chat", input="hello") as chat:
        chat.record.provider, chat.record.input_tokens, chat.record.output_tokens = "openai", 3, 4
        chat.output = "hi"
    assert (spans.one().attributes or {})["gen_ai.usage.output_tokens"] == 4
    assert content(spans.one(), "gen_ai.output.messages") == [
        {"role": "assistant", "parts": [{"type": "text", "content": "hi"}], "finish_reason": "stop"}
    ]


def test_an_exception_passes_and_is_recorded(spans: Spans) -> None:
    """What leaves the block is the caller's own exception, and the span's error."""
    with pytest.raises(KeyError), tracing.span("x"):
        raise KeyError("gone")
    assert spans.tree() == "x [ERROR KeyError]"


def test_the_decorator_on_every_kind_of_function(spans: Spans) -> None:
    """Plain and async functions and generators: arguments in, what is returned or yielded out, the same kind still."""

    @tracing.trace
    def plain(a: int, *, b: int = 2) -> int:
        return a + b

    @tracing.trace(name="later", kind="tool")
    async def later(a: int) -> int:
        await asyncio.sleep(0)
        return a

    @tracing.trace
    def several(n: int) -> Iterator[int]:
        yield from range(n)

    @tracing.trace
    async def several_later(n: int) -> AsyncIterator[str]:
        for i in range(n):
            yield str(i)

    async def collect() -> tuple[int, list[str]]:
        return await later(5), [item async for item in several_later(2)]

    assert plain(1) == 3
    assert list(several(3)) == [0, 1, 2]
    assert asyncio.run(collect()) == (5, ["0", "1"])
    assert inspect.iscoroutinefunction(later)
    assert inspect.isgeneratorfunction(several)
    assert inspect.isasyncgenfunction(several_later)
    name = "test_the_decorator_on_every_kind_of_function.<locals>"
    seen = {span.name: span.attributes or {} for span in spans.all}
    said = {key: (a.get("mlspan.input"), a.get("mlspan.output")) for key, a in seen.items() if "mlspan.kind" in a}
    assert said == {
        f"{name}.plain": ('{"a":1}', "3"),
        f"{name}.several": ('{"n":3}', "[0,1,2]"),
        f"{name}.several_later": ('{"n":2}', "01"),
    }
    assert seen["execute_tool later"]["gen_ai.tool.call.arguments"] == '{"a":5}'


def test_a_generator_left_early(spans: Spans) -> None:
    """A generator that nobody finishes ends its span when it is closed or collected, and runs its own clean-up."""
    cleaned = []

    @tracing.trace(name="g")
    def several() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            cleaned.append(True)

    for _ in several():
        break
    gc.collect()
    assert (spans.tree(), cleaned) == ("g [stream closed]", [True])


def test_a_generator_keeps_its_protocol(spans: Spans) -> None:
    """``send``, ``throw`` and the return value reach the generator as ever."""

    @tracing.trace(name="g")
    def echo() -> Iterator[str]:
        got = yield "first"
        try:
            yield got
        except ValueError as error:
            yield str(error)
        return "end"

    generator = echo()
    assert [next(generator), generator.send("second"), generator.throw(ValueError("third"))] == [
        "first",
        "second",
        "third",
    ]
    with pytest.raises(StopIteration) as stopped:
        next(generator)
    assert (stopped.value.value, spans.one().attributes["mlspan.output"]) == ("end", "end")


def test_a_generators_span_is_current_in_its_body_only(spans: Spans) -> None:
    """Between two steps the current span is the caller's; what the body starts is the generator's child."""

    @tracing.trace(name="g")
    def several() -> Iterator[int]:
        with tracing.span("inner"):
            pass
        yield 1

    with tracing.span("outer"):
        for _ in several():
            with tracing.span("between"):
                pass
    assert spans.tree() == "outer\n  g\n    inner\n  between"


async def test_an_async_generator_driven_by_several_tasks(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    """Each step may run in another task: no context is left attached, and nothing is logged."""

    @tracing.trace(name="g")
    async def several() -> AsyncIterator[int]:
        for i in range(3):
            await asyncio.sleep(0)
            yield i

    generator = several()
    got = [await asyncio.create_task(anext(generator)) for _ in range(3)]
    with pytest.raises(StopAsyncIteration):
        await asyncio.create_task(anext(generator))
    assert (got, spans.tree(), caplog.records) == ([0, 1, 2], "g", [])


async def test_tasks_keep_their_own_surroundings(spans: Spans) -> None:
    """Sessions and users of tasks that run at once do not mix."""

    async def work(name: str) -> None:
        with tracing.session(name), tracing.user(f"user of {name}"), tracing.span(name):
            await asyncio.sleep(0.01)

    await asyncio.gather(*(work(str(i)) for i in range(20)))
    assert {(s.name, s.attributes["session.id"], s.attributes["user.id"]) for s in spans.all} == {
        (str(i), str(i), f"user of {i}") for i in range(20)
    }


def test_tags_add_up(spans: Spans) -> None:
    """Inner tags add to outer ones and end with their block."""
    with tracing.tags(a=1, b=2):
        with tracing.tags(b=3), tracing.span("inner"):
            pass
        with tracing.span("outer"):
            pass
    assert [{k: v for k, v in s.attributes.items() if k.startswith("mlspan.tag.")} for s in spans.all] == [
        {"mlspan.tag.a": "1", "mlspan.tag.b": "3"},
        {"mlspan.tag.a": "1", "mlspan.tag.b": "2"},
    ]


def test_wrap_crosses_threads(spans: Spans) -> None:
    """A wrapped function may run in many threads at once, each below the caller's span."""

    @tracing.trace(name="work")
    def work(n: int) -> int:
        return n

    with tracing.span("outer"), ThreadPoolExecutor(4) as pool:
        assert list(pool.map(tracing.wrap(work), range(8))) == list(range(8))
    assert spans.tree() == "\n".join(["outer", *["  work"] * 8])


def test_ids_of_the_current_trace(spans: Spans) -> None:
    """The trace id is that of the span around, and None outside."""
    with tracing.span("x") as span:
        assert tracing.current_trace_id() == f"{span._operation.span.get_span_context().trace_id:032x}"
    assert tracing.current_trace_id() is None


def test_a_users_span_is_a_parent_and_a_child(spans: Spans) -> None:
    """Our spans and the application's own OpenTelemetry spans nest in one tree."""
    tracer = trace.get_tracer("app")
    with tracer.start_as_current_span("request"), tracing.span("x"), tracer.start_as_current_span("query"):
        pass
    assert spans.tree() == "request\n  x\n    query"


def test_suppressed(spans: Spans) -> None:
    """Inside suppress_instrumentation nothing is recorded, and blocks and functions run as ever."""
    token = otel.attach(otel.set_value(otel._SUPPRESS_INSTRUMENTATION_KEY, True))
    with tracing.span("x") as span:
        span.output = 1
    assert tracing.trace(lambda: 5)() == 5
    otel.detach(token)
    assert spans.all == []


def test_after_shutdown_nothing_is_recorded_until_configured(spans: Spans, tracing_off: None) -> None:
    """Shutdown is an end that configure can undo."""
    tracing.shutdown(5)
    with tracing.span("unseen"):
        pass
    tracing.configure()
    with tracing.span("seen"):
        pass
    assert spans.tree() == "seen"


def test_many_threads_leave_no_trace_of_each_other(spans: Spans) -> None:
    """Twenty threads, each with a tree of its own: no span lands under another's parent."""

    def work(n: int) -> None:
        with tracing.span(f"root {n}"), tracing.span(f"child {n}"):
            pass

    threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(spans.tree().split("\n")) == sorted(
        [f"root {n}" for n in range(20)] + [f"  child {n}" for n in range(20)]
    )
