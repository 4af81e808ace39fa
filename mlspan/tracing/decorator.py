"""``@trace``: whatever Python can call, with a span around each call, and everything else about it as it was."""

from __future__ import annotations

import copy
import functools
import inspect
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    MethodType,
    MethodWrapperType,
)
from typing import Any, Final, TypeVar, overload

from .._frames import skip_in_warnings
from .._guard import guard, warn_once
from .manual import begin, put, record_of
from .operations.content import as_text, to_plain_data
from .operations.foreign_objects import find_on_class
from .operations.generators import MOST_ITEMS, TracedGenerator, join_items, wrap_async_generator, wrap_generator
from .operations.noop import NOOP_OPERATION
from .operations.operation import Operation
from .operations.records import Record
from .operations.response_proxy import StreamEnd
from .operations.stream import AsyncStream, Awaited, Generated, PlainAsyncStream, PlainStream, Stream
from .runtime import get_runtime

F = TypeVar("F", bound=Callable[..., Any])
_PLAIN: Final = (FunctionType, MethodType, BuiltinFunctionType, MethodWrapperType)


@overload
def trace(fn: F) -> F: ...
@overload
def trace(*, name: str | None = None, kind: str = "step") -> Callable[[F], F]: ...
def trace(fn: object = None, *, name: str | None = None, kind: str = "step") -> Any:
    """Trace every call of a function: its arguments are the span's input, what it returns or yields its output.

    Takes whatever Python calls: plain and async functions and generators, methods above or below ``staticmethod``,
    ``classmethod`` and ``property``, partials, objects that can be called; of a class, the calls of its instances. Of a
    generator, the span is open until it ends or is closed. What cannot be traced comes back as it is, with a line in
    the log.
    """
    if fn is None:
        return lambda fn: _wrap_function(fn, name, kind)
    if type(fn) is str:  # @trace("name")
        return lambda traced: _wrap_function(traced, fn, kind)
    return _wrap_function(fn, name, kind)


def _wrap_function(fn: object, name: str | None, kind: str) -> object:
    """Return *fn* traced, or *fn* itself: decorating never raises."""
    try:
        for cls, rebuilt in _DESCRIPTORS:
            if type(fn) is cls:
                return rebuilt(fn, lambda inner: _wrap_function(inner, name, kind))
        if isinstance(fn, type):
            return _class(fn, name, kind)
        if callable(fn):
            return _called(fn, name, kind)
    except Exception as error:  # noqa: BLE001  # whatever an object makes of being asked
        line = "mlspan: cannot trace %s (%s): it is as it was"
        warn_once(line, as_text(fn), type(error).__name__, place=as_text(fn))
        return fn
    warn_once("mlspan: cannot trace %s, which nothing can call: it is as it was", as_text(fn), place=as_text(fn))
    return fn


def _class(cls: type, name: str | None, kind: str) -> type:
    """Trace the calls of the instances of *cls*, which stays itself."""
    own = vars(cls).get("__call__")
    if own is None:
        warn_once(
            "mlspan: cannot trace the class %s, whose instances nothing can call", as_text(cls), place=as_text(cls)
        )
    else:
        type.__setattr__(cls, "__call__", _wrap_function(own, name or cls.__qualname__, kind))
    return cls


def _property(own: property, traced: Callable[[object], Any]) -> property:
    fget, fset, fdel = (fn and traced(fn) for fn in (own.fget, own.fset, own.fdel))
    return property(fget, fset, fdel, own.__doc__)


_DESCRIPTORS: Final[list[tuple[type, Callable[[Any, Callable[[Any], Any]], object]]]] = [
    (staticmethod, lambda own, traced: staticmethod(traced(own.__func__))),
    (classmethod, lambda own, traced: classmethod(traced(own.__func__))),
    (property, _property),
    (functools.cached_property, lambda own, traced: functools.cached_property(traced(own.func))),
    (
        functools.partialmethod,
        lambda own, traced: functools.partialmethod(traced(own.func), *own.args, **own.keywords),
    ),
]


def _called(fn: Any, name: str | None, kind: str) -> object:
    opened = _opener(fn, name or _name(fn), kind)
    code = fn
    while type(code) is functools.partial:
        code = code.func
    if not isinstance(code, _PLAIN):
        code = find_on_class(type(code), "__call__")
    wrapper = next((wrapper for is_kind, wrapper in _WRAPPERS if is_kind(code)), _wrap_plain_function)
    if type(fn) is FunctionType:
        return wraps(fn)(skip_in_warnings(wrapper(fn, opened)))
    return _in_place_of(fn, opened, wrapper, (name, kind))


