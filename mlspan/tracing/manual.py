"""Manual tracing: spans of the user's own, by ``with span(...)`` and ``@trace``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from types import TracebackType
from typing import Any, TypeVar, cast, overload

from .._guard import guard
from .content import snapshot
from .context import suppressed
from .live import Live, go
from .messages import Message
from .nothing import NOTHING
from .records import Agent, Chat, Embeddings, Record, Retrieval, Step, Tool, Workflow
from .setup import runtime
from .steps import Steps

F = TypeVar("F", bound=Callable[..., Any])

_NAMED: dict[str, tuple[type[Record], str]] = {  # kind -> record, and its field for the span's name
    "agent": (Agent, "name"),
    "chat": (Chat, "model"),
    "chat_model": (Chat, "model"),
    "embedding": (Embeddings, "model"),
    "embeddings": (Embeddings, "model"),
    "llm": (Chat, "model"),
    "retrieval": (Retrieval, "source"),
    "retriever": (Retrieval, "source"),
    "tool": (Tool, "name"),
    "workflow": (Workflow, "name"),
}


def _record(name: str, kind: str) -> Record:
    """Return a record for *kind*; an unknown kind becomes a step."""
    entry = _NAMED.get(kind.lower())
    return Step(name=name, type=kind.lower()) if entry is None else entry[0](**{entry[1]: name})  # type: ignore[arg-type]  # the table has fields of that class


class span:  # noqa: N801  # users read it as a function
    """Record a block of code: ``with span("look up", kind="tool") as looking: ...; looking.output = found``.

    *kind* is ``tool``, ``agent``, ``workflow``, ``retrieval``, ``chat`` or ``embeddings``; MLflow's span types are
    understood too. *name* is then the name of the tool, agent, workflow, data source or model. Any other word is a step
    of that kind. A tool whose *attributes* name the call that it answers (``gen_ai.tool.call.id``) is linked to the
    span that requested it. An exception that leaves the block marks the span as failed and is raised as usual.
    """

    def __init__(
        self, name: str, kind: str = "step", *, input: object = None, attributes: Mapping[str, Any] | None = None
    ) -> None:
        self.record = _record(name, kind)  # its fields may be set until the block ends
        self.record.describe(attributes or {})
        self._live: Live | None = None
        if input is not None:
            self.input = input

    @property
    def input(self) -> Any:
        """Return the input: anything that JSON can represent; for a chat, text or messages."""
        return getattr(self.record, "input", None)

    @input.setter
    def input(self, value: object) -> None:
        _put(self.record, "input", value)

    @property
    def output(self) -> Any:
        """Return the output, in the same forms as :attr:`input`."""
        return getattr(self.record, "output", None)

    @output.setter
    def output(self, value: object) -> None:
        _put(self.record, "output", value)

    def __enter__(self) -> span:
        self._live = _open(self.record)
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)


def _put(record: Record, field: str, value: object) -> None:
    """Set a field of *record*, if its class has it; for a chat, the value becomes messages."""
    if isinstance(record, Chat):
        value = _messages(value, "user" if field == "input" else "assistant")
    if hasattr(record, field):  # embeddings have no output: vectors are not recorded
        setattr(record, field, value)


def _messages(value: object, role: str) -> list[Message]:
    """Return *value* as messages: it may be messages already, text, or any other value."""
    if isinstance(value, list) and all(isinstance(item, dict) and "parts" in item for item in value):
        return value
    message: Message = {"role": role, "parts": [{"type": "text", "content": cast("str", value)}]}
    if not isinstance(value, str):
        message["parts"] = [{"type": "json", "content": value}]
    if role == "assistant":
        message["finish_reason"] = "stop"
    return [message]


def _open(record: Record, observe: Any = None) -> Live | None:
    """Start the operation of *record*. Return None if nothing is recorded."""
    if not suppressed():
        with guard("starting a span"):
            if (now := runtime()) is not None:
                return go(now, record, observe)
    return None


@overload
def trace(fn: F) -> F: ...
@overload
def trace(*, name: str | None = None, kind: str = "step") -> Callable[[F], F]: ...
def trace(fn: F | None = None, *, name: str | None = None, kind: str = "step") -> Any:
    """Trace every call of a function. Its arguments are the span's input, what it returns or yields the output.

    The function may be plain, async, a generator or an async generator. The span of a generator is open until the
    generator ends or is closed.
    """
    if fn is None:
        return lambda fn: _traced(fn, name or fn.__qualname__, kind)
    return _traced(fn, name or fn.__qualname__, kind)


def _traced(fn: F, name: str, kind: str) -> F:
    """Return *fn* with a span around each call."""
    signature = inspect.signature(fn)

    def opened(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        record = _record(name, kind)
        now = runtime()
        if now is not None and now.policy.capture:
            with guard("reading arguments"):
                _put(record, "input", snapshot(_arguments(signature, args, kwargs)))
        return _open(record, _observe) or NOTHING

    for is_kind, wrapper in _WRAPPERS:
        if is_kind(fn):
            return cast("F", wraps(fn)(wrapper(fn, opened)))
    return cast("F", wraps(fn)(_function(fn, opened)))


def _arguments(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by parameter name, without ``self`` or ``cls``."""
    bound = dict(signature.bind(*args, **kwargs).arguments)
    if bound and next(iter(bound)) in {"self", "cls"}:
        del bound[next(iter(bound))]
    return bound


def _observe(record: Record, value: object) -> None:
    """Record what a traced function returned or yielded."""
    _put(record, "output", value)


def _function(fn: Callable[..., Any], start_call: Callable[..., Any]) -> Callable[..., Any]:
    def called(*args: Any, **kwargs: Any) -> Any:
        with start_call(args, kwargs) as operation:
            return operation.result(fn(*args, **kwargs))

    return called


def _coroutine(fn: Callable[..., Any], start_call: Callable[..., Any]) -> Callable[..., Any]:
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        with start_call(args, kwargs) as operation:
            return operation.result(await fn(*args, **kwargs))

    return awaited


def _generator(fn: Callable[..., Any], start_call: Callable[..., Any]) -> Callable[..., Any]:
    def generated(*args: Any, **kwargs: Any) -> Any:
        steps = Steps(fn(*args, **kwargs), start_call(args, kwargs))
        return (yield from steps)

    return generated


def async_generator(
    fn: Callable[..., Any], start_call: Callable[..., Any], steps_of: type[Steps] = Steps
) -> Callable[..., Any]:
    """Return the async generator function *fn* with an operation around each of its generators.

    Args:
        fn: the function.
        start_call: starts the operation, from the arguments and the keyword arguments.
        steps_of: the class that drives the generator.
    """

    async def generated(*args: Any, **kwargs: Any) -> Any:
        steps = steps_of(fn(*args, **kwargs), start_call(args, kwargs))
        step = steps.anext()
        while True:
            try:
                item = await step
            except StopAsyncIteration:
                return
            try:
                step = steps.asend((yield item))
            except GeneratorExit:
                await steps.aclose()
                raise
            except BaseException as error:  # noqa: BLE001  # the generator handles what the caller throws in
                step = steps.athrow(error)

    return generated


_WRAPPERS: list[tuple[Callable[[Any], bool], Callable[..., Callable[..., Any]]]] = [
    (inspect.isasyncgenfunction, async_generator),
    (inspect.isgeneratorfunction, _generator),
    (inspect.iscoroutinefunction, _coroutine),
]
