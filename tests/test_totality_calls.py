"""The program sees what it sees without us: whatever is traced, passed, returned or raised, its span says so."""

from __future__ import annotations

import asyncio
import copy
import enum
import functools
import gc
import inspect
import json
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, get_tracer_provider
from test_plain_values import HOSTILE

from mlspan import tracing
from mlspan._guard import swallowed_errors
from mlspan._shape import is_a
from mlspan.testing import Spans
from mlspan.tracing import runtime
from mlspan.tracing.export.mlflow.traces import translate_segment
from mlspan.tracing.export.otlp.codec import _make_encodable
from mlspan.tracing.export.types import TraceSegment
from mlspan.tracing.operations.call_context import TraceOrigin
from mlspan.tracing.operations.stream import Stream
from mlspan.tracing.otel.fast_span import SpanStarter

trace = tracing.trace


def said(span: Any, name: str = "mlspan.output") -> Any:
    return json.loads(span.attributes[name]) if name in span.attributes else None


class Silent(Exception):  # noqa: N818  # its text is what is odd
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Leaving(Exception):  # noqa: N818  # likewise
    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


@pytest.mark.parametrize("kind", [Silent, Leaving])
def test_an_exception_without_text_is_an_error(kind: type[Exception], spans: Spans) -> None:
    """An exception whose text raises reaches the caller, and its span is ERROR with its type."""
    with pytest.raises(kind), tracing.span("work", input=kind(), attributes={"a": kind()}):
        raise kind
    one = spans.one()
    assert one.status.status_code is StatusCode.ERROR
    assert kind.__name__ in (one.attributes or {})["error.type"]