def _in_place_of(fn: Any, opened: Callable[..., Any], wrapper: Callable[..., Any], how: tuple[object, ...]) -> object:
    """Return what is *fn* in all but being called: its attributes are those of *fn*, and it binds as *fn* does."""

    def called(own: object, instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if own is fn:
            return skip_in_warnings(wrapper(own, opened))(*args, **kwargs)
        bound = wrapper(own, lambda args, kwargs: opened((instance, *args), kwargs))
        return skip_in_warnings(bound)(*args, **kwargs)

    made = _find_proxy_class()(fn, skip_in_warnings(called))
    made._self_how = how
    return made


@functools.cache
def _find_proxy_class() -> Any:
    """Return the class of traced callables that are no functions, made at first use: wrapt takes time to import."""
    import wrapt

    class TracedCallable(wrapt.FunctionWrapper[Any, Any]):
        """A callable with spans around its calls, which is copied and pickled as the callable itself is."""

        def __copy__(self) -> object:
            return self._traced(copy.copy(self.__wrapped__))

        def __deepcopy__(self, known: dict[int, object]) -> object:
            return self._traced(copy.deepcopy(self.__wrapped__, known))

        def _traced(self, made: Any) -> Any:
            return self if made is self.__wrapped__ else _wrap_function(made, *self._self_how)

        def __reduce_ex__(self, protocol: Any) -> Any:
            """Pickle by name what is found by name, else the callable itself, to be traced again."""
            found = self.__wrapped__.__reduce_ex__(protocol)
            if isinstance(found, str):
                with suppress(AttributeError):
                    module: Any = sys.modules.get(self.__module__)
                    if functools.reduce(getattr, found.split("."), module) is self:
                        return found
            return _wrap_function, (self.__wrapped__, *self._self_how)

    return TracedCallable


def _name(fn: Any) -> str:
    while type(fn) is functools.partial:
        fn = fn.func
    for named in (fn, type(fn)):
        try:
            if isinstance(found := named.__qualname__, str):
                return found
        except Exception:  # noqa: BLE001, S112  # it has none, or answers nothing at all
            continue
    return "call"


def _opener(fn: Any, name: str, kind: str) -> Callable[[tuple[object, ...], dict[str, object]], object]:
    signature: inspect.Signature | None = None
    with suppress(Exception):  # a builtin without one, or an object that answers nothing
        by_class = None if isinstance(fn, _PLAIN) else find_on_class(type(fn), "__call__")
        own = inspect.signature(by_class if isinstance(by_class, FunctionType) else fn)
        if isinstance(by_class, FunctionType):  # its first is the object
            own = own.replace(parameters=list(own.parameters.values())[1:])
        signature = own

    def opened(args: tuple[Any, ...], kwargs: dict[str, object]) -> Any:
        record = record_of(name, kind)
        now = get_runtime()
        if now is not None and now.policy.capture:
            with guard("reading arguments"):
                put(record, "input", to_plain_data(_bind_arguments(signature, args, kwargs)))
        return begin(record, _observe_output) or NOOP_OPERATION

    return opened


def _bind_arguments(
    signature: inspect.Signature | None, args: tuple[object, ...], kwargs: dict[str, Any]
) -> dict[str, object]:
    """Return the arguments by name; by place where there are no names, or where they do not fit."""
    try:
        bound = None if signature is None else dict(signature.bind(*args, **kwargs).arguments)
    except TypeError:  # the call itself will say so
        bound = None
    if bound is None:
        return {"args": list(args), **kwargs}
    if bound and next(iter(bound)) in {"self", "cls"}:
        del bound[next(iter(bound))]
    return bound


def _observe_output(record: Record, value: object) -> None:
    put(record, "output", value)


def _result(operation: Any, value: object) -> Any:
    """Record what was returned. What is still to run or to be read is recorded as its caller does that."""
    if not isinstance(operation, Operation):
        return value
    if type(value) is CoroutineType:  # of lru_cache around a coroutine function, or of any function that passes one on
        operation.hand_over()
        return Awaited(value, operation, operation.context)
    stream_class = _STREAM_CLASSES.get(type(value))
    if stream_class is None:
        operation.observe(value)
        return value
    operation.hand_over()
    return stream_class(value, _Gathered(operation), operation.context)


class _Gathered:
    """The observer of a traced function's stream: all items together are the output."""

    __slots__ = ("_operation", "_seen")

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._seen: list[Any] = []

    def observe(self, value: object) -> bool:
        if len(self._seen) < MOST_ITEMS:
            self._seen.append(value)
        return True

    def finish(
        self, error: BaseException | None = None, *, stream_end: StreamEnd | None = None, collecting: bool = False
    ) -> None:
        seen, self._seen = self._seen, []
        if seen:
            self._operation.observe(join_items(seen))
        self._operation.finish(error, stream_end=stream_end, collecting=collecting)


_STREAM_CLASSES: Final[dict[type, type[PlainStream | PlainAsyncStream]]] = {
    GeneratorType: Generated,
    AsyncGeneratorType: PlainAsyncStream,
    **{proxy: proxy for proxy in (PlainStream, Stream, Generated, PlainAsyncStream, AsyncStream)},
}


def _wrap_plain_function(fn: Callable[..., Any], opened: Callable[..., Any]) -> Callable[..., object]:
    def call_traced(*args: object, **kwargs: object) -> Any:
        with opened(args, kwargs) as operation:
            return _result(operation, fn(*args, **kwargs))

    return call_traced


def _wrap_coroutine(fn: Callable[..., Any], opened: Callable[..., Any]) -> Callable[..., object]:
    async def await_traced(*args: Any, **kwargs: Any) -> object:
        with opened(args, kwargs) as operation:
            return _result(operation, await fn(*args, **kwargs))

    return await_traced


_WRAPPERS: list[tuple[Callable[[object], bool], Callable[..., Callable[..., object]]]] = [
    (inspect.isasyncgenfunction, functools.partial(wrap_async_generator, steps_of=TracedGenerator)),
    (inspect.isgeneratorfunction, functools.partial(wrap_generator, steps_of=TracedGenerator)),
    (inspect.iscoroutinefunction, _wrap_coroutine),
]
