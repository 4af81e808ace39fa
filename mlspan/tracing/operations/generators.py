"""Traced generators: the span of a generator is current while the generator's body runs, and only then."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Final

from .iterators import start_generator
from .noop import UnsampledOperation
from .operation import Operation
from .response_proxy import StreamEnd
from .stream import find_stream_class

MOST_ITEMS: Final = 100_000  # of a generator or a stream that are kept for the output


def join_items(items: list[Any]) -> object:
    """Return what a generator or a stream has given as one output: its text if all of them are text."""
    return "".join(items) if {*map(type, items)} <= {str} else items  # isinstance would ask each item


class GeneratorSteps:
    """A driver between a generator and its caller, with a context around each step rather than around all of them.

    So nothing leaks into the caller's code between two steps, and the steps of one generator may run in different
    tasks. ``yield from`` it, or await its asynchronous methods; see :func:`wrap_async_generator`.
    """

    def __init__(self, own: Any) -> None:
        self._generator = own

    def _enter_step(self) -> AbstractContextManager[object]:
        """Return the context of one step."""
        raise NotImplementedError

    def _note_yielded(self, item: object) -> object:
        """Return what the caller gets for *item*."""
        return item

    def __iter__(self) -> GeneratorSteps:
        return self

    def __next__(self) -> object:
        return self.send(None)

    def send(self, value: object) -> object:
        with self._enter_step():  # an iterator that is no generator, or another tracer's, may have no send of its own
            own = self._generator
            return self._note_yielded(next(own) if value is None else own.send(value))

    def throw(self, *error: Any) -> Any:  # up to Python 3.11, contextlib passes type, error and traceback
        with self._enter_step():
            return self._note_yielded(self._generator.throw(*error))

    def close(self) -> None:
        with self._enter_step():
            if hasattr(self._generator, "close"):
                self._generator.close()

    async def anext(self) -> object:
        """Make the first step."""
        with self._enter_step():
            return self._note_yielded(await start_generator(self._generator))

    async def asend(self, value: object) -> object:
        with self._enter_step():
            own = self._generator
            return self._note_yielded(await (anext(own) if value is None else own.asend(value)))

    async def athrow(self, error: BaseException) -> Any:
        with self._enter_step():
            return self._note_yielded(await self._generator.athrow(error))

    async def aclose(self) -> None:
        with self._enter_step():
            if hasattr(self._generator, "aclose"):
                await self._generator.aclose()


def wrap_generator(
    fn: Callable[..., object],
    open_steps: Callable[[tuple[Any, ...], dict[str, Any]], Any],
    steps_of: Callable[[Any, Any], GeneratorSteps],
) -> Callable[..., object]:
    """Return a function that drives the generator of each call of *fn* by ``steps_of(generator, open_steps(...))``.

    Where *open_steps* returns None, the generator runs as it is.
    """

    def iterate_steps(*args: object, **kwargs: object) -> Any:
        own: Any = fn(*args, **kwargs)
        if not hasattr(type(own), "__next__"):  # another tracer's proxy, which can only be iterated over
            own = iter(own)
        opened = open_steps(args, kwargs)
        return (yield from own if opened is None else steps_of(own, opened))

    return iterate_steps


def wrap_async_generator(
    fn: Callable[..., object],
    open_steps: Callable[[tuple[Any, ...], dict[str, Any]], Any],
    steps_of: Callable[[Any, Any], GeneratorSteps],
) -> Callable[..., object]:
    """Return the same for asynchronous generators."""

    async def iterate_steps(*args: object, **kwargs: object) -> object:
        own: Any = fn(*args, **kwargs)
        if not hasattr(type(own), "__anext__"):
            own = aiter(own)
        steps = steps_of(own, open_steps(args, kwargs))
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
            except BaseException as error:  # noqa: BLE001  # what the caller throws in is the generator's to handle
                step = steps.athrow(error)

    return iterate_steps


class TracedGenerator(GeneratorSteps):
    """The steps of a traced generator: its span is current in each of them."""

    def __init__(self, own: Any, operation: Any) -> None:
        super().__init__(own)
        self._operation: Operation | None = operation if isinstance(operation, Operation) else None
        self._unsampled = operation if isinstance(operation, UnsampledOperation) else None
        self._yielded: list[Any] = []
        if self._operation is not None:
            self._operation.hand_over()

    def _enter_step(self) -> AbstractContextManager[object]:
        return _StepContext(self) if self._unsampled is None else self._unsampled

    def close(self) -> None:
        super().close()
        self.finish_operation(stream_end="closed")

    async def aclose(self) -> None:
        await super().aclose()
        self.finish_operation(stream_end="closed")

    def _note_yielded(self, item: object) -> object:
        """Keep *item* for the record, unless there are very many, and return it."""
        if len(self._yielded) < MOST_ITEMS:
            self._yielded.append(item)
        return item

    def finish_operation(self, error: BaseException | None = None, stream_end: StreamEnd | None = None) -> None:
        """Record what the generator returned, else what it yielded, and finish the operation."""
        operation, yielded = self._operation, self._yielded
        if operation is None:
            return
        if isinstance(error, StopIteration) and error.value is not None:
            operation.observe(error.value)
        elif yielded:
            operation.observe(join_items(yielded))
        operation.finish(
            None if isinstance(error, (StopIteration, StopAsyncIteration)) else error, stream_end=stream_end
        )


class ObservedGenerator(TracedGenerator):
    """The steps of a traced generator whose items are read one by one into the record; none of them is kept."""

    def _note_yielded(self, item: object) -> object:
        if self._operation is not None:
            self._operation.observe(item)
        return item

    def finish_operation(self, error: BaseException | None = None, stream_end: StreamEnd | None = None) -> None:
        if self._operation is not None:
            ended = isinstance(error, (StopIteration, StopAsyncIteration))
            self._operation.finish(None if ended else error, stream_end=stream_end)


class _StepContext:
    """A context manager around one step: the span is current inside, and an exception ends the generator."""

    def __init__(self, steps: TracedGenerator) -> None:
        self._traced = steps

    def __enter__(self) -> None:
        self._current = (
            self._traced._operation.use_span() if self._traced._operation else None
        )  # entered and left as a pair
        if self._current is not None:
            self._current.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self._current is not None:
            self._current.__exit__(kind, error, trace)
        if error is not None:
            self._traced.finish_operation(error)


def is_generator(value: object) -> bool:
    """Return whether *value* is a generator, synchronous or not."""
    return isinstance(value, (GeneratorType, AsyncGeneratorType))


def keep_open(operation: Operation, generator: object) -> object:
    """Keep *operation* open until *generator* ends; return its proxy, which reads it inside of the operation.

    Its items are read one by one into the record.
    """
    operation.hand_over()
    proxy_class = find_stream_class(type(generator), is_async=isinstance(generator, AsyncGeneratorType))
    return proxy_class(generator, operation, operation.context)