@pytest.mark.any_span
def test_content_that_cannot_be_written_takes_nothing_along(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where writing one content attribute fails, status, tokens, model and the other one are there."""
    monkeypatch.setenv("MLSPAN_STRICT", "0")
    policy = runtime.get_runtime().policy  # type: ignore[union-attr]  # nothing is shut down
    own = type(policy).render_json  # messages are no text

    def failing(self: Any, value: object) -> str:
        if "bad" in str(value):
            raise RuntimeError("cannot be written")
        return own(self, value)

    monkeypatch.setattr(type(policy), "render_json", failing)
    before = swallowed_errors["writing content"]
    with pytest.raises(KeyError), tracing.span("m", kind="chat", input="fine") as chat:
        chat.record.input_tokens, chat.output = 7, "bad"
        raise KeyError("key")
    one = spans.one()
    attributes = one.attributes or {}
    assert one.status.status_code is StatusCode.ERROR
    assert attributes["gen_ai.usage.input_tokens"] == 7
    assert attributes["gen_ai.request.model"] == "m"
    assert "fine" in attributes["gen_ai.input.messages"]
    assert "gen_ai.output.messages" not in attributes
    assert swallowed_errors["writing content"] == before + 1


@pytest.mark.any_span
def test_what_was_given_is_what_it_was(spans: Spans) -> None:
    """A span's input that is changed later stays what it was; reading it gives the caller's own object."""
    given = ["a"]
    with tracing.span("work", input=given) as work:
        assert work.input is given
        given.append("b")
    with tracing.span("ask", kind="chat") as ask:
        ask.input = messages = [{"role": "user", "parts": [{"type": "text", "content": "hello"}]}]
        messages.append({"role": "user", "parts": []})
    assert said(spans.all[0], "mlspan.input") == ["a"]
    assert len(said(spans.all[1], "gen_ai.input.messages")) == 1


@pytest.mark.any_span
@pytest.mark.parametrize("make", HOSTILE)
async def test_whatever_passes_through_is_passed_through(make: Callable[[], Any], spans: Spans) -> None:
    """Arguments, keywords of any name, what is yielded, awaited, set as output: the very object, and recorded."""
    value = make()

    @trace
    def pass_on(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    @trace
    def give_twice(one: Any) -> Iterator[Any]:
        yield (yield one)

    @trace
    async def give_later(one: Any) -> AsyncIterator[Any]:
        yield one

    @trace
    async def wait_for(one: Any) -> Any:
        return one

    (got,), named = pass_on(value, self=value, args=value, kwargs=value)
    assert got is named["self"] is named["args"] is named["kwargs"] is value
    steps = give_twice(value)
    assert next(steps) is value
    assert steps.send(value) is value
    assert list(steps) == []
    assert [one is value async for one in give_later(value)] == [True]
    assert await wait_for(value) is value or inspect.isgenerator(value)
    for kind in ("tool", "chat", "embeddings", "retrieval"):
        with tracing.span(value, kind=kind, input=value, attributes={"own": value, "listed": [value]}) as block:
            block.output = value
            assert block.input is value
    assert len(spans.all) == 8
    recorded = ["mlspan.output" in (span.attributes or {}) for span in spans.all[:4]]
    assert all(recorded) or inspect.isgenerator(value)  # which nobody has read


class Two(enum.IntEnum):
    TWO = 2


@pytest.mark.timeout(60)
@pytest.mark.any_span
def test_an_integer_of_another_class_is_one(spans: Spans) -> None:
    """Counts and attributes that are a member of an IntEnum are integers, wherever they are looked at."""
    assert is_a(Two.TWO, int)
    assert is_a(Two.TWO, (int, float))
    with tracing.span("m", kind="chat", attributes={"own": Two.TWO}) as chat:
        chat.record.input_tokens = Two.TWO
        chat.record.extra["odd"] = {"in": [Two.TWO]}
    one = spans.one()
    assert (one.attributes or {})["gen_ai.usage.input_tokens"] == 2
    assert isinstance(_make_encodable(one), ReadableSpan)
    assert translate_segment(TraceSegment(TraceOrigin(), (one,), 0, whole=True), None).read_span_totals()


class Named:
    def __str__(self) -> str:
        return "its text"


def test_a_name_is_text(spans: Spans) -> None:
    """A span whose name or kind is no string has the text of it."""
    for name in (Named(), 5, None, MagicMock):
        with tracing.span(name):  # type: ignore[arg-type]  # on purpose
            pass
    with tracing.span("tool", kind=None):  # type: ignore[arg-type]  # on purpose
        pass
    assert [span.name for span in spans.all] == ["its text", "5", "None", "<MagicMock class>", "tool"]


def test_none_is_no_session(spans: Spans) -> None:
    """``session(None)`` is no session, inside of another one too; so with the others."""
    with tracing.session("outer"), tracing.user("ada"):  # one inside the other is what is asked
        with tracing.session(None), tracing.user(None), tracing.request_id(None), tracing.tags(n=1):  # type: ignore[arg-type]
            with tracing.span("work"):
                pass
    attributes = spans.one().attributes or {}
    assert {name for name in attributes if name.startswith(("session", "user", "mlspan.client"))} == set()
    assert attributes["mlspan.tag.n"] == "1"


def test_surroundings_are_storable_text(spans: Spans) -> None:
    """Half a character in a session or a tag is replaced where it comes in."""
    with tracing.session("s\ud800"), tracing.tags(**{"k\ud800": "v\ud800"}), tracing.span("n\ud800"):
        pass
    span = spans.one()
    assert (span.name, (span.attributes or {})["session.id"], (span.attributes or {})["mlspan.tag.k?"]) == (
        "n?",
        "s?",
        "v?",
    )


@pytest.mark.parametrize("longest", [1, 2, 7, 64, 4095])
def test_opentelemetrys_limit_leaves_json(longest: int, tracing_off: None) -> None:
    """Where an attribute may have so many characters, content is cut as JSON."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(span_limits=SpanLimits(max_span_attribute_length=longest), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    now = runtime.start_runtime(runtime.resolve_config({}))
    now._span_starter, now._followed_provider = (
        SpanStarter(provider.get_tracer("app")),
        get_tracer_provider(),
    )
    with tracing.span("m", kind="chat", input='say "ä"' * 5000) as chat:
        chat.output = [
            {"role": "assistant", "parts": [{"type": "text", "content": "b" * 9000}], "finish_reason": "stop"}
        ]
    (span,) = exporter.get_finished_spans()
    for name in ("gen_ai.input.messages", "gen_ai.output.messages"):
        if longest > 1:
            written = (span.attributes or {})[name]
            assert len(written) <= longest  # type: ignore[arg-type]  # it is text
            assert isinstance(json.loads(written), list)  # type: ignore[arg-type]  # it is text


class Numbers:
    """An iterator with more to it."""

    def __init__(self) -> None:
        self._own = iter([1, 2])

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        return next(self._own)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, place: int) -> int:
        return place

    def __bool__(self) -> bool:
        return False


