"""Scenarios: every kind of callable below ``@trace``, looked at, called, called wrongly and left by an exception."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import functools
import operator
import warnings
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, Protocol, runtime_checkable

from harness import Tools, run_to_end, scenario


def plain(a: int, b: int = 2, *more: int, key: str = "k", **others: Any) -> list[Any]:
    """Say what was given."""
    if a < 0:
        raise ValueError(f"negative: {a}")
    return [a, b, more, key, others]


async def coroutine(a: int, b: int = 2) -> int:
    """Add after a while."""
    await asyncio.sleep(0)
    if a < 0:
        raise ValueError(f"negative: {a}")
    return a + b


def generator(a: int) -> Iterator[int]:
    """Count."""
    if a < 0:
        raise ValueError(f"negative: {a}")
    yield from range(a)


async def async_generator(a: int) -> AsyncIterator[int]:
    """Count slowly."""
    if a < 0:
        raise ValueError(f"negative: {a}")
    for number in range(a):
        yield number


class Adder:
    """An object that can be called."""

    attribute = "seen"

    def __call__(self, a: int) -> int:
        if a < 0:
            raise ValueError(f"negative: {a}")
        return a + 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Adder)

    __hash__ = None  # type: ignore[assignment]


class AsyncAdder:
    async def __call__(self, a: int) -> int:
        return await coroutine(a)


class Owner:
    def method(self, a: int) -> list[Any]:
        return plain(a)


@functools.lru_cache(maxsize=4)
def cached(a: int) -> list[Any]:
    return plain(a)


@functools.singledispatch
def dispatched(a: object) -> str:
    return f"object {a}"


@dispatched.register
def _(a: int) -> str:
    return plain(a) and f"int {a}"


def warning(a: int) -> int:
    warnings.warn("old", DeprecationWarning, stacklevel=2)
    return plain(a)[0]  # type: ignore[no-any-return]


CALLABLES: Final[dict[str, Callable[..., Any]]] = {
    "plain": plain,
    "coroutine": coroutine,
    "generator": generator,
    "async generator": async_generator,
    "partial": functools.partial(plain, b=5),
    "partial of a partial": functools.partial(functools.partial(plain, 1), 2),
    "partial coroutine": functools.partial(coroutine, b=5),
    "object": Adder(),
    "async object": AsyncAdder(),
    "bound method": Owner().method,
    "lambda": lambda a: plain(a),  # noqa: PLW0108
    "builtin": operator.neg,
    "builtin class method": dict.fromkeys,
    "lru_cache": cached,
    "singledispatch": dispatched,
    "wrapped": functools.wraps(plain)(lambda *args, **kwargs: plain(*args, **kwargs)),  # noqa: PLW0108
    "warning": warning,
}


_MODULE_FUNCTIONS: Final = {name: value for name, value in globals().items() if callable(value)}


@scenario(CALLABLES)
def looked_at(tools: Tools, fn: Any) -> Any:
    globals().update(_MODULE_FUNCTIONS)
    traced = tools.trace(fn)
    globals().update(
        {name: traced for name, own in _MODULE_FUNCTIONS.items() if own is fn}
    )  # where pickle looks for it
    return traced


@scenario(CALLABLES)
async def called(tools: Tools, fn: Any) -> Any:
    return await run_to_end(tools.trace(fn)(3))


@scenario(CALLABLES)
async def called_wrongly(tools: Tools, fn: Any) -> Any:
    return await run_to_end(tools.trace(fn)(1, 2, 3, 4, nonsense=True, a=1))


@scenario(CALLABLES)
async def raising(tools: Tools, fn: Any) -> Any:
    return await run_to_end(tools.trace(name="named", kind="tool")(fn)(-1))


def _make_class(trace: Any) -> Any:  # noqa: C901  # each member is a case
    class Made:
        def __init__(self) -> None:
            self.count = 0

        @trace
        @staticmethod
        def static_above(a: int) -> int:
            return a

        @staticmethod
        @trace
        def static_below(a: int) -> int:
            return a

        @trace
        @classmethod
        def class_above(cls, a: int) -> tuple[str, int]:
            return cls.__name__, a

        @classmethod
        @trace
        def class_below(cls, a: int) -> tuple[str, int]:
            return cls.__name__, a

        @trace
        @property
        def value(self) -> int:
            return self.count

        @value.setter
        def value(self, new: int) -> None:
            self.count = new

        @trace
        @functools.cached_property
        def expensive(self) -> int:
            self.count += 1
            return self.count

        @trace
        def method(self, a: int) -> int:
            return a + self.count

        part = trace(functools.partialmethod(method, 5))

        @trace
        def __enter__(self) -> Made:
            return self

        @trace
        def __exit__(self, *_: object) -> None: ...

        @trace
        def __len__(self) -> int:
            return 7

    return Made


MEMBERS: Final[dict[str, Callable[[Any], Any]]] = {
    "staticmethod below": lambda cls: [cls.static_above(1), cls().static_above(1)],
    "staticmethod above": lambda cls: [cls.static_below(1), cls().static_below(1)],
    "classmethod below": lambda cls: [cls.class_above(1), cls().class_above(1)],
    "classmethod above": lambda cls: [cls.class_below(1), cls().class_below(1)],
    "classmethod of a child": lambda cls: type("Child", (cls,), {}).class_above(1),
    "property": lambda cls: cls().value,
    "property set": lambda cls: (one := cls(), setattr(one, "value", 3), one.count)[1:],
    "property deleted": lambda cls: delattr(cls(), "value"),
    "property of the class": lambda cls: cls.value.__doc__,
    "cached_property": lambda cls: (one := cls(), one.expensive, one.expensive, one.count)[1:],
    "partialmethod": lambda cls: cls().part(),
    "method of the class": lambda cls: cls.method(cls(), 2),
    "method without an object": lambda cls: cls.method(2),
    "dunders": lambda cls: len(cls()),
    "with": lambda cls: cls().__enter__().count,
    "signature": lambda cls: cls.method,
    "bound signature": lambda cls: cls().method.__self__.count,
    "bound equal": lambda cls: (one := cls(), one.method == one.method)[1:],
    "help": lambda cls: sorted(name for name in vars(cls) if not name.startswith("__")),
    "super": lambda cls: type("C", (cls,), {"method": lambda self, a: [super(type(self), self).method(a)]})().method(1),
}


@scenario(MEMBERS)
def member(tools: Tools, use: Callable[[Any], Any]) -> Any:
    return use(_make_class(tools.trace))


@runtime_checkable
class Works(Protocol):
    def work(self) -> int: ...


@scenario()
def abstract(tools: Tools) -> Any:
    class Base(ABC):
        @abstractmethod
        def work(self) -> int: ...

    class Child(Base):
        @tools.trace
        def work(self) -> int:
            return 1

    return [isinstance(Child(), Works), Child().work(), Child.__abstractmethods__]


@scenario()
def abstract_traced(tools: Tools) -> Any:
    class Base(ABC):
        @tools.trace
        @abstractmethod
        def work(self) -> int: ...

    return Base()


@scenario()
def frozen_dataclass(tools: Tools) -> Any:
    @dataclasses.dataclass(frozen=True)
    class Point:
        x: int

        @tools.trace
        def double(self) -> int:
            return 2 * self.x

    return [
        Point(2).double(),
        dataclasses.asdict(Point(2)),
        Point(1) == Point(1),
        [f.name for f in dataclasses.fields(Point)],
    ]


@scenario()
def enumeration(tools: Tools) -> Any:
    class Color(enum.Enum):
        RED = 1

        @tools.trace
        def shout(self) -> str:
            return self.name

    return [list(Color), Color.RED.shout()]


@scenario()
def slots(tools: Tools) -> Any:
    class Small:
        __slots__ = ("a",)

        @tools.trace
        def __init__(self) -> None:
            self.a = 1

    return [Small().a, hasattr(Small(), "__dict__")]


@scenario()
def block_of_contextlib(tools: Tools) -> Any:
    @contextlib.contextmanager
    @tools.trace
    def block() -> Iterator[str]:
        with contextlib.suppress(KeyError):
            yield "inside"

    with block() as got:
        raise KeyError(got)
    with block():
        raise ValueError("mine")


@scenario()
def recursion(tools: Tools) -> Any:
    @tools.trace
    def down(n: int) -> int:
        return n and 1 + down(n - 1)

    return down(50)


@scenario()
def class_itself(tools: Tools) -> Any:
    @tools.trace
    class Thing(Adder):
        def __call__(self, a: int) -> int:
            return super().__call__(a)

    return [Thing()(1), isinstance(Thing(), Thing), issubclass(Thing, Adder), Thing.__mro__[1].__name__]


@scenario()
def generator_protocol(tools: Tools) -> Any:
    seen: list[Any] = []

    @tools.trace
    def steps() -> Any:
        try:
            seen.append((yield 1))
            yield 2
        except KeyError as error:
            seen.append(repr(error))
            yield 3
        finally:
            seen.append("closed")
        return "done"

    one = steps()
    seen += [next(one), one.send("sent"), one.throw(KeyError("thrown"))]
    one.close()
    with contextlib.suppress(StopIteration):
        next(one)
    return [seen, one.gi_frame is None, one.gi_running]


@scenario()
def generator_returns(tools: Tools) -> Any:
    @tools.trace
    def inner() -> Any:
        yield 1
        return "value"

    def outer() -> Any:
        return (yield from inner())

    one = outer()
    next(one)
    next(one)


@scenario()
def left_generator(tools: Tools) -> Any:
    seen: list[str] = []

    @tools.trace
    def steps() -> Iterator[int]:
        try:
            yield 1
        finally:
            seen.append("finally")

    next(steps())
    return seen


@scenario()
def stop_iteration(tools: Tools) -> Any:
    @tools.trace
    def wrong() -> Iterator[int]:
        raise StopIteration("inside")  # noqa: PLR1708  # the mistake that this is about
        yield 1

    return list(wrong())


@scenario()
def exception_group(tools: Tools) -> Any:
    @tools.trace
    def fail() -> None:
        try:
            plain(-1)
        except ValueError as error:
            error.__notes__ = ["a note"]
            raise KeyError("outer") from error

    return fail()


@scenario()
def exits(tools: Tools) -> Any:
    return tools.trace(lambda: exec("raise SystemExit(3)"))()


@scenario()
def prints(tools: Tools) -> Any:
    return tools.trace(print)("hello", end="!\n")


@scenario()
def nothing_to_call(tools: Tools) -> Any:
    return sorted(tools.trace(fn=max)(3, 4) for _ in range(2))