def test_an_iterator_comes_back_as_it_is(spans: Spans) -> None:
    """What a traced function returns is the very object, unless it is a generator or a stream that we know."""
    for made in (Numbers(), MagicMock(), iter([1]), map(str, [1]), open(__file__)):  # noqa: SIM115, PTH123
        assert trace(lambda made=made: made)() is made
        if hasattr(made, "close") and not isinstance(made, MagicMock):
            made.close()
    assert len(spans.all) == 5


def test_a_generator_that_is_returned_is_gathered(spans: Spans) -> None:
    """Its items together are the output, and the span is current while its body runs."""

    def items() -> Iterator[str]:
        with tracing.span("inside"):
            pass
        yield "a"
        yield "b"

    @trace
    def work() -> Iterator[str]:
        return items()

    got = work()
    assert inspect.isgenerator(got)
    assert list(got) == ["a", "b"]
    outer, inside = sorted(spans.all, key=lambda span: span.name == "inside")
    assert (outer.attributes or {})["mlspan.output"] == "ab"
    assert inside.parent is not None
    assert outer.context is not None
    assert inside.parent.span_id == outer.context.span_id
    left = work()
    next(left)
    left.close()
    assert any((span.attributes or {}).get("mlspan.stream.end") == "closed" for span in spans.all)


def test_a_stream_can_be_copied() -> None:
    """Copying a traced stream does what copying the stream itself does."""

    class Watcher:
        def observe(self, value: Any) -> bool:  # as Operation has it
            return True

        def finish(self, *args: Any, **more: Any) -> None: ...

    own = Numbers()
    stream = Stream(own, Watcher())  # type: ignore[arg-type]  # enough of one
    assert type(copy.copy(stream)) is Numbers
    with pytest.raises(TypeError):
        copy.copy(Stream((n for n in "ab"), Watcher()))  # type: ignore[arg-type]


class Slotted:
    __slots__ = ("x",)

    @trace
    def method(self, a: int) -> int:
        return a + 1

    @trace
    @staticmethod
    def above_static(a: int) -> int:
        return a + 1

    @staticmethod
    @trace
    def below_static(a: int) -> int:
        return a + 1

    @trace
    @classmethod
    def above_class(cls, a: int) -> int:
        assert cls is Slotted
        return a + 1

    @classmethod
    @trace
    def below_class(cls, a: int) -> int:
        return a + 1

    @trace(name="prop")
    @property
    def above_property(self) -> int:
        return 2

    @property
    @trace
    def below_property(self) -> int:
        return 2

    part = trace(functools.partialmethod(method, 1))


class Callable_:  # noqa: N801  # as the name is taken
    """Its own words."""

    here = 5

    def __call__(self, a: int, *, b: int = 0) -> int:
        return a + b + 1


class AsyncCallable:
    async def __call__(self, a: int) -> int:
        return a + 1


@trace
class Calls:
    def __call__(self, a: int) -> int:
        return a + 1


@functools.lru_cache
def cached(a: int) -> int:
    return a + 1


def plus(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


def test_methods_of_every_kind_are_traced(spans: Spans) -> None:
    """Above and below staticmethod, classmethod, property and partialmethod; of a class with slots too."""
    one = Slotted()
    calls = [one.method, one.above_static, Slotted.below_static, Slotted.above_class, one.below_class]
    assert [call(1) for call in calls] == [2] * 5
    assert (one.above_property, one.below_property, one.part()) == (2, 2, 2)
    assert len(spans.all) >= 8
    assert all(said(span, "mlspan.input") in ({"a": 1}, {}) for span in spans.all)


@pytest.mark.parametrize(
    "make",
    [
        lambda: plus,
        lambda: functools.partial(plus, b=1),
        Callable_,
        lambda: cached,
        lambda: functools.partial(Callable_(), b=0),
        lambda: Callable_().__call__,
        lambda: (1).__add__,
        lambda: functools.partial(max, 2),
        Calls,
    ],
)
def test_whatever_can_be_called_is_traced(make: Callable[[], Any], spans: Spans) -> None:
    """Partials, objects, builtins, caches: the call is a span, and signature, name and attributes stay."""
    plain, traced = make(), trace(make())
    cached.cache_clear()
    spans.clear()
    assert traced(1) == plain(1) == 2
    assert spans.all
    for name in ("__name__", "__doc__", "here", "cache_info", "func"):
        if hasattr(plain, name) and name not in {"cache_info", "func"}:
            assert getattr(traced, name) == getattr(plain, name)
        assert hasattr(plain, name) == hasattr(traced, name) or name == "__name__"
    try:
        expected = inspect.signature(plain)
    except ValueError:
        return
    assert inspect.signature(traced) == expected


async def test_coroutine_functions_of_every_kind(spans: Spans) -> None:
    """A partial of one, an object that is called as one: the span ends with the coroutine."""

    async def add(a: int, b: int) -> int:
        return a + b

    assert await trace(functools.partial(add, 1))(2) == 3
    assert inspect.iscoroutinefunction(trace(add))
    assert await trace(AsyncCallable())(2) == 3
    assert [said(span) for span in spans.all] == [3, 3]


async def later(a: int) -> int:
    await asyncio.sleep(0)
    with tracing.span("inside"):
        return a + 1


def passed_on(fn: Any) -> Any:
    @functools.wraps(fn)
    def call(*args: Any) -> Any:
        return fn(*args)

    return call


@pytest.mark.parametrize("make", [functools.lru_cache, passed_on, lambda fn: functools.partial(passed_on(fn), 1)])
async def test_a_coroutine_that_is_passed_on_is_awaited(make: Callable[[Any], Any], spans: Spans) -> None:
    """Whatever hands out a coroutine, its span ends with that, and is current in it."""
    for await_it in (lambda made: made, asyncio.create_task, lambda made: asyncio.wait_for(made, 5)):
        spans.clear()
        traced = trace(make(later), name="work")
        made = traced() if isinstance(traced, functools.partial) else traced(1)
        assert inspect.iscoroutine(made)
        assert await await_it(made) == 2
        outer, inside = sorted(spans.all, key=lambda span: span.name == "inside")
        assert (said(outer), inside.parent.span_id) == (2, outer.context.span_id)  # type: ignore[union-attr]  # it has


async def test_a_coroutine_that_is_passed_on_can_end_in_any_way(spans: Spans) -> None:
    """It fails, is cancelled, is closed, is never awaited: its span ends, and says how."""

    async def waiting(error: Exception | None) -> None:
        if error is not None:
            raise error
        await asyncio.sleep(60)

    hand_out = trace(passed_on(waiting), name="work")
    with pytest.raises(KeyError):
        await hand_out(KeyError("key"))
    task = asyncio.create_task(hand_out(None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    hand_out(None).close()

    def drop_one() -> None:
        hand_out(None)
        gc.collect()

    with pytest.warns(RuntimeWarning, match="never awaited"):
        drop_one()
    ends = [
        (span.attributes or {}).get("error.type") or (span.attributes or {})["mlspan.stream.end"] for span in spans.all
    ]
    assert ends == ["KeyError", "asyncio.exceptions.CancelledError", "closed", "abandoned"]


part_of_plus = trace(functools.partial(plus, b=1), name="part", kind="tool")
counting = trace(Callable_())


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
@pytest.mark.parametrize(
    "make", [lambda: part_of_plus, lambda: counting, lambda: trace(cached), lambda: trace(Callable_().__call__)]
)
def test_what_is_traced_is_copied_and_pickled(
    make: Callable[[], Any], again: Callable[[Any], Any], spans: Spans
) -> None:
    """A copy, a deep copy and one out of a pickle are what they were, traced as before."""
    cached.cache_clear()
    made = again(make())
    assert made(1) == 2
    (span,) = spans.all
    if make() is part_of_plus:
        assert (type(made.func), made.keywords, span.name) == (type(plus), {"b": 1}, "execute_tool part")


@functools.lru_cache
def by_name(a: int) -> int:
    return a + 1


by_name = trace(by_name)


def test_what_is_found_by_name_is_pickled_by_name() -> None:
    """A cache that is traced where it is defined is itself out of a pickle; what cannot be pickled fails."""
    assert pickle.loads(pickle.dumps(by_name)) is by_name
    assert copy.deepcopy(by_name) is by_name
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(trace(functools.partial(lambda: 1)))


def test_a_builtin_without_a_signature_keeps_its_arguments(spans: Spans) -> None:
    """What has no names for its arguments has them by place."""
    assert trace(max)(3, 7) == 7
    assert trace(dict.fromkeys)("ab", 1) == {"a": 1, "b": 1}
    assert spans.all[0].name == "max"
    assert 7 in said(spans.all[0], "mlspan.input")["args"]


def test_a_class_is_the_class_that_it_was(spans: Spans) -> None:
    """A traced class is itself; calls of its instances are traced."""
    assert isinstance(Calls, type)
    assert isinstance(Calls(), Calls)
    assert Calls()(1) == 2
    assert spans.one().name == "Calls"


class Plain:
    """Nothing to call."""


@pytest.mark.parametrize("thing", [5, None, Plain(), Plain, functools.singledispatchmethod(plus), {"a": 1}, ..., int])
def test_what_cannot_be_traced_comes_back(thing: Any, caplog: pytest.LogCaptureFixture) -> None:
    """One line, and the very object."""
    from mlspan import _guard

    _guard._logged_lines.clear()
    if thing is not None:
        assert trace(thing) is thing
    assert trace(name="x")(thing) is thing
    assert len([record for record in caplog.records if "cannot trace" in record.getMessage()]) >= 1


class Hostile:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __call__(self) -> int:
        return 7


def test_decorating_never_raises(spans: Spans) -> None:
    """An object that answers nothing, or anything, is called as before."""
    assert trace(Hostile())() == 7
    mock = MagicMock(return_value=3)
    assert trace(mock)(1) == 3
    assert mock.mock_calls == [((1,),)]


def test_a_mock_as_an_argument_is_not_called(spans: Spans) -> None:
    """What a traced function is given is only looked at."""
    mock = MagicMock()
    trace(lambda client: None)(mock)  # it is passed, not used
    with tracing.span("work", input=mock) as work:
        work.output = mock
    assert mock.mock_calls == []


def test_a_call_that_does_not_fit_fails_as_it_does_without_us(spans: Spans) -> None:
    """Wrong arguments are the caller's TypeError, and an ERROR span."""
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        trace(plus)()  # type: ignore[call-arg]  # on purpose
    assert spans.one().status.status_code is StatusCode.ERROR
